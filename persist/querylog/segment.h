/* Segment files: the frames of one hour, in the order in which they were written.
 *
 * DIR/querylog/SEQUENCE-HOUR.segment (16 hex digits of the sequence number, the hour's first second as Unix time).
 *   header, 64 bytes
 *     0  8  magic "NBRDSEGM"     8  4  version (2)    12  4  byte order mark 0x01020304
 *    16  8  sequence            24  8  hour, ms       32  8  server id    40 24  zero
 *   frames (frame.h) until the end
 * Sequence numbers grow for ever, over restarts too: (sequence, frame index) names a frame once and for all.
 * A file cut short (a crash) is good up to its last whole frame. */
#ifndef NUMBERD_PERSIST_QUERYLOG_SEGMENT_H
#define NUMBERD_PERSIST_QUERYLOG_SEGMENT_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/frame.h"

#define SEGMENT_HEADER_BYTES 64
#define SEGMENT_NAME_BYTES 64

struct segment {
    uint64_t sequence;
    uint64_t hour_ms;
    uint64_t bytes;  /* header and whole frames */
    uint64_t events; /* in them, as far as its user counts them */
    bool is_torn;    /* found at the start with something else behind them */
    /* Of a queue: the offset up to which the events were confirmed, and when the last was (monotonic ms; 0: not yet). */
    uint64_t confirmed_to;
    uint64_t shipped_ms;
};

void segment_name(uint64_t sequence, uint64_t hour_ms, char name[static SEGMENT_NAME_BYTES]);

/* Creates the file with its header; its descriptor, or -1 and the fault. */
int segment_create(const char *folder, const struct segment *segment, uint64_t server_id,
                   struct fault *fault);

/* Opens for reading and checks the header; `*server_id` may be NULL. -1 and the fault on failure. */
int segment_open(const char *folder, const struct segment *segment, uint64_t *server_id, struct fault *fault);

/* The folder's segments in ascending sequence, `bytes` as in the file system; free() the array. */
bool segment_list(const char *folder, struct segment **segments, size_t *count, struct fault *fault);

/* Reads the frames from `*offset` on that fit into `room` bytes of `buffer` (at least one frame's size), and
 * moves `*offset` behind the last whole one. Returns the bytes of whole frames; 0 at the end or at damage. */
size_t segment_read(int fd, uint64_t *offset, void *buffer, size_t room);

/* The folder for readdir(3); NULL with errno. Close it with closedir(3). */
DIR *segment_open_folder(const char *folder);

bool segment_remove(const char *folder, const struct segment *segment);

/* Renames a segment that is damaged to NAME.damaged, where nobody but a person looks at it. */
bool segment_set_aside(const char *folder, const struct segment *segment);

/* Removes what was set aside and whose hour is over (frame_hour_over_at) at `now_ms`. */
void segment_expire_set_aside(const char *folder, uint64_t retention_ms, uint64_t now_ms);

#endif
