/* numberctl lookup: asks about numbers and prints each one's status. */
#include "server/numberctl.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "hashing/phone.h"

#define BATCH 1024

struct lookup {
    struct ctl_common common;
    bool records;
    const char *requester;
    const char *ip;
    struct wire_origin origin;
    struct client *client;
    uint64_t numbers[BATCH];
    uint16_t count;
    int status;
};

/* `answer`: a status, or a record as replies have it. */
static void print_answer(const struct lookup *lookup, uint64_t number, const uint8_t *answer)
{
    char text[PHONE_TEXT_BYTES];
    const char *status = wire_status_text(answer[0]);
    phone_format(number, text);
    uint64_t account = lookup->records ? wire_get_u64(answer + 8) : 0;
    bool show_record = lookup->records && answer[0] == WIRE_REGISTERED;
    if (lookup->common.json) {
        json_t *object = json_pack("{s:s, s:s}", "number", text, "status", status);
        if (show_record) {
            char digits[24]; /* text: JSON readers lose integers above 2^53 */
            snprintf(digits, sizeof digits, "%" PRIu64, account);
            json_object_set_new(object, "account", json_string(digits));
            json_object_set_new(object, "flags", json_integer(answer[1]));
        }
        ctl_print_json(object);
    } else if (show_record) {
        printf("%s\t%s\taccount %" PRIu64 "\tflags %u\n", text, status, account, answer[1]);
    } else {
        printf("%s\t%s\n", text, status);
    }
}

/* All servers that hold some of them. */
static bool ask_cluster(struct lookup *lookup, const struct wire_origin *origin)
{
    uint8_t statuses[BATCH];
    struct client_registration records[BATCH] = {0};
    struct client_cluster *cluster = ctl_connect_cluster(&lookup->common, &lookup->status);
    if (cluster == NULL)
        return false;
    bool good = lookup->records
                    ? client_cluster_lookup_records(cluster, origin, lookup->numbers, lookup->count, statuses,
                                                    records)
                    : client_cluster_lookup(cluster, origin, lookup->numbers, lookup->count, statuses);
    for (uint16_t i = 0; i < lookup->count && good; i++) {
        uint8_t answer[WIRE_RECORD_BYTES] = {statuses[i], records[i].flags};
        wire_put_u64(answer + 8, records[i].account);
        print_answer(lookup, lookup->numbers[i], answer);
    }
    if (!good)
        lookup->status = ctl_fail(EX_UNAVAILABLE, "%s", client_cluster_error(cluster));
    client_cluster_close(cluster);
    lookup->count = 0;
    return good;
}

/* Asks about what has been gathered. False: the connection is lost. */
static bool ask(struct lookup *lookup)
{
    struct wire_reply reply;
    bool named = lookup->requester != NULL || lookup->ip != NULL;
    size_t entry_bytes = lookup->records ? WIRE_RECORD_BYTES : 1;
    if (lookup->count == 0)
        return true;
    if (!client_send_numbers(lookup->client, lookup->records ? WIRE_LOOKUP_RECORDS : WIRE_LOOKUP,
                             named ? &lookup->origin : NULL, lookup->numbers, lookup->count) ||
        !client_finish(lookup->client, &reply)) {
        if (client_code(lookup->client) == WIRE_ELSEWHERE)
            return ask_cluster(lookup, named ? &lookup->origin : NULL);
        lookup->status = ctl_fail_client(lookup->client);
        return false;
    }
    for (uint16_t i = 0; i < reply.count && i < lookup->count; i++)
        print_answer(lookup, lookup->numbers[i], reply.body + i * entry_bytes);
    lookup->count = 0;
    return true;
}

static bool add(struct lookup *lookup, const char *text, size_t length, const char *which)
{
    if (!ctl_number_of(text, length, which, &lookup->numbers[lookup->count])) {
        lookup->status = EX_DATAERR;
        return true;
    }
    lookup->count++;
    return lookup->count < BATCH || ask(lookup);
}

static bool add_from_stdin(struct lookup *lookup)
{
    char *line = NULL;
    size_t capacity = 0;
    char which[40];
    bool good = true;
    ssize_t length;
    for (unsigned number = 1; good && (length = getline(&line, &capacity, stdin)) >= 0; number++) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            length--;
        snprintf(which, sizeof which, "line %u", number);
        if (length > 0)
            good = add(lookup, line, (size_t)length, which);
    }
    free(line);
    if (good && ferror(stdin))
        lookup->status = ctl_fail(EX_IOERR, "cannot read standard input");
    return good && ask(lookup);
}

static bool parse_origin(struct lookup *lookup)
{
    struct in_addr v4;
    uint8_t *ip = lookup->origin.ip;
    if (lookup->requester != NULL &&
        !ctl_unsigned(lookup->requester, "--requester", UINT64_MAX, &lookup->origin.requester))
        return false;
    if (lookup->ip == NULL)
        return true;
    if (inet_pton(AF_INET, lookup->ip, &v4) == 1) {
        ip[10] = ip[11] = 0xff;
        memcpy(ip + 12, &v4, sizeof v4);
        return true;
    }
    if (inet_pton(AF_INET6, lookup->ip, ip) == 1)
        return true;
    ctl_fail(EX_USAGE, "--ip must be an IPv4 or IPv6 address");
    return false;
}

int ctl_lookup(int argc, char **argv)
{
    struct lookup lookup = {0};
    const struct ctl_option options[] = {
        {"records", NULL, "print account and flags too", NULL, &lookup.records},
        {"requester", "ID", "ask on behalf of this requester", &lookup.requester, NULL},
        {"ip", "IP", "and from this address", &lookup.ip, NULL},
    };
    int status =
        ctl_parse(&lookup.common, "lookup", "NUMBER... | -",
                  "Prints for each number whether it is registered. - reads one number a line from standard "
                  "input.\nEnds with 65 when a text was no number; the others are answered all the same.",
                  options, 3, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc == 0)
        return ctl_fail(EX_USAGE, "lookup: name a number, like +4915112345678, or - for standard input");
    if (!parse_origin(&lookup))
        return EX_USAGE;
    lookup.client = ctl_connect(&lookup.common, &status);
    if (lookup.client == NULL)
        return status;
    bool good = true;
    if (strcmp(argv[0], "-") == 0) {
        good = add_from_stdin(&lookup);
    } else {
        for (int i = 0; good && i < argc; i++) {
            char which[40];
            snprintf(which, sizeof which, "argument %d", i + 1);
            good = add(&lookup, argv[i], strlen(argv[i]), which);
        }
        good = good && ask(&lookup);
    }
    if (good && !client_goodbye(lookup.client))
        lookup.status = ctl_fail_client(lookup.client);
    client_close(lookup.client);
    return lookup.status;
}
