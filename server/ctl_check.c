/* numberctl check: whether a data directory's registrations are whole, file by file, and its ledgers; and whether the query log
 * has erased what it should. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/datadir.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/ledger.h"
#include "persist/querylog/overdue.h"
#include "persist/registrations/store.h"

/* A ledger of this name, if there is one. */
static bool check_ledger(const char *data_dir, const char *name, FILE *out, struct fault *fault)
{
    char path[PATH_MAX];
    struct ledger_state state;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", data_dir, name) >= sizeof path ||
        access(path, F_OK) != 0)
        return true;
    bool good = ledger_check(path, NULL, &state, fault);
    if (good)
        fprintf(out, "ok    %s: %" PRIu64 " entries, head %s\n", path, state.entries, state.head);
    else
        fprintf(out, "BAD   %s\n", fault->text);
    return good;
}

/* The lines that store_check wrote, as they are or as JSON. */
static void print_lines(const struct ctl_common *common, const char *text, bool good)
{
    if (common->json)
        ctl_print_json(json_pack("{s:b, s:s}", "good", (int)good, "report", text));
    else
        fputs(text, stdout);
}

/* What the query log should have erased, in the data directory and, if named, in Redis. */
static bool check_erasure(const char *data_dir, const char *redis, FILE *out, struct fault *fault)
{
    char folder[PATH_MAX];
    uint64_t found = 0;
    if ((size_t)snprintf(folder, sizeof folder, "%s/querylog", data_dir) >= sizeof folder)
        return fault_set(fault, EX_USAGE, "the path of the data directory is too long");
    if (!overdue_in_folder(folder, ctl_now_ms(), out, &found, fault) ||
        (redis != NULL && !overdue_in_redis(redis, ctl_now_ms(), out, &found, fault)))
        return false;
    if (found == 0)
        fprintf(out, "ok    query log: nothing is overdue%s\n", redis == NULL ? "" : ", nor in Redis");
    return found == 0 ||
           fault_set(fault, EX_DATAERR,
                     "%" PRIu64 " things of the query log are overdue: a running server erases what is "
                     "on its disk within seconds; remove the others by hand",
                     found);
}

static bool check_query_log(const char *data_dir, const char *redis, FILE *out, struct fault *fault)
{
    struct fault other;
    bool disclosures = check_ledger(data_dir, LEDGER_NAME, out, fault);
    bool receipts =
        check_ledger(data_dir, "querylog/" ERASURE_LEDGER_NAME, out, disclosures ? fault : &other);
    bool erasure = check_erasure(data_dir, redis, out, disclosures && receipts ? fault : &other);
    return disclosures && receipts && erasure;
}

int ctl_check(int argc, char **argv)
{
    struct ctl_common common;
    struct fault fault = {0};
    struct fault log_fault;
    uint64_t server_id;
    const char *redis = NULL;
    bool log_only = false;
    char *text = NULL;
    size_t length = 0;
    const struct ctl_option options[] = {
        {"query-log", NULL, "the query log alone; its server may run", NULL, &log_only},
        {"redis", "URL", "look for what is overdue there, too", &redis, NULL},
    };
    int status = ctl_parse(
        &common, "check", "[DIR] [--query-log] [--redis URL]",
        "Reads all snapshots and journal segments of a data directory (default\n" CTL_DATA_DIR_DEFAULT
        ") that no server has open, says of each whether it is good, loads them as a start\n"
        "would; checks the ledgers of disclosures and of erasures, and looks for what the query log should "
        "have "
        "erased.\nChanges nothing. Ends with 65 when anything is damaged or overdue.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc > 1)
        return ctl_fail(EX_USAGE, "check: name one data directory");
    const char *data_dir = argc == 1 ? argv[0] : CTL_DATA_DIR_DEFAULT;
    if (!datadir_identify(data_dir, &server_id, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (!log_only && datadir_is_in_use(data_dir))
        return ctl_fail(EX_TEMPFAIL,
                        "%s is in use: stop its server first, or check its query log alone (--query-log)",
                        data_dir);
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return ctl_fail(EX_OSERR, "out of memory");
    bool good = log_only || store_check(data_dir, out, &fault);
    bool log_good = check_query_log(data_dir, redis, out, &log_fault);
    fclose(out);
    print_lines(&common, text, good && log_good);
    free(text);
    if (good && log_good)
        return EX_OK;
    return good ? ctl_fail(log_fault.status, "%s", log_fault.text) : ctl_fail(fault.status, "%s", fault.text);
}
