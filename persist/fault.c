/* A failure that a person will read; see fault.h. */
#include "persist/fault.h"

#include <stdarg.h>
#include <stdio.h>

bool fault_set(struct fault *fault, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    /* What others have written (a file's value, an error of Redis) must not look like further lines, or move the cursor. */
    for (char *byte = fault->text; *byte != '\0'; byte++)
        if ((unsigned char)*byte < ' ' || *byte == '\x7f')
            *byte = '?';
    fault->status = status;
    return false;
}
