/* server/cipher: byte for byte what libsodium seals, and libsodium opens it. */
#include <string.h>

#include <sodium.h>

#include "server/cipher.h"
#include "unit.h"

#define BYTES_MAX (64u << 10)

static void test_as_libsodium(void **state)
{
    (void)state;
    static uint8_t plain[BYTES_MAX];
    static uint8_t ours[BYTES_MAX + crypto_aead_chacha20poly1305_ietf_ABYTES];
    static uint8_t theirs[sizeof ours];
    static uint8_t opened[BYTES_MAX];
    uint8_t context[72];
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    uint8_t secret[crypto_aead_chacha20poly1305_ietf_KEYBYTES];
    uint64_t random = 1;
    assert_true(sodium_init() >= 0);
    for (size_t bytes = 0; bytes <= BYTES_MAX; bytes += bytes < 600 ? 1 : 1 + unit_random(&random) % 3000) {
        randombytes_buf(plain, bytes);
        randombytes_buf(context, sizeof context);
        randombytes_buf(nonce, sizeof nonce);
        randombytes_buf(secret, sizeof secret);
        assert_true(cipher_seal(ours, plain, bytes, context, sizeof context, nonce, secret));
        crypto_aead_chacha20poly1305_ietf_encrypt(theirs, NULL, plain, bytes, context, sizeof context, NULL,
                                                  nonce, secret);
        assert_memory_equal(ours, theirs, bytes + crypto_aead_chacha20poly1305_ietf_ABYTES);
        assert_int_equal(crypto_aead_chacha20poly1305_ietf_decrypt(
                             opened, NULL, NULL, ours, bytes + crypto_aead_chacha20poly1305_ietf_ABYTES,
                             context, sizeof context, nonce, secret),
                         0);
        assert_memory_equal(opened, plain, bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_libsodium)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
