/* What a Redis keeps; see redis_policy.h. */
#include "persist/querylog/redis_policy.h"

#include <stdio.h>
#include <string.h>

/* True when the section of INFO has this line. */
static bool has_line(redisContext *link, const struct redis_target *target, const char *section,
                     const char *line, bool *is_known, struct fault *fault)
{
    redisReply *info = redis_link_command(link, target, 2, (const char *[]){"INFO", section}, fault);
    *is_known = info != NULL && info->type == REDIS_REPLY_STRING;
    bool found = *is_known && strstr(info->str, line) != NULL;
    freeReplyObject(info);
    return found;
}

/* True when the configuration says that no snapshots are made by themselves. */
static bool saves_nothing(redisContext *link, const struct redis_target *target, struct fault *fault)
{
    redisReply *save = redis_link_command(link, target, 3, (const char *[]){"CONFIG", "GET", "save"}, fault);
    bool nothing = save != NULL && save->type == REDIS_REPLY_ARRAY && save->elements == 2 &&
                   save->element[1]->type == REDIS_REPLY_STRING && save->element[1]->len == 0;
    freeReplyObject(save);
    return nothing;
}

static void read_run_id(redisContext *link, const struct redis_target *target, char run_id[static 48],
                        struct fault *fault)
{
    redisReply *info = redis_link_command(link, target, 2, (const char *[]){"INFO", "server"}, fault);
    const char *line = info != NULL && info->type == REDIS_REPLY_STRING ? strstr(info->str, "run_id:") : NULL;
    if (line == NULL || sscanf(line, "run_id:%47[0-9a-f]", run_id) != 1)
        run_id[0] = '\0';
    freeReplyObject(info);
}

bool redis_policy_read(redisContext *link, const struct redis_target *target, struct redis_policy *policy,
                       struct fault *fault)
{
    struct fault ignored; /* a refusal is none, unless the link is broken by it */
    bool is_known;
    *policy = (struct redis_policy){0};
    bool keeps = has_line(link, target, "memory", "maxmemory_policy:noeviction", &is_known, &ignored);
    policy->may_evict = is_known && !keeps;
    bool appends = has_line(link, target, "persistence", "aof_enabled:1", &is_known, &ignored);
    policy->persists_nothing = is_known && !appends && saves_nothing(link, target, &ignored);
    read_run_id(link, target, policy->run_id, &ignored);
    return link->err == 0 || fault_set(fault, ignored.status, "%s", ignored.text);
}
