/* ChaCha20-Poly1305 (RFC 8439) by OpenSSL, for the query log: a frame_cipher_fn (persist/querylog/frame.h).
 *
 * The same bytes as libsodium's, faster where OpenSSL has code for the processor's vector units: with it the drain takes 7.5 ns an event of a
 * batch of 128, with libsodium 9.5, of which 5.5 are libsodium's. tests/test_cipher.c has libsodium as its oracle. From any thread. */
#ifndef NUMBERD_SERVER_CIPHER_H
#define NUMBERD_SERVER_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Encrypts `bytes` of `plain` to `sealed`, and writes the tag, 16 bytes, behind them; `context` is authenticated with them. False when memory is
 * short: then nothing is sealed. */
bool cipher_seal(uint8_t *sealed, const uint8_t *plain, size_t bytes, const uint8_t *context,
                 size_t context_bytes, const uint8_t nonce[static 12], const uint8_t secret[static 32]);

#endif
