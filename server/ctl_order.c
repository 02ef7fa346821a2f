/* The order; see ctl_order.h. */
#include "server/ctl_order.h"

#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "persist/datadir.h"
#include "persist/querylog/querylog.h"
#include "server/ctl_disclosure.h"

/* --- the ledger --- */

static json_t *text_or_null(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

json_t *order_describe(const struct order *order)
{
    const char *type = order->number != NULL ? "partyNumber" : order->requester != NULL ? "requester" : "ip";
    const char *value = order->number != NULL      ? order->number
                        : order->requester != NULL ? order->requester
                                                   : order->ip;
    return json_pack("{s:{s:o, s:o, s:o}, s:o, s:{s:o}, s:o, s:o}", "requestID", "countryCode",
                     text_or_null(order->country), "authorisedOrganisationID", text_or_null(order->authority),
                     "requestNumber", text_or_null(order->reference), "legalBasis",
                     text_or_null(order->basis), "selector", type, text_or_null(value), "from",
                     text_or_null(order->from), "until", text_or_null(order->until));
}

bool order_note(struct order *order, const char *event, json_t *more, struct fault *fault)
{
    char now[DISCLOSURE_TIME_BYTES];
    // cppcheck-suppress getpwuidCalled ; numberctl has one thread
    const struct passwd *user = getpwuid(getuid());
    json_t *object = json_object();
    disclosure_time(ctl_now_ms(), now);
    json_object_set_new(object, "timeStamp", json_string(now));
    json_object_set_new(object, "event", json_string(event));
    json_object_set_new(object, "who", json_string(user == NULL ? "unknown" : user->pw_name));
    json_object_set_new(object, "uid", json_integer(getuid()));
    json_object_set_new(object, "request", order_describe(order));
    json_object_update(object, more);
    json_decref(more);
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    bool good = text != NULL || fault_set(fault, EX_OSERR, "out of memory for the ledger");
    if (good) {
        text[strlen(text) - 1] = '\0'; /* without its braces */
        good = ledger_append(order->ledger_path, text + 1, &order->ledger_state, fault);
    }
    free(text);
    return good;
}

int order_refuse(struct order *order, const char *event, int status, const char *format, ...)
{
    char line[512];
    struct fault ignored;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (order->ledger_path[0] != '\0')
        (void)order_note(order, event, json_pack("{s:s}", "reason", line), &ignored);
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

static const char *missing_part(const struct order *order)
{
    const struct {
        const char *value;
        const char *text;
    } parts[] = {
        {order->reference, "the order's reference with --order"},
        {order->authority, "the authority that gave the order with --authority"},
        {order->basis, "the law that it rests on with --basis"},
        {order->from, "the window's first moment with --from"},
        {order->until, "the window's end with --until"},
        {order->key, "the officer's private key with --key: the log is sealed"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].value == NULL || parts[i].value[0] == '\0')
            return parts[i].text;
    return NULL;
}

/* Fills the query from the options. A status other than EX_OK was printed by the parser of the value, or is to be with `*why`. */
static int make_query(const struct order *order, struct disclose_query *query, const char **why)
{
    int selectors = (order->number != NULL) + (order->requester != NULL) + (order->ip != NULL);
    *query = (struct disclose_query){.now_ms = ctl_now_ms(),
                                     .retention_ms = 3600000 * QUERYLOG_RETENTION_HOURS_MAX};
    *why = NULL;
    if (selectors != 1) {
        *why = "name one of --number, --requester and --ip";
        return EX_USAGE;
    }
    query->by = order->number != NULL      ? DISCLOSE_NUMBER
                : order->requester != NULL ? DISCLOSE_REQUESTER
                                           : DISCLOSE_IP;
    if (order->number != NULL && !ctl_number(order->number, "--number", &query->number))
        return EX_DATAERR;
    if (order->requester != NULL &&
        !ctl_unsigned(order->requester, "--requester", UINT64_MAX, &query->requester))
        return EX_USAGE;
    if (order->ip != NULL && !parse_ip(order->ip, query)) {
        *why = "--ip is no address, and no network as the log may keep it (IPv4 /24, IPv6 /48)";
        return EX_DATAERR;
    }
    if ((order->from != NULL && !ctl_time(order->from, "--from", &query->from_ms)) ||
        (order->until != NULL && !ctl_time(order->until, "--until", &query->until_ms)))
        return EX_USAGE;
    if (order->from != NULL && order->until != NULL && query->from_ms >= query->until_ms) {
        *why = "--from must be before --until";
        return EX_USAGE;
    }
    return EX_OK;
}

/* The segments' folder, and the ledger's path if none was named. */
static bool find_places(struct order *order, char folder[static PATH_MAX], struct fault *fault)
{
    uint64_t server_id;
    const char *data_dir = order->data_dir == NULL ? CTL_DATA_DIR_DEFAULT : order->data_dir;
    bool is_needed =
        order->ledger == NULL || (order->hold == NULL && (order->redis == NULL || order->keys == NULL));
    if (is_needed && !datadir_identify(data_dir, &server_id, fault))
        return false;
    bool fits = (size_t)snprintf(folder, PATH_MAX, "%s/querylog", data_dir) < PATH_MAX;
    fits = (order->ledger == NULL
                ? (size_t)snprintf(order->ledger_path, PATH_MAX, "%s/" LEDGER_NAME, data_dir)
                : (size_t)snprintf(order->ledger_path, PATH_MAX, "%s", order->ledger)) < PATH_MAX &&
           fits;
    return fits || fault_set(fault, EX_USAGE, "the path of the data directory or the ledger is too long");
}

void order_options(struct order *order, struct ctl_option options[static ORDER_OPTIONS])
{
    const struct ctl_option all[ORDER_OPTIONS] = {
        {"order", "REF", "the order's reference", &order->reference, NULL},
        {"authority", "NAME", "who gave the order", &order->authority, NULL},
        {"country", "CC", "of the authority, two letters (may be left out)", &order->country, NULL},
        {"basis", "TEXT", "the law that the order rests on", &order->basis, NULL},
        {"number", "NUMBER", "lookups of this number", &order->number, NULL},
        {"requester", "ID", "lookups by this requester", &order->requester, NULL},
        {"ip", "ADDRESS", "lookups from this IP; where the log keeps networks: from this /24 or /48",
         &order->ip, NULL},
        {"from", "TIME", "from this moment on (UTC)", &order->from, NULL},
        {"until", "TIME", "before this moment", &order->until, NULL},
        {"key", "FILE", "the officer's private key, or one share of it", &order->key, NULL},
        {"second-key", "FILE", "the other share", &order->second_key, NULL},
        {"data-dir", "DIR", "the server's data directory (default " CTL_DATA_DIR_DEFAULT ")",
         &order->data_dir, NULL},
        {"keys", "DIR", "the hours' keys are there instead, of one server or more", &order->keys, NULL},
        {"redis", "URL", "read Redis, not the segments", &order->redis, NULL},
        {"ledger", "FILE", "where it is entered (default: DATA-DIR/" LEDGER_NAME ")", &order->ledger, NULL},
    };
    memcpy(options, all, sizeof all);
}

int order_prepare(struct order *order, const char *missing, struct disclose_query *query)
{
    struct fault fault;
    const char *why;
    bool placed = find_places(order, order->folder, &fault);
    if (!placed)
        order->ledger_path[0] = '\0';
    int status = make_query(order, query, &why);
    if (status != EX_OK && why == NULL) { /* said already, with the value in it */
        json_t *reason = json_pack("{s:s}", "reason", "an option's value is not understood");
        if (order->ledger_path[0] != '\0')
            (void)order_note(order, "refused", reason, &fault);
        else
            json_decref(reason);
        return status;
    }
    if (status != EX_OK)
        return order_refuse(order, "refused", status, "%s", why);
    const char *part = missing_part(order);
    if (part != NULL || missing != NULL)
        return order_refuse(order, "refused", EX_USAGE, "name %s", part != NULL ? part : missing);
    return placed ? EX_OK : ctl_fail(fault.status, "%s", fault.text);
}

int order_open(struct order *order, struct disclose_query *query, struct officer_pair *officer)
{
    struct fault fault;
    query->keys = NULL;
    if (!officer_read_private(order->key, order->second_key, officer, &fault))
        return order_refuse(order, "refused", fault.status, "%s", fault.text);
    if (order->hold == NULL) {
        query->keys = key_ring_open(order->keys == NULL ? order->folder : order->keys, officer,
                                    query->from_ms, query->until_ms, &fault);
        if (query->keys == NULL)
            return order_refuse(order, "refused", fault.status, "%s", fault.text);
    }
    return order_note(order, "opened", json_object(), &fault) ? EX_OK
                                                              : ctl_fail(fault.status, "%s", fault.text);
}

bool order_read(const struct order *order, const struct disclose_query *query,
                const struct officer_pair *officer, const struct disclose_target *target, struct fault *fault)
{
    if (order->hold != NULL)
        return hold_read(order->hold, officer, query, target, fault);
    return order->redis != NULL ? disclose_redis(order->redis, query, target, fault)
                                : disclose_segments(order->folder, query, target, fault);
}
