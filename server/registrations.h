/* The one door through which registrations change: each change that takes effect gets the next position, in memory and in
 * the journal behind it.
 *
 * A change is carried out in memory first, where lookups see it at once, and then appended to the journal. It may be
 * acknowledged when registrations_acknowledged has reached the position that came with it. So whatever was acknowledged is
 * seen by every lookup; and a lookup may see a change shortly before its acknowledgement. When the journal fails in
 * between, the change is in memory and nobody was told that it is safe.
 *
 * Threads: all functions from any thread; open and close while nobody else is inside. One lock orders the changes; it is
 * held for at most REGISTRATIONS_TOGETHER of them at a time, and never while the disk is waited for. The journal is
 * known by its functions alone, so that the server's core knows no files. */
#ifndef NUMBERD_SERVER_REGISTRATIONS_H
#define NUMBERD_SERVER_REGISTRATIONS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/directory.h"
#include "hashing/partition.h"

#define REGISTRATIONS_TOGETHER 512

struct registrations_pair {
    uint64_t from;
    uint64_t to;
};

/* Where changes come from a feed (persist/registrations/feed.h), clients' requests go there, and registrations_carry_out has what comes
 * back. Their replies then wait for tickets rather than for positions. */
struct registrations_feed {
    /* Takes the entries: `kind` STEP_SET with records, STEP_REMOVE with numbers, STEP_RELEASE with pairs to be moved. NULL: not now, and
     * nothing will be done. */
    void *(*submit)(void *context, enum step_kind kind, const void *entries, size_t count, uint64_t *ticket);
    uint64_t (*decided)(const void *context); /* the ticket up to which all are */
    /* Gives back what submit gave, with its results by index; NULL: of no interest. False: nobody knows what became of it. */
    bool (*take)(void *context, void *job, uint8_t *results);
    /* For how long this server may have missed what the feed had. */
    uint64_t (*age_ms)(const void *context);
    /* Who holds what (PROTOCOL.md, MAP): as text to be freed with free(), NULL when memory is short; and the version of that. */
    char *(*map)(void *context);
    uint64_t (*map_version)(void *context);
    void *context;
};

/* What the door wants of a journal; see persist/registrations/journal.h for each. */
struct registrations_journal {
    bool (*reserve)(void *context, size_t count);
    uint64_t (*append)(void *context, const struct change *changes, size_t count);
    uint64_t (*acknowledged)(const void *context);
    bool (*has_failed)(const void *context);
    void *context;
};

struct registrations {
    struct directory *directory; /* NULL: not open */
    bool accounts;               /* of the directory; without, the journal gets account 0, too */
    struct registrations_journal journal;
    struct registrations_feed feed; /* constant from when it is fed */
    _Atomic bool is_fed;            /* workers ask while the registrations are loaded, before it is */
    bool is_paused;                 /* under the door: changes are refused */
    _Atomic unsigned
        split; /* numbers are spread over so many partitions and only some are here; 0: all are */
    struct partition_set held; /* then; set before `split` */
    _Atomic uint64_t position; /* changes made so far, those before the last start included */
    pthread_mutex_t door;
};

void registrations_init(struct registrations *registrations);
void registrations_deinit(struct registrations *registrations);
void registrations_open(struct registrations *registrations, struct directory *directory,
                        const struct registrations_journal *journal, uint64_t position);

/* Each carries out the entries in their order, `results` by index (enum directory_result); the results may be told when
 * `*position` is acknowledged. False: the journal has failed; entries that were not carried out before that never
 * will be, and nothing may be acknowledged. Memory that is short refuses single entries. */
bool registrations_register(struct registrations *registrations, const struct record *records, size_t count,
                            uint8_t *results, uint64_t *position);
bool registrations_deregister(struct registrations *registrations, const uint64_t *numbers, size_t count,
                              uint8_t *results, uint64_t *position);
bool registrations_move(struct registrations *registrations, const struct registrations_pair *pairs,
                        size_t count, uint8_t *results, uint64_t *position);

/* Once, before anybody is to change something: from now on changes go to the feed, instead of the three above. */
void registrations_follow(struct registrations *registrations, const struct registrations_feed *feed);
/* Acquire: whoever sees it may use the feed. */
static inline bool registrations_are_fed(const struct registrations *registrations)
{
    return atomic_load_explicit(&registrations->is_fed, memory_order_acquire);
}

/* From the feed: REGISTRATIONS_TOGETHER steps at most, in their order, the results by index, and what took effect goes into the journal
 * together with the marks. False: memory is short or the journal has failed, and some may have been carried out: repeat all, later. */
bool registrations_carry_out(struct registrations *registrations, const struct step *steps, size_t count,
                             uint8_t *results, const struct change *marks, size_t mark_count);
/* Marks of their own. False: memory is short. */
bool registrations_note(struct registrations *registrations, const struct change *marks, size_t count);
/* Of a number that nobody but the caller changes. */
bool registrations_read(struct registrations *registrations, uint64_t number, struct record *record);

/* From now on only the numbers of these partitions are here, of so many. What is held never changes again. */
void registrations_hold(struct registrations *registrations, const struct partition_set *held,
                        unsigned partitions);
/* Whether a number, be it registered or not, would be here. */
static inline bool registrations_have(const struct registrations *registrations, unsigned split,
                                      uint64_t number)
{
    return split == 0 || registrations->held.has[partition_of(number, split)];
}
/* Removes whatever is registered in these partitions. False: memory is short or the journal has failed. Takes as long as reading through the
 * whole directory, and memory for the numbers of one shard; others' changes go on in between. */
bool registrations_purge(struct registrations *registrations, const struct partition_set *set,
                         unsigned partitions);

/* From here on entries are refused (DIRECTORY_NO_MEMORY, which clients are told to repeat), until the directory is replaced
 * or, with NULL, stays. pause returns the position. */
uint64_t registrations_pause(struct registrations *registrations);
void registrations_go_on(struct registrations *registrations, struct directory *directory, uint64_t position);

/* Of positions or, with a feed, of tickets: up to which one replies may go out. */
uint64_t registrations_acknowledged(const struct registrations *registrations);
bool registrations_have_failed(const struct registrations *registrations);

/* The position up to which all changes are in the directory, for somebody who is about to copy it. */
uint64_t registrations_position(struct registrations *registrations);

#endif
