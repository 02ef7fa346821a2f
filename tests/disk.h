/* A disk for tests, under everything that persist/ writes: linked with --wrap (tests/CMakeLists.txt), it passes each call
 * on to the system and meanwhile
 *   - fails the call that it is told to fail, once or from then on, and drops what a failed sync should have kept, as
 *     kernels do; or
 *   - keeps what a real disk would have after a power cut: of each file its content at the last fsync or fdatasync, of
 *     each folder its entries at the last fsync; of what was written since, a random part of the sectors of 512 bytes,
 *     of names that were changed since, either state.
 * Allocations are calls, too, while `with_memory` is set. Any thread; one disk a process. */
#ifndef NUMBERD_TESTS_DISK_H
#define NUMBERD_TESTS_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* All calls work, and nothing is kept. */
void disk_reset(void);

/* The nth call from now on (from 1) fails with `error`, and if `lasting` all after it. What a failed sync drops is known of
 * the kept folder only. */
void disk_fail_at(unsigned nth, bool lasting, int error, bool with_memory);

/* Begins to keep what a power cut would leave of this folder, which is empty, and of those in it. */
void disk_keep(const char *folder);
/* All fdatasync calls fail, or work again; nothing else calls it but the journal. */
void disk_fail_data_syncs(bool failing);

/* Called once, before the next write: of whichever thread, or of the caller's `own`. */
void disk_before_next_write(void (*hook)(void *context), void *context, bool own);

/* At the nth call from now on (from 1) the power goes: that call and all later ones fail. */
void disk_cut_power_at(unsigned nth);

/* The calls since disk_fail_at or disk_cut_power_at. */
unsigned disk_calls(void);

/* The process that met the power cut was killed instead: all calls work again, and the kernel has what it had. */
void disk_go_on(void);

/* The power is back: makes `target` a folder with what the cut left, by the seed. */
void disk_leave(const char *target, uint64_t seed);

#endif
