/* The disclosure officer's key pair: what the server seals the query log to, and what opens it.
 *
 *   NAME.public    "numberd officer public key 1", a newline, the key in 64 hexadecimal digits, a newline
 *   NAME.private   the same with "private"; for its owner alone (mode 0600)
 *   NAME.share-1, NAME.share-2   instead of that, for two persons: the private key is the exclusive or of both, and neither
 *                  alone says anything about it
 *   NAME.verify    the same with "verify": checks the signature of what was disclosed
 * An X25519 pair for libsodium's sealed boxes. The server needs the public half only; who has the private one, and the
 * data directory, can read the log. The signatures are Ed25519; their key comes from the private one (BLAKE2b-256, with it as the
 * key, of "numberd manifest"). */
#ifndef NUMBERD_PERSIST_QUERYLOG_OFFICER_H
#define NUMBERD_PERSIST_QUERYLOG_OFFICER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"

#define OFFICER_KEY_BYTES 32
#define OFFICER_SIGNATURE_BYTES 64
/* Of the pair that a server makes for itself in its data directory. */
#define OFFICER_NAME "officer"

struct officer_pair {
    uint8_t public_key[OFFICER_KEY_BYTES];
    uint8_t private_key[OFFICER_KEY_BYTES];
};

/* Writes the pair's files. EX_CANTCREAT when one is there: nothing is ever overwritten. */
bool officer_make(const char *folder, const char *name, bool for_two, struct fault *fault);

bool officer_read_public(const char *path, uint8_t key[static OFFICER_KEY_BYTES], struct fault *fault);

/* Both halves, from the private one, or from two shares of it (`other`; else NULL). EX_NOPERM when a share is missing. */
bool officer_read_private(const char *path, const char *other, struct officer_pair *pair,
                          struct fault *fault);

void officer_sign(const struct officer_pair *pair, const void *text, size_t length,
                  uint8_t signature[static OFFICER_SIGNATURE_BYTES]);

/* With the key of the file NAME.verify. EX_DATAERR when it is not the officer's signature of this text. */
bool officer_check_signature(const char *path, const void *text, size_t length,
                             const uint8_t signature[static OFFICER_SIGNATURE_BYTES], struct fault *fault);

/* The public key of the pair in the data directory, which is made if there is none. `*is_exposed`: its private half lies
 * there, where it should not stay. */
bool officer_of(const char *data_dir, uint8_t key[static OFFICER_KEY_BYTES], bool *is_exposed,
                struct fault *fault);

#endif
