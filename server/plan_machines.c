/* How many machines a directory wants; see plan_machines.h. */
#include "server/plan_machines.h"

#include <math.h>
#include <stddef.h>

/* Numbers a second that one worker answers with the query log on, by numbers in a request (loadtest/compare.sh). */
static const struct {
    double batch;
    double lookups;
} measured[] = {{1, 1.25e6}, {16, 13e6}, {128, 34e6}, {1000, 65e6}};

/* Between two that were measured, on a straight line of the logarithms; beyond them, as the nearest. */
static double lookups_of(double batch)
{
    size_t last = sizeof measured / sizeof measured[0] - 1;
    if (batch <= measured[0].batch)
        return measured[0].lookups;
    for (size_t i = 1; i <= last; i++) {
        if (batch > measured[i].batch)
            continue;
        double part = log(batch / measured[i - 1].batch) / log(measured[i].batch / measured[i - 1].batch);
        return measured[i - 1].lookups * pow(measured[i].lookups / measured[i - 1].lookups, part);
    }
    return measured[last].lookups;
}

void plan_machines(const struct plan_wish *wish, struct plan_machines *plan)
{
    double workers = wish->processors > 2 ? wish->processors - 1 : 1;
    *plan = (struct plan_machines){0};
    plan->directory_bytes = wish->numbers * (wish->accounts ? PLAN_NUMBER_BYTES : PLAN_NUMBER_BYTES_BARE);
    plan->usable_bytes = wish->memory * PLAN_MEMORY_SHARE - PLAN_OTHER_BYTES;
    plan->machines_a_copy =
        plan->usable_bytes > 0 ? fmax(1, ceil(plan->directory_bytes / plan->usable_bytes)) : HUGE_VAL;
    /* A request is split among the machines of a copy. */
    plan->machine_batch = fmax(1, wish->batch / plan->machines_a_copy);
    plan->worker_lookups = lookups_of(plan->machine_batch);
    plan->machine_lookups = plan->worker_lookups * workers * PLAN_LOAD_SHARE;
    plan->copies = fmax(wish->copies, ceil(wish->lookups / plan->machine_lookups / plan->machines_a_copy));
    plan->servers = plan->machines_a_copy * plan->copies;
    plan->disk_bytes = PLAN_DISK_COPIES * plan->directory_bytes / plan->machines_a_copy;
    /* What no server has in its last snapshot but one. */
    plan->feed_bytes = wish->changes * 2 * wish->trim_hours * 3600 * PLAN_CHANGE_BYTES;
    plan->redis_bytes = plan->feed_bytes + wish->log_bytes;
    plan->masters = fmax(3, ceil(plan->redis_bytes / (wish->memory * PLAN_MEMORY_SHARE)));
    plan->replicas = plan->masters;
    plan->has_parts = plan->machines_a_copy > 1;
    /* The least that is spread evenly, and not below numberd's default. */
    plan->partitions = plan->machines_a_copy * ceil(PLAN_PARTITIONS_LEAST / plan->machines_a_copy);
    plan->has_many_changes = wish->changes > PLAN_CHANGES_PER_SECOND;
}
