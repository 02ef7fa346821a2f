/* numberctl disclose: the query log's records of one number or one requester, read from the disk or from Redis;
 * the server has no part in it. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <time.h>

#include "hashing/phone.h"
#include "persist/datadir.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/querylog.h"
#include "server/address.h"

struct disclosure {
    struct ctl_common common;
    const char *number;
    const char *requester;
    const char *from;
    const char *until;
    const char *key;
    const char *data_dir;
    const char *keys;
    const char *redis;
    uint64_t records;
    uint64_t warnings;
    uint64_t gaps;
};

static void format_time(uint64_t time_ms, char text[static 32])
{
    struct tm utc;
    time_t seconds = (time_t)(time_ms / 1000);
    size_t length = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &utc));
    snprintf(text + length, 32 - length, ".%03uZ", (unsigned)(time_ms % 1000));
}

static bool print_record(void *context, const struct disclose_record *record)
{
    struct disclosure *disclosure = context;
    char when[32];
    char number[PHONE_TEXT_BYTES] = "";
    char ip[ADDRESS_TEXT_BYTES];
    format_time(record->time_ms, when);
    if (record->number != 0 && record->number <= PHONE_KEY_MAX)
        phone_format(record->number, number);
    address_format_ip(record->ip, ip);
    const char *answer = wire_status_text(record->answer);
    /* No field has anything to escape, in JSON or in CSV. Ids are text in JSON: readers lose integers above
     * 2^53. */
    printf(disclosure->common.json
               ? "{\"time\":\"%s\",\"number\":\"%s\",\"answer\":\"%s\",\"requester\":\"%" PRIu64
                 "\",\"ip\":\"%s\",\"server\":\"%016" PRIx64 "\"}\n"
               : "%s,%s,%s,%" PRIu64 ",%s,%016" PRIx64 "\n",
           when, number, answer, record->requester, ip, record->server_id);
    disclosure->records++;
    return true;
}

static void print_warning(void *context, const char *line)
{
    struct disclosure *disclosure = context;
    disclosure->warnings++;
    fprintf(stderr, "numberctl: warning: %s\n", line);
}

static const char *reason_text(uint32_t reason)
{
    static const char *const texts[] = {[QUERY_GAP_DROPPED] = "dropped",
                                        [QUERY_GAP_KILLED] = "server killed",
                                        [QUERY_GAP_UNWRITTEN] = "not written at the stop",
                                        [QUERY_GAP_RESTARTED] = "machine restarted",
                                        [QUERY_GAP_DAMAGED] = "damaged before Redis"};
    return reason < sizeof texts / sizeof texts[0] && texts[reason] != NULL ? texts[reason] : "unknown";
}

static void print_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    struct disclosure *disclosure = context;
    char from[32];
    char until[32];
    char events[32] = "an unknown number of";
    format_time(gap->from_ms, from);
    format_time(gap->until_ms, until);
    if (gap->events > 0)
        snprintf(events, sizeof events, "%" PRIu64, gap->events);
    disclosure->gaps++;
    fprintf(stderr,
            "numberctl: gap: of lookups from %s until %s %s are not in the log of server %016" PRIx64
            ": %s\n",
            from, until, events, server_id, reason_text(gap->reason));
}

/* Fills the query from the options; a status other than EX_OK was printed. */
static int make_query(const struct disclosure *disclosure, struct disclose_query *query)
{
    *query = (struct disclose_query){.by_number = disclosure->number != NULL,
                                     .until_ms = UINT64_MAX,
                                     .now_ms = ctl_now_ms(),
                                     .retention_ms = 3600000 * QUERYLOG_RETENTION_HOURS_MAX};
    if ((disclosure->number != NULL) == (disclosure->requester != NULL))
        return ctl_fail(EX_USAGE, "disclose: name either --number or --requester");
    if (disclosure->number != NULL && !ctl_number(disclosure->number, "--number", &query->number))
        return EX_DATAERR;
    if (disclosure->requester != NULL &&
        !ctl_unsigned(disclosure->requester, "--requester", UINT64_MAX, &query->requester))
        return EX_USAGE;
    if ((disclosure->from != NULL && !ctl_time(disclosure->from, "--from", &query->from_ms)) ||
        (disclosure->until != NULL && !ctl_time(disclosure->until, "--until", &query->until_ms)))
        return EX_USAGE;
    if (query->from_ms >= query->until_ms)
        return ctl_fail(EX_USAGE, "disclose: --from must be before --until");
    if (disclosure->key == NULL)
        return ctl_fail(EX_USAGE, "disclose: the log is sealed: name the officer's private key with --key");
    return EX_OK;
}

/* Where the segments and the hours' keys are, if they are of the data directory. */
static bool find_folder(const struct disclosure *disclosure, char folder[static PATH_MAX],
                        struct fault *fault)
{
    uint64_t server_id;
    const char *data_dir = disclosure->data_dir == NULL ? CTL_DATA_DIR_DEFAULT : disclosure->data_dir;
    bool is_needed = disclosure->redis == NULL || disclosure->keys == NULL;
    return ((size_t)snprintf(folder, PATH_MAX, "%s/querylog", data_dir) < PATH_MAX ||
            fault_set(fault, EX_USAGE, "the path of the data directory is too long")) &&
           (!is_needed || datadir_identify(data_dir, &server_id, fault));
}

/* The keys of the window, opened with the officer's. */
static struct key_ring *open_keys(const struct disclosure *disclosure, const struct disclose_query *query,
                                  const char *folder, struct fault *fault)
{
    struct officer_pair officer;
    if (!officer_read_private(disclosure->key, &officer, fault))
        return NULL;
    struct key_ring *ring = key_ring_open(folder, &officer, query->from_ms, query->until_ms, fault);
    explicit_bzero(&officer, sizeof officer);
    return ring;
}

static int print_log(struct disclosure *disclosure, struct disclose_query *query)
{
    struct fault fault;
    char folder[PATH_MAX];
    struct disclose_target target = {print_record, print_gap, print_warning, disclosure};
    if (!find_folder(disclosure, folder, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    query->keys = open_keys(disclosure, query, disclosure->keys == NULL ? folder : disclosure->keys, &fault);
    if (query->keys == NULL)
        return ctl_fail(fault.status, "%s", fault.text);
    if (!disclosure->common.json)
        puts("time,number,answer,requester,ip,server");
    bool good = disclosure->redis != NULL ? disclose_redis(disclosure->redis, query, &target, &fault)
                                          : disclose_segments(folder, query, &target, &fault);
    key_ring_close(query->keys);
    if (!good)
        return ctl_fail(fault.status, "%s", fault.text);
    if (fflush(stdout) != 0 || ferror(stdout))
        return ctl_fail(EX_IOERR, "cannot write to standard output");
    return disclosure->warnings > 0 ? EX_DATAERR : EX_OK;
}

int ctl_disclose(int argc, char **argv)
{
    struct disclosure disclosure = {0};
    struct disclose_query query;
    const struct ctl_option options[] = {
        {"number", "NUMBER", "lookups of this number", &disclosure.number, NULL},
        {"requester", "ID", "lookups by this requester", &disclosure.requester, NULL},
        {"from", "TIME", "from this moment on (UTC; default: the retention's begin)", &disclosure.from, NULL},
        {"until", "TIME", "before this moment (default: now)", &disclosure.until, NULL},
        {"key", "FILE", "the officer's private key", &disclosure.key, NULL},
        {"data-dir", "DIR",
         "read the segments there, or only the hours' keys (default " CTL_DATA_DIR_DEFAULT ")",
         &disclosure.data_dir, NULL},
        {"keys", "DIR", "the hours' keys are there instead, of one server or more", &disclosure.keys, NULL},
        {"redis", "URL", "read Redis, not the segments", &disclosure.redis, NULL},
    };
    int status = ctl_parse(
        &disclosure.common, "disclose", "--key FILE (--number NUMBER | --requester ID) [--redis URL]",
        "Prints the query log's records, as CSV or JSON lines. Events reach the log within a tenth "
        "of a second.\nA lookup shows no communication: it only shows that somebody asked.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0)
        return ctl_fail(EX_USAGE, "disclose: \"%s\" is not understood; see numberctl disclose --help",
                        ctl_shown(argv[0]));
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core: it would hold the private key */
    status = make_query(&disclosure, &query);
    return status != EX_OK ? status : print_log(&disclosure, &query);
}
