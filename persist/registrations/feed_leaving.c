/* What a node is to hold no more; see feed_leaving.h. */
#include "persist/registrations/feed_leaving.h"

#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

/* Each node says something once a second. */
#define NEWS_MS 2500

struct leaving {
    struct feed_wire *wire;
    struct feed_state *state;
    pthread_mutex_t *state_lock;
    const struct feed_options *options;
};

struct heirs {
    const struct feed_map *map;
    unsigned partition;
    bool is_there;
};

static void look_for_heir(const struct feed_wire_group *group, void *context)
{
    struct heirs *heirs = context;
    if (group->kind == FEED_GROUP_NEEDS && feed_map_serves(heirs->map, group->node, heirs->partition))
        heirs->is_there = true;
}

/* This node leaves its place first, and then looks whether somebody else is there: of two that leave at the same time neither relies on the
 * other. */
static bool retire(const struct leaving *leaving, const struct feed_map *map, unsigned partition,
                   struct fault *fault)
{
    struct feed_lane lane;
    struct heirs heirs = {map, partition, false};
    const struct feed_progress *progress = &leaving->state->progress[partition];
    feed_wire_init_lane(&lane, partition);
    if (!feed_wire_retire(leaving->wire, &lane, fault))
        return false;
    if (progress->is_leaving || progress->position.ms == 0)
        return true;
    if (!feed_wire_show_groups(leaving->wire, &lane, look_for_heir, &heirs, fault))
        return false;
    if (heirs.is_there)
        return true;
    (void)feed_wire_stay(leaving->wire, &lane, fault);
    return fault_set(
        fault, EX_UNAVAILABLE,
        "partition %u is on no other node that is ready: start one that holds it, or this one with "
        "it (--holds)",
        partition);
}

static bool note(const struct leaving *leaving, const struct partition_set *set, bool is_done,
                 struct fault *fault)
{
    bool good = true;
    const struct feed_hands *hands = &leaving->options->hands;
    pthread_mutex_lock(leaving->state_lock);
    for (unsigned i = 0; i < leaving->state->partitions && good; i++) {
        if (!set->has[i])
            continue;
        struct change mark = feed_state_leave(leaving->state, i, is_done);
        good = hands->note(hands->context, &mark, 1);
    }
    pthread_mutex_unlock(leaving->state_lock);
    return good || fault_set(fault, EX_OSERR, "the journal does not take that partitions are left");
}

static struct feed_map *read_map(const struct leaving *leaving, struct fault *fault)
{
    return feed_wire_read_map(leaving->wire, leaving->state->feed, leaving->state->partitions, 0, fault);
}

/* Whether something is followed that is not held. */
static bool has_more(const struct leaving *leaving)
{
    const struct feed_state *state = leaving->state;
    for (unsigned i = 0; i < state->partitions; i++)
        if (!leaving->options->holds.has[i] && state->progress[i].is_followed)
            return true;
    return false;
}

/* The nodes, of which those count as ready that have said something since this was called, if that matters: others may be dead for as long as a
 * node may be silent. */
static struct feed_map *hear_nodes(const struct leaving *leaving, struct fault *fault)
{
    struct feed_map *before = read_map(leaving, fault);
    if (before == NULL || !has_more(leaving))
        return before;
    nanosleep(&(struct timespec){.tv_sec = NEWS_MS / 1000, .tv_nsec = NEWS_MS % 1000 * 1000000L}, NULL);
    struct feed_map *map = read_map(leaving, fault);
    if (map != NULL)
        feed_map_distrust(map, before);
    free(before);
    return map;
}

/* Leaves what is not held, and finds what is to be removed: what was followed, or was being removed when the last run ended. */
static bool find_set(const struct leaving *leaving, struct partition_set *set, struct fault *fault)
{
    const struct feed_state *state = leaving->state;
    const struct partition_set *holds = &leaving->options->holds;
    bool good = true;
    struct feed_map *map = hear_nodes(leaving, fault);
    if (map == NULL)
        return false;
    for (unsigned i = 0; i < state->partitions && good; i++) {
        const struct feed_progress *progress = &state->progress[i];
        set->has[i] = progress->is_leaving || (!holds->has[i] && progress->is_followed);
        good = holds->has[i] || retire(leaving, map, i, fault);
    }
    free(map);
    return good;
}

bool feed_leave(struct feed_wire *wire, struct feed_state *state, pthread_mutex_t *state_lock,
                const struct feed_options *options, struct fault *fault)
{
    const struct leaving leaving = {wire, state, state_lock, options};
    struct partition_set set = {{false}};
    if (!find_set(&leaving, &set, fault))
        return false;
    if (partition_set_count(&set, state->partitions) == 0)
        return true;
    options->notice(NOTICE_NORMAL, "registrations: what is not held any more is removed");
    return note(&leaving, &set, false, fault) &&
           (options->hands.purge(options->hands.context, &set, state->partitions) ||
            fault_set(fault, EX_OSERR, "the journal does not take that registrations are removed")) &&
           note(&leaving, &set, true, fault);
}
