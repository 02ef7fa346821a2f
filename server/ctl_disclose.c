/* numberctl disclose: the query log's records that an order names, read from the disk, from Redis, or from what was held; the
 * server has no part in it. Every attempt goes into the ledger: what begins before anything is read, and how it ended. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/ctl_disclosure.h"
#include "server/ctl_order.h"

struct disclosure {
    struct ctl_common common;
    struct order order;
    const char *output;
    struct disclosure_files *files;
    bool shows_progress;
};

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
                disclosure->order.redis != NULL  ? "hours"
                : disclosure->order.hold != NULL ? "records held"
                                                 : "segments",
                disclosure_records(disclosure->files), done == total ? "\n" : "");
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
    return json_pack("{s:s, s:o, s:s, s:s, s:I, s:s}", "timeStamp", now, "request",
                     order_describe(&disclosure->order), "readableAfter", cut_off, "source",
                     disclosure->order.hold != NULL    ? "hold"
                     : disclosure->order.redis != NULL ? "redis"
                                                       : "segments",
                     "ledgerEntry", (json_int_t)disclosure->order.ledger_state.entries, "ledgerHead",
                     disclosure->order.ledger_state.head);
}

static int print_summary(const struct disclosure *disclosure, uint64_t records, uint64_t gaps,
                         uint64_t warnings)
{
    if (disclosure->common.json)
        ctl_print_json(json_pack("{s:I, s:I, s:I, s:s, s:s}", "records", (json_int_t)records, "gaps",
                                 (json_int_t)gaps, "warnings", (json_int_t)warnings, "output",
                                 disclosure->output, "ledger_head", disclosure->order.ledger_state.head));
    else
        printf("%" PRIu64 " records, %" PRIu64 " gaps, %" PRIu64 " warnings in %s\n%s\nledger: entry %" PRIu64
               ", head %s\n",
               records, gaps, warnings, disclosure->output, DISCLOSURE_NOTICE,
               disclosure->order.ledger_state.entries, disclosure->order.ledger_state.head);
    return warnings > 0 ? EX_DATAERR : EX_OK;
}

/* The keys are open and the entry is made: reads, writes, and says in the ledger how it ended. */
static int carry_out(struct disclosure *disclosure, const struct disclose_query *query,
                     const struct officer_pair *officer)
{
    struct fault fault;
    disclosure->files = disclosure_begin(disclosure->output, &fault);
    if (disclosure->files == NULL)
        return order_refuse(&disclosure->order, "failed", fault.status, "%s", fault.text);
    struct disclose_target target = {take_record, take_gap, take_warning, show_progress, disclosure};
    if (!order_read(&disclosure->order, query, officer, &target, &fault)) {
        disclosure_abandon(disclosure->files);
        return order_refuse(&disclosure->order, "failed", fault.status, "%s", fault.text);
    }
    uint64_t records = disclosure_records(disclosure->files);
    uint64_t gaps = disclosure_gaps(disclosure->files);
    uint64_t warnings = disclosure_warnings(disclosure->files);
    json_t *ending = counts(disclosure);
    if (!disclosure_end(disclosure->files, describe_disclosure(disclosure, query), officer, &fault)) {
        json_decref(ending);
        return order_refuse(&disclosure->order, "failed", fault.status, "%s", fault.text);
    }
    if (!order_note(&disclosure->order, "disclosed", ending, &fault))
        return ctl_fail(fault.status, "the records are in %s, but that is not in the ledger: %s",
                        disclosure->output, fault.text);
    return print_summary(disclosure, records, gaps, warnings);
}

int ctl_disclose(int argc, char **argv)
{
    struct disclosure disclosure = {0};
    struct disclose_query query = {0};
    struct officer_pair officer;
    struct ctl_option options[ORDER_OPTIONS + 2];
    order_options(&disclosure.order, options);
    options[ORDER_OPTIONS] = (struct ctl_option){"hold", "FILE", "read what numberctl hold kept, not the log",
                                                 &disclosure.order.hold, NULL};
    options[ORDER_OPTIONS + 1] = (struct ctl_option){
        "output", "DIR", "a new folder for the records and their manifest", &disclosure.output, NULL};
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
    status = order_prepare(&disclosure.order,
                           disclosure.output == NULL ? "a new folder for the records with --output" : NULL,
                           &query);
    if (status == EX_OK)
        status = order_open(&disclosure.order, &query, &officer);
    if (status == EX_OK)
        status = carry_out(&disclosure, &query, &officer);
    key_ring_close(query.keys);
    explicit_bzero(&officer, sizeof officer);
    return status;
}
