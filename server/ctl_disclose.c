/* numberctl disclose: the query log's records that an order names, read from the disk or from Redis; the server has no part
 * in it. Every attempt goes into the ledger: what begins before anything is read, and how it ended. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "persist/datadir.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/ledger.h"
#include "persist/querylog/querylog.h"
#include "server/address.h"
#include "server/ctl_disclosure.h"

struct disclosure {
    struct ctl_common common;
    /* The order. */
    const char *order;
    const char *authority;
    const char *country;
    const char *basis;
    const char *number;
    const char *requester;
    const char *ip;
    const char *from;
    const char *until;
    /* Who opens it, and where it is. */
    const char *key;
    const char *second_key;
    const char *data_dir;
    const char *keys;
    const char *redis;
    const char *output;
    const char *ledger;

    char ledger_path[PATH_MAX];
    struct ledger_state ledger_state;
    struct disclosure_files *files;
    bool shows_progress;
};

/* --- the ledger --- */

static json_t *text_or_null(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

/* What was asked for, under the names that ETSI TS 102 657 has for a request where it has one. */
static json_t *describe_order(const struct disclosure *disclosure)
{
    const char *type = disclosure->number != NULL      ? "partyNumber"
                       : disclosure->requester != NULL ? "requester"
                                                       : "ip";
    const char *value = disclosure->number != NULL      ? disclosure->number
                        : disclosure->requester != NULL ? disclosure->requester
                                                        : disclosure->ip;
    return json_pack("{s:{s:o, s:o, s:o}, s:o, s:{s:o}, s:o, s:o}", "requestID", "countryCode",
                     text_or_null(disclosure->country), "authorisedOrganisationID",
                     text_or_null(disclosure->authority), "requestNumber", text_or_null(disclosure->order),
                     "legalBasis", text_or_null(disclosure->basis), "selector", type, text_or_null(value),
                     "from", text_or_null(disclosure->from), "until", text_or_null(disclosure->until));
}

/* Appends an entry about this disclosure; `more` is taken over. */
static bool note(struct disclosure *disclosure, const char *event, json_t *more, struct fault *fault)
{
    char now[DISCLOSURE_TIME_BYTES];
    const struct passwd *user = getpwuid(getuid());
    json_t *object = json_object();
    disclosure_time(ctl_now_ms(), now);
    json_object_set_new(object, "timeStamp", json_string(now));
    json_object_set_new(object, "event", json_string(event));
    json_object_set_new(object, "who", json_string(user == NULL ? "unknown" : user->pw_name));
    json_object_set_new(object, "uid", json_integer(getuid()));
    json_object_set_new(object, "request", describe_order(disclosure));
    json_object_update(object, more);
    json_decref(more);
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    bool good = text != NULL || fault_set(fault, EX_OSERR, "out of memory for the ledger");
    if (good) {
        text[strlen(text) - 1] = '\0'; /* without its braces */
        good = ledger_append(disclosure->ledger_path, text + 1, &disclosure->ledger_state, fault);
    }
    free(text);
    return good;
}

/* Prints why not, with the refusal in the ledger if there is one to be had: nothing was disclosed, so its failure changes
 * nothing. */
static int refuse(struct disclosure *disclosure, const char *event, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int refuse(struct disclosure *disclosure, const char *event, int status, const char *format, ...)
{
    char line[512];
    struct fault ignored;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (disclosure->ledger_path[0] != '\0')
        (void)note(disclosure, event, json_pack("{s:s}", "reason", line), &ignored);
    return ctl_fail(status, "%s", line);
}

/* --- the order --- */

/* An address, or a network as the log keeps it: IPv4 /24, IPv6 /48. */
static bool parse_ip(const char *text, struct disclose_query *query)
{
    char address[INET6_ADDRSTRLEN];
    uint8_t cut[sizeof query->ip];
    size_t length = strcspn(text, "/");
    snprintf(address, sizeof address, "%.*s", length < sizeof address ? (int)length : 0, text);
    memcpy(query->ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    if (inet_pton(AF_INET, address, query->ip + 12) != 1 && inet_pton(AF_INET6, address, query->ip) != 1)
        return false;
    query->ip_kept = text[length] == '\0' ? QUERY_IP_WHOLE : QUERY_IP_NETWORK;
    memcpy(cut, query->ip, sizeof cut);
    query_ip_cut(cut, query->ip_kept);
    return query->ip_kept == QUERY_IP_WHOLE ||
           (strcmp(text + length, query_ip_is_v4(query->ip) ? "/24" : "/48") == 0 &&
            memcmp(cut, query->ip, sizeof cut) == 0);
}

static const char *missing_part(const struct disclosure *disclosure)
{
    const struct {
        const char *value;
        const char *text;
    } parts[] = {
        {disclosure->order, "the order's reference with --order"},
        {disclosure->authority, "the authority that gave the order with --authority"},
        {disclosure->basis, "the law that it rests on with --basis"},
        {disclosure->from, "the window's first moment with --from"},
        {disclosure->until, "the window's end with --until"},
        {disclosure->key, "the officer's private key with --key: the log is sealed"},
        {disclosure->output, "a new folder for the records with --output"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].value == NULL || parts[i].value[0] == '\0')
            return parts[i].text;
    return NULL;
}

/* Fills the query from the options. A status other than EX_OK was printed by the parser of the value, or is to be with `*why`. */
static int make_query(const struct disclosure *disclosure, struct disclose_query *query, const char **why)
{
    int selectors = (disclosure->number != NULL) + (disclosure->requester != NULL) + (disclosure->ip != NULL);
    *query = (struct disclose_query){.now_ms = ctl_now_ms(),
                                     .retention_ms = 3600000 * QUERYLOG_RETENTION_HOURS_MAX};
    *why = NULL;
    if (selectors != 1) {
        *why = "disclose: name one of --number, --requester and --ip";
        return EX_USAGE;
    }
    query->by = disclosure->number != NULL      ? DISCLOSE_NUMBER
                : disclosure->requester != NULL ? DISCLOSE_REQUESTER
                                                : DISCLOSE_IP;
    if (disclosure->number != NULL && !ctl_number(disclosure->number, "--number", &query->number))
        return EX_DATAERR;
    if (disclosure->requester != NULL &&
        !ctl_unsigned(disclosure->requester, "--requester", UINT64_MAX, &query->requester))
        return EX_USAGE;
    if (disclosure->ip != NULL && !parse_ip(disclosure->ip, query)) {
        *why = "disclose: --ip is no address, and no network as the log may keep it (IPv4 /24, IPv6 /48)";
        return EX_DATAERR;
    }
    if ((disclosure->from != NULL && !ctl_time(disclosure->from, "--from", &query->from_ms)) ||
        (disclosure->until != NULL && !ctl_time(disclosure->until, "--until", &query->until_ms)))
        return EX_USAGE;
    if (disclosure->from != NULL && disclosure->until != NULL && query->from_ms >= query->until_ms) {
        *why = "disclose: --from must be before --until";
        return EX_USAGE;
    }
    return EX_OK;
}

/* --- reading --- */

static bool take_record(void *context, const struct disclose_record *record)
{
    disclosure_record(((struct disclosure *)context)->files, record);
    return true;
}

static void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    disclosure_gap(((struct disclosure *)context)->files, server_id, gap);
}

static void take_warning(void *context, const char *line)
{
    disclosure_warning(((struct disclosure *)context)->files, line);
    fprintf(stderr, "numberctl: warning: %s\n", line);
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    struct disclosure *disclosure = context;
    if (disclosure->shows_progress)
        fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " %s read, %" PRIu64 " records%s", done, total,
                disclosure->redis != NULL ? "hours" : "segments", disclosure_records(disclosure->files),
                done == total ? "\n" : "");
}

/* The segments' folder, and the ledger's path if none was named. */
static bool find_places(struct disclosure *disclosure, char folder[static PATH_MAX], struct fault *fault)
{
    uint64_t server_id;
    const char *data_dir = disclosure->data_dir == NULL ? CTL_DATA_DIR_DEFAULT : disclosure->data_dir;
    bool is_needed = disclosure->redis == NULL || disclosure->keys == NULL || disclosure->ledger == NULL;
    if (is_needed && !datadir_identify(data_dir, &server_id, fault))
        return false;
    bool fits = (size_t)snprintf(folder, PATH_MAX, "%s/querylog", data_dir) < PATH_MAX;
    fits = (disclosure->ledger == NULL
                ? (size_t)snprintf(disclosure->ledger_path, PATH_MAX, "%s/" LEDGER_NAME, data_dir)
                : (size_t)snprintf(disclosure->ledger_path, PATH_MAX, "%s", disclosure->ledger)) < PATH_MAX &&
           fits;
    return fits || fault_set(fault, EX_USAGE, "the path of the data directory or the ledger is too long");
}

/* Into the files; `folder` has the segments. */
static bool read_log(struct disclosure *disclosure, const struct disclose_query *query, const char *folder,
                     struct fault *fault)
{
    struct disclose_target target = {take_record, take_gap, take_warning, show_progress, disclosure};
    return disclosure->redis != NULL ? disclose_redis(disclosure->redis, query, &target, fault)
                                     : disclose_segments(folder, query, &target, fault);
}

static json_t *counts(const struct disclosure *disclosure)
{
    return json_pack("{s:I, s:I, s:I}", "recordCount", (json_int_t)disclosure_records(disclosure->files),
                     "gapCount", (json_int_t)disclosure_gaps(disclosure->files), "warningCount",
                     (json_int_t)disclosure_warnings(disclosure->files));
}

/* What disclosure.json says of the disclosure itself. */
static json_t *describe_disclosure(const struct disclosure *disclosure, const struct disclose_query *query)
{
    char now[DISCLOSURE_TIME_BYTES];
    char cut_off[DISCLOSURE_TIME_BYTES];
    disclosure_time(query->now_ms, now);
    disclosure_time(query->now_ms - query->retention_ms, cut_off);
    return json_pack(
        "{s:s, s:o, s:s, s:s, s:I, s:s}", "timeStamp", now, "request", describe_order(disclosure),
        "readableAfter", cut_off, "source", disclosure->redis != NULL ? "redis" : "segments", "ledgerEntry",
        (json_int_t)disclosure->ledger_state.entries, "ledgerHead", disclosure->ledger_state.head);
}

static int print_summary(const struct disclosure *disclosure, uint64_t records, uint64_t gaps,
                         uint64_t warnings)
{
    if (disclosure->common.json)
        ctl_print_json(json_pack("{s:I, s:I, s:I, s:s, s:s}", "records", (json_int_t)records, "gaps",
                                 (json_int_t)gaps, "warnings", (json_int_t)warnings, "output",
                                 disclosure->output, "ledger_head", disclosure->ledger_state.head));
    else
        printf("%" PRIu64 " records, %" PRIu64 " gaps, %" PRIu64 " warnings in %s\n%s\nledger: entry %" PRIu64
               ", head %s\n",
               records, gaps, warnings, disclosure->output, DISCLOSURE_NOTICE,
               disclosure->ledger_state.entries, disclosure->ledger_state.head);
    return warnings > 0 ? EX_DATAERR : EX_OK;
}

/* The keys are open and the entry is made: reads, writes, and says in the ledger how it ended. */
static int carry_out(struct disclosure *disclosure, const struct disclose_query *query,
                     const struct officer_pair *officer, const char *folder)
{
    struct fault fault;
    disclosure->files = disclosure_begin(disclosure->output, &fault);
    if (disclosure->files == NULL)
        return refuse(disclosure, "failed", fault.status, "%s", fault.text);
    if (!read_log(disclosure, query, folder, &fault)) {
        disclosure_abandon(disclosure->files);
        return refuse(disclosure, "failed", fault.status, "%s", fault.text);
    }
    uint64_t records = disclosure_records(disclosure->files);
    uint64_t gaps = disclosure_gaps(disclosure->files);
    uint64_t warnings = disclosure_warnings(disclosure->files);
    json_t *ending = counts(disclosure);
    if (!disclosure_end(disclosure->files, describe_disclosure(disclosure, query), officer, &fault)) {
        json_decref(ending);
        return refuse(disclosure, "failed", fault.status, "%s", fault.text);
    }
    if (!note(disclosure, "disclosed", ending, &fault))
        return ctl_fail(fault.status, "the records are in %s, but that is not in the ledger: %s",
                        disclosure->output, fault.text);
    return print_summary(disclosure, records, gaps, warnings);
}

static int open_and_carry_out(struct disclosure *disclosure, struct disclose_query *query, const char *folder)
{
    struct officer_pair officer;
    struct fault fault;
    if (!officer_read_private(disclosure->key, disclosure->second_key, &officer, &fault))
        return refuse(disclosure, "refused", fault.status, "%s", fault.text);
    int status;
    query->keys = key_ring_open(disclosure->keys == NULL ? folder : disclosure->keys, &officer,
                                query->from_ms, query->until_ms, &fault);
    if (query->keys == NULL)
        status = refuse(disclosure, "refused", fault.status, "%s", fault.text);
    else if (!note(disclosure, "opened", json_object(), &fault))
        status = ctl_fail(fault.status, "%s", fault.text);
    else
        status = carry_out(disclosure, query, &officer, folder);
    key_ring_close(query->keys);
    explicit_bzero(&officer, sizeof officer);
    return status;
}

int ctl_disclose(int argc, char **argv)
{
    struct disclosure disclosure = {0};
    struct disclose_query query;
    struct fault fault;
    char folder[PATH_MAX];
    const struct ctl_option options[] = {
        {"order", "REF", "the order's reference", &disclosure.order, NULL},
        {"authority", "NAME", "who gave the order", &disclosure.authority, NULL},
        {"country", "CC", "of the authority, two letters (may be left out)", &disclosure.country, NULL},
        {"basis", "TEXT", "the law that the order rests on", &disclosure.basis, NULL},
        {"number", "NUMBER", "lookups of this number", &disclosure.number, NULL},
        {"requester", "ID", "lookups by this requester", &disclosure.requester, NULL},
        {"ip", "ADDRESS", "lookups from this IP; where the log keeps networks: from this /24 or /48",
         &disclosure.ip, NULL},
        {"from", "TIME", "from this moment on (UTC)", &disclosure.from, NULL},
        {"until", "TIME", "before this moment", &disclosure.until, NULL},
        {"key", "FILE", "the officer's private key, or one share of it", &disclosure.key, NULL},
        {"second-key", "FILE", "the other share", &disclosure.second_key, NULL},
        {"data-dir", "DIR",
         "read the segments there, or only the hours' keys (default " CTL_DATA_DIR_DEFAULT ")",
         &disclosure.data_dir, NULL},
        {"keys", "DIR", "the hours' keys are there instead, of one server or more", &disclosure.keys, NULL},
        {"redis", "URL", "read Redis, not the segments", &disclosure.redis, NULL},
        {"output", "DIR", "a new folder for the records and their manifest", &disclosure.output, NULL},
        {"ledger", "FILE", "where it is entered (default: DATA-DIR/" LEDGER_NAME ")", &disclosure.ledger,
         NULL},
    };
    int status = ctl_parse(
        &disclosure.common, "disclose",
        "--order REF --authority NAME --basis TEXT (--number NUMBER | --requester ID | --ip ADDRESS)\n"
        "           --from TIME --until TIME --key FILE --output DIR",
        "Opens the query log for what a legal order names, and nothing else, and writes the records as CSV "
        "and JSON "
        "lines with a\nsigned manifest (numberctl verify). Each attempt is entered in the ledger (numberctl "
        "ledger). "
        "Events reach the\nlog within a tenth of a second. " DISCLOSURE_NOTICE,
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0)
        return ctl_fail(EX_USAGE, "disclose: \"%s\" is not understood; see numberctl disclose --help",
                        ctl_shown(argv[0]));
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core: it would hold the private key */
    disclosure.shows_progress = isatty(STDERR_FILENO) != 0;
    const char *why;
    bool placed = find_places(&disclosure, folder, &fault);
    if (!placed)
        disclosure.ledger_path[0] = '\0';
    status = make_query(&disclosure, &query, &why);
    if (status != EX_OK && why == NULL) { /* said already, with the value in it */
        json_t *reason = json_pack("{s:s}", "reason", "an option's value is not understood");
        if (disclosure.ledger_path[0] != '\0')
            (void)note(&disclosure, "refused", reason, &fault);
        else
            json_decref(reason);
        return status;
    }
    if (status != EX_OK)
        return refuse(&disclosure, "refused", status, "%s", why);
    const char *missing = missing_part(&disclosure);
    if (missing != NULL)
        return refuse(&disclosure, "refused", EX_USAGE, "disclose: name %s", missing);
    if (!placed)
        return ctl_fail(fault.status, "%s", fault.text);
    return open_and_carry_out(&disclosure, &query, folder);
}
