/* Holds: records that an order had copied out of the query log, each order's in a file of its own with an end of its own.
 *
 * What is held is the copy; the log itself is extended by nothing. A hold ends HOLD_DAYS_MAX days after it was made at the latest,
 * and can be renewed once, for as long again from then.
 *   DIR/querylog/NUMBER-END.hold   (16 hex digits; the end as Unix time in seconds), little-endian:
 *     0  8  magic "NBRDHOLD"     8  4  version (2)    12  4  byte order mark 0x01020304
 *    16  8  number, random      24  8  made, ms       32  8  end, ms        40  8  times renewed, 0 or 1
 *    48  8  records             56  8  gaps           64 32  the officer's public key
 *    96 80  libsodium's sealed box of a key of 32 bytes
 *   176 24  nonce
 *   200     the records (72 bytes each), then the gaps (server id, 8 bytes; struct query_gap, 32), sealed with
 *           XChaCha20-Poly1305 under that key; authenticated with them: bytes 0..199
 * A record: server id, time in ms, requester, number, 8 bytes each; IP, and the proxy's IP, 16 each; answer, how much of the IP is
 * kept, whether there was a proxy, 1 each; 5 zeros. (Those of version 1 have no proxy; the numberctl that made them reads them.)
 * So neither the end nor a record can be changed by who has no private key. From its end on it is not read, and the server whose
 * data directory it lies in destroys it within seconds, as it does the hours' keys.
 *
 * Who has an officer's pair has started libsodium (officer.h). Memory: all of a hold's records. One thread; the files are written whole or not at all (durable.h). */
#ifndef NUMBERD_PERSIST_QUERYLOG_HOLD_H
#define NUMBERD_PERSIST_QUERYLOG_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/officer.h"

#define HOLD_DAYS_MAX 90
#define HOLD_NAME_BYTES 64

/* What is to be held, as it is found. Zero it to begin. */
struct hold_content {
    unsigned char *records;
    size_t record_count;
    size_t record_room;
    unsigned char *gaps;
    size_t gap_count;
    size_t gap_room;
};

/* False without memory. */
bool hold_add_record(struct hold_content *content, const struct disclose_record *record);
bool hold_add_gap(struct hold_content *content, uint64_t server_id, const struct query_gap *gap);
/* Wiped, too. */
void hold_free(struct hold_content *content);

/* Writes the content to a new file in the folder; its name is returned. */
bool hold_create(const char *folder, const struct officer_pair *officer, uint64_t now_ms, uint64_t end_ms,
                 const struct hold_content *content, char name[static HOLD_NAME_BYTES], struct fault *fault);

/* Passes on what is held and fits the query (its keys are not used). EX_NOPERM when it is another officer's, or its time is
 * over at query->now_ms. */
bool hold_read(const char *path, const struct officer_pair *officer, const struct disclose_query *query,
               const struct disclose_target *target, struct fault *fault);

/* Gives it another end, under another name, which is returned. EX_NOPERM when it was renewed before, or is over. */
bool hold_renew(const char *path, const struct officer_pair *officer, uint64_t now_ms, uint64_t end_ms,
                char name[static HOLD_NAME_BYTES], struct fault *fault);

/* Destroys the folder's holds that are over at `now_ms`. */
void holds_expire(const char *folder, uint64_t now_ms);

#endif
