/* Options of the load testers that are whole numbers: --NAME N, into a field of the caller's structure. */
#ifndef NUMBERD_LOADTEST_NUMBER_OPTION_H
#define NUMBERD_LOADTEST_NUMBER_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct number_option {
    const char *name;
    const char *help;
    size_t offset; /* of a uint64_t in the structure */
    uint64_t min;
    uint64_t max;
};

/* Sets the field; false, and one line on standard error, when the text is no number within the bounds. */
bool number_option_take(const struct number_option *option, const char *program, const char *text,
                        void *options);

/* Their lines of the help. */
void number_option_print(const struct number_option *options, size_t count);

#endif
