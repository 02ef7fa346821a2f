/* Giving root up: numberd needs it for nothing but what it may be started with, ports below 1024 and keys that others cannot
 * read. For the main alone, before other threads are there. */
#ifndef NUMBERD_SERVER_PRIVILEGES_H
#define NUMBERD_SERVER_PRIVILEGES_H

#include <stdbool.h>

#include "persist/fault.h"

/* Becomes the user (NULL: stays who it is), for good; a data directory that is not there yet is made, and is theirs. Whoever it
 * is: it can gain nothing more by running another program, and leaves no core. */
bool privileges_drop(const char *user, const char *data_dir, struct fault *fault);

#endif
