/* The tokens that clients may show in their hello, each with the principal whom it stands for.
 *
 * File: one "PRINCIPAL TOKEN" a line (a decimal id above 0, then 16 to 255 printable characters without
 * spaces); empty lines and lines with # are skipped. The file must be readable by its owner alone.
 * Constant after loading, so any thread may search. Comparison takes the same time wherever two tokens differ. */
#ifndef NUMBERD_SERVER_TOKENS_H
#define NUMBERD_SERVER_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokens;

/* NULL and one line of error (with the line number, never a token) on failure. */
struct tokens *tokens_load(const char *path, char *error, size_t error_bytes);
void tokens_destroy(struct tokens *tokens);

/* True and the principal when the token is one of them. */
bool tokens_find(const struct tokens *tokens, const uint8_t *token, size_t length, uint64_t *principal);

#endif
