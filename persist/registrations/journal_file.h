/* The journal's files: what each byte means, and how they are read. Written by journal.c alone.
 *
 * DIR/journal/FIRST.journal, one segment each, FIRST being the position of its first change in 16 hexadecimal digits.
 * Positions count changes from 1 and have no gap, but where a journal had failed (journal.h). Little-endian:
 *   header, 64 bytes
 *     0  8  magic "NBRDJRNL"        8  4  version (1)         12  4  byte order mark 0x01020304
 *    16  8  first position         24  8  durable (below)     32 24  zero
 *    56  8  XXH3-64 of bytes 0..55
 *   blocks, one behind the other, each
 *     0  4  magic "NBJB"            4  4  bytes of changes, a multiple of 8, at most JOURNAL_PAYLOAD_MAX; 0: a mark
 *     8  8  position of the first change    16  8  durable: the changes up to this position were on the disk when
 *                                                  the block was written
 *    24  8  checksum of the block before; of the header for the first
 *    32  8  XXH3-64 of bytes 0..31 and the changes
 *    40     changes: a word with the number in bits 0..49, the kind (enum change_kind) in bits 50..51 and the flags
 *           in bits 56..63, followed by the account but for CHANGE_REMOVE
 *   zeros up to the size that was preallocated
 * A move is two changes of one block, so it is read whole or not at all.
 *
 * Where the valid blocks end, one of three things has happened. Only zeros follow: the journal was closed, or killed
 * between two commits. Something follows that is no block, and no later block says that it was durable: a commit was
 * interrupted, and nobody had an acknowledgement of it. Or a later block (of this segment or the next one) says that
 * the missing one was durable: then the file was damaged afterwards, and nothing may be served from it. So that the
 * last commit is covered, too, a mark follows it as soon as the journal is idle. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_JOURNAL_FILE_H
#define NUMBERD_PERSIST_REGISTRATIONS_JOURNAL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"
#include "persist/fault.h"
#include "persist/registrations/positions.h"

#define JOURNAL_FOLDER "journal"
#define JOURNAL_HEADER_BYTES 64u
#define JOURNAL_BLOCK_BYTES 40u
#define JOURNAL_CHANGE_BYTES_MAX 16u
#define JOURNAL_PAYLOAD_MAX (1u << 20)
#define JOURNAL_NAME_BYTES POSITIONS_NAME_BYTES

struct journal_header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t first_position;
    uint64_t durable;
    uint64_t zero[3];
    uint64_t checksum;
};

struct journal_block {
    char magic[4];
    uint32_t payload_bytes;
    uint64_t first_position;
    uint64_t durable;
    uint64_t previous;
    uint64_t checksum;
    uint8_t payload[];
};

/* A segment as the folder lists it. */
struct journal_segment {
    uint64_t first_position;
    uint64_t bytes;
};

enum journal_end {
    JOURNAL_CLEAN,  /* nothing but zeros behind the last block */
    JOURNAL_TORN,   /* a commit that was not finished, nor acknowledged */
    JOURNAL_DAMAGED /* a block that once was durable is not there any more */
};

/* What reading a segment came to. */
struct journal_extent {
    enum journal_end end;
    uint64_t last_position; /* of the valid changes; first_position - 1 when there are none */
    uint64_t durable;       /* the most that a block says; counts those behind the end too */
    uint64_t valid_bytes;
};

void journal_name(uint64_t first_position, char name[static JOURNAL_NAME_BYTES]);

/* The segments of the folder by their first position, to be freed by the caller; none if the folder is not there. */
bool journal_list(const char *folder, struct journal_segment **segments, size_t *count, struct fault *fault);

/* Calls `visit` for each change of the valid blocks whose position is above `after`, in their order, until it returns
 * false (it then has set the fault). False also when the file cannot be read or has another version. Takes memory for
 * the file as a whole. */
bool journal_read(const char *folder, const struct journal_segment *segment, uint64_t after,
                  bool (*visit)(void *context, uint64_t position, const struct change *change), void *context,
                  struct journal_extent *extent, struct fault *fault);

/* --- for the writer --- */

void journal_make_header(struct journal_header *header, uint64_t first_position, uint64_t durable);
/* Sets magic and checksum; all else is the caller's. */
void journal_seal_block(struct journal_block *block);
/* Writes the change and returns its size. */
size_t journal_encode(uint8_t bytes[static JOURNAL_CHANGE_BYTES_MAX], const struct change *change);

#endif
