/* The tally; see tally.h. */
#include "persist/querylog/tally.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>
#include <xxhash.h>

#include "persist/durable.h"
#include "persist/querylog/frame.h"

#define MAGIC "NBRDTALY"
#define VERSION 1u
#define BYTE_ORDER_MARK 0x01020304u
#define FILE_NAME "tally"
#define NAME_BYTES 64

struct slot {
    _Alignas(64) _Atomic uint64_t appended;
    _Atomic uint64_t sequence;
    _Atomic uint64_t offset;
};

struct hour {
    _Atomic uint64_t hour_ms;
    _Atomic uint64_t events;
};

struct saved_hour {
    uint64_t hour_ms;
    uint64_t events;
};

/* As it lies in shared memory; of one machine and one version of the program. */
struct counters {
    _Atomic uint64_t run; /* 0: not complete */
    uint64_t bytes;       /* its size: another version's differs */
    struct query_counts workers[TALLY_WORKERS_MAX];
    struct slot slots[2];
    _Alignas(64) _Atomic uint64_t slot; /* the one in use */
    _Atomic uint64_t passed_ms;
    _Atomic uint64_t dropped_recorded_ms;
    _Atomic uint64_t missed;
    _Atomic uint64_t erasure_ms;
    struct hour hours[TALLY_HOURS]; /* an hour's place is its number modulo TALLY_HOURS */
    _Alignas(64) _Atomic uint64_t lost;
    _Atomic uint64_t stored;
};

struct file {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t run;
    uint64_t in_order;
    uint64_t logged;
    uint64_t dropped;
    uint64_t appended;
    uint64_t sequence;
    uint64_t offset;
    uint64_t missed;
    uint64_t lost;
    uint64_t stored;
    uint64_t passed_ms;
    uint64_t erasure_ms;
    struct saved_hour hours[TALLY_HOURS];
    uint64_t checksum;
};

static_assert(sizeof(struct file) == 120 + TALLY_HOURS * sizeof(struct saved_hour), "no padding");

struct tally {
    char *folder;
    struct counters *counters;
    char name[NAME_BYTES]; /* of the shared memory; empty: there is none, the counters are ours alone */
    uint64_t run;
};

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* --- the copy --- */

static uint64_t checksum(const struct file *file)
{
    return XXH3_64bits(file, offsetof(struct file, checksum));
}

/* False and zeros when there is none that can be trusted; `*is_there` says whether there is any. */
static bool read_file(const char *folder, struct file *file, bool *is_there)
{
    char path[PATH_MAX];
    *is_there = false;
    bool good = (size_t)snprintf(path, sizeof path, "%s/" FILE_NAME, folder) < sizeof path;
    int fd = good ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        *is_there = true;
        good = read(fd, file, sizeof *file) == (ssize_t)sizeof *file &&
               memcmp(file->magic, MAGIC, sizeof file->magic) == 0 && file->version == VERSION &&
               file->byte_order == BYTE_ORDER_MARK && file->checksum == checksum(file);
        close(fd);
    }
    if (fd < 0 || !good)
        *file = (struct file){0};
    return fd >= 0 && good;
}

static struct file describe(const struct tally *tally, bool in_order)
{
    struct tally_place place = tally_place(tally);
    struct file file = {.version = VERSION,
                        .byte_order = BYTE_ORDER_MARK,
                        .run = tally->run,
                        .in_order = in_order,
                        .appended = place.appended,
                        .sequence = place.sequence,
                        .offset = place.offset,
                        .missed = get(&tally->counters->missed),
                        .lost = get(&tally->counters->lost),
                        .stored = get(&tally->counters->stored),
                        .passed_ms = get(&tally->counters->passed_ms),
                        .erasure_ms = get(&tally->counters->erasure_ms)};
    for (size_t i = 0; i < TALLY_HOURS; i++)
        file.hours[i] = (struct saved_hour){get(&tally->counters->hours[i].hour_ms),
                                            get(&tally->counters->hours[i].events)};
    memcpy(file.magic, MAGIC, sizeof file.magic);
    for (unsigned i = 0; i < TALLY_WORKERS_MAX; i++) {
        file.logged += get(&tally->counters->workers[i].logged);
        file.dropped += get(&tally->counters->workers[i].dropped);
    }
    file.checksum = checksum(&file);
    return file;
}

void tally_save(struct tally *tally)
{
    struct fault ignored;
    struct file file = describe(tally, false);
    (void)durable_write(tally->folder, FILE_NAME, &file, sizeof file, &ignored);
}

/* --- the counters --- */

static void *map(int fd, int flags)
{
    void *memory = mmap(NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        return NULL;
    return memory;
}

/* NULL when there is no shared memory to be had. */
static struct counters *map_shared(const char *name)
{
    struct stat status;
    int fd = shm_open(name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return NULL;
    /* Of another size: of another version of the program, and not taken over. Allocated, so that no write to it fails. */
    bool good = fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
                (status.st_size == (off_t)sizeof(struct counters) || ftruncate(fd, 0) == 0) &&
                posix_fallocate(fd, 0, (off_t)sizeof(struct counters)) == 0;
    struct counters *counters = good ? map(fd, MAP_SHARED) : NULL;
    close(fd);
    return counters;
}

static bool make_name(struct tally *tally)
{
    struct stat status;
    if (stat(tally->folder, &status) != 0)
        return false;
    snprintf(tally->name, sizeof tally->name, "/numberd-%" PRIx64 "-%" PRIx64, (uint64_t)status.st_dev,
             (uint64_t)status.st_ino);
    return true;
}

/* The counters as the file has them. */
static void restore(struct tally *tally, const struct file *file)
{
    struct counters *counters = tally->counters;
    memset(counters, 0, sizeof *counters);
    set(&counters->workers[0].logged, file->logged);
    set(&counters->workers[0].dropped, file->dropped);
    set(&counters->workers[0].recorded, file->dropped);
    set(&counters->slots[0].appended, file->appended);
    set(&counters->slots[0].sequence, file->sequence);
    set(&counters->slots[0].offset, file->offset);
    set(&counters->passed_ms, file->passed_ms);
    set(&counters->erasure_ms, file->erasure_ms);
    for (size_t i = 0; i < TALLY_HOURS; i++) {
        set(&counters->hours[i].hour_ms, file->hours[i].hour_ms);
        set(&counters->hours[i].events, file->hours[i].events);
    }
    set(&counters->missed, file->missed);
    set(&counters->lost, file->lost);
    set(&counters->stored, file->stored);
}

static enum tally_past take_over(struct tally *tally)
{
    struct file file;
    bool is_there;
    bool good = read_file(tally->folder, &file, &is_there);
    if (good && !file.in_order && file.run != 0 && get(&tally->counters->run) == file.run &&
        tally->counters->bytes == sizeof *tally->counters)
        return TALLY_KILLED;
    restore(tally, &file);
    return !is_there ? TALLY_FIRST : good && file.in_order ? TALLY_STOPPED : TALLY_UNKNOWN;
}

struct tally *tally_open(const char *folder, enum tally_past *past, struct fault *fault)
{
    struct tally *tally = sodium_init() < 0 ? NULL : calloc(1, sizeof *tally);
    if (tally != NULL)
        tally->folder = strdup(folder);
    if (tally != NULL && tally->folder != NULL && make_name(tally)) {
        tally->counters = map_shared(tally->name);
        if (tally->counters == NULL) {
            tally->name[0] = '\0';
            tally->counters = map(-1, MAP_PRIVATE | MAP_ANONYMOUS);
        }
    }
    if (tally == NULL || tally->counters == NULL) {
        if (tally != NULL)
            free(tally->folder);
        free(tally);
        fault_set(fault, EX_OSERR, "cannot make the query log's counters for %s: %s", folder,
                  strerror(errno));
        return NULL;
    }
    *past = take_over(tally);
    randombytes_buf(&tally->run, sizeof tally->run);
    tally->run |= 1;
    /* From the file's change on these counters are the ones that count. */
    tally->counters->bytes = sizeof *tally->counters;
    set(&tally->counters->run, tally->run);
    tally_save(tally);
    return tally;
}

void tally_close(struct tally *tally, bool in_order)
{
    struct fault ignored;
    if (tally == NULL)
        return;
    struct file file = describe(tally, in_order);
    bool saved = durable_write(tally->folder, FILE_NAME, &file, sizeof file, &ignored);
    munmap(tally->counters, sizeof *tally->counters);
    if (saved && in_order && tally->name[0] != '\0')
        (void)shm_unlink(tally->name);
    free(tally->folder);
    free(tally);
}

struct query_counts *tally_worker(struct tally *tally, unsigned worker)
{
    assert(worker < TALLY_WORKERS_MAX);
    return &tally->counters->workers[worker];
}

struct tally_place tally_place(const struct tally *tally)
{
    uint64_t slot = atomic_load_explicit(&tally->counters->slot, memory_order_acquire) & 1;
    const struct slot *from = &tally->counters->slots[slot];
    return (struct tally_place){get(&from->appended), get(&from->sequence), get(&from->offset)};
}

void tally_appended(struct tally *tally, uint64_t sequence, uint64_t offset, uint64_t events)
{
    uint64_t appended = tally_place(tally).appended + events;
    uint64_t other = (get(&tally->counters->slot) & 1) ^ 1;
    struct slot *to = &tally->counters->slots[other];
    set(&to->appended, appended);
    set(&to->sequence, sequence);
    set(&to->offset, offset);
    atomic_store_explicit(&tally->counters->slot, other, memory_order_release);
}

static struct hour *hour_of(const struct tally *tally, uint64_t hour_ms)
{
    return &tally->counters->hours[hour_ms / FRAME_HOUR_MS % TALLY_HOURS];
}

void tally_sealed(struct tally *tally, uint64_t hour_ms, uint64_t events)
{
    struct hour *hour = hour_of(tally, hour_ms);
    uint64_t before = get(&hour->hour_ms) == hour_ms ? get(&hour->events) : 0;
    set(&hour->hour_ms, hour_ms);
    set(&hour->events, before + events);
}

uint64_t tally_sealed_in(const struct tally *tally, uint64_t hour_ms)
{
    const struct hour *hour = hour_of(tally, hour_ms);
    return get(&hour->hour_ms) == hour_ms ? get(&hour->events) : 0;
}

void tally_forget_sealed(struct tally *tally, uint64_t hour_ms)
{
    struct hour *hour = hour_of(tally, hour_ms);
    if (get(&hour->hour_ms) == hour_ms)
        set(&hour->events, 0);
}

void tally_set_erasure_ms(struct tally *tally, uint64_t time_ms)
{
    set(&tally->counters->erasure_ms, time_ms);
}

uint64_t tally_erasure_ms(const struct tally *tally)
{
    return get(&tally->counters->erasure_ms);
}

void tally_level(struct tally *tally)
{
    struct tally_figures figures = tally_figures(tally);
    uint64_t known = figures.looked_up - figures.dropped;
    uint64_t needed = figures.appended + figures.missed;
    if (known < needed)
        atomic_fetch_add_explicit(&tally->counters->workers[0].logged, needed - known, memory_order_relaxed);
}

void tally_passed(struct tally *tally, uint64_t time_ms)
{
    set(&tally->counters->passed_ms, time_ms);
}

uint64_t tally_passed_ms(const struct tally *tally)
{
    return get(&tally->counters->passed_ms);
}

uint64_t tally_last_ms(struct tally *tally)
{
    uint64_t last_ms = 0;
    for (unsigned i = 0; i < TALLY_WORKERS_MAX; i++) {
        uint64_t worker_ms = get(&tally->counters->workers[i].last_ms);
        last_ms = worker_ms > last_ms ? worker_ms : last_ms;
    }
    return last_ms;
}

void tally_dropped_recorded(struct tally *tally, uint64_t time_ms)
{
    set(&tally->counters->dropped_recorded_ms, time_ms);
}

uint64_t tally_dropped_recorded_ms(const struct tally *tally)
{
    return get(&tally->counters->dropped_recorded_ms);
}

void tally_missed(struct tally *tally, uint64_t events)
{
    atomic_fetch_add_explicit(&tally->counters->missed, events, memory_order_release);
}

void tally_lost(struct tally *tally, uint64_t events)
{
    atomic_fetch_add_explicit(&tally->counters->lost, events, memory_order_release);
}

void tally_stored(struct tally *tally, uint64_t events)
{
    atomic_fetch_add_explicit(&tally->counters->stored, events, memory_order_release);
}

void tally_set_stored(struct tally *tally, uint64_t events)
{
    set(&tally->counters->stored, events);
}

struct tally_figures tally_figures(const struct tally *tally)
{
    const struct counters *counters = tally->counters;
    struct tally_figures figures = {0};
    /* Downstream first, with acquire, as in tally_place: what is counted there is counted as looked up below. */
    figures.stored = atomic_load_explicit(&counters->stored, memory_order_acquire);
    figures.lost = atomic_load_explicit(&counters->lost, memory_order_acquire);
    figures.missed = atomic_load_explicit(&counters->missed, memory_order_acquire);
    figures.appended = tally_place(tally).appended;
    for (unsigned i = 0; i < TALLY_WORKERS_MAX; i++) {
        uint64_t dropped = get(&counters->workers[i].dropped);
        figures.dropped += dropped;
        figures.looked_up += get(&counters->workers[i].logged) + dropped;
    }
    return figures;
}
