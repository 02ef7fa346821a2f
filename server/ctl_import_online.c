/* numberctl import through a running server: requests of many rows, some ahead of their replies. Where each of several servers holds a part,
 * through all of them. */
#include "server/ctl_import.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#define BATCH 4096
/* Requests sent ahead of their replies. */
#define WINDOW 8

/* Rows that go to several servers at once. */
#define SPREAD 65536

struct sending {
    struct ctl_import *import;
    struct client *client;          /* ... or: */
    struct client_cluster *cluster; /* NULL: one server holds all */
    struct client_registration batch[SPREAD];
    size_t count;
    unsigned outstanding;
};

static int count_results(struct sending *sending, const uint8_t *results, size_t count)
{
    uint64_t refused = 0;
    for (size_t i = 0; i < count; i++) {
        sending->import->added += results[i] == WIRE_ADDED;
        sending->import->changed += results[i] == WIRE_REPLACED;
        refused += results[i] != WIRE_ADDED && results[i] != WIRE_REPLACED;
    }
    return refused == 0 ? EX_OK
                        : ctl_fail(EX_UNAVAILABLE,
                                   "the server refuses registrations (is it out of memory?); import again "
                                   "when that is mended: what is there stays");
}

static int take_reply(struct sending *sending)
{
    struct wire_reply reply;
    if (!client_receive(sending->client, &reply))
        return ctl_fail_client(sending->client);
    sending->outstanding--;
    if (reply.code != WIRE_OK)
        return ctl_fail(EX_UNAVAILABLE, "%s; import again when that is mended: what was acknowledged stays",
                        wire_code_text(reply.code));
    return count_results(sending, reply.body, reply.count);
}

/* To all that hold some of it. */
static int spread_batch(struct sending *sending)
{
    static uint8_t results[SPREAD];
    size_t count = sending->count;
    sending->count = 0;
    if (!client_cluster_register(sending->cluster, sending->batch, count, results))
        return ctl_fail(EX_UNAVAILABLE, "%s; import again when that is mended: what is there stays",
                        client_cluster_error(sending->cluster));
    return count_results(sending, results, count);
}

static int send_batch(struct sending *sending)
{
    int status = EX_OK;
    if (sending->count == 0)
        return EX_OK;
    if (sending->cluster != NULL)
        return spread_batch(sending);
    if (sending->outstanding == WINDOW)
        status = take_reply(sending);
    if (status != EX_OK)
        return status;
    if (!client_send_register(sending->client, sending->batch, (uint16_t)sending->count) ||
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
    size_t most = sending->cluster != NULL ? SPREAD : BATCH;
    for (size_t i = 0; i < count && status == EX_OK; i++) {
        sending->batch[sending->count++] =
            (struct client_registration){records[i].number, records[i].account, records[i].flags};
        if (sending->count == most)
            status = send_batch(sending);
    }
    return status;
}

/* A server that holds all takes it by itself, some requests ahead of their replies. */
static int connect_to(struct sending *sending, const struct ctl_common *common)
{
    int status = EX_OK;
    sending->client = ctl_connect(common, &status);
    if (sending->client == NULL)
        return status;
    sending->cluster = ctl_connect_cluster(common, &status);
    if (sending->cluster == NULL)
        return status;
    if (client_cluster_is_split(sending->cluster)) {
        client_close(sending->client);
        sending->client = NULL;
    } else {
        client_cluster_close(sending->cluster);
        sending->cluster = NULL;
    }
    return status;
}

int ctl_import_online(struct ctl_import *import)
{
    static struct sending sending; /* too large for a stack */
    sending.import = import;
    int status = connect_to(&sending, &import->common);
    struct ctl_rows_options rows = {.input = import->input,
                                    .rejects = import->rejects,
                                    .tolerant = import->tolerant,
                                    .quiet = import->common.json,
                                    .take = take,
                                    .context = &sending};
    if (status == EX_OK)
        status = ctl_rows_read(&rows, &import->rows);
    if (status == EX_OK)
        status = send_batch(&sending);
    while (status == EX_OK && sending.outstanding > 0)
        status = take_reply(&sending);
    if (status == EX_OK && sending.client != NULL && !client_goodbye(sending.client))
        status = ctl_fail_client(sending.client);
    client_close(sending.client);
    client_cluster_close(sending.cluster);
    return status;
}
