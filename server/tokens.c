/* The tokens of clients; see tokens.h. */
#include "server/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TOKEN_MIN 16
#define TOKEN_MAX 255

struct token {
    uint64_t principal;
    size_t length;
    uint8_t bytes[TOKEN_MAX];
};

struct tokens {
    size_t count;
    struct token *entries;
};

/* Reads "PRINCIPAL TOKEN"; false when the line has another form. */
static bool parse_line(const char *line, struct token *token)
{
    char *end;
    errno = 0;
    token->principal = strtoull(line, &end, 10);
    if (line[0] < '0' || line[0] > '9' || errno != 0 || token->principal == 0 ||
        (*end != ' ' && *end != '\t'))
        return false;
    end += strspn(end, " \t");
    token->length = strcspn(end, " \t\r\n");
    if (token->length < TOKEN_MIN || token->length > TOKEN_MAX ||
        end[token->length + strspn(end + token->length, " \t\r\n")] != '\0')
        return false;
    memcpy(token->bytes, end, token->length);
    return true;
}

static bool append(struct tokens *tokens, const struct token *token)
{
    struct token *grown = realloc(tokens->entries, (tokens->count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    tokens->entries = grown;
    tokens->entries[tokens->count++] = *token;
    return true;
}

static bool read_lines(FILE *file, const char *path, struct tokens *tokens, char *error, size_t error_bytes)
{
    char line[512];
    for (unsigned number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        struct token token = {0};
        size_t blank = strspn(line, " \t\r\n");
        if (line[blank] == '\0' || line[blank] == '#')
            continue;
        if (!parse_line(line, &token)) {
            snprintf(error, error_bytes,
                     "%s line %u: write PRINCIPAL TOKEN (an id above 0, 16 to 255 characters)", path, number);
            return false;
        }
        if (!append(tokens, &token)) {
            snprintf(error, error_bytes, "out of memory for the tokens");
            return false;
        }
    }
    return true;
}

struct tokens *tokens_load(const char *path, char *error, size_t error_bytes)
{
    struct stat status;
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &status) != 0) {
        snprintf(error, error_bytes, "cannot read the token file %s: %s", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        return NULL;
    }
    struct tokens *tokens = calloc(1, sizeof *tokens);
    bool good = tokens != NULL && (status.st_mode & 077) == 0;
    if (!good)
        snprintf(error, error_bytes, "the token file %s can be read by others: chmod 600 it", path);
    good = good && read_lines(file, path, tokens, error, error_bytes);
    fclose(file);
    if (good)
        return tokens;
    tokens_destroy(tokens);
    return NULL;
}

void tokens_destroy(struct tokens *tokens)
{
    if (tokens == NULL)
        return;
    free(tokens->entries);
    free(tokens);
}

/* Equal lengths differ at a place that the time does not show. */
static bool is_equal(const struct token *token, const uint8_t *bytes)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < token->length; i++)
        difference |= token->bytes[i] ^ bytes[i];
    return difference == 0;
}

bool tokens_find(const struct tokens *tokens, const uint8_t *token, size_t length, uint64_t *principal)
{
    bool found = false;
    for (size_t i = 0; i < tokens->count; i++) {
        if (tokens->entries[i].length == length && is_equal(&tokens->entries[i], token)) {
            *principal = tokens->entries[i].principal;
            found = true;
        }
    }
    return found;
}
