/* numberctl import through a running server: requests of many rows, some ahead of their replies. */
#include "server/ctl_import.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#define BATCH 4096
/* Requests sent ahead of their replies. */
#define WINDOW 8

struct sending {
    struct ctl_import *import;
    struct client *client;
    struct client_registration batch[BATCH];
    uint16_t count;
    unsigned outstanding;
};

static int take_reply(struct sending *sending)
{
    struct wire_reply reply;
    uint64_t refused = 0;
    if (!client_receive(sending->client, &reply))
        return ctl_fail_client(sending->client);
    sending->outstanding--;
    if (reply.code != WIRE_OK)
        return ctl_fail(EX_UNAVAILABLE, "%s; import again when that is mended: what was acknowledged stays",
                        wire_code_text(reply.code));
    for (uint16_t i = 0; i < reply.count; i++) {
        sending->import->added += reply.body[i] == WIRE_ADDED;
        sending->import->changed += reply.body[i] == WIRE_REPLACED;
        refused += reply.body[i] != WIRE_ADDED && reply.body[i] != WIRE_REPLACED;
    }
    return refused == 0 ? EX_OK
                        : ctl_fail(EX_UNAVAILABLE,
                                   "the server refuses registrations (is it out of memory?); import again "
                                   "when that is mended: what is there stays");
}

static int send_batch(struct sending *sending)
{
    int status = EX_OK;
    if (sending->count == 0)
        return EX_OK;
    if (sending->outstanding == WINDOW)
        status = take_reply(sending);
    if (status != EX_OK)
        return status;
    if (!client_send_register(sending->client, sending->batch, sending->count) ||
        !client_flush(sending->client))
        return ctl_fail_client(sending->client);
    sending->outstanding++;
    sending->count = 0;
    return EX_OK;
}

static int take(void *context, const struct record *records, size_t count)
{
    struct sending *sending = context;
    int status = EX_OK;
    for (size_t i = 0; i < count && status == EX_OK; i++) {
        sending->batch[sending->count++] =
            (struct client_registration){records[i].number, records[i].account, records[i].flags};
        if (sending->count == BATCH)
            status = send_batch(sending);
    }
    return status;
}

int ctl_import_online(struct ctl_import *import)
{
    static struct sending sending; /* too large for a stack */
    int status = EX_OK;
    sending = (struct sending){.import = import, .client = ctl_connect(&import->common, &status)};
    if (sending.client == NULL)
        return status;
    struct ctl_rows_options rows = {.input = import->input,
                                    .rejects = import->rejects,
                                    .tolerant = import->tolerant,
                                    .quiet = import->common.json,
                                    .take = take,
                                    .context = &sending};
    status = ctl_rows_read(&rows, &import->rows);
    if (status == EX_OK)
        status = send_batch(&sending);
    while (status == EX_OK && sending.outstanding > 0)
        status = take_reply(&sending);
    if (status == EX_OK && !client_goodbye(sending.client))
        status = ctl_fail_client(sending.client);
    client_close(sending.client);
    return status;
}
