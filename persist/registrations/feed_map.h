/* Who holds what of a feed: made from what its nodes say of themselves once a second, each in the hash FEED_NODES_KEY under its id, as JSON
 * with "said_at_ms", "lookups" (where clients reach it), "state" and "holds".
 *
 * A node is ready when it has followed all that it holds and has said so within FEED_SILENT_MS, by the clocks of both machines.
 * Pure. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_MAP_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>

#include "hashing/partition.h"

#define FEED_SILENT_MS 10000u
#define FEED_STATE_FOLLOWED "followed"
#define FEED_NODE_ADDRESS_BYTES 256
/* Of a node that clients cannot be sent to. */
#define FEED_NOWHERE "-"

struct feed_node {
    char id[40];
    char lookups[FEED_NODE_ADDRESS_BYTES]; /* or FEED_NOWHERE */
    uint64_t said_ms;
    bool is_ready;
    struct partition_set holds;
};

struct feed_map {
    uint64_t feed;
    uint64_t version;
    unsigned partitions;
    size_t count;
    struct feed_node nodes[];
};

/* From names and texts in turn; what is no node's text is left out, and so is who was reached where a node is now that has said something later:
 * a server with a new data directory is another node. To be freed with free(); NULL when memory is short. */
struct feed_map *feed_map_create(const redisReply *nodes, uint64_t feed, unsigned partitions,
                                 uint64_t version, uint64_t now_ms);

/* Counts as ready only those that have said something since `before` was made. */
void feed_map_distrust(struct feed_map *map, const struct feed_map *before);

/* The map as MAP replies have it (server/PROTOCOL.md); to be freed, NULL when memory is short. */
char *feed_map_text(const struct feed_map *map);

/* Whether the node is ready and holds the partition. */
bool feed_map_serves(const struct feed_map *map, const char *id, unsigned partition);

#endif
