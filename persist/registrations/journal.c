/* The journal's writer; see journal.h. */
#include "persist/registrations/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/durable.h"
#include "persist/registrations/journal_file.h"

/* While commits are larger than this, many are waiting, and the next commit lets others come along for some moments: fewer
 * syncs and fewer wake-ups for the same changes (register of bench_registrations, three runs each: 1.43 to 1.62 M/s
 * without, 1.76 to 1.88 with 50 us, 1.55 to 1.83 with 150, 1.51 to 1.86 with 400, 1.72 to 1.91 with 800; a sleep takes
 * some 50 us more than it is asked for). A client that waits for each change never sees it. */
#define CROWDED_BYTES 4096
#define GATHER_NS 50000

/* Blocks, the last of which is still open; sealed when they are written. */
struct batch {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
    size_t block; /* where the last one begins; meaningless while length is 0 */
    uint64_t begun_ns;
};

/* The segment that is being written. The thread's, or resume's. */
struct output {
    int fd;
    uint64_t offset;
    uint64_t chain;
    uint64_t durable; /* position */
    uint64_t written; /* position of the last change in the file */
    uint64_t synced_ns;
};

struct journal {
    struct journal_options options;
    size_t payload_max; /* of a block, but for changes that belong together: none is longer than a segment */
    char *folder;
    pthread_t thread;
    struct output output;
    _Atomic uint64_t acknowledged;
    atomic_bool failed;
    /* Under the mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t filled;  /* for the thread */
    pthread_cond_t settled; /* from the thread: durable has moved, or it failed */
    struct batch filling;
    struct batch writing; /* the thread's between two exchanges */
    size_t reserved;      /* bytes that filling must have room for */
    uint64_t position;
    struct journal_segment *segments;
    size_t segment_count;
    struct journal_figures figures;
    bool sync_wanted;
    uint64_t skip_to; /* 0: nobody wants to skip */
    bool stopping;
};

static_assert(JOURNAL_TOGETHER_MAX * JOURNAL_CHANGE_BYTES_MAX <= JOURNAL_PAYLOAD_MAX,
              "a block holds what belongs together");

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- segments --- */

static bool list_segment(struct journal *journal, uint64_t first_position)
{
    size_t count = journal->segment_count;
    /* One of the same position is an empty one that was just replaced. */
    if (count > 0 && journal->segments[count - 1].first_position == first_position)
        count--;
    struct journal_segment *grown = realloc(journal->segments, (count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    grown[count] = (struct journal_segment){first_position, journal->options.segment_bytes};
    journal->segments = grown;
    journal->segment_count = count + 1;
    return true;
}

static bool put_header(struct durable_file *file, const struct journal *journal, uint64_t first_position,
                       struct output *output, struct fault *fault)
{
    struct journal_header header;
    journal_make_header(&header, first_position, output->durable);
    output->chain = header.checksum;
    output->offset = sizeof header;
    int error = posix_fallocate(file->fd, 0, (off_t)journal->options.segment_bytes);
    if (error != 0 && error != EOPNOTSUPP && error != EINVAL)
        return fault_set(fault, EX_IOERR, "cannot have %llu bytes for the journal in %s: %s; free space",
                         (unsigned long long)journal->options.segment_bytes, journal->folder,
                         strerror(error));
    return durable_put(file, &header, sizeof header, 0, fault);
}

/* Creates the segment of `first_position` and makes it the output, which has none. */
static bool begin_segment(struct journal *journal, uint64_t first_position, struct output *output,
                          struct fault *fault)
{
    char name[JOURNAL_NAME_BYTES];
    struct durable_file file;
    journal_name(first_position, name);
    if (!durable_begin(&file, journal->folder, name, fault))
        return false;
    if (!put_header(&file, journal, first_position, output, fault)) {
        durable_abort(&file);
        return false;
    }
    if (!durable_commit(&file, fault))
        return false;
    output->fd = open(file.final_path, O_WRONLY | O_CLOEXEC);
    if (output->fd < 0)
        return fault_set(fault, EX_IOERR, "cannot open %s: %s", file.final_path, strerror(errno));
    pthread_mutex_lock(&journal->mutex);
    bool listed = list_segment(journal, first_position);
    pthread_mutex_unlock(&journal->mutex);
    return listed || fault_set(fault, EX_OSERR, "out of memory for the list of journal segments");
}

static bool cannot_write(const struct journal *journal, struct fault *fault)
{
    return fault_set(fault, EX_IOERR, "cannot write the journal in %s: %s", journal->folder, strerror(errno));
}

static bool sync_output(struct journal *journal, struct fault *fault)
{
    struct output *output = &journal->output;
    if (fdatasync(output->fd) != 0)
        return cannot_write(journal, fault);
    output->durable = output->written;
    output->synced_ns = now_ns();
    return true;
}

static void close_output(struct journal *journal)
{
    if (journal->output.fd >= 0)
        close(journal->output.fd);
    journal->output.fd = -1;
}

/* The segment is full: it is durable as a whole before the next one says so. */
static bool change_segment(struct journal *journal, uint64_t first_position, struct fault *fault)
{
    if (!sync_output(journal, fault))
        return false;
    close_output(journal);
    return begin_segment(journal, first_position, &journal->output, fault);
}

/* --- the thread --- */

static bool grow(struct batch *batch, size_t needed)
{
    if (needed <= batch->capacity)
        return true;
    size_t capacity = batch->capacity * 2 > needed ? batch->capacity * 2 : needed;
    uint8_t *grown = realloc(batch->bytes, capacity);
    if (grown == NULL)
        return false;
    batch->bytes = grown;
    batch->capacity = capacity;
    return true;
}

static struct journal_block *block_in(const struct batch *batch, size_t offset)
{
    return (struct journal_block *)(void *)(batch->bytes + offset);
}

/* Seals the blocks from `start` on that fit into the segment and writes them; returns where they end, 0 on failure. */
static size_t write_blocks(struct journal *journal, const struct batch *batch, size_t start,
                           struct fault *fault)
{
    struct output *output = &journal->output;
    struct journal_block *block = block_in(batch, start);
    size_t end = start;
    if (output->offset > JOURNAL_HEADER_BYTES &&
        output->offset + sizeof *block + block->payload_bytes > journal->options.segment_bytes &&
        !change_segment(journal, block->first_position, fault))
        return 0;
    do {
        block->durable = output->durable;
        block->previous = output->chain;
        journal_seal_block(block);
        output->chain = block->checksum;
        end += sizeof *block + block->payload_bytes;
        if (end == batch->length)
            break;
        block = block_in(batch, end);
    } while (output->offset + (end - start) + sizeof *block + block->payload_bytes <=
             journal->options.segment_bytes);
    if (!durable_pwrite(output->fd, batch->bytes + start, end - start, output->offset)) {
        cannot_write(journal, fault);
        return 0;
    }
    output->offset += end - start;
    output->written = end == batch->length ? output->written : block->first_position - 1;
    return end;
}

static bool is_sync_due(const struct journal *journal)
{
    switch (journal->options.policy) {
    case JOURNAL_ALWAYS:
        return true;
    case JOURNAL_INTERVAL:
        return now_ns() - journal->output.synced_ns >= (uint64_t)journal->options.interval_ms * 1000000;
    case JOURNAL_OFF:
        return false;
    }
    return true;
}

/* Writes the batch, whose last change has the position `last`, and syncs it if it is time or somebody wants it. */
static bool write_batch(struct journal *journal, const struct batch *batch, uint64_t last, bool sync_wanted,
                        struct fault *fault)
{
    for (size_t at = 0; at < batch->length;) {
        at = write_blocks(journal, batch, at, fault);
        if (at == 0)
            return false;
    }
    journal->output.written = last;
    return !(sync_wanted || is_sync_due(journal)) || sync_output(journal, fault);
}

/* Tells a later reader that all before is on the disk. Not synced itself, and not missed if it does not fit. */
static bool write_mark(struct journal *journal, struct fault *fault)
{
    struct output *output = &journal->output;
    struct journal_block mark = {
        .first_position = output->written + 1, .durable = output->durable, .previous = output->chain};
    if (output->offset + sizeof mark > journal->options.segment_bytes)
        return true;
    journal_seal_block(&mark);
    if (!durable_pwrite(output->fd, &mark, sizeof mark, output->offset))
        return cannot_write(journal, fault);
    output->offset += sizeof mark;
    output->chain = mark.checksum;
    return true;
}

/* The mutex is held. */
static void fail(struct journal *journal, const struct fault *fault)
{
    char line[sizeof fault->text + 160];
    close_output(journal);
    atomic_store_explicit(&journal->failed, true, memory_order_release);
    journal->filling.length = 0;
    journal->figures.failures++;
    snprintf(line, sizeof line,
             "%s; registrations are read-only now, lookups go on: mend it, then run numberctl snapshot",
             fault->text);
    journal->options.notice(NOTICE_ERROR, line);
}

/* The mutex is held. */
static void count_commit(struct journal *journal, const struct batch *batch, uint64_t last)
{
    atomic_store_explicit(&journal->acknowledged, last, memory_order_release);
    uint64_t took_ns = now_ns() - batch->begun_ns;
    journal->figures.commits++;
    journal->figures.written += batch->length;
    journal->figures.commit_ns += took_ns;
    if (took_ns > journal->figures.commit_ns_max)
        journal->figures.commit_ns_max = took_ns;
}

/* One commit; the mutex is held at the beginning and at the end. */
static void commit(struct journal *journal)
{
    struct batch batch = journal->filling;
    struct fault fault;
    uint64_t last = journal->position;
    /* The other buffer has to have room for what was reserved; if it can't, the append that comes makes room here. */
    if (!grow(&journal->writing, journal->reserved)) {
        pthread_cond_wait(&journal->filled, &journal->mutex);
        return;
    }
    journal->filling = journal->writing;
    journal->filling.length = 0;
    bool sync_wanted = journal->sync_wanted;
    journal->sync_wanted = false;
    pthread_mutex_unlock(&journal->mutex);
    bool good = write_batch(journal, &batch, last, sync_wanted, &fault);
    pthread_mutex_lock(&journal->mutex);
    journal->writing = batch;
    journal->figures.durable = journal->output.durable; /* first, so that nobody sees it behind the next */
    if (good)
        count_commit(journal, &batch, last);
    else
        fail(journal, &fault);
    pthread_cond_broadcast(&journal->settled);
    pthread_mutex_unlock(&journal->mutex);
    journal->options.changed(journal->options.context);
    pthread_mutex_lock(&journal->mutex);
}

/* See GATHER_NS. The mutex is held. */
static void gather(struct journal *journal)
{
    if (journal->writing.length < CROWDED_BYTES || journal->options.policy != JOURNAL_ALWAYS ||
        journal->stopping)
        return;
    pthread_mutex_unlock(&journal->mutex);
    nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
    pthread_mutex_lock(&journal->mutex);
}

/* Nothing waits: what is written is synced if its time has come (`final`: in any case), and marked. The mutex is held. */
static void settle(struct journal *journal, bool final)
{
    struct output *output = &journal->output;
    struct fault fault;
    bool good = true;
    if (output->fd < 0)
        return;
    pthread_mutex_unlock(&journal->mutex);
    if (output->durable < output->written && (final || is_sync_due(journal)))
        good = sync_output(journal, &fault);
    if (good && output->durable == output->written)
        good = write_mark(journal, &fault);
    pthread_mutex_lock(&journal->mutex);
    if (!good)
        fail(journal, &fault);
    journal->figures.durable = output->durable;
    pthread_cond_broadcast(&journal->settled);
}

/* Waits for something to write, for the interval's end if something has to be synced then, or for the stop. The mutex is held. */
static void wait_for_work(struct journal *journal)
{
    bool unsynced = journal->options.policy == JOURNAL_INTERVAL &&
                    journal->output.durable < journal->output.written && journal->output.fd >= 0;
    while (journal->filling.length == 0 && !journal->stopping && !journal->sync_wanted &&
           journal->skip_to == 0) {
        struct timespec until;
        if (!unsynced) {
            pthread_cond_wait(&journal->filled, &journal->mutex);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += (time_t)(journal->options.interval_ms / 1000);
        until.tv_nsec += (long)(journal->options.interval_ms % 1000) * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&journal->filled, &journal->mutex, &until) == ETIMEDOUT)
            return;
    }
}

/* Ends the segment and begins one behind the position that is skipped to. The mutex is held. */
static void skip(struct journal *journal)
{
    struct output *output = &journal->output;
    struct fault fault;
    uint64_t position = journal->skip_to;
    pthread_mutex_unlock(&journal->mutex);
    bool good = output->durable == output->written || sync_output(journal, &fault);
    if (good) {
        close_output(journal);
        output->durable = output->written = position;
        good = begin_segment(journal, position + 1, output, &fault);
    }
    pthread_mutex_lock(&journal->mutex);
    journal->position = position;
    journal->skip_to = 0;
    if (good) {
        journal->figures.durable = position;
        atomic_store_explicit(&journal->acknowledged, position, memory_order_release);
    } else {
        fail(journal, &fault);
    }
    pthread_cond_broadcast(&journal->settled);
}

static void *run(void *context)
{
    struct journal *journal = context;
    (void)pthread_setname_np(pthread_self(), "journal");
    pthread_mutex_lock(&journal->mutex);
    uint64_t marked = journal->output.written;
    for (;;) {
        wait_for_work(journal);
        if (journal->filling.length > 0) {
            gather(journal);
            commit(journal);
        } else if (journal->skip_to > 0)
            skip(journal);
        else if (journal->stopping)
            break;
        /* One mark a commit, unless the next commit says it anyway. */
        if (journal->filling.length == 0 && (marked != journal->output.written || journal->sync_wanted)) {
            bool wanted = journal->sync_wanted;
            journal->sync_wanted = false;
            settle(journal, wanted);
            if (journal->output.durable == journal->output.written)
                marked = journal->output.written;
        }
    }
    if (journal->output.durable < journal->output.written)
        settle(journal, true);
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}

/* --- life --- */

static void free_journal(struct journal *journal)
{
    close_output(journal);
    pthread_mutex_destroy(&journal->mutex);
    pthread_cond_destroy(&journal->filled);
    pthread_cond_destroy(&journal->settled);
    free(journal->filling.bytes);
    free(journal->writing.bytes);
    free(journal->segments);
    free(journal->folder);
    free(journal);
}

struct journal *journal_start(const struct journal_options *options, struct fault *fault)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) {
        fault_set(fault, EX_OSERR, "out of memory for the journal");
        return NULL;
    }
    journal->options = *options;
    if (options->segment_bytes == 0)
        journal->options.segment_bytes = JOURNAL_SEGMENT_BYTES_DEFAULT;
    journal->payload_max = JOURNAL_PAYLOAD_MAX;
    if (journal->options.segment_bytes < JOURNAL_HEADER_BYTES + JOURNAL_BLOCK_BYTES + JOURNAL_PAYLOAD_MAX)
        journal->payload_max = journal->options.segment_bytes / 2;
    journal->folder = strdup(options->folder);
    journal->position = options->position;
    journal->output = (struct output){
        .fd = -1, .durable = options->position, .written = options->position, .synced_ns = now_ns()};
    atomic_init(&journal->acknowledged, options->position);
    journal->figures.durable = options->position;
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_cond_init(&journal->filled, NULL);
    pthread_cond_init(&journal->settled, NULL);
    if (journal->folder == NULL)
        fault_set(fault, EX_OSERR, "out of memory for the journal");
    else if (journal_list(journal->folder, &journal->segments, &journal->segment_count, fault) &&
             begin_segment(journal, options->position + 1, &journal->output, fault)) {
        if (pthread_create(&journal->thread, NULL, run, journal) == 0)
            return journal;
        fault_set(fault, EX_OSERR, "cannot start the journal's thread: out of memory or threads");
    }
    free_journal(journal);
    return NULL;
}

bool journal_stop(struct journal *journal, struct fault *fault)
{
    pthread_mutex_lock(&journal->mutex);
    journal->stopping = true;
    pthread_cond_signal(&journal->filled);
    pthread_mutex_unlock(&journal->mutex);
    pthread_join(journal->thread, NULL);
    bool good = !atomic_load(&journal->failed);
    if (!good)
        fault_set(fault, EX_IOERR, "the journal in %s could not be written to its end", journal->folder);
    free_journal(journal);
    return good;
}

/* --- the caller's side --- */

bool journal_reserve(struct journal *journal, size_t count)
{
    assert(count <= JOURNAL_TOGETHER_MAX);
    size_t bytes = sizeof(struct journal_block) + count * JOURNAL_CHANGE_BYTES_MAX;
    pthread_mutex_lock(&journal->mutex);
    bool good = grow(&journal->filling, journal->filling.length + bytes);
    journal->reserved = good ? bytes : 0;
    pthread_mutex_unlock(&journal->mutex);
    return good;
}

static void begin_block(struct batch *batch, uint64_t first_position)
{
    batch->block = batch->length;
    *block_in(batch, batch->block) = (struct journal_block){.first_position = first_position};
    batch->length += sizeof(struct journal_block);
}

uint64_t journal_append(struct journal *journal, const struct change *changes, size_t count)
{
    struct batch *batch = &journal->filling;
    assert(count <= JOURNAL_TOGETHER_MAX);
    pthread_mutex_lock(&journal->mutex);
    bool is_new = batch->length == 0;
    if (count > 0 && is_new)
        batch->begun_ns = now_ns();
    if (count > 0 &&
        (is_new || block_in(batch, batch->block)->payload_bytes + count * JOURNAL_CHANGE_BYTES_MAX >
                       journal->payload_max))
        begin_block(batch, journal->position + 1);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = journal_encode(batch->bytes + batch->length, &changes[i]);
        block_in(batch, batch->block)->payload_bytes += (uint32_t)bytes;
        batch->length += bytes;
    }
    journal->position += count;
    uint64_t position = journal->position;
    journal->reserved = 0;
    if (atomic_load_explicit(&journal->failed, memory_order_relaxed))
        batch->length = 0; /* nobody will write it */
    else if (batch->length > 0)
        pthread_cond_signal(&journal->filled);
    pthread_mutex_unlock(&journal->mutex);
    return position;
}

bool journal_sync(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    uint64_t position = journal->position;
    while (journal->figures.durable < position && !atomic_load(&journal->failed)) {
        journal->sync_wanted = true;
        pthread_cond_signal(&journal->filled);
        pthread_cond_wait(&journal->settled, &journal->mutex);
    }
    bool good = journal->figures.durable >= position;
    pthread_mutex_unlock(&journal->mutex);
    return good;
}

uint64_t journal_acknowledged(const struct journal *journal)
{
    return atomic_load_explicit(&journal->acknowledged, memory_order_acquire);
}

bool journal_has_failed(const struct journal *journal)
{
    return atomic_load_explicit(&journal->failed, memory_order_acquire);
}

bool journal_resume(struct journal *journal, uint64_t position, struct fault *fault)
{
    struct output output = {.fd = -1, .durable = position, .written = position, .synced_ns = now_ns()};
    pthread_mutex_lock(&journal->mutex);
    bool possible = atomic_load(&journal->failed) && journal->position == position;
    pthread_mutex_unlock(&journal->mutex);
    if (!possible)
        return fault_set(fault, EX_TEMPFAIL, "the journal cannot be resumed at this position");
    if (!begin_segment(journal, position + 1, &output, fault)) {
        if (output.fd >= 0)
            close(output.fd);
        return false;
    }
    pthread_mutex_lock(&journal->mutex);
    journal->output = output;
    journal->figures.durable = position;
    atomic_store_explicit(&journal->acknowledged, position, memory_order_release);
    atomic_store_explicit(&journal->failed, false, memory_order_release);
    pthread_mutex_unlock(&journal->mutex);
    journal->options.notice(NOTICE_NORMAL, "the journal is written again; registrations are taken");
    return true;
}

bool journal_skip(struct journal *journal, uint64_t position, struct fault *fault)
{
    pthread_mutex_lock(&journal->mutex);
    journal->skip_to = position;
    pthread_cond_signal(&journal->filled);
    while (journal->skip_to > 0)
        pthread_cond_wait(&journal->settled, &journal->mutex);
    bool good = !atomic_load(&journal->failed);
    pthread_mutex_unlock(&journal->mutex);
    return good || fault_set(fault, EX_IOERR, "the journal in %s cannot be written", journal->folder);
}

void journal_trim(struct journal *journal, uint64_t position)
{
    pthread_mutex_lock(&journal->mutex);
    size_t gone = 0;
    while (gone + 1 < journal->segment_count && journal->segments[gone + 1].first_position <= position + 1) {
        char name[JOURNAL_NAME_BYTES];
        char path[PATH_MAX];
        journal_name(journal->segments[gone].first_position, name);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", journal->folder, name) < sizeof path)
            (void)unlink(path); /* one that stays is older than what is read, and goes with the next trim */
        gone++;
    }
    journal->segment_count -= gone;
    memmove(journal->segments, journal->segments + gone, journal->segment_count * sizeof *journal->segments);
    pthread_mutex_unlock(&journal->mutex);
}

void journal_figures(struct journal *journal, struct journal_figures *figures)
{
    pthread_mutex_lock(&journal->mutex);
    *figures = journal->figures;
    figures->position = journal->position;
    figures->segments = journal->segment_count;
    for (size_t i = 0; i < journal->segment_count; i++)
        figures->bytes += journal->segments[i].bytes;
    pthread_mutex_unlock(&journal->mutex);
    figures->acknowledged = journal_acknowledged(journal);
    figures->failed = journal_has_failed(journal);
}
