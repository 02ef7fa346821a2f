/* numberctl check: whether a data directory's registrations are whole, file by file, and its ledger of disclosures. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/datadir.h"
#include "persist/querylog/ledger.h"
#include "persist/registrations/store.h"

/* The ledger of disclosures, if there is one. */
static bool check_ledger(const char *data_dir, FILE *out, struct fault *fault)
{
    char path[PATH_MAX];
    struct ledger_state state;
    if ((size_t)snprintf(path, sizeof path, "%s/" LEDGER_NAME, data_dir) >= sizeof path ||
        access(path, F_OK) != 0)
        return true;
    bool good = ledger_check(path, NULL, &state, fault);
    if (good)
        fprintf(out, LEDGER_NAME ": good, %" PRIu64 " entries, head %s\n", state.entries, state.head);
    else
        fprintf(out, "%s\n", fault->text);
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

int ctl_check(int argc, char **argv)
{
    struct ctl_common common;
    struct fault fault;
    uint64_t server_id;
    char *text = NULL;
    size_t length = 0;
    int status = ctl_parse(
        &common, "check", "[DIR]",
        "Reads all snapshots and journal segments of a data directory (default\n" CTL_DATA_DIR_DEFAULT
        ") that no server has open, says of each whether it is good, loads them as a start\n"
        "would, checks the ledger of disclosures if there is one, and changes nothing. Ends with 65 when "
        "anything is damaged.",
        NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc > 1)
        return ctl_fail(EX_USAGE, "check: name one data directory");
    const char *data_dir = argc == 1 ? argv[0] : CTL_DATA_DIR_DEFAULT;
    if (!datadir_identify(data_dir, &server_id, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (datadir_is_in_use(data_dir))
        return ctl_fail(EX_TEMPFAIL, "%s is in use: stop its server first", data_dir);
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return ctl_fail(EX_OSERR, "out of memory");
    bool good = store_check(data_dir, out, &fault);
    struct fault ledger_fault;
    if (!check_ledger(data_dir, out, &ledger_fault) && good) {
        good = false;
        fault = ledger_fault;
    }
    fclose(out);
    print_lines(&common, text, good);
    free(text);
    return good ? EX_OK : ctl_fail(fault.status, "%s", fault.text);
}
