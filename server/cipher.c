/* ChaCha20-Poly1305 by OpenSSL; see cipher.h. */
#include "server/cipher.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#define TAG_BYTES 16

static bool seal_with(EVP_CIPHER_CTX *cipher, uint8_t *sealed, const uint8_t *plain, int bytes,
                      const uint8_t *context, int context_bytes, const uint8_t *nonce, const uint8_t *secret)
{
    int done;
    return EVP_EncryptInit_ex(cipher, EVP_chacha20_poly1305(), NULL, secret, nonce) == 1 &&
           EVP_EncryptUpdate(cipher, NULL, &done, context, context_bytes) == 1 &&
           EVP_EncryptUpdate(cipher, sealed, &done, plain, bytes) == 1 && done == bytes &&
           EVP_EncryptFinal_ex(cipher, sealed + bytes, &done) == 1 && done == 0 &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, sealed + bytes) == 1;
}

bool cipher_seal(uint8_t *sealed, const uint8_t *plain, size_t bytes, const uint8_t *context,
                 size_t context_bytes, const uint8_t nonce[static 12], const uint8_t secret[static 32])
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    bool good = cipher != NULL && bytes <= INT32_MAX && context_bytes <= INT32_MAX &&
                seal_with(cipher, sealed, plain, (int)bytes, context, (int)context_bytes, nonce, secret);
    EVP_CIPHER_CTX_free(cipher); /* and wipes it */
    if (!good)
        ERR_clear_error();
    return good;
}
