/* The one door through which registrations change: each change that takes effect gets the next position.
 *
 * Threads: all functions from any thread. A move copies a number from shard to shard, so it must not run while
 * somebody copies the shards one by one; such a move is answered REGISTRATIONS_BUSY at once, never waits.
 * Registering and deregistering go on during a copy. */
#ifndef NUMBERD_SERVER_REGISTRATIONS_H
#define NUMBERD_SERVER_REGISTRATIONS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hashing/directory.h"

struct registrations {
    struct directory *directory;
    _Atomic uint64_t position; /* changes made so far, those before the last start included */
    pthread_rwlock_t moves;    /* read: a move runs; written: a copy runs */
};

void registrations_init(struct registrations *registrations, struct directory *directory, uint64_t position);
void registrations_deinit(struct registrations *registrations);

enum directory_result registrations_register(struct registrations *registrations,
                                             const struct record *record);
enum directory_result registrations_deregister(struct registrations *registrations, uint64_t number);

/* False: a copy is under way, nothing was done. */
bool registrations_move(struct registrations *registrations, uint64_t from, uint64_t to,
                        enum directory_result *result);

/* Around a copy of all shards. begin waits for the moves under way and returns the position that the copy
 * surely covers. */
uint64_t registrations_begin_copy(struct registrations *registrations);
void registrations_end_copy(struct registrations *registrations);

#endif
