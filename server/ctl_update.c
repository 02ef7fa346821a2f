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

/* Waits for the reply to one update that was sent and reports each entry. */
static int finish(const struct ctl_common *common, struct client *client, const uint64_t *numbers)
{
    struct wire_reply reply;
    int status = EX_OK;
    if (!client_finish(client, &reply))
        return ctl_fail_client(client);
    for (uint16_t i = 0; i < reply.count; i++) {
        int one = report(common, numbers[i], reply.body[i]);
        status = status == EX_OK ? one : status;
    }
    return status;
}

int ctl_register(int argc, char **argv)
{
    struct ctl_common common;
    const char *account = "0";
    const char *flags = "0";
    uint64_t flag_bits;
    struct client_registration registration;
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
    if (!ctl_number(argv[0], "argument 1", &registration.number))
        return EX_DATAERR;
    if (!ctl_unsigned(account, "--account", UINT64_MAX, &registration.account) ||
        !ctl_unsigned(flags, "--flags", UINT8_MAX, &flag_bits))
        return EX_USAGE;
    registration.flags = (uint8_t)flag_bits;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    status = client_send_register(client, &registration, 1) ? finish(&common, client, &registration.number)
                                                            : ctl_fail_client(client);
    client_close(client);
    return status;
}

int ctl_deregister(int argc, char **argv)
{
    struct ctl_common common;
    uint64_t number;
    int status = ctl_parse(&common, "deregister", "NUMBER", "Removes the number's registration.", NULL, 0,
                           &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1)
        return ctl_fail(EX_USAGE, "deregister: name one number");
    if (!ctl_number(argv[0], "argument 1", &number))
        return EX_DATAERR;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    status = client_send_numbers(client, WIRE_DEREGISTER, NULL, &number, 1) ? finish(&common, client, &number)
                                                                            : ctl_fail_client(client);
    client_close(client);
    return status;
}

int ctl_move(int argc, char **argv)
{
    struct ctl_common common;
    uint64_t from;
    uint64_t to;
    int status = ctl_parse(&common, "move", "OLD NEW",
                           "Moves account and flags to another number, at once for every lookup.", NULL, 0,
                           &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 2)
        return ctl_fail(EX_USAGE, "move: name the old number and the new one");
    if (!ctl_number(argv[0], "argument 1", &from) || !ctl_number(argv[1], "argument 2", &to))
        return EX_DATAERR;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    status = client_send_move(client, from, to) ? finish(&common, client, &to) : ctl_fail_client(client);
    client_close(client);
    return status;
}
