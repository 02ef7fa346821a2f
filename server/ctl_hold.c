/* numberctl hold: copies the records that an order names out of the query log, so that they outlive its 30 days, and only they. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

#include "server/ctl_disclosure.h"
#include "server/ctl_order.h"

#define DAY_MS UINT64_C(86400000)

struct holding {
    struct ctl_common common;
    struct order order;
    const char *days;
    bool renew;
    uint64_t end_ms;
    struct hold_content content;
    uint64_t warnings;
    bool is_short; /* of memory */
};

static bool take_record(void *context, const struct disclose_record *record)
{
    struct holding *holding = context;
    holding->is_short = !hold_add_record(&holding->content, record);
    return !holding->is_short;
}

static void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    struct holding *holding = context;
    holding->is_short = !hold_add_gap(&holding->content, server_id, gap) || holding->is_short;
}

static void take_warning(void *context, const char *line)
{
    ((struct holding *)context)->warnings++;
    fprintf(stderr, "numberctl: warning: %s\n", line);
}

static void ignore_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
}

/* What the ledger and the user are told. */
static int finish(struct holding *holding, const char *event, const char *name)
{
    struct fault fault;
    char end[DISCLOSURE_TIME_BYTES];
    disclosure_time(holding->end_ms, end);
    json_t *about = json_pack("{s:s, s:s, s:I}", "hold", name, "holdUntil", end, "recordCount",
                              (json_int_t)holding->content.record_count);
    if (!order_note(&holding->order, event, about, &fault))
        return ctl_fail(fault.status, "%s is there, but not in the ledger: %s", name, fault.text);
    if (holding->common.json)
        ctl_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I}", "hold", name, "until", end, "records",
                                 (json_int_t)holding->content.record_count, "gaps",
                                 (json_int_t)holding->content.gap_count, "warnings",
                                 (json_int_t)holding->warnings));
    else
        printf("%s in %s until %s\n", name, holding->order.folder, end);
    return holding->warnings > 0 ? EX_DATAERR : EX_OK;
}

static int renew(struct holding *holding, const struct disclose_query *query,
                 const struct officer_pair *officer)
{
    struct fault fault;
    char name[HOLD_NAME_BYTES];
    if (!hold_renew(holding->order.hold, officer, query->now_ms, holding->end_ms, name, &fault))
        return order_refuse(&holding->order, "refused", fault.status, "%s", fault.text);
    return finish(holding, "renewed", name);
}

static int hold(struct holding *holding, const struct disclose_query *query,
                const struct officer_pair *officer)
{
    struct fault fault;
    char name[HOLD_NAME_BYTES];
    struct disclose_target target = {take_record, take_gap, take_warning, ignore_progress, holding};
    if (!order_read(&holding->order, query, officer, &target, &fault))
        return order_refuse(&holding->order, "failed", fault.status, "%s", fault.text);
    if (holding->is_short)
        return order_refuse(&holding->order, "failed", EX_OSERR, "out of memory for what is to be held");
    if (!hold_create(holding->order.folder, officer, query->now_ms, holding->end_ms, &holding->content, name,
                     &fault))
        return order_refuse(&holding->order, "failed", fault.status, "%s", fault.text);
    return finish(holding, "held", name);
}

static int carry_out(struct holding *holding)
{
    struct disclose_query query = {0};
    struct officer_pair officer;
    uint64_t days;
    if (!ctl_unsigned(holding->days, "--days", HOLD_DAYS_MAX, &days) || days == 0)
        return ctl_fail(EX_USAGE, "hold: --days is from 1 to %d", HOLD_DAYS_MAX);
    if (holding->renew != (holding->order.hold != NULL))
        return ctl_fail(EX_USAGE, "hold: --renew wants the hold's file with --hold, and nothing else does");
    int status = order_prepare(&holding->order, NULL, &query);
    holding->end_ms = query.now_ms + days * DAY_MS;
    if (status == EX_OK)
        status = order_open(&holding->order, &query, &officer);
    if (status == EX_OK)
        status = holding->renew ? renew(holding, &query, &officer) : hold(holding, &query, &officer);
    key_ring_close(query.keys);
    hold_free(&holding->content);
    explicit_bzero(&officer, sizeof officer);
    return status;
}

int ctl_hold(int argc, char **argv)
{
    struct holding holding = {.days = "90"};
    struct ctl_option options[ORDER_OPTIONS + 3];
    order_options(&holding.order, options);
    options[ORDER_OPTIONS] = (struct ctl_option){
        "days", "N", "until so many days from now, 1 to 90 (default 90)", &holding.days, NULL};
    options[ORDER_OPTIONS + 1] =
        (struct ctl_option){"hold", "FILE", "the hold to renew", &holding.order.hold, NULL};
    options[ORDER_OPTIONS + 2] = (struct ctl_option){
        "renew", NULL, "give it another end, once, with the order that says so", NULL, &holding.renew};
    int status = ctl_parse(
        &holding.common, "hold",
        "--order REF --authority NAME --basis TEXT (--number NUMBER | --requester ID | --ip ADDRESS)\n"
        "           --from TIME --until TIME --key FILE [--days N] [--renew --hold FILE]",
        "Copies the records that a legal order names into a sealed file of their own in the data directory, "
        "which the "
        "server\ndestroys at its end, and which numberctl disclose --hold opens. The log itself is extended "
        "by nothing.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0)
        return ctl_fail(EX_USAGE, "hold: \"%s\" is not understood; see numberctl hold --help",
                        ctl_shown(argv[0]));
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core: it would hold the private key */
    return carry_out(&holding);
}
