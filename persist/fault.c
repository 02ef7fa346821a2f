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
    fault->status = status;
    return false;
}
