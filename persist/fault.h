/* A failure that a person will read: one line that says what failed, where, and what to do; and the status
 * of sysexits(3) with which a program that cannot go on should exit. Never holds a phone number or an IP.
 * Plain data of the caller; a function that takes one sets it exactly when it reports failure. */
#ifndef NUMBERD_PERSIST_FAULT_H
#define NUMBERD_PERSIST_FAULT_H

#include <stdbool.h>

struct fault {
    int status;
    char text[512];
};

/* Sets both and returns false, so that a failing function can end with `return fault_set(...)`. Control characters become
 * question marks: one line is one line. */
bool fault_set(struct fault *fault, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
