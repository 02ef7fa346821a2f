/* numberctl stats and ping. */
#include "server/numberctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

/* The values of one section, "name:value" each, as Redis's INFO prints them; not the sections within. */
static void print_values(json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (json_is_object(value))
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        if (json_is_string(value))
            printf("%s:%s\n", key, json_string_value(value));
        else
            printf("%s:%s\n", key, text == NULL ? "?" : text);
        free(text);
    }
}

static void print_sections(json_t *stats)
{
    const char *key;
    json_t *value;
    printf("# server\n");
    print_values(stats);
    json_object_foreach(stats, key, value)
    {
        if (!json_is_object(value))
            continue;
        printf("\n# %s\n", key);
        print_values(value);
    }
}

int ctl_stats(int argc, char **argv)
{
    struct ctl_common common;
    struct wire_reply reply;
    int status = ctl_parse(&common, "stats", "", "Prints the server's statistics, as INFO of Redis does.",
                           NULL, 0, &argc, &argv);
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
        print_sections(stats);
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
