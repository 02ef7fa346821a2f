/* numberctl stats and ping. */
#include "server/numberctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

/* Prints nested objects as "outer.inner: value" lines. */
static void print_flat(const char *prefix, json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char name[128];
        snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", key);
        if (json_is_object(value)) {
            print_flat(name, value);
            continue;
        }
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
        printf("%-34s %s\n", name, text == NULL ? "?" : text);
        free(text);
    }
}

int ctl_stats(int argc, char **argv)
{
    struct ctl_common common;
    struct wire_reply reply;
    int status = ctl_parse(&common, "stats", "", "Prints the server's statistics.", NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    if (!client_send_plain(client, WIRE_STATS) || !client_finish(client, &reply)) {
        status = ctl_fail_client(client);
        client_close(client);
        return status;
    }
    json_t *stats = json_loadb((const char *)reply.body, reply.body_bytes, 0, NULL);
    client_close(client);
    if (stats == NULL)
        return ctl_fail(EX_PROTOCOL, "the server's statistics are no JSON");
    if (common.json) {
        ctl_print_json(stats);
    } else {
        print_flat("", stats);
        json_decref(stats);
    }
    return EX_OK;
}

int ctl_ping(int argc, char **argv)
{
    struct ctl_common common;
    struct wire_reply reply;
    struct timespec before;
    struct timespec after;
    int status =
        ctl_parse(&common, "ping", "", "Prints how long the server takes to answer.", NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    clock_gettime(CLOCK_MONOTONIC, &before);
    if (client_send_plain(client, WIRE_PING) && client_finish(client, &reply)) {
        clock_gettime(CLOCK_MONOTONIC, &after);
        double ms =
            (double)(after.tv_sec - before.tv_sec) * 1e3 + (double)(after.tv_nsec - before.tv_nsec) / 1e6;
        status = EX_OK;
        if (common.json)
            ctl_print_json(json_pack("{s:f}", "milliseconds", ms));
        else
            printf("%s answered in %.3f ms\n", common.server, ms);
    } else {
        status = ctl_fail_client(client);
    }
    client_close(client);
    return status;
}
