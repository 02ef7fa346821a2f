/* What a Redis keeps; see redis_policy.h. */
#include "persist/querylog/redis_policy.h"

#include <stdio.h>
#include <string.h>

/* True when the section of INFO has this line. */
static bool has_line(redisContext *link, const struct redis_address *address, const char *section,
                     const char *line, bool *is_known, struct fault *fault)
{
    redisReply *info = redis_link_command(link, address, 2, (const char *[]){"INFO", section}, fault);
    *is_known = info != NULL && info->type == REDIS_REPLY_STRING;
    bool found = *is_known && strstr(info->str, line) != NULL;
    freeReplyObject(info);
    return found;
}

/* True when the configuration says that no snapshots are made by themselves. */
static bool saves_nothing(redisContext *link, const struct redis_address *address, struct fault *fault)
{
    redisReply *save = redis_link_command(link, address, 3, (const char *[]){"CONFIG", "GET", "save"}, fault);
    bool nothing = save != NULL && save->type == REDIS_REPLY_ARRAY && save->elements == 2 &&
                   save->element[1]->type == REDIS_REPLY_STRING && save->element[1]->len == 0;
    freeReplyObject(save);
    return nothing;
}

/* The hexadecimal value behind `field` in the section; empty if it is not there. */
static void read_id(redisContext *link, const struct redis_address *address, const char *section,
                    const char *field, char id[static 41], struct fault *fault)
{
    redisReply *info = redis_link_command(link, address, 2, (const char *[]){"INFO", section}, fault);
    const char *line = info != NULL && info->type == REDIS_REPLY_STRING ? strstr(info->str, field) : NULL;
    if (line == NULL || sscanf(line + strlen(field), "%40[0-9a-f]", id) != 1)
        id[0] = '\0';
    freeReplyObject(info);
}

/* A master that became a replica, and then a master again, ran all the while, and has lost what the one between had not: its replication
 * has another id then. */
static void read_run_id(redisContext *link, const struct redis_address *address, char run_id[static 96],
                        struct fault *fault)
{
    char run[41];
    char replication[41];
    read_id(link, address, "server", "run_id:", run, fault);
    read_id(link, address, "replication", "master_replid:", replication, fault);
    snprintf(run_id, 96, "%s%s%s", run, run[0] == '\0' ? "" : " ", run[0] == '\0' ? "" : replication);
}

bool redis_policy_read(redisContext *link, const struct redis_address *address, struct redis_policy *policy,
                       struct fault *fault)
{
    struct fault ignored; /* a refusal is none, unless the link is broken by it */
    bool is_known;
    *policy = (struct redis_policy){0};
    bool keeps = has_line(link, address, "memory", "maxmemory_policy:noeviction", &is_known, &ignored);
    policy->may_evict = is_known && !keeps;
    bool appends = has_line(link, address, "persistence", "aof_enabled:1", &is_known, &ignored);
    policy->persists_nothing = is_known && !appends && saves_nothing(link, address, &ignored);
    read_run_id(link, address, policy->run_id, &ignored);
    return link->err == 0 || fault_set(fault, ignored.status, "%s", ignored.text);
}
