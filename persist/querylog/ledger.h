/* The ledger of disclosures: one line for each that was asked for, refused ones too, never what was found.
 *
 * A text file, one JSON object a line:
 *   {"entry":N,"previous":"HASH",...,"hash":"HASH"}
 * N counts from 1; "hash" is BLAKE2b-256 (libsodium's generichash, RFC 7693), in 64 hex digits, of the line's bytes up to the
 * comma before "hash"; "previous" is the hash of the line before, zeros in the first. So no line can be changed, removed or
 * put in without changing all after it, and the hash of the last one, the head, stands for the whole. Beside the file lies
 * FILE.head with the last head: so it is seen when the last lines are missing. Who could change both is found out by who has
 * kept a head elsewhere.
 * Lines are on the disk when ledger_append returns. One writer at a time (flock); any process may read. */
#ifndef NUMBERD_PERSIST_QUERYLOG_LEDGER_H
#define NUMBERD_PERSIST_QUERYLOG_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"

#define LEDGER_HASH_DIGITS 64
#define LEDGER_NAME "disclosures.ledger"

struct ledger_state {
    uint64_t entries;
    char head[LEDGER_HASH_DIGITS + 1]; /* zeros while there are none */
    bool has_kept;                     /* the kept head is that of one of the lines */
};

/* Reads it all. `kept` (may be NULL): a head that was kept elsewhere. EX_DATAERR names the first line that is not as it was
 * written; EX_NOINPUT: there is none. */
bool ledger_check(const char *path, const char *kept, struct ledger_state *state, struct fault *fault);

/* Appends a line with these members (JSON, without braces), and makes the file if there is none (mode 0600). False: nothing
 * was appended, or its head could not be written; also (EX_DATAERR) when what is there is not as it was written. */
bool ledger_append(const char *path, const char *members, struct ledger_state *state, struct fault *fault);

#endif
