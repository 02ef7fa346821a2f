/* The tokens of clients; see tokens.h. */
#include "server/access/tokens.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#define PREFIX "nb1_"
#define PREFIX_OF_CERTIFICATES "crt_"
#define PREFIX_BYTES (sizeof PREFIX - 1)
#define ID_DIGITS 12
#define ID_BITS 48
#define SECRET_BYTES 32
#define ENTRIES_MAX 1000000
#define LINE_BYTES 512

struct tokens {
    atomic_uint references;
    size_t count;
    size_t capacity;
    struct token *entries; /* by id */
    struct token nobody;   /* compared with in place of an entry that there is not */
};

static const char *const role_names[] = {"lookup", "register", "front", "operate", "replicate"}; /* by bit */
#define ROLE_COUNT (sizeof role_names / sizeof role_names[0])

/* --- the set --- */

struct tokens *tokens_create(void)
{
    struct tokens *tokens = sodium_init() < 0 ? NULL : calloc(1, sizeof *tokens);
    if (tokens == NULL)
        return NULL;
    atomic_init(&tokens->references, 1);
    randombytes_buf(tokens->nobody.salt, sizeof tokens->nobody.salt);
    randombytes_buf(tokens->nobody.hash, sizeof tokens->nobody.hash);
    return tokens;
}

struct tokens *tokens_acquire(struct tokens *tokens)
{
    atomic_fetch_add_explicit(&tokens->references, 1, memory_order_relaxed);
    return tokens;
}

void tokens_release(struct tokens *tokens)
{
    if (tokens == NULL || atomic_fetch_sub_explicit(&tokens->references, 1, memory_order_acq_rel) > 1)
        return;
    free(tokens->entries);
    free(tokens);
}

const struct token *tokens_list(const struct tokens *tokens, size_t *count)
{
    *count = tokens->count;
    return tokens->entries;
}

/* Where the entry with this id is, or would be. */
static size_t place_of(const struct tokens *tokens, uint64_t id)
{
    size_t low = 0;
    size_t high = tokens->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tokens->entries[middle].grant.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct token *by_id(const struct tokens *tokens, uint64_t id)
{
    size_t place = place_of(tokens, id);
    return place < tokens->count && tokens->entries[place].grant.id == id ? &tokens->entries[place] : NULL;
}

static enum tokens_addition insert(struct tokens *tokens, const struct token *token)
{
    size_t place = place_of(tokens, token->grant.id);
    if (place < tokens->count && tokens->entries[place].grant.id == token->grant.id)
        return TOKENS_REPEATED;
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity == 0 ? 16 : 2 * tokens->capacity;
        struct token *grown =
            capacity > ENTRIES_MAX ? NULL : realloc(tokens->entries, capacity * sizeof *grown);
        if (grown == NULL)
            return TOKENS_NO_MEMORY;
        tokens->entries = grown;
        tokens->capacity = capacity;
    }
    memmove(&tokens->entries[place + 1], &tokens->entries[place],
            (tokens->count - place) * sizeof *tokens->entries);
    tokens->entries[place] = *token;
    tokens->count++;
    return TOKENS_ADDED;
}

/* --- what a client shows --- */

static void hash_of(const uint8_t *text, size_t length, const uint8_t salt[static TOKEN_SALT_BYTES],
                    uint8_t hash[static TOKEN_HASH_BYTES])
{
    (void)crypto_generichash(hash, TOKEN_HASH_BYTES, text, length, salt, TOKEN_SALT_BYTES);
}

static void mark(struct token *token)
{
    memcpy(&token->grant.mark, token->hash, sizeof token->grant.mark);
}

/* The id that the text begins with; false when it has not the form of a token. */
static bool id_of(const uint8_t *text, size_t length, uint64_t *id)
{
    if (length != TOKEN_TEXT_BYTES - 1 || memcmp(text, PREFIX, PREFIX_BYTES) != 0 ||
        text[PREFIX_BYTES + ID_DIGITS] != '_')
        return false;
    *id = 0;
    for (size_t i = PREFIX_BYTES; i < PREFIX_BYTES + ID_DIGITS; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = memchr(digits, text[i], sizeof digits - 1);
        if (digit == NULL)
            return false;
        *id = *id << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

/* Compares with that token, or for the time's sake with nobody's if there is none. */
static bool is_shown(const struct tokens *tokens, const struct token *token, const uint8_t *text,
                     size_t length, struct grant *grant)
{
    uint8_t hash[TOKEN_HASH_BYTES];
    const struct token *compared = token == NULL ? &tokens->nobody : token;
    hash_of(text, length, compared->salt, hash);
    if (sodium_memcmp(hash, compared->hash, sizeof hash) != 0 || token == NULL)
        return false;
    *grant = token->grant;
    return true;
}

bool tokens_find(const struct tokens *tokens, const uint8_t *text, size_t length, struct grant *grant)
{
    uint64_t id;
    const struct token *token = id_of(text, length, &id) ? by_id(tokens, id) : NULL;
    return is_shown(tokens, token, text, length, grant);
}

/* The text of a token: PREFIX, the id, and the secret or the fingerprint. */
static void write_text(const char *prefix, uint64_t id, const uint8_t secret[static SECRET_BYTES],
                       char text[static TOKEN_TEXT_BYTES])
{
    char encoded[sodium_base64_ENCODED_LEN(SECRET_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    sodium_bin2base64(encoded, sizeof encoded, secret, SECRET_BYTES,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(text, TOKEN_TEXT_BYTES, "%s%012" PRIx64 "_%s", prefix, id, encoded);
    sodium_memzero(encoded, sizeof encoded);
}

static_assert(TOKEN_FINGERPRINT_BYTES == SECRET_BYTES, "both are written as the second half of a text");

/* A certificate's text, and its id: the first 48 bits. */
static uint64_t write_certificate(const uint8_t fingerprint[static TOKEN_FINGERPRINT_BYTES],
                                  char text[static TOKEN_TEXT_BYTES])
{
    uint64_t id = 0;
    for (size_t i = 0; i < ID_BITS / 8; i++)
        id = id << 8 | fingerprint[i];
    write_text(PREFIX_OF_CERTIFICATES, id, fingerprint, text);
    return id;
}

bool tokens_find_certificate(const struct tokens *tokens,
                             const uint8_t fingerprint[static TOKEN_FINGERPRINT_BYTES], struct grant *grant)
{
    char text[TOKEN_TEXT_BYTES];
    const struct token *token = by_id(tokens, write_certificate(fingerprint, text));
    return is_shown(tokens, token, (const uint8_t *)text, TOKEN_TEXT_BYTES - 1, grant);
}

bool tokens_renew(const struct tokens *tokens, struct grant *grant)
{
    const struct token *token = by_id(tokens, grant->id);
    if (token == NULL || token->grant.mark != grant->mark)
        return false;
    *grant = token->grant;
    return true;
}

/* --- roles and budgets as text --- */

void roles_format(uint32_t roles, char text[static ROLES_TEXT_BYTES])
{
    int length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if ((roles >> i & 1) != 0)
            length += snprintf(text + length, ROLES_TEXT_BYTES - (size_t)length, "%s%s",
                               length == 0 ? "" : ",", role_names[i]);
}

bool roles_parse(const char *text, uint32_t *roles)
{
    *roles = 0;
    for (;;) {
        size_t length = strcspn(text, ",");
        size_t role = 0;
        while (role < ROLE_COUNT &&
               (strlen(role_names[role]) != length || memcmp(role_names[role], text, length) != 0))
            role++;
        if (role == ROLE_COUNT)
            return false;
        *roles |= UINT32_C(1) << role;
        if (text[length] == '\0')
            return true;
        text += length + 1;
    }
}

void grant_budget_format(const struct grant *grant, char text[static BUDGET_TEXT_BYTES])
{
    if (grant->has_own_budget)
        budget_format(&grant->budget, text);
    else
        snprintf(text, BUDGET_TEXT_BYTES, "default");
}

bool grant_budget_parse(const char *text, struct grant *grant)
{
    grant->budget = (struct budget_limits){0};
    grant->has_own_budget = strcmp(text, "default") != 0;
    return !grant->has_own_budget || budget_parse(text, &grant->budget);
}

/* --- the file --- */

static bool fail_to_read(char *error, size_t error_bytes, const char *path)
{
    snprintf(error, error_bytes, "cannot read the token file %s: %s%s", path, strerror(errno),
             errno == EACCES ? "; it must be readable by the user that numberd runs as" : "");
    return false;
}

static bool parse_hex(const char *text, uint8_t *bytes, size_t size)
{
    return strlen(text) == 2 * size && sodium_hex2bin(bytes, size, text, 2 * size, NULL, NULL, NULL) == 0;
}

static bool parse_id(const char *text, uint64_t *id)
{
    uint8_t bytes[ID_BITS / 8];
    if (!parse_hex(text, bytes, sizeof bytes))
        return false;
    *id = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *id = *id << 8 | bytes[i];
    return true;
}

static bool parse_principal(const char *text, uint64_t *principal)
{
    char *end;
    errno = 0;
    *principal = text[0] < '0' || text[0] > '9' ? 0 : strtoull(text, &end, 10);
    return *principal != 0 && errno == 0 && *end == '\0';
}

static bool parse_name(const char *text, char name[static TOKEN_NAME_MAX + 1])
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    if (length > TOKEN_NAME_MAX)
        return false;
    memcpy(name, text, length + 1);
    return true;
}

/* What is wrong with the line, which is cut into words; NULL when nothing is. */
static const char *parse_line(char *line, struct token *token)
{
    char *rest;
    char *words[8];
    size_t count = 0;
    for (char *word = strtok_r(line, " \t\r\n", &rest); word != NULL && count < 8;
         word = strtok_r(NULL, " \t\r\n", &rest))
        words[count++] = word;
    if (count < 6 || count > 7)
        return "write ID PRINCIPAL ROLES BUDGET SALT HASH [NAME], as numberctl token add does";
    struct grant *grant = &token->grant;
    if (!parse_id(words[0], &grant->id))
        return "the id must be 12 hexadecimal digits";
    if (!parse_principal(words[1], &grant->principal))
        return "the principal must be an integer above 0";
    if (!roles_parse(words[2], &grant->roles))
        return "the roles must be some of lookup,register,front,operate";
    if (!grant_budget_parse(words[3], grant))
        return "the budget must be default, none or BURST/HOURLY, up to 1000000000 an hour";
    if (!parse_hex(words[4], token->salt, sizeof token->salt) ||
        !parse_hex(words[5], token->hash, sizeof token->hash))
        return "salt and hash must be 32 and 64 hexadecimal digits";
    if (count == 7 && !parse_name(words[6], token->name))
        return "the name is longer than 64 characters, or has unprintable ones";
    mark(token);
    return NULL;
}

static bool read_lines(FILE *file, const char *path, struct tokens *tokens, char *error, size_t error_bytes)
{
    char line[LINE_BYTES];
    for (unsigned number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        struct token token = {0};
        size_t blank = strspn(line, " \t\r\n");
        bool is_whole = strchr(line, '\n') != NULL || feof(file);
        if (is_whole && (line[blank] == '\0' || line[blank] == '#'))
            continue;
        const char *wrong = is_whole ? parse_line(line, &token) : "the line is too long, or has a zero byte";
        enum tokens_addition insertion = wrong != NULL ? TOKENS_ADDED : insert(tokens, &token);
        if (insertion == TOKENS_REPEATED)
            wrong = "the id is there already";
        if (insertion == TOKENS_NO_MEMORY)
            wrong = "there are too many tokens for the memory, or more than 500,000";
        if (wrong != NULL) {
            snprintf(error, error_bytes, "%s line %u: %s", path, number, wrong);
            return false;
        }
    }
    return !ferror(file) || fail_to_read(error, error_bytes, path);
}

/* The tokens in the file; NULL and the error. */
static struct tokens *read_tokens(FILE *file, const char *path, char *error, size_t error_bytes)
{
    struct tokens *tokens = tokens_create();
    if (tokens == NULL)
        snprintf(error, error_bytes, "out of memory for the tokens");
    else if (read_lines(file, path, tokens, error, error_bytes))
        return tokens;
    tokens_release(tokens);
    return NULL;
}

/* Its owner may read it, and our own group if the file is root's: so a service reads what its administrator alone writes. */
static bool is_open_to_others(const struct stat *status)
{
    bool is_roots = status->st_uid == 0 && (status->st_gid == getegid() || geteuid() == 0);
    return (status->st_mode & (is_roots ? 037 : 077)) != 0;
}

struct tokens *tokens_load(const char *path, char *error, size_t error_bytes)
{
    struct stat status;
    struct tokens *tokens = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &status) != 0)
        fail_to_read(error, error_bytes, path);
    else if (is_open_to_others(&status))
        snprintf(error, error_bytes, "the token file %s is open to others: chmod 600 it", path);
    else
        tokens = read_tokens(file, path, error, error_bytes);
    if (file != NULL)
        fclose(file);
    return tokens;
}

struct tokens *tokens_parse(const char *text, size_t length, const char *name, char *error,
                            size_t error_bytes)
{
    struct tokens *tokens = NULL;
    char *copy = malloc(length + 1); /* fmemopen(3) wants one that may be written to */
    if (copy != NULL)
        memcpy(copy, text, length);
    FILE *file = copy == NULL ? NULL : fmemopen(copy, length, "r");
    if (file == NULL)
        fail_to_read(error, error_bytes, name);
    else
        tokens = read_tokens(file, name, error, error_bytes);
    if (file != NULL)
        fclose(file);
    free(copy);
    return tokens;
}

static void print_entry(FILE *file, const struct token *token)
{
    char roles[ROLES_TEXT_BYTES];
    char budget[BUDGET_TEXT_BYTES];
    char salt[2 * TOKEN_SALT_BYTES + 1];
    char hash[2 * TOKEN_HASH_BYTES + 1];
    roles_format(token->grant.roles, roles);
    grant_budget_format(&token->grant, budget);
    sodium_bin2hex(salt, sizeof salt, token->salt, sizeof token->salt);
    sodium_bin2hex(hash, sizeof hash, token->hash, sizeof token->hash);
    fprintf(file, "%012" PRIx64 " %" PRIu64 " %s %s %s %s%s%s\n", token->grant.id, token->grant.principal,
            roles, budget, salt, hash, token->name[0] == '\0' ? "" : " ", token->name);
}

void tokens_print(const struct tokens *tokens, FILE *file)
{
    fputs("# numberd's tokens: ID PRINCIPAL ROLES BUDGET SALT HASH [NAME]; numberctl token changes them\n",
          file);
    for (size_t i = 0; i < tokens->count; i++)
        print_entry(file, &tokens->entries[i]);
}

/* --- changes --- */

/* Under its id, as what shows that text. */
static enum tokens_addition add(struct tokens *tokens, struct token *token,
                                const char text[static TOKEN_TEXT_BYTES])
{
    randombytes_buf(token->salt, sizeof token->salt);
    hash_of((const uint8_t *)text, TOKEN_TEXT_BYTES - 1, token->salt, token->hash);
    mark(token);
    return insert(tokens, token);
}

bool tokens_add(struct tokens *tokens, struct token *token, char text[static TOKEN_TEXT_BYTES])
{
    uint8_t secret[SECRET_BYTES];
    do {
        randombytes_buf(&token->grant.id, sizeof token->grant.id);
        token->grant.id &= (UINT64_C(1) << ID_BITS) - 1;
    } while (by_id(tokens, token->grant.id) != NULL);
    randombytes_buf(secret, sizeof secret);
    write_text(PREFIX, token->grant.id, secret, text);
    sodium_memzero(secret, sizeof secret);
    return add(tokens, token, text) == TOKENS_ADDED;
}

enum tokens_addition tokens_add_certificate(struct tokens *tokens, struct token *token,
                                            const uint8_t fingerprint[static TOKEN_FINGERPRINT_BYTES])
{
    char text[TOKEN_TEXT_BYTES];
    token->grant.id = write_certificate(fingerprint, text);
    return add(tokens, token, text);
}

bool tokens_revoke(struct tokens *tokens, uint64_t id)
{
    size_t place = place_of(tokens, id);
    if (place == tokens->count || tokens->entries[place].grant.id != id)
        return false;
    tokens->count--;
    memmove(&tokens->entries[place], &tokens->entries[place + 1],
            (tokens->count - place) * sizeof *tokens->entries);
    return true;
}
