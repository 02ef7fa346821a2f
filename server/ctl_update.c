/* numberctl register, deregister and move: one change each, its result printed. */
#include "server/numberctl.h"

#include <stdio.h>
#include <sysexits.h>

#include "hashing/phone.h"

/* Prints the result; the status says whether it is what was asked for. */
static int report(const struct ctl_common *common, uint64_t number, uint8_t status)
{
    char text[PHONE_TEXT_BYTES];
    phone_format(number, text);
    if (common->json)
        ctl_print_json(json_pack("{s:s, s:s}", "number", text, "result", wire_status_text(status)));
    else
        printf("%s\t%s\n", text, wire_status_text(status));
    return status == WIRE_ADDED || status == WIRE_REPLACED || status == WIRE_REMOVED || status == WIRE_MOVED
               ? EX_OK
               : EX_DATAERR;
}

/* One change; of a move `number` is the new one. */
struct update {
    enum wire_type type;
    uint64_t number;
    uint64_t from; /* of a move */
    struct client_registration registration;
};

/* Where the server asked does not hold the number. */
static int update_elsewhere(const struct ctl_common *common, const struct update *update)
{
    uint8_t result = WIRE_REFUSED;
    int status = EX_OK;
    struct client_cluster *cluster = ctl_connect_cluster(common, &status);
    if (cluster == NULL)
        return status;
    bool good = update->type == WIRE_REGISTER
                    ? client_cluster_register(cluster, &update->registration, 1, &result)
                : update->type == WIRE_DEREGISTER
                    ? client_cluster_deregister(cluster, &update->number, 1, &result)
                    : client_cluster_move(cluster, update->from, update->number, &result);
    status = good ? report(common, update->number, result)
                  : ctl_fail(EX_UNAVAILABLE, "%s", client_cluster_error(cluster));
    client_cluster_close(cluster);
    return status;
}

static bool send_update(struct client *client, const struct update *update)
{
    if (update->type == WIRE_REGISTER)
        return client_send_register(client, &update->registration, 1);
    if (update->type == WIRE_DEREGISTER)
        return client_send_numbers(client, WIRE_DEREGISTER, NULL, &update->number, 1);
    return client_send_move(client, update->from, update->number);
}

/* Carries it out and reports what came of it. */
static int carry_out(const struct ctl_common *common, const struct update *update)
{
    struct wire_reply reply;
    int status = EX_OK;
    struct client *client = ctl_connect(common, &status);
    if (client == NULL)
        return status;
    if (send_update(client, update) && client_finish(client, &reply))
        status = report(common, update->number, reply.body[0]);
    else
        status = client_code(client) == WIRE_ELSEWHERE ? update_elsewhere(common, update)
                                                       : ctl_fail_client(client);
    client_close(client);
    return status;
}

int ctl_register(int argc, char **argv)
{
    struct ctl_common common;
    const char *account = "0";
    const char *flags = "0";
    uint64_t flag_bits;
    struct update update = {.type = WIRE_REGISTER};
    const struct ctl_option options[] = {
        {"account", "ID", "the account's id, 0 to 2^64-1 (default 0)", &account, NULL},
        {"flags", "N", "0 to 255; 1 hides the account from lookups (default 0)", &flags, NULL},
    };
    int status =
        ctl_parse(&common, "register", "NUMBER [--account ID] [--flags N]",
                  "Registers the number, or replaces its account and flags.", options, 2, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1)
        return ctl_fail(EX_USAGE, "register: name one number; many are a matter for numberctl import");
    if (!ctl_number(argv[0], "argument 1", &update.number))
        return EX_DATAERR;
    if (!ctl_unsigned(account, "--account", UINT64_MAX, &update.registration.account) ||
        !ctl_unsigned(flags, "--flags", UINT8_MAX, &flag_bits))
        return EX_USAGE;
    update.registration.flags = (uint8_t)flag_bits;
    update.registration.number = update.number;
    return carry_out(&common, &update);
}

int ctl_deregister(int argc, char **argv)
{
    struct ctl_common common;
    struct update update = {.type = WIRE_DEREGISTER};
    int status = ctl_parse(&common, "deregister", "NUMBER", "Removes the number's registration.", NULL, 0,
                           &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1)
        return ctl_fail(EX_USAGE, "deregister: name one number");
    if (!ctl_number(argv[0], "argument 1", &update.number))
        return EX_DATAERR;
    return carry_out(&common, &update);
}

int ctl_move(int argc, char **argv)
{
    struct ctl_common common;
    struct update update = {.type = WIRE_MOVE};
    int status = ctl_parse(&common, "move", "OLD NEW",
                           "Moves account and flags to another number, at once for every lookup.", NULL, 0,
                           &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 2)
        return ctl_fail(EX_USAGE, "move: name the old number and the new one");
    if (!ctl_number(argv[0], "argument 1", &update.from) ||
        !ctl_number(argv[1], "argument 2", &update.number))
        return EX_DATAERR;
    return carry_out(&common, &update);
}
