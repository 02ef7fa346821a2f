/* The feed's streams in Redis, and what is said to them; what it all means is feed.h's.
 *
 * Keys, of P partitions p:
 *     reg:nodes      hash: what each node says of itself (feed_map.h)
 *     reg:map        integer: how often a node has said something else of itself that clients must know
 *     reg:shape      string "FEED P ACCOUNTS": the feed's number in hexadecimal, how many partitions, 1 with account ids; made once
 *     reg:{p}        stream: the entries (feed_entry.h), and positions in it as consumer groups that nobody consumes from:
 *                        NODE        how far that node was
 *                        NODE:needs  from where on it may have to read again
 *                        trimmed     entries before it are gone
 * So all of a partition is one key, and moves at once when its slot does. The partitions' slots are spread over a cluster's nodes.
 *
 * What is read counts only when it cannot be lost any more: with replicas, when so many have it. WAIT is for the writes of its own
 * connection, and replication is one ordered stream; so behind what was read a node writes how far it is, to the same key, and waits for
 * that.
 *
 * One thread at a time. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_WIRE_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/redis/redis_route.h"
#include "persist/registrations/feed_entry.h"
#include "persist/registrations/feed_map.h"

#define FEED_SHAPE_KEY "reg:shape"
#define FEED_NODES_KEY "reg:nodes"
#define FEED_MAP_KEY "reg:map"
#define FEED_KEY_BYTES 24
#define FEED_ASK_BYTES 320
/* Entries of a partition that one exchange appends, and reads, at most. */
#define FEED_APPENDS_MAX 16u
#define FEED_READ_MAX 64u

struct feed_blob {
    const uint8_t *bytes;
    size_t length;
};

/* One partition in one exchange. */
struct feed_lane {
    unsigned partition;
    char key[FEED_KEY_BYTES];
    /* What to do. */
    struct feed_position position; /* read behind it */
    struct feed_position needed;   /* all zero: not known */
    struct feed_blob appends[FEED_APPENDS_MAX];
    unsigned append_count;
    unsigned read_most; /* entries, 1 .. FEED_READ_MAX */
    /* What came of it. */
    bool has_appended; /* all of them */
    bool is_confirmed; /* what was read cannot be lost */
    redisReply
        *read;     /* entries, [id, [field, value]] each; NULL: none. The wire's, until the next exchange */
    bool has_more; /* there may be more to read */
    bool was_redirected; /* nothing was done: again */
    /* The wire's own. */
    struct redis_path path;
    char ask
        [FEED_ASK_BYTES]; /* while its slot moves, the error that says where it is; empty: where its slot is */
    redisReply *whole;
};

enum feed_group_kind { FEED_GROUP_NODE, FEED_GROUP_NEEDS, FEED_GROUP_TRIMMED };

struct feed_wire_group {
    enum feed_group_kind kind;
    char node[40]; /* but of the last kind */
    struct feed_position position;
};

struct feed_shape {
    uint64_t feed;
    unsigned partitions;
    bool accounts;
};

struct feed_wire;

/* `node` names this one in the streams. NULL when memory is short. */
struct feed_wire *feed_wire_create(const struct redis_target *target, const char *node,
                                   unsigned min_replicas);
void feed_wire_destroy(struct feed_wire *wire, struct feed_lane *lanes, unsigned count);

void feed_wire_init_lane(struct feed_lane *lane, unsigned partition);

/* What FEED_SHAPE_KEY has. False when it is none. */
bool feed_wire_parse_shape(const redisReply *reply, struct feed_shape *shape);
/* What there is, or `*shape` where there is nothing yet. */
bool feed_wire_learn_shape(struct feed_wire *wire, struct feed_shape *shape, struct fault *fault);

/* True when the connections are new since the last feed_wire_check. */
bool feed_wire_wants_check(const struct feed_wire *wire);
/* Whether each lane's position can be read on from: EX_DATAERR when entries behind it are gone, or when it is one that the stream never came to. */
bool feed_wire_check(struct feed_wire *wire, const struct feed_lane *lanes, unsigned count,
                     struct fault *fault);

/* Appends and reads, all lanes at once. False with the fault when a connection is lost or a command refused: then nothing was read, and what
 * was appended is not known. */
bool feed_wire_exchange(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, struct fault *fault);

/* Whether Redis has taken no appends in the last exchange, for a reason that is no redirection (no memory, too few replicas), which then is
 * the fault. What was read counts. */
bool feed_wire_was_refused(const struct feed_wire *wire, struct fault *fault);

/* Writes where the node is, of lanes with something read, or all and what it needs, too, and waits until what was read is confirmed; not for
 * long. */
bool feed_wire_confirm(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, bool all,
                       struct fault *fault);

/* Says how this node is; `is_news`: clients must know. `*version` is the map's then. */
bool feed_wire_describe(struct feed_wire *wire, const char *text, bool is_news, uint64_t *version,
                        struct fault *fault);
/* What all have said, as a map to be freed with free(); NULL with the fault. */
struct feed_map *feed_wire_read_map(struct feed_wire *wire, uint64_t feed, unsigned partitions,
                                    uint64_t version, struct fault *fault);

/* This node is in the partition no more. */
bool feed_wire_retire(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault);
/* ... but stays, after all. */
bool feed_wire_stay(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault);
/* Shows each group of the partition, if there is something of it in Redis. */
bool feed_wire_show_groups(struct feed_wire *wire, const struct feed_lane *lane,
                           void (*take)(const struct feed_wire_group *group, void *context), void *context,
                           struct fault *fault);

/* Removes what no node needs any more. */
bool feed_wire_trim(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault);

/* --- for those who look at replies of XINFO --- */

void feed_wire_each_group(const redisReply *groups,
                          void (*take)(const struct feed_wire_group *group, void *context), void *context);
/* The position that the map has under that name; all zero: none. */
struct feed_position feed_wire_position_of(const redisReply *map, const char *name);

#endif
