/* Data keys: what the frames of one hour are sealed with.
 *
 * The server makes one for each hour, and at each start. It keeps it in memory alone; on the disk lies only its wrapped
 * form, which the officer's private key opens, never in Redis:
 *   DIR/querylog/NUMBER-HOUR.key   (16 hex digits; the hour's first second as Unix time), little-endian:
 *     0  8  magic "NBRDHKEY"     8  4  version (1)    12  4  byte order mark 0x01020304
 *    16  8  number              24  8  hour, ms       32  8  server id       40  8  retention, ms
 *    48 32  the officer's public key that it is wrapped to
 *    80 112 libsodium's sealed box of: the key, 32 bytes; number, hour, server id, retention, 8 bytes each
 * The number is the sequence number of the first segment that it was made for; frames name their key by it. When the file is
 * gone, so is what was sealed with it, wherever copies of that are: Redis, backups.
 *
 * struct hour_key: of one thread, in memory that is not swapped and not dumped (hour_key_create). The ring: built once,
 * then read by one thread. */
#ifndef NUMBERD_PERSIST_QUERYLOG_HOUR_KEY_H
#define NUMBERD_PERSIST_QUERYLOG_HOUR_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/officer.h"

/* --- for the server --- */

struct hour_key {
    uint64_t server_id;
    uint64_t retention_ms; /* of what is sealed with it */
    uint64_t number;
    uint64_t hour_ms; /* 0: no key */
    uint64_t nonce;   /* of the last sealing */
    uint64_t ordinals[FRAME_BUCKETS];
    uint8_t secret[FRAME_KEY_BYTES];
};

/* Without a key yet. NULL when memory is short. */
struct hour_key *hour_key_create(uint64_t server_id, uint64_t retention_ms);
void hour_key_destroy(struct hour_key *key);

/* Takes a fresh key, whose wrapped form is on the disk before this returns. On failure there is no key. */
bool hour_key_renew(struct hour_key *key, const char *folder, const uint8_t officer[static OFFICER_KEY_BYTES],
                    uint64_t hour_ms, uint64_t number, struct fault *fault);
void hour_key_forget(struct hour_key *key);

/* Destroys the folder's wrapped keys of hours that are over (frame_hour_over_at) at `now_ms`, and notes them. Returns the oldest
 * hour that there still is a key of, 0 if there is none. */
uint64_t hour_keys_expire(const char *folder, uint64_t retention_ms, uint64_t now_ms,
                          struct erasures *erased);

/* What the key file of that name says; false when it cannot be read as one. */
bool hour_key_read_retention(int folder_fd, const char *name, uint64_t *retention_ms);

/* --- for who has the private key --- */

struct key_ring;

struct key_ring_entry {
    uint64_t server_id;
    uint64_t number;
    uint64_t retention_ms;
    uint8_t secret[FRAME_KEY_BYTES];
    uint64_t seen[FRAME_BUCKETS]; /* for the reader: the ordinal of the last frame read; 0 at first */
};

/* Opens the folder's keys of hours that have a moment in the window. Those wrapped to another officer's key are left out
 * and counted; one that does not open though it should is a fault (EX_DATAERR). NULL with a fault, also (EX_NOPERM) when all
 * are another officer's. */
struct key_ring *key_ring_open(const char *folder, const struct officer_pair *officer, uint64_t from_ms,
                               uint64_t until_ms, struct fault *fault);
void key_ring_close(struct key_ring *ring);

/* The servers that have keys in it, each once, into `servers`, which has room for key_ring_count(). Returns how many. */
size_t key_ring_servers(const struct key_ring *ring, uint64_t *servers);
size_t key_ring_count(const struct key_ring *ring);

/* NULL when it is not there. */
struct key_ring_entry *key_ring_find(struct key_ring *ring, uint64_t server_id, uint64_t number);

#endif
