/* One turn of the sink's (redis_sink.h): some frames to Redis, each exactly once, and the server's name onto the list of servers; and what the
 * keys are called. No state: the route knows the nodes, the caller what was confirmed. One thread at a time. */
#ifndef NUMBERD_PERSIST_QUERYLOG_REDIS_SHIPMENT_H
#define NUMBERD_PERSIST_QUERYLOG_REDIS_SHIPMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/querylog/frame.h"
#include "persist/redis/redis_route.h"

#define REDIS_SHIPMENT_SERVERS_KEY "querylog:servers"
#define REDIS_SHIPMENT_KEY_BYTES 64
#define REDIS_SHIPMENT_ID_BYTES 48

/* Whole frames of one segment, to be sent as one transaction. */
struct redis_shipment {
    struct redis_route *route;
    uint64_t server_id;
    uint64_t retention_ms;
    uint64_t sequence;         /* the segment's */
    const void *frames;        /* one behind the other, 8-byte aligned */
    size_t bytes;              /* of them */
    uint64_t confirmed_bytes;  /* the first so many were confirmed before, and are sent again uncounted */
    uint64_t announce_hour_ms; /* list the server for this hour before; 0: it is listed */
    notice_fn *notice;
};

enum redis_shipped {
    REDIS_SHIPPED,
    REDIS_NOT_SHIPPED, /* and the fault: nothing is known to be stored, and the connections are good for being closed only */
    REDIS_SHIPPING_MOVED /* the same; the route knows the node that serves the server's slot now */
};

/* What became of a shipment that was shipped. */
struct redis_delivery {
    uint64_t events; /* confirmed for the first time */
    uint64_t lost;   /* never can be */
    /* The server was to be listed and is not, since of a cluster the node that has the list is away, and the fault says why: no reason to
     * keep the log. */
    bool is_unlisted;
};

/* Sends the frames and waits for the answers. All or none of a stream: were a later frame stored without an earlier one, the earlier one's
 * smaller id could never be added. So all frames go in one transaction, and while the server's slot moves from one node to another in one
 * transaction each, where their stream is. */
enum redis_shipped redis_shipment_send(const struct redis_shipment *shipment, struct redis_delivery *delivery,
                                       struct fault *fault);

/* The key of a stream: "querylog:{SERVER}:YYYYMMDDHH:BUCKET". */
void redis_shipment_key(uint64_t server_id, uint64_t hour_ms, uint32_t bucket,
                        char key[static REDIS_SHIPMENT_KEY_BYTES]);

/* Where one of its frames lies: the stream, and the entry's id. */
void redis_shipment_names(const struct redis_shipment *shipment, const struct frame *frame,
                          char key[static REDIS_SHIPMENT_KEY_BYTES], char id[static REDIS_SHIPMENT_ID_BYTES]);

#endif
