/* Snapshots: all registrations in one file, shard by shard as they lie in memory, so that a start is little more than
 * reading them.
 *
 * DIR/snapshots/POSITION.snapshot, POSITION in 16 hexadecimal digits, little-endian:
 *   header, 128 bytes
 *     0  8  magic "NBRDSNAP"        8  4  version (2)         12  4  byte order mark 0x01020304
 *    16  4  layout of the tables (TABLE_IMAGE_LAYOUT)         20  2  shard bits   22  2  1 with account ids
 *    24  8  seed that places the numbers                      32  8  records
 *    40  8  position               48  8  written at, Unix time in ms
 *    56  8  offset of the index    64  8  its bytes           72  8  XXH3-64 of it
 *    80 40  zero                  120  8  XXH3-64 of bytes 0..119
 *   the shards' images, one behind the other (table.h)
 *   index, to the file's end: for each shard 4 words: lines, records, spilled, stale marks; then for each shard the
 *   XXH3-64 of each block of SNAPSHOT_BLOCK_BYTES of its image, the last one shorter
 * Every byte is under a checksum. The seed is as secret as the registrations: who knows it can make numbers that crowd one
 * place.
 *
 * A snapshot is written while the registrations change: one shard after the other is copied under its lock. It holds
 * every change up to its position, and some of the later ones; since changes are absolute (record.h), carrying out all
 * behind the position, in order, gives what was there. For that the later ones must be on the disk before the snapshot
 * counts (`settle`): else a move could be in the image of the shard it left and nowhere else. No fork; memory: one shard's
 * image (1/256 of the whole).
 *
 * Any thread; one writer a folder at a time. A new snapshot has its name only when it is complete and on the disk. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_SNAPSHOT_H
#define NUMBERD_PERSIST_REGISTRATIONS_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/directory.h"
#include "hashing/record.h"
#include "persist/fault.h"
#include "persist/registrations/positions.h"

#define SNAPSHOT_FOLDER "snapshots"
#define SNAPSHOT_BLOCK_BYTES ((size_t)1 << 20)
#define SNAPSHOT_NAME_BYTES POSITIONS_NAME_BYTES

struct snapshot_info {
    uint64_t records;
    uint64_t position;
    uint64_t written_at_ms;
    uint64_t bytes; /* of the file */
    struct directory_shape shape;
};

/* How far a load has come, for others to read, and the way to end it. */
struct snapshot_progress {
    _Atomic uint64_t bytes_done;
    _Atomic uint64_t bytes_total;
    atomic_bool cancel;
};

void snapshot_name(uint64_t position, char name[static SNAPSHOT_NAME_BYTES]);

/* The positions of the folder's snapshots, of whatever quality, the newest first; to be freed by the caller. None if
 * the folder is not there. */
bool snapshot_list(const char *folder, uint64_t **positions, size_t *count, struct fault *fault);

/* Writes one that holds all changes up to `position`; `gentle`: in small pieces and with pauses, at an eighth of the
 * speed, for a server that answers meanwhile. When all is copied, `settle` is called (NULL: nobody else changes
 * the directory): it waits until all changes made so far are on the disk, or sets the fault and returns false. On
 * success `*info` says what was written; on failure the folder is as before. */
bool snapshot_write(const char *folder, struct directory *directory, uint64_t position, uint64_t now_ms,
                    bool gentle, bool (*settle)(void *context, struct fault *fault), void *context,
                    struct snapshot_info *info, struct fault *fault);

/* Reads and checks the header alone. */
bool snapshot_read_info(const char *folder, uint64_t position, struct snapshot_info *info,
                        struct fault *fault);

/* Fills a new directory of the snapshot's shape (directory_options.images), which nobody uses yet, with `threads`
 * threads. False with a fault at the first damage (EX_DATAERR), or when memory or reading fails, or when it was cancelled
 * (EX_TEMPFAIL); the directory is then good for being destroyed only. */
bool snapshot_load(const char *folder, uint64_t position, struct directory *directory, unsigned threads,
                   struct snapshot_progress *progress, struct fault *fault);

/* Calls `visit` for each record; an image's records are passed on only after all its checksums were found right. Stops
 * with a fault at the first damage, or when `visit` returns false (it then has set the fault itself). Memory: one
 * shard. */
bool snapshot_visit(const char *folder, uint64_t position,
                    bool (*visit)(void *context, const struct record *record), void *context,
                    struct fault *fault);

void snapshot_remove(const char *folder, uint64_t position);

#endif
