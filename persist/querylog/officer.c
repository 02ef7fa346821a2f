/* The officer's key pair; see officer.h. */
#include "persist/querylog/officer.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>

#include "persist/durable.h"

#define LINE "numberd officer %s key 1\n"
#define FILE_BYTES_MAX 128

#define DIGITS ((size_t)2 * OFFICER_KEY_BYTES)

static_assert(sizeof(((struct officer_pair *)0)->public_key) == crypto_box_PUBLICKEYBYTES,
              "the sealed box's");
static_assert(OFFICER_KEY_BYTES == crypto_sign_PUBLICKEYBYTES && OFFICER_SIGNATURE_BYTES == crypto_sign_BYTES,
              "Ed25519's");
static_assert(sizeof(((struct officer_pair *)0)->private_key) == crypto_box_SECRETKEYBYTES,
              "the sealed box's");

static bool set_path(char path[static PATH_MAX], const char *folder, const char *name, const char *half,
                     struct fault *fault)
{
    return (size_t)snprintf(path, PATH_MAX, "%s/%s.%s", folder, name, half) < PATH_MAX ||
           fault_set(fault, EX_USAGE, "the path of the key pair is too long");
}

static bool start_sodium(struct fault *fault)
{
    return sodium_init() >= 0 || fault_set(fault, EX_OSERR, "libsodium cannot be used: no random numbers");
}

static bool write_half(const char *folder, const char *name, const char *half,
                       const uint8_t key[static OFFICER_KEY_BYTES], struct fault *fault)
{
    char text[FILE_BYTES_MAX];
    char file[NAME_MAX];
    char digits[DIGITS + 1];
    if ((size_t)snprintf(file, sizeof file, "%s.%s", name, half) >= sizeof file)
        return fault_set(fault, EX_USAGE, "the name of the key pair is too long");
    sodium_bin2hex(digits, sizeof digits, key, OFFICER_KEY_BYTES);
    int length = snprintf(text, sizeof text, LINE "%s\n", half, digits);
    bool written = durable_write(folder, file, text, (size_t)length, fault);
    sodium_memzero(text, sizeof text);
    sodium_memzero(digits, sizeof digits);
    return written;
}

/* The pair that signs, from the private key. */
static void derive_signer(const uint8_t private_key[static OFFICER_KEY_BYTES],
                          uint8_t verify_key[static crypto_sign_PUBLICKEYBYTES],
                          uint8_t sign_key[static crypto_sign_SECRETKEYBYTES])
{
    static const char purpose[] = "numberd manifest";
    uint8_t seed[crypto_sign_SEEDBYTES];
    crypto_generichash(seed, sizeof seed, (const unsigned char *)purpose, sizeof purpose - 1, private_key,
                       OFFICER_KEY_BYTES);
    crypto_sign_seed_keypair(verify_key, sign_key, seed);
    sodium_memzero(seed, sizeof seed);
}

static bool write_verify(const char *folder, const char *name, const struct officer_pair *pair,
                         struct fault *fault)
{
    uint8_t verify_key[crypto_sign_PUBLICKEYBYTES];
    uint8_t sign_key[crypto_sign_SECRETKEYBYTES];
    derive_signer(pair->private_key, verify_key, sign_key);
    sodium_memzero(sign_key, sizeof sign_key);
    return write_half(folder, name, "verify", verify_key, fault);
}

static bool write_shares(const char *folder, const char *name, const struct officer_pair *pair,
                         struct fault *fault)
{
    uint8_t share[OFFICER_KEY_BYTES];
    randombytes_buf(share, sizeof share);
    bool good = write_half(folder, name, "share-1", share, fault);
    for (size_t i = 0; i < sizeof share; i++)
        share[i] ^= pair->private_key[i];
    good = good && write_half(folder, name, "share-2", share, fault);
    sodium_memzero(share, sizeof share);
    return good;
}

/* The private half first: a pair of which only it is there can be completed, one without it is worth nothing. */
bool officer_make(const char *folder, const char *name, bool for_two, struct fault *fault)
{
    static const char *const files[] = {"private", "share-1", "share-2", "verify", "public"};
    struct officer_pair pair;
    if (!start_sodium(fault))
        return false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[PATH_MAX];
        if (!set_path(path, folder, name, files[i], fault))
            return false;
        if (access(path, F_OK) == 0 || errno != ENOENT)
            return fault_set(
                fault, EX_CANTCREAT,
                "%s is there already or cannot be looked at; no key is overwritten: choose another "
                "name",
                path);
    }
    crypto_box_keypair(pair.public_key, pair.private_key);
    bool made = (for_two ? write_shares(folder, name, &pair, fault)
                         : write_half(folder, name, "private", pair.private_key, fault)) &&
                write_verify(folder, name, &pair, fault) &&
                write_half(folder, name, "public", pair.public_key, fault);
    sodium_memzero(&pair, sizeof pair);
    return made;
}

static bool read_half(const char *path, const char *half, uint8_t key[static OFFICER_KEY_BYTES],
                      struct fault *fault)
{
    char text[FILE_BYTES_MAX] = "";
    char line[FILE_BYTES_MAX];
    size_t key_bytes = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot open the officer's %s key %s: %s", half, path,
                         strerror(errno));
    setvbuf(file, NULL, _IONBF, 0); /* no copy of a private key in a buffer of the library's */
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    size_t length = (size_t)snprintf(line, sizeof line, LINE, half);
    bool good = got == length + DIGITS + 1 && memcmp(text, line, length) == 0 && text[got - 1] == '\n' &&
                sodium_hex2bin(key, OFFICER_KEY_BYTES, text + length, DIGITS, NULL, &key_bytes, NULL) == 0 &&
                key_bytes == OFFICER_KEY_BYTES;
    sodium_memzero(text, sizeof text);
    return good || fault_set(fault, EX_DATAERR,
                             "%s holds no officer's %s key; numberctl officer-key makes a pair", path, half);
}

bool officer_read_public(const char *path, uint8_t key[static OFFICER_KEY_BYTES], struct fault *fault)
{
    return start_sodium(fault) && read_half(path, "public", key, fault);
}

/* The other half's name when the file is a share: "share-2" for the first. NULL when it is none. */
static const char *other_share(const char *path)
{
    static const char *const shares[] = {"share-1", "share-2"};
    uint8_t share[OFFICER_KEY_BYTES];
    struct fault ignored;
    const char *other = NULL;
    for (int i = 0; i < 2 && other == NULL; i++)
        other = read_half(path, shares[i], share, &ignored) ? shares[1 - i] : NULL;
    sodium_memzero(share, sizeof share);
    return other;
}

static bool join_shares(const char *path, const char *other, const char *other_name,
                        struct officer_pair *pair, struct fault *fault)
{
    uint8_t share[OFFICER_KEY_BYTES] = {0};
    const char *name = strcmp(other_name, "share-1") == 0 ? "share-2" : "share-1";
    bool good = read_half(path, name, pair->private_key, fault) && read_half(other, other_name, share, fault);
    for (size_t i = 0; good && i < sizeof share; i++)
        pair->private_key[i] ^= share[i];
    sodium_memzero(share, sizeof share);
    return good;
}

bool officer_read_private(const char *path, const char *other, struct officer_pair *pair, struct fault *fault)
{
    if (!start_sodium(fault))
        return false;
    const char *other_name = other_share(path);
    if (other_name != NULL && other == NULL)
        return fault_set(
            fault, EX_NOPERM,
            "%s is one of two shares of the officer's key: the other person's, %s, is needed, too "
            "(--second-key)",
            path, other_name);
    if (other_name == NULL && other != NULL)
        return fault_set(fault, EX_USAGE, "%s is no share of a key, so there is no second one", path);
    return (other_name != NULL ? join_shares(path, other, other_name, pair, fault)
                               : read_half(path, "private", pair->private_key, fault)) &&
           (crypto_scalarmult_base(pair->public_key, pair->private_key) == 0 ||
            fault_set(fault, EX_DATAERR, "%s holds no officer's private key", path));
}

void officer_sign(const struct officer_pair *pair, const void *text, size_t length,
                  uint8_t signature[static OFFICER_SIGNATURE_BYTES])
{
    uint8_t verify_key[crypto_sign_PUBLICKEYBYTES];
    uint8_t sign_key[crypto_sign_SECRETKEYBYTES];
    derive_signer(pair->private_key, verify_key, sign_key);
    crypto_sign_detached(signature, NULL, text, length, sign_key);
    sodium_memzero(sign_key, sizeof sign_key);
}

bool officer_check_signature(const char *path, const void *text, size_t length,
                             const uint8_t signature[static OFFICER_SIGNATURE_BYTES], struct fault *fault)
{
    uint8_t verify_key[crypto_sign_PUBLICKEYBYTES];
    return start_sodium(fault) && read_half(path, "verify", verify_key, fault) &&
           (crypto_sign_verify_detached(signature, text, length, verify_key) == 0 ||
            fault_set(fault, EX_DATAERR, "the signature is not the one of this officer under this text"));
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* A start that was interrupted between the two halves. */
static bool complete_pair(const char *data_dir, const char *private_path, struct fault *fault)
{
    struct officer_pair pair;
    bool good = officer_read_private(private_path, NULL, &pair, fault) &&
                write_verify(data_dir, OFFICER_NAME, &pair, fault) &&
                write_half(data_dir, OFFICER_NAME, "public", pair.public_key, fault);
    sodium_memzero(&pair, sizeof pair);
    return good;
}

bool officer_of(const char *data_dir, uint8_t key[static OFFICER_KEY_BYTES], bool *is_exposed,
                struct fault *fault)
{
    char public_path[PATH_MAX];
    char private_path[PATH_MAX];
    if (!set_path(public_path, data_dir, OFFICER_NAME, "public", fault) ||
        !set_path(private_path, data_dir, OFFICER_NAME, "private", fault))
        return false;
    if (!is_there(public_path)) {
        bool made = is_there(private_path) ? complete_pair(data_dir, private_path, fault)
                                           : officer_make(data_dir, OFFICER_NAME, false, fault);
        if (!made)
            return false;
    }
    *is_exposed = is_there(private_path);
    return officer_read_public(public_path, key, fault);
}
