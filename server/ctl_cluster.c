/* numberctl cluster: the servers that share one feed of registrations, how far each is, and where the feed's partitions lie. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "persist/registrations/feed_map.h"
#include "persist/registrations/feed_survey.h"

/* A node that has said nothing for so long is taken for away; it says something once a second. */
#define SILENT_SECONDS 10.0

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "-" : text;
}

static double number_of(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static bool is_silent(const json_t *node)
{
    return json_object_get(node, "said_at_ms") == NULL || number_of(node, "seconds_since") > SILENT_SECONDS;
}

/* The most that the node is behind in any partition. */
static double seconds_behind(const json_t *survey, const char *id)
{
    double most = 0;
    size_t i;
    json_t *partition;
    json_array_foreach(json_object_get(survey, "partitions"), i, partition)
    {
        double behind = number_of(json_object_get(json_object_get(partition, "nodes"), id), "behind_seconds");
        most = behind > most ? behind : most;
    }
    return most;
}

/* Nodes that are in some partition and have said nothing yet, or not since their entry was lost. */
static void add_unheard(json_t *survey)
{
    json_t *nodes = json_object_get(survey, "nodes");
    const json_t *partitions = json_object_get(survey, "partitions");
    for (size_t i = 0; i < json_array_size(partitions); i++) {
        json_t *there = json_object_get(json_array_get(partitions, i), "nodes");
        for (void *at = json_object_iter(there); at != NULL; at = json_object_iter_next(there, at))
            if (json_object_get(nodes, json_object_iter_key(at)) == NULL)
                json_object_set_new(nodes, json_object_iter_key(at), json_object());
    }
}

static bool is_serving(const json_t *node, unsigned partition)
{
    struct partition_set holds;
    return !is_silent(node) && strcmp(text_of(node, "state"), FEED_STATE_FOLLOWED) == 0 &&
           partition_set_parse(text_of(node, "holds"), &holds) && holds.has[partition];
}

/* How many ready nodes each partition is on. Returns how many are on none. */
static size_t count_ready(json_t *survey)
{
    size_t orphans = 0;
    const json_t *partitions = json_object_get(survey, "partitions");
    json_t *nodes = json_object_get(survey, "nodes");
    for (unsigned i = 0; i < json_array_size(partitions) && i < PARTITIONS_MAX; i++) {
        int ready = 0;
        for (void *at = json_object_iter(nodes); at != NULL; at = json_object_iter_next(nodes, at))
            ready += is_serving(json_object_iter_value(at), i);
        json_object_set_new(json_array_get(partitions, i), "ready_nodes", json_integer(ready));
        orphans += ready == 0;
    }
    return orphans;
}

/* What follows from the rest is put into it, for people and as JSON alike. Returns how many are silent. */
static size_t judge(json_t *survey)
{
    size_t silent = 0;
    add_unheard(survey);
    json_t *nodes = json_object_get(survey, "nodes");
    for (void *at = json_object_iter(nodes); at != NULL; at = json_object_iter_next(nodes, at)) {
        json_t *node = json_object_iter_value(at);
        bool is_away = is_silent(node);
        silent += is_away;
        json_object_set_new(node, "is_silent", json_boolean(is_away));
        json_object_set_new(node, "behind_seconds",
                            json_real(seconds_behind(survey, json_object_iter_key(at))));
    }
    return silent;
}

static void print_nodes(const json_t *survey)
{
    json_t *nodes = json_object_get(survey, "nodes");
    printf("%-16s  %-21s  %-11s  %9s  %9s  %9s  %9s  %12s  %s\n", "node", "lookups", "state", "said", "age",
           "lag", "behind", "registered", "holds");
    for (void *at = json_object_iter(nodes); at != NULL; at = json_object_iter_next(nodes, at)) {
        const json_t *node = json_object_iter_value(at);
        char said[24] = "never";
        if (json_object_get(node, "said_at_ms") != NULL)
            snprintf(said, sizeof said, "%.1f s", number_of(node, "seconds_since"));
        printf("%-16s  %-21s  %-11s  %9s  %7.2f s  %7.3f s  %7.1f s  %12.0f  %s\n", json_object_iter_key(at),
               text_of(node, "lookups"), is_silent(node) ? "silent" : text_of(node, "state"), said,
               number_of(node, "age_seconds"), number_of(node, "lag_seconds"),
               number_of(node, "behind_seconds"), number_of(node, "registered"), text_of(node, "holds"));
    }
}

static void print_partitions(const json_t *survey)
{
    const json_t *partitions = json_object_get(survey, "partitions");
    printf("\n%-9s  %5s  %-21s  %10s  %-20s  %s\n", "partition", "ready", "Redis", "entries", "last",
           "trimmed before");
    for (size_t i = 0; i < json_array_size(partitions); i++) {
        const json_t *partition = json_array_get(partitions, i);
        printf("%9.0f  %5.0f  %-21s  %10.0f  %-20s  %s\n", number_of(partition, "partition"),
               number_of(partition, "ready_nodes"), text_of(partition, "redis"),
               number_of(partition, "entries"), text_of(partition, "last"), text_of(partition, "trimmed"));
    }
}

static int print_survey(const struct ctl_common *common, const char *redis)
{
    struct fault fault;
    char *text = feed_survey(redis, &fault);
    if (text == NULL)
        return ctl_fail(fault.status, "%s", fault.text);
    json_t *survey = json_loads(text, 0, NULL);
    free(text);
    if (survey == NULL)
        return ctl_fail(EX_OSERR, "out of memory");
    size_t silent = judge(survey);
    size_t orphans = count_ready(survey);
    if (common->json) {
        ctl_print_json(survey);
    } else {
        printf("feed %s, %zu partitions, %s account ids\n\n", text_of(survey, "feed"),
               json_array_size(json_object_get(survey, "partitions")),
               json_is_true(json_object_get(survey, "account_ids")) ? "with" : "without");
        print_nodes(survey);
        print_partitions(survey);
        json_decref(survey);
    }
    if (silent > 0)
        return ctl_fail(EX_UNAVAILABLE,
                        "%zu of the nodes are silent: see that they run and reach Redis; "
                        "one that is gone for good is to be forgotten (--forget)",
                        silent);
    return orphans == 0
               ? EX_OK
               : ctl_fail(EX_UNAVAILABLE,
                          "%zu of the partitions are on no node that is ready: start one with --holds",
                          orphans);
}

int ctl_cluster(int argc, char **argv)
{
    struct ctl_common common;
    struct fault fault;
    const char *redis = NULL;
    const char *node = NULL;
    const struct ctl_option options[] = {
        {"registrations", "URL", "the Redis of the feed, as numberd's", &redis, NULL},
        {"forget", "NODE", "a node that is gone for good: what only it needed may be trimmed", &node, NULL},
    };
    int status = ctl_parse(&common, "cluster", "--registrations URL [--forget NODE]",
                           "Shows the servers that share a feed of registrations: how long ago each said "
                           "something, for how long\n"
                           "it may have missed what the feed had (age), how late its last change was (lag), "
                           "how far it is behind;\n"
                           "what it holds;\nand the feed's partitions, and on how many servers that are "
                           "ready each is. Ends with 69 when a server is silent, or a "
                           "partition on none.",
                           options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0 || redis == NULL)
        return ctl_fail(EX_USAGE, "cluster: name the feed's Redis with --registrations");
    if (node == NULL)
        return print_survey(&common, redis);
    if (!feed_survey_forget(redis, node, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (common.json)
        ctl_print_json(json_pack("{s:s}", "forgotten", node));
    else
        printf("node %s is forgotten; if it comes back it has to be able to read the feed from where it is\n",
               node);
    return EX_OK;
}
