/* The disclosure officer's key pair: what the server seals the query log to, and what opens it.
 *
 *   NAME.public    "numberd officer public key 1", a newline, the key in 64 hexadecimal digits, a newline
 *   NAME.private   the same with "private"; for its owner alone (mode 0600)
 * An X25519 pair for libsodium's sealed boxes. The server needs the public half only; who has the private one, and the
 * data directory, can read the log. */
#ifndef NUMBERD_PERSIST_QUERYLOG_OFFICER_H
#define NUMBERD_PERSIST_QUERYLOG_OFFICER_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"

#define OFFICER_KEY_BYTES 32
/* Of the pair that a server makes for itself in its data directory. */
#define OFFICER_NAME "officer"

struct officer_pair {
    uint8_t public_key[OFFICER_KEY_BYTES];
    uint8_t private_key[OFFICER_KEY_BYTES];
};

/* Writes FOLDER/NAME.private and FOLDER/NAME.public. EX_CANTCREAT when either is there: nothing is ever overwritten. */
bool officer_make(const char *folder, const char *name, struct fault *fault);

bool officer_read_public(const char *path, uint8_t key[static OFFICER_KEY_BYTES], struct fault *fault);

/* Both halves, from the private one. */
bool officer_read_private(const char *path, struct officer_pair *pair, struct fault *fault);

/* The public key of the pair in the data directory, which is made if there is none. `*is_exposed`: its private half lies
 * there, where it should not stay. */
bool officer_of(const char *data_dir, uint8_t key[static OFFICER_KEY_BYTES], bool *is_exposed,
                struct fault *fault);

#endif
