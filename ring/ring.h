/* A lock-free ring of variable-length records for one producer and one consumer thread.
 *
 * Records are contiguous in memory, 8-byte aligned, written in place (reserve, fill, commit) and read in
 * place (next, ..., release). The consumer may look at many records before it gives their room back, so
 * what is not yet safe elsewhere stays in the ring.
 *
 * Layout: a power of two of bytes; each record has an 8-byte length before it. A record that would cross the
 * end is preceded by a filler up to the end. Cursors count bytes for ever and are taken modulo the size, so
 * "full" and "empty" never look alike.
 *
 * Why it is right. `head` is written by the producer alone, `tail` by the consumer alone.
 *   commit stores head with release after the record was filled; next loads head with acquire, so a record
 *   that the consumer sees is complete.
 *   release stores tail with release after the last read of the records; reserve loads tail with acquire,
 *   so room that the producer sees is no longer being read.
 * Each side keeps a private copy of the other's cursor and reloads it only when the copy says "full" or
 * "empty"; a stale copy errs on the safe side, since cursors only grow. Each cursor has its own cache line.
 * Checked: in all orders of steps by a model (tests/ring.pml), 10^9 events at full speed (tests/test_ring.c).
 * Source: Lamport's single-producer queue (1977), with the cached cursors of Lee et al., "MCRingBuffer" (2010).
 *
 *     producer                                       consumer
 *     void *room = ring_reserve(ring, bytes);        while ((record = ring_next(ring, &bytes)) != NULL)
 *     if (room == NULL) ...full...                       store(record, bytes);
 *     memcpy(room, record, bytes);                   ring_release(ring);
 *     ring_commit(ring);
 */
#ifndef NUMBERD_RING_RING_H
#define NUMBERD_RING_RING_H

#include <stddef.h>
#include <stdint.h>

#define RING_BYTES_MIN 4096

struct ring;

/* `bytes` is rounded up to a power of two, at least RING_BYTES_MIN. NULL when memory is short. */
struct ring *ring_create(size_t bytes);
void ring_destroy(struct ring *ring);
size_t ring_capacity(const struct ring *ring);

/* --- the producer --- */

/* Room for a record of `bytes` > 0 bytes, or NULL when the ring is too full (or the record too long for any
 * moment: above capacity/2 - 8). Valid until the commit; a new reserve before it takes the old one's place. */
void *ring_reserve(struct ring *ring, size_t bytes);

/* Publishes the record reserved last. */
void ring_commit(struct ring *ring);

/* Bytes that records, their lengths (8 each, sizes rounded up to 8) and one filler may take right now. */
size_t ring_room(struct ring *ring);

/* --- the consumer --- */

/* The next unread record and its size, or NULL. Valid until ring_release. */
const void *ring_next(struct ring *ring, size_t *bytes);

/* Gives back the room of all records read so far. */
void ring_release(struct ring *ring);

/* --- anyone --- */

/* Bytes in use at some recent moment. */
size_t ring_used(const struct ring *ring);

#endif
