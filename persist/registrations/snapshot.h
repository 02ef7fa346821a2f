/* The snapshot of all registrations: one checksummed file, read at start, written at shutdown and on demand.
 *
 * DIR/registrations.snapshot, little-endian:
 *   header, 64 bytes
 *     0  8  magic "NBRDSNAP"        8  4  version (1)         12  4  byte order mark 0x01020304
 *    16  8  records in the file    24  8  position           32  8  written at, Unix time in ms
 *    40 16  zero                   56  8  XXH3-64 of bytes 0..55
 *   blocks until the records are complete, each
 *     0  4  count, 1 .. 4096        4  4  block number, from 0
 *     8  8  XXH3-64 of bytes 0..7 and the entries
 *    16     count entries of 16 bytes: number in bits 0..49 and flags in bits 56..63 of a word, account
 * The file ends with the last block. The position is the sequence number of the last registration that is
 * surely in it (later ones may be, too).
 *
 * Writing locks one shard after another, for the time it takes to copy it; the caller sees to it that no move
 * runs meanwhile (a number could pass from a shard not yet copied to one copied already). A new snapshot
 * replaces the old one only when it is complete and on the disk. Memory: one shard's records, 24 bytes each. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_SNAPSHOT_H
#define NUMBERD_PERSIST_REGISTRATIONS_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "hashing/directory.h"
#include "hashing/record.h"
#include "persist/fault.h"

struct snapshot_info {
    uint64_t records;
    uint64_t position;
    uint64_t written_at_ms;
};

/* On success `*info` says what was written. On failure the earlier snapshot is untouched. */
bool snapshot_write(const char *folder, struct directory *directory, uint64_t position, uint64_t now_ms,
                    struct snapshot_info *info, struct fault *fault);

/* True when the folder has a snapshot (of whatever quality). */
bool snapshot_exists(const char *folder);

/* Reads and checks the header alone. */
bool snapshot_read_info(const char *folder, struct snapshot_info *info, struct fault *fault);

/* Calls `visit` for each record; a block's records are passed on only after its checksum was found right. Stops
 * with a fault at the first damage, or when `visit` returns false (it then has set the fault itself). */
bool snapshot_read(const char *folder, bool (*visit)(void *context, const struct record *record),
                   void *context, struct fault *fault);

#endif
