/* Fuzz target: any bytes as the tokens' file, and as a token that is shown. Tokens that were read are printed and read again as
 * the same; an error names the line and never has a part of it. */
#include <stdlib.h>
#include <string.h>

#include "server/access/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The reasons for which a line is refused, and one for each thing that can fail besides. A text that had a part of the line
 * would be one of many more. */
#define REASONS_MAX 12u
#define TEXT_BYTES_MAX 65536u

static void check_error(const char *error)
{
    static char *reasons[REASONS_MAX];
    const char *reason = strstr(error, ": ");
    size_t known = 0;
    if (reason == NULL || strchr(error, '\n') != NULL || strncmp(error, "tokens line ", 12) != 0)
        abort();
    while (known < REASONS_MAX && reasons[known] != NULL && strcmp(reasons[known], reason) != 0)
        known++;
    if (known == REASONS_MAX)
        abort();
    if (reasons[known] == NULL)
        reasons[known] = strdup(reason);
}

static size_t print(const struct tokens *tokens, char text[static TEXT_BYTES_MAX])
{
    FILE *file = fmemopen(text, TEXT_BYTES_MAX, "w");
    tokens_print(tokens, file);
    long length = ftell(file);
    fclose(file);
    return (size_t)length;
}

static void check_list(const struct tokens *tokens)
{
    size_t count;
    struct grant grant;
    const struct token *list = tokens_list(tokens, &count);
    for (size_t i = 0; i < count; i++) {
        if (list[i].grant.principal == 0 || list[i].grant.roles == 0 ||
            (i > 0 && list[i].grant.id <= list[i - 1].grant.id))
            abort();
        grant = list[i].grant;
        if (!tokens_renew(tokens, &grant))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[TEXT_BYTES_MAX];
    static char second[TEXT_BYTES_MAX];
    char error[256] = "";
    struct grant grant;
    struct tokens *tokens = tokens_parse((const char *)data, size, "tokens", error, sizeof error);
    if (tokens == NULL) {
        check_error(error);
        return 0;
    }
    check_list(tokens);
    if (tokens_find(tokens, data, size < TOKEN_TEXT_BYTES - 1 ? size : TOKEN_TEXT_BYTES - 1, &grant))
        abort(); /* nobody knows what was hashed */
    size_t length = print(tokens, first);
    struct tokens *again = tokens_parse(first, length, "tokens", error, sizeof error);
    if (again == NULL || print(again, second) != length || memcmp(first, second, length) != 0)
        abort();
    tokens_release(again);
    tokens_release(tokens);
    return 0;
}
