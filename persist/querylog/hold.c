/* Holds; see hold.h. */
#include "persist/querylog/hold.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>

#include "persist/durable.h"
#include "persist/querylog/segment.h"

#define MAGIC "NBRDHOLD"
#define VERSION 2u
#define BYTE_ORDER_MARK 0x01020304u
#define KEY_BYTES crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES

struct held_record {
    uint64_t server_id;
    uint64_t time_ms;
    uint64_t requester;
    uint64_t number;
    uint8_t ip[16];
    uint8_t via[QUERY_VIA_BYTES]; /* zero without has_via */
    uint8_t answer;
    uint8_t ip_kept;
    uint8_t has_via;
    uint8_t zero[5];
};

struct held_gap {
    uint64_t server_id;
    struct query_gap gap;
};

struct head {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t number;
    uint64_t made_ms;
    uint64_t end_ms;
    uint64_t renewed;
    uint64_t records;
    uint64_t gaps;
    uint8_t officer[OFFICER_KEY_BYTES];
    uint8_t wrapped[crypto_box_SEALBYTES + KEY_BYTES];
    uint8_t nonce[NONCE_BYTES];
};

static_assert(sizeof(struct held_record) == 72 && sizeof(struct held_gap) == 40, "no padding");
static_assert(sizeof(struct head) == 200, "no padding");

/* --- content --- */

static bool add(unsigned char **list, size_t *count, size_t *room, const void *item, size_t bytes)
{
    if (*count == *room) {
        size_t more = *room * 2 + 64;
        unsigned char *grown = realloc(*list, more * bytes);
        if (grown == NULL)
            return false;
        *list = grown;
        *room = more;
    }
    memcpy(*list + *count * bytes, item, bytes);
    ++*count;
    return true;
}

bool hold_add_record(struct hold_content *content, const struct disclose_record *record)
{
    struct held_record held = {.server_id = record->server_id,
                               .time_ms = record->time_ms,
                               .requester = record->requester,
                               .number = record->number,
                               .answer = record->answer,
                               .ip_kept = (uint8_t)record->ip_kept};
    memcpy(held.ip, record->ip, sizeof held.ip);
    held.has_via = record->via != NULL;
    if (held.has_via)
        memcpy(held.via, record->via, sizeof held.via);
    return add(&content->records, &content->record_count, &content->record_room, &held, sizeof held);
}

bool hold_add_gap(struct hold_content *content, uint64_t server_id, const struct query_gap *gap)
{
    struct held_gap held = {server_id, *gap};
    return add(&content->gaps, &content->gap_count, &content->gap_room, &held, sizeof held);
}

static size_t content_bytes(uint64_t records, uint64_t gaps)
{
    return (size_t)(records * sizeof(struct held_record) + gaps * sizeof(struct held_gap));
}

void hold_free(struct hold_content *content)
{
    if (content->records != NULL)
        sodium_memzero(content->records, content->record_room * sizeof(struct held_record));
    free(content->records);
    free(content->gaps);
    *content = (struct hold_content){0};
}

/* --- writing --- */

static void make_name(uint64_t number, uint64_t end_ms, char name[static HOLD_NAME_BYTES])
{
    snprintf(name, HOLD_NAME_BYTES, "%016" PRIx64 "-%" PRIu64 ".hold", number, end_ms / 1000);
}

/* Seals `plain` under a new key and writes it. */
static bool write_hold(const char *folder, struct head *head, const unsigned char *plain,
                       char name[static HOLD_NAME_BYTES], struct fault *fault)
{
    size_t bytes = content_bytes(head->records, head->gaps);
    uint8_t key[KEY_BYTES];
    unsigned char *file = malloc(sizeof *head + bytes + TAG_BYTES);
    if (file == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for what is to be held");
    memcpy(head->magic, MAGIC, sizeof head->magic);
    head->version = VERSION;
    head->byte_order = BYTE_ORDER_MARK;
    randombytes_buf(key, sizeof key);
    randombytes_buf(head->nonce, sizeof head->nonce);
    bool good = crypto_box_seal(head->wrapped, key, sizeof key, head->officer) == 0 ||
                fault_set(fault, EX_DATAERR, "the officer's key is none");
    memcpy(file, head, sizeof *head);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(file + sizeof *head, NULL, plain, bytes, file,
                                                     sizeof *head, NULL, head->nonce,
                                                     key); /* never fails at these sizes */
    sodium_memzero(key, sizeof key);
    make_name(head->number, head->end_ms, name);
    good = good && durable_write(folder, name, file, sizeof *head + bytes + TAG_BYTES, fault);
    free(file);
    return good;
}

bool hold_create(const char *folder, const struct officer_pair *officer, uint64_t now_ms, uint64_t end_ms,
                 const struct hold_content *content, char name[static HOLD_NAME_BYTES], struct fault *fault)
{
    struct head head = {
        .made_ms = now_ms, .end_ms = end_ms, .records = content->record_count, .gaps = content->gap_count};
    size_t record_bytes = content_bytes(head.records, 0);
    size_t bytes = content_bytes(head.records, head.gaps);
    unsigned char *plain = malloc(bytes + 1);
    if (plain == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for what is to be held");
    if (record_bytes > 0)
        memcpy(plain, content->records, record_bytes);
    if (bytes > record_bytes)
        memcpy(plain + record_bytes, content->gaps, bytes - record_bytes);
    memcpy(head.officer, officer->public_key, sizeof head.officer);
    randombytes_buf(&head.number, sizeof head.number);
    bool good = write_hold(folder, &head, plain, name, fault);
    sodium_memzero(plain, bytes);
    free(plain);
    return good;
}

/* --- reading --- */

static unsigned char *read_all(const char *path, size_t *bytes, struct fault *fault)
{
    struct stat status;
    FILE *file = fopen(path, "re");
    unsigned char *text = NULL;
    if (file != NULL && fstat(fileno(file), &status) == 0 &&
        (text = malloc((size_t)status.st_size + 1)) != NULL)
        *bytes = fread(text, 1, (size_t)status.st_size, file);
    if (text == NULL)
        fault_set(fault, EX_NOINPUT, "cannot read the hold %s: %s", path, strerror(errno));
    if (file != NULL)
        fclose(file);
    return text;
}

static bool check_head(const char *path, const struct head *head, size_t bytes,
                       const struct officer_pair *officer, uint64_t now_ms, struct fault *fault)
{
    if (bytes >= sizeof *head && memcmp(head->magic, MAGIC, sizeof head->magic) == 0 &&
        head->version != VERSION)
        return fault_set(
            fault, EX_DATAERR,
            "%s is a hold of version %u, and this numberctl reads version %u: use the numberctl that made it",
            path, head->version, VERSION);
    /* Counts that make no file of this size are none: no product of theirs overflows then. */
    if (bytes < sizeof *head || memcmp(head->magic, MAGIC, sizeof head->magic) != 0 ||
        head->byte_order != BYTE_ORDER_MARK || head->records > bytes || head->gaps > bytes ||
        bytes != sizeof *head + content_bytes(head->records, head->gaps) + TAG_BYTES)
        return fault_set(fault, EX_DATAERR, "%s is no hold, or is cut short", path);
    if (sodium_memcmp(head->officer, officer->public_key, sizeof head->officer) != 0)
        return fault_set(fault, EX_NOPERM,
                         "%s is sealed to another officer's key than the one given with --key", path);
    return head->end_ms > now_ms || fault_set(fault, EX_NOPERM, "%s: its time is over", path);
}

/* The content in the clear, `bytes` of it, behind a copy of the head; wipe and free it. */
static unsigned char *open_hold(const char *path, const struct officer_pair *officer, uint64_t now_ms,
                                struct head *head, size_t *bytes, struct fault *fault)
{
    uint8_t key[KEY_BYTES];
    size_t file_bytes = 0;
    unsigned char *file = read_all(path, &file_bytes, fault);
    unsigned char *plain = NULL;
    if (file == NULL)
        return NULL;
    *head = (struct head){0};
    if (file_bytes >= sizeof *head)
        memcpy(head, file, sizeof *head);
    if (check_head(path, head, file_bytes, officer, now_ms, fault)) {
        *bytes = content_bytes(head->records, head->gaps);
        plain = malloc(*bytes + 1);
        bool opened = plain != NULL &&
                      crypto_box_seal_open(key, head->wrapped, sizeof head->wrapped, officer->public_key,
                                           officer->private_key) == 0 &&
                      crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, file + sizeof *head,
                                                                 *bytes + TAG_BYTES, file, sizeof *head,
                                                                 head->nonce, key) == 0;
        sodium_memzero(key, sizeof key);
        if (!opened) {
            fault_set(fault, EX_DATAERR, "%s is damaged or was changed", path);
            free(plain);
            plain = NULL;
        }
    }
    free(file);
    return plain;
}

static bool fits(const struct disclose_query *query, const struct held_record *held)
{
    if (held->time_ms < query->from_ms || held->time_ms >= query->until_ms)
        return false;
    switch (query->by) {
    case DISCLOSE_NUMBER:
        return held->number == query->number;
    case DISCLOSE_REQUESTER:
        return held->requester == query->requester;
    case DISCLOSE_IP:
        return held->ip_kept == query->ip_kept && memcmp(held->ip, query->ip, sizeof held->ip) == 0;
    }
    return false;
}

static bool pass_record(const struct disclose_target *target, const struct held_record *held)
{
    struct disclose_record record = {.server_id = held->server_id,
                                     .time_ms = held->time_ms,
                                     .requester = held->requester,
                                     .ip = held->ip,
                                     .ip_kept = (enum query_ip)held->ip_kept,
                                     .via = held->has_via ? held->via : NULL,
                                     .number = held->number,
                                     .answer = held->answer};
    return target->record(target->context, &record);
}

bool hold_read(const char *path, const struct officer_pair *officer, const struct disclose_query *query,
               const struct disclose_target *target, struct fault *fault)
{
    struct head head;
    size_t bytes;
    unsigned char *plain = open_hold(path, officer, query->now_ms, &head, &bytes, fault);
    if (plain == NULL)
        return false;
    bool more = true;
    for (uint64_t i = 0; more && i < head.records; i++) {
        struct held_record held;
        memcpy(&held, plain + i * sizeof held, sizeof held);
        more = !fits(query, &held) || pass_record(target, &held);
    }
    for (uint64_t i = 0; more && i < head.gaps; i++) {
        struct held_gap held;
        memcpy(&held, plain + content_bytes(head.records, i), sizeof held);
        if (held.gap.from_ms < query->until_ms && held.gap.until_ms > query->from_ms)
            target->gap(target->context, held.server_id, &held.gap);
    }
    target->progress(target->context, head.records, head.records);
    sodium_memzero(plain, bytes);
    free(plain);
    return true;
}

static void destroy(int folder_fd, const char *name)
{
    int fd = openat(folder_fd, name, O_WRONLY | O_CLOEXEC);
    static const struct head nothing;
    (void)unlinkat(folder_fd, name, 0); /* what stays is tried again in seconds */
    if (fd < 0)
        return;
    /* Its wrapped key, where the file system writes in place; without that the rest is closed for good. */
    if (durable_pwrite(fd, &nothing, sizeof nothing, 0))
        (void)fdatasync(fd);
    close(fd);
}

bool hold_renew(const char *path, const struct officer_pair *officer, uint64_t now_ms, uint64_t end_ms,
                char name[static HOLD_NAME_BYTES], struct fault *fault)
{
    struct head head;
    size_t bytes;
    char folder[PATH_MAX];
    unsigned char *plain = open_hold(path, officer, now_ms, &head, &bytes, fault);
    if (plain == NULL)
        return false;
    bool good = head.renewed == 0 ||
                fault_set(fault, EX_NOPERM, "%s was renewed before: that is possible once", path);
    snprintf(folder, sizeof folder, "%s", path);
    head.renewed = 1;
    head.end_ms = end_ms;
    good = good && write_hold(dirname(folder), &head, plain, name, fault);
    /* The same second as before is the same name: then it was replaced. */
    const char *slash = strrchr(path, '/');
    if (good && strcmp(slash == NULL ? path : slash + 1, name) != 0)
        destroy(AT_FDCWD, path);
    sodium_memzero(plain, bytes);
    free(plain);
    return good;
}

void holds_expire(const char *folder, uint64_t now_ms)
{
    DIR *entries = segment_open_folder(folder);
    if (entries == NULL)
        return; /* the next try is seconds away */
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        uint64_t seconds;
        int length = 0;
        /* Also one that was never finished (durable.h). */
        if (sscanf(entry->d_name, "%*16[0-9a-f]-%" SCNu64 ".hold%n", &seconds, &length) == 1 && length > 0 &&
            seconds * 1000 <= now_ms)
            destroy(dirfd(entries), entry->d_name);
    }
    closedir(entries);
}
