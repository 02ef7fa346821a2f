/* Options that are whole numbers; see number_option.h. */
#include "number_option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool number_option_take(const struct number_option *option, const char *program, const char *text,
                        void *options)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < option->min ||
        value > option->max) {
        fprintf(stderr, "%s: --%s must be an integer from %" PRIu64 " to %" PRIu64 "\n", program,
                option->name, option->min, option->max);
        return false;
    }
    memcpy((char *)options + option->offset, &value, sizeof value);
    return true;
}

void number_option_print(const struct number_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("  --%-18s %s\n", options[i].name, options[i].help);
}
