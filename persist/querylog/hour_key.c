/* Data keys; see hour_key.h. */
#include "persist/querylog/hour_key.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>

#include "persist/durable.h"
#include "persist/querylog/segment.h"

#define MAGIC "NBRDHKEY"
#define VERSION 1u
#define BYTE_ORDER_MARK 0x01020304u
#define NAME_BYTES 64

/* What a key is for; in the clear in its file, and once more in the sealed box, which nobody can change. */
struct purpose {
    uint64_t number;
    uint64_t hour_ms;
    uint64_t server_id;
    uint64_t retention_ms;
};

struct content {
    uint8_t secret[FRAME_KEY_BYTES];
    struct purpose purpose;
};

struct key_file {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    struct purpose purpose;
    uint8_t officer[OFFICER_KEY_BYTES];
    uint8_t wrapped[crypto_box_SEALBYTES + sizeof(struct content)];
};

static_assert(sizeof(struct content) == 64, "no padding");
static_assert(sizeof(struct key_file) == 192, "no padding");

static void make_name(uint64_t number, uint64_t hour_ms, char name[static NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%016" PRIx64 "-%" PRIu64 ".key", number, hour_ms / 1000);
}

/* Also of a file that was never finished (durable.h), which `*is_finished` then says. */
static bool parse_name(const char *name, uint64_t *number, uint64_t *hour_ms, bool *is_finished)
{
    char again[NAME_BYTES];
    uint64_t seconds;
    if (sscanf(name, "%16" SCNx64 "-%" SCNu64, number, &seconds) != 2)
        return false;
    *hour_ms = seconds * 1000;
    make_name(*number, *hour_ms, again);
    size_t length = strlen(again);
    *is_finished = strcmp(name, again) == 0;
    return *is_finished || (strncmp(name, again, length) == 0 && strcmp(name + length, ".new") == 0);
}

static bool is_key_file(const struct key_file *file, uint64_t number, uint64_t hour_ms)
{
    return memcmp(file->magic, MAGIC, sizeof file->magic) == 0 && file->version == VERSION &&
           file->byte_order == BYTE_ORDER_MARK && file->purpose.number == number &&
           file->purpose.hour_ms == hour_ms;
}

struct found_key {
    int folder_fd;
    const char *name;
    uint64_t number;
    uint64_t hour_ms;
    bool is_finished;
};

/* Calls `visit` for each key file of the folder until it returns false; false with a fault when the folder cannot be read. */
static bool visit_keys(const char *folder, bool (*visit)(void *context, const struct found_key *key),
                       void *context, struct fault *fault)
{
    DIR *entries = segment_open_folder(folder);
    if (entries == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the folder %s: %s", folder, strerror(errno));
    struct found_key key = {.folder_fd = dirfd(entries)};
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        key.name = entry->d_name;
        if (parse_name(key.name, &key.number, &key.hour_ms, &key.is_finished) && !visit(context, &key))
            break;
    }
    closedir(entries);
    return true;
}

/* --- for the server --- */

struct hour_key *hour_key_create(uint64_t server_id, uint64_t retention_ms)
{
    struct hour_key *key = sodium_init() < 0 ? NULL : sodium_malloc(sizeof *key);
    if (key != NULL)
        *key = (struct hour_key){.server_id = server_id, .retention_ms = retention_ms};
    return key;
}

void hour_key_destroy(struct hour_key *key)
{
    sodium_free(key); /* wipes it */
}

void hour_key_forget(struct hour_key *key)
{
    uint64_t server_id = key->server_id;
    uint64_t retention_ms = key->retention_ms;
    sodium_memzero(key, sizeof *key);
    key->server_id = server_id;
    key->retention_ms = retention_ms;
}

bool hour_key_renew(struct hour_key *key, const char *folder, const uint8_t officer[static OFFICER_KEY_BYTES],
                    uint64_t hour_ms, uint64_t number, struct fault *fault)
{
    struct purpose purpose = {number, hour_ms, key->server_id, key->retention_ms};
    struct key_file file = {.version = VERSION, .byte_order = BYTE_ORDER_MARK, .purpose = purpose};
    struct content content = {.purpose = purpose};
    char name[NAME_BYTES];
    hour_key_forget(key);
    randombytes_buf(key->secret, sizeof key->secret);
    memcpy(content.secret, key->secret, sizeof content.secret);
    memcpy(file.magic, MAGIC, sizeof file.magic);
    memcpy(file.officer, officer, sizeof file.officer);
    bool wrapped =
        crypto_box_seal(file.wrapped, (const unsigned char *)&content, sizeof content, officer) == 0;
    sodium_memzero(&content, sizeof content);
    make_name(number, hour_ms, name);
    if (wrapped ? durable_write(folder, name, &file, sizeof file, fault)
                : fault_set(fault, EX_CONFIG,
                            "the officer's public key is none; name another with --officer-key")) {
        key->hour_ms = hour_ms;
        key->number = number;
        return true;
    }
    hour_key_forget(key);
    return false;
}

struct expiry {
    uint64_t retention_ms;
    uint64_t now_ms;
    struct erasures *erased;
    uint64_t oldest_hour_ms;
};

/* Overwritten, too: where the file system writes in place, nothing of it stays on the disk. */
static bool destroy_if_over(void *context, const struct found_key *key)
{
    struct expiry *expiry = context;
    static const struct key_file nothing;
    bool is_over = frame_hour_over_at(key->hour_ms, expiry->retention_ms) <= expiry->now_ms;
    int fd = is_over ? openat(key->folder_fd, key->name, O_WRONLY | O_CLOEXEC) : -1;
    if (is_over && unlinkat(key->folder_fd, key->name, 0) == 0)
        erasures_note(expiry->erased, &(struct erasure){.hour_ms = key->hour_ms, .keys = key->is_finished});
    else if (expiry->oldest_hour_ms == 0 || key->hour_ms < expiry->oldest_hour_ms)
        expiry->oldest_hour_ms = key->hour_ms; /* what stays though it is over is tried again in seconds */
    if (fd >= 0) {
        if (durable_pwrite(fd, &nothing, sizeof nothing, 0))
            (void)fdatasync(fd);
        close(fd);
    }
    return true;
}

uint64_t hour_keys_expire(const char *folder, uint64_t retention_ms, uint64_t now_ms, struct erasures *erased)
{
    struct fault ignored; /* the next try is seconds away */
    struct expiry expiry = {.retention_ms = retention_ms, .now_ms = now_ms, .erased = erased};
    (void)visit_keys(folder, destroy_if_over, &expiry, &ignored);
    return expiry.oldest_hour_ms;
}

bool hour_key_read_retention(int folder_fd, const char *name, uint64_t *retention_ms)
{
    struct key_file file;
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && read(fd, &file, sizeof file) == (ssize_t)sizeof file &&
                is_key_file(&file, file.purpose.number, file.purpose.hour_ms);
    if (fd >= 0)
        close(fd);
    if (good)
        *retention_ms = file.purpose.retention_ms;
    return good;
}

/* --- for who has the private key --- */

struct key_ring {
    struct key_ring_entry *entries;
    size_t count;
    size_t capacity;
    size_t last; /* found last */
};

/* While the ring is being filled. */
struct filling {
    struct key_ring *ring;
    const char *folder;
    const struct officer_pair *officer;
    uint64_t from_ms;
    uint64_t until_ms;
    size_t foreign; /* wrapped to other officers' keys */
    bool failed;
    struct fault *fault;
};

static bool add_entry(struct key_ring *ring, const struct content *content, struct fault *fault)
{
    if (ring->count == ring->capacity) {
        size_t capacity = ring->capacity == 0 ? 32 : 2 * ring->capacity;
        struct key_ring_entry *grown = sodium_allocarray(capacity, sizeof *grown);
        if (grown == NULL)
            return fault_set(fault, EX_OSERR, "out of memory for the keys of the query log");
        if (ring->count > 0)
            memcpy(grown, ring->entries, ring->count * sizeof *grown);
        sodium_free(ring->entries);
        ring->entries = grown;
        ring->capacity = capacity;
    }
    struct key_ring_entry *entry = &ring->entries[ring->count++];
    *entry = (struct key_ring_entry){.server_id = content->purpose.server_id,
                                     .number = content->purpose.number,
                                     .retention_ms = content->purpose.retention_ms};
    memcpy(entry->secret, content->secret, sizeof entry->secret);
    return true;
}

static bool unwrap(const struct filling *filling, const struct key_file *file, const char *name)
{
    struct content content;
    bool opened = crypto_box_seal_open((unsigned char *)&content, file->wrapped, sizeof file->wrapped,
                                       filling->officer->public_key, filling->officer->private_key) == 0 &&
                  memcmp(&content.purpose, &file->purpose, sizeof content.purpose) == 0;
    bool good =
        opened ? add_entry(filling->ring, &content, filling->fault)
               : fault_set(filling->fault, EX_DATAERR,
                           "%s/%s is damaged or was changed: restore it from a backup, or move it away to "
                           "read what other keys open",
                           filling->folder, name);
    sodium_memzero(&content, sizeof content);
    return good;
}

static bool take_key(void *context, const struct found_key *key)
{
    struct filling *filling = context;
    struct key_file file;
    if (!key->is_finished || key->hour_ms >= filling->until_ms ||
        key->hour_ms + FRAME_HOUR_MS <= filling->from_ms)
        return true;
    int fd = openat(key->folder_fd, key->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true; /* its time was over just now */
    ssize_t got = fd < 0 ? -1 : read(fd, &file, sizeof file);
    if (fd >= 0)
        close(fd);
    if (got != (ssize_t)sizeof file || !is_key_file(&file, key->number, key->hour_ms))
        filling->failed =
            !fault_set(filling->fault, EX_DATAERR,
                       "%s/%s cannot be read as a key of version %u: restore it from a backup, or "
                       "move it away to read what other keys open",
                       filling->folder, key->name, VERSION);
    else if (sodium_memcmp(file.officer, filling->officer->public_key, sizeof file.officer) != 0)
        filling->foreign++;
    else
        filling->failed = !unwrap(filling, &file, key->name);
    return !filling->failed;
}

struct key_ring *key_ring_open(const char *folder, const struct officer_pair *officer, uint64_t from_ms,
                               uint64_t until_ms, struct fault *fault)
{
    struct key_ring *ring = calloc(1, sizeof *ring);
    struct filling filling = {.ring = ring,
                              .folder = folder,
                              .officer = officer,
                              .from_ms = from_ms,
                              .until_ms = until_ms,
                              .fault = fault};
    if (ring == NULL) {
        fault_set(fault, EX_OSERR, "out of memory for the keys of the query log");
        return NULL;
    }
    if (visit_keys(folder, take_key, &filling, fault) && !filling.failed) {
        if (ring->count > 0 || filling.foreign == 0)
            return ring;
        fault_set(fault, EX_NOPERM,
                  "the query log in %s is sealed to another officer's key than the one given with --key",
                  folder);
    }
    key_ring_close(ring);
    return NULL;
}

void key_ring_close(struct key_ring *ring)
{
    if (ring == NULL)
        return;
    sodium_free(ring->entries);
    free(ring);
}

size_t key_ring_count(const struct key_ring *ring)
{
    return ring->count;
}

size_t key_ring_servers(const struct key_ring *ring, uint64_t *servers)
{
    size_t count = 0;
    for (size_t i = 0; i < ring->count; i++) {
        size_t at = 0;
        while (at < count && servers[at] != ring->entries[i].server_id)
            at++;
        servers[at] = ring->entries[i].server_id;
        count += at == count;
    }
    return count;
}

struct key_ring_entry *key_ring_find(struct key_ring *ring, uint64_t server_id, uint64_t number)
{
    for (size_t i = 0; i < ring->count; i++) {
        size_t at = (ring->last + i) % ring->count;
        if (ring->entries[at].server_id == server_id && ring->entries[at].number == number) {
            ring->last = at;
            return &ring->entries[at];
        }
    }
    return NULL;
}
