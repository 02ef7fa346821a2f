/* The tokens that clients show in their hello, each with the principal whom it stands for, its roles and its budget.
 *
 * Or a certificate stands for the principal, which a client shows in its TLS handshake: its entry's ID is the beginning of the
 * fingerprint (SHA-256 of its public key, so a certificate that is renewed for the same key goes on), and HASH is that of
 * "crt_ID_FINGERPRINT", which is taken from the handshake alone: nobody can show it in a hello.
 *
 * A token is "nb1_ID_SECRET": ID, 12 hexadecimal digits, names its entry and is no secret; SECRET is 256 random bits in 43
 * characters of base64url. The file keeps no token, but of each a salted hash, one entry a line:
 *
 *     ID PRINCIPAL ROLES BUDGET SALT HASH [NAME]
 *
 * PRINCIPAL a decimal id above 0 (several tokens may share one); ROLES of lookup, register, front, operate, joined by commas;
 * BUDGET default, none, or BURST/HOURLY (budgets.h); SALT 32 and HASH 64 hexadecimal digits, HASH the BLAKE2b-256 of
 * the whole token keyed with SALT (libsodium's crypto_generichash: fast, which is enough for 256 random bits); NAME 1 to 64
 * printable characters without spaces, for people. Empty lines and lines that begin with # are skipped. IDs do not repeat. The
 * file must be closed to all but its owner.
 *
 * Threads: those who hold a reference may search at the same time. References are counted, so that a set that was read anew can
 * take the place of one that workers still use. Adding and revoking are for one thread and one reference. */
#ifndef NUMBERD_SERVER_ACCESS_TOKENS_H
#define NUMBERD_SERVER_ACCESS_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "server/access/budgets.h"
#include "server/access/roles.h"

#define TOKEN_TEXT_BYTES 61 /* a token with its terminating zero */
#define TOKEN_NAME_MAX 64
#define TOKEN_HASH_BYTES 32
#define TOKEN_SALT_BYTES 16
#define TOKEN_FINGERPRINT_BYTES 32

/* What a token gives its bearer. A value, which a session keeps. */
struct grant {
    uint64_t id;   /* of the token, below 2^48 */
    uint64_t mark; /* the beginning of its hash: another token under the same id has another */
    uint64_t principal;
    uint32_t roles;
    bool has_own_budget;
    struct budget_limits budget; /* with has_own_budget */
};

struct token {
    struct grant grant;
    uint8_t salt[TOKEN_SALT_BYTES];
    uint8_t hash[TOKEN_HASH_BYTES];
    char name[TOKEN_NAME_MAX + 1];
};

struct tokens;

/* Without any token. NULL when memory is short, or the system has no random numbers. */
struct tokens *tokens_create(void);

/* NULL and one line of error (with the line's number, never a part of the line) on failure. One reference, the caller's. */
struct tokens *tokens_load(const char *path, char *error, size_t error_bytes);

/* The same for the text of such a file, which the error calls by `name`. */
struct tokens *tokens_parse(const char *text, size_t length, const char *name, char *error,
                            size_t error_bytes);

struct tokens *tokens_acquire(struct tokens *tokens);
void tokens_release(struct tokens *tokens); /* NULL is fine */

/* What the token that was shown gives; false when there is no such one. Takes the same time wherever two tokens differ, and
 * whether or not the ID is known. */
bool tokens_find(const struct tokens *tokens, const uint8_t *text, size_t length, struct grant *grant);

/* What the certificate with this fingerprint gives, the same way. */
bool tokens_find_certificate(const struct tokens *tokens,
                             const uint8_t fingerprint[static TOKEN_FINGERPRINT_BYTES], struct grant *grant);

/* Brings a grant of an earlier set up to date; false when its token was revoked. */
bool tokens_renew(const struct tokens *tokens, struct grant *grant);

/* All tokens, by their ids. */
const struct token *tokens_list(const struct tokens *tokens, size_t *count);

/* Makes a new token with the principal, roles, budget and name of `token`, and fills in the rest of it. The text is given out
 * here and nowhere else. False when memory is short. */
bool tokens_add(struct tokens *tokens, struct token *token, char text[static TOKEN_TEXT_BYTES]);

/* The same for a certificate; nothing is to be given out. */
enum tokens_addition { TOKENS_ADDED, TOKENS_REPEATED, TOKENS_NO_MEMORY };
enum tokens_addition tokens_add_certificate(struct tokens *tokens, struct token *token,
                                            const uint8_t fingerprint[static TOKEN_FINGERPRINT_BYTES]);

/* False when there is no such token. */
bool tokens_revoke(struct tokens *tokens, uint64_t id);

/* The whole file's text, as above; comments of a file that was loaded are not kept. */
void tokens_print(const struct tokens *tokens, FILE *file);

/* "lookup,front" for a mask, and back; false when a word is no role or there is none. */
#define ROLES_TEXT_BYTES 40
void roles_format(uint32_t roles, char text[static ROLES_TEXT_BYTES]);
bool roles_parse(const char *text, uint32_t *roles);

/* "default", or a budget as in budgets.h. */
void grant_budget_format(const struct grant *grant, char text[static BUDGET_TEXT_BYTES]);
bool grant_budget_parse(const char *text, struct grant *grant);

#endif
