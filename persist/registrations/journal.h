/* The journal: every change to the registrations, on the disk before it is acknowledged. Its files are described in
 * journal_file.h.
 *
 * Changes are appended to memory and written by a thread of the journal's own, all that have come meanwhile at once (group
 * commit): one write, one fdatasync, however many changes. A change may be acknowledged when journal_acknowledged has
 * reached its position. What that promises is the policy's:
 *   always    it is on the disk (fdatasync): it survives a power cut
 *   interval  the kernel has it, and fdatasync runs every interval_ms: it survives a crash of the server, and but for
 *             the last interval a power cut
 *   off       the kernel has it and writes it when it likes: it survives a crash of the server
 *
 * Failure. When a write, an fdatasync or a new segment fails, the journal fails: the file is closed and never synced
 * again (after a failed fsync the kernel may have dropped the data and call the next one good), nothing is acknowledged
 * any more, and what is appended is dropped. journal_resume begins anew behind a snapshot that holds all changes made
 * so far; positions between the last durable one and that snapshot's are then in no segment.
 *
 * Threads: reserve, append, sync, resume, skip and trim from any thread, but reserve, its append and what they describe
 * under one lock of the caller (server/registrations.h), so that the order of changes here is the order in which they
 * were made.
 * acknowledged, has_failed and figures from any thread at any time.
 * Concurrency: all is under one mutex but the segment's file, which is the thread's own; it has none while the journal
 * has failed, and resume makes the next one by itself and hands it over under the mutex. The two values that workers
 * read at each turn are atomics, stored with release after the disk has answered.
 * Memory: the changes that wait, 16 bytes each, twice; nothing else grows. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_JOURNAL_H
#define NUMBERD_PERSIST_REGISTRATIONS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"
#include "persist/fault.h"
#include "persist/notice.h"

#define JOURNAL_SEGMENT_BYTES_DEFAULT (UINT64_C(64) << 20)

enum journal_policy { JOURNAL_ALWAYS, JOURNAL_INTERVAL, JOURNAL_OFF };

struct journal_options {
    const char *folder;     /* of the segments; must be there */
    uint64_t position;      /* of the last change that the data directory holds */
    uint64_t segment_bytes; /* where the next segment is begun; 0: the default */
    enum journal_policy policy;
    unsigned interval_ms; /* JOURNAL_INTERVAL */
    /* From the journal's thread, each time journal_acknowledged has moved or the journal has failed. */
    void (*changed)(void *context);
    notice_fn *notice; /* for the operator: a failure, once */
    void *context;
};

struct journal_figures {
    uint64_t position;     /* of the last change appended */
    uint64_t acknowledged; /* of the last that may be acknowledged */
    uint64_t durable;      /* of the last that is surely on the disk */
    uint64_t segments;
    uint64_t bytes;   /* of their files */
    uint64_t written; /* bytes written since the start */
    uint64_t commits;
    /* From when a change was appended (and seen by lookups) until its acknowledgement might go out; of the oldest
     * change of each commit. */
    uint64_t commit_ns; /* sum */
    uint64_t commit_ns_max;
    uint64_t failures;
    bool failed;
};

struct journal;

/* Begins a segment behind options->position. */
struct journal *journal_start(const struct journal_options *options, struct fault *fault);

/* Writes and syncs what waits, whatever the policy, ends the thread and frees. False with a fault when that failed or
 * the journal had failed before. */
bool journal_stop(struct journal *journal, struct fault *fault);

/* Has memory for so many changes, at most JOURNAL_TOGETHER_MAX, until the next append. False when it is short. */
#define JOURNAL_TOGETHER_MAX 1024
bool journal_reserve(struct journal *journal, size_t count);

/* Appends the changes, for which memory was reserved, and sees to it that they are read back all or not at all. Returns
 * the position of the last. */
uint64_t journal_append(struct journal *journal, const struct change *changes, size_t count);

/* Waits until everything appended so far is on the disk, whatever the policy. False when the journal fails. */
bool journal_sync(struct journal *journal);

uint64_t journal_acknowledged(const struct journal *journal);
bool journal_has_failed(const struct journal *journal);

/* After a failure: begins a segment behind `position`, which must be that of the last change appended, all of them being in a
 * snapshot by now. They count as acknowledged then. False with a fault when the disk refuses again. */
bool journal_resume(struct journal *journal, uint64_t position, struct fault *fault);

/* While nobody appends: all changes up to `position`, which is above the last one's, count as durable and acknowledged, since
 * they are in a snapshot; a segment begins behind it. False with a fault when that failed: the journal has failed then,
 * and may be resumed at this position. */
bool journal_skip(struct journal *journal, uint64_t position, struct fault *fault);

/* Removes the segments that hold no change above `position`. */
void journal_trim(struct journal *journal, uint64_t position);

void journal_figures(struct journal *journal, struct journal_figures *figures);

#endif
