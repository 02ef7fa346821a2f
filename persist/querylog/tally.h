/* The tally: what became of each event, counted so that it holds over a restart, a SIGKILL of the server included.
 *
 * At all times   looked up = stored + in flight + lost:   looked up is `logged` + `dropped` of all workers, and what of it is
 * neither stored nor lost is in flight.
 *
 * While the server runs the counters lie in POSIX shared memory, "/numberd-" and the folder's device and inode: that is no
 * file on a disk, so no worker ever waits for one, and it outlives the process. So the next start knows to the event
 * what a killed server took with it. DIR/querylog/tally has a copy, written every ten seconds and at the stop, for when the
 * machine was restarted; then what was lost since is not known (TALLY_UNKNOWN). The shared memory is removed at the stop.
 *   DIR/querylog/tally, little-endian:
 *     0  8  magic "NBRDTALY"     8  4  version (1)    12  4  byte order mark 0x01020304
 *    16  8  which run wrote it  24  8  1 when it was stopped in order, else 0
 *    32  8  logged              40  8  dropped        48  8  appended
 *    56  8  sequence and        64  8  offset of the segment's end when that was counted
 *    72  8  missed              80  8  lost           88  8  stored
 *    96  8  moment before which all is appended      104  8  the erasure's clock (erasure.h)
 *   112  16 each  TALLY_HOURS times: hour, ms; events sealed in it
 *        8  XXH3-64 of all before
 *
 * Threads: each worker writes its own line; the drain alone calls tally_appended, tally_sealed, tally_passed, tally_save and what the line says
 * is the drain's; tally_lost is for the drain and the sink; the figures are for any. Each is a relaxed atomic of its own. What
 * must change together, the count of appended events and the place that it goes up to, is written to the one of two slots
 * that is not in use, which then comes into use by one store (release): a kill between leaves the older one. */
#ifndef NUMBERD_PERSIST_QUERYLOG_TALLY_H
#define NUMBERD_PERSIST_QUERYLOG_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "ring/event.h"

#define TALLY_WORKERS_MAX 64
/* More than the retention and what erasure may be late. */
#define TALLY_HOURS 1024

/* What the run before left. */
enum tally_past { TALLY_FIRST, TALLY_STOPPED, TALLY_KILLED, TALLY_UNKNOWN };

/* The end of what was appended. */
struct tally_place {
    uint64_t appended; /* events, ever */
    uint64_t sequence; /* of the segment */
    uint64_t offset;
};

struct tally_figures {
    uint64_t looked_up;
    uint64_t dropped;
    uint64_t appended;
    uint64_t missed; /* logged, and never appended */
    uint64_t lost;   /* appended, and lost before they were in Redis */
    uint64_t stored; /* appended where the segments are the log, or confirmed by Redis */
};

struct tally;

/* Takes over what the run before counted; `folder` is locked by the caller (datadir.h). */
struct tally *tally_open(const char *folder, enum tally_past *past, struct fault *fault);

/* Saves and frees; stopped in order, unless the start failed. */
void tally_close(struct tally *tally, bool in_order);

struct query_counts *tally_worker(struct tally *tally, unsigned worker);

struct tally_place tally_place(const struct tally *tally);

/* So many more events are appended, up to this place. */
void tally_appended(struct tally *tally, uint64_t sequence, uint64_t offset, uint64_t events);

/* So many more events were sealed in this hour; how many that are by now; and forgets them. Of the last TALLY_HOURS hours. */
void tally_sealed(struct tally *tally, uint64_t hour_ms, uint64_t events);
uint64_t tally_sealed_in(const struct tally *tally, uint64_t hour_ms);
void tally_forget_sealed(struct tally *tally, uint64_t hour_ms);

/* Where the erasure's clock is; 0: it never was anywhere. */
void tally_set_erasure_ms(struct tally *tally, uint64_t time_ms);
uint64_t tally_erasure_ms(const struct tally *tally);

/* For the start, when more was appended than the run before could count: nothing is below zero. */
void tally_level(struct tally *tally);

/* All that was logged before this moment is appended. */
void tally_passed(struct tally *tally, uint64_t time_ms);
uint64_t tally_passed_ms(const struct tally *tally);

/* When a worker logged last; 0: never. */
uint64_t tally_last_ms(struct tally *tally);

/* Until when all that was dropped is recorded; the drain's. */
void tally_dropped_recorded(struct tally *tally, uint64_t time_ms);
uint64_t tally_dropped_recorded_ms(const struct tally *tally);

void tally_missed(struct tally *tally, uint64_t events);
void tally_lost(struct tally *tally, uint64_t events);
void tally_stored(struct tally *tally, uint64_t events);

/* For the start, when some of the stored events are still in the queue and will be counted again. */
void tally_set_stored(struct tally *tally, uint64_t events);

/* What moves on meanwhile counts as looked up. */
struct tally_figures tally_figures(const struct tally *tally);

/* The copy; failures are left to the next time. */
void tally_save(struct tally *tally);

#endif
