/* The start's long part, in a thread of its own: loading the registrations while the ports already answer NOT_READY.
 *
 * All functions are for the main thread; loader_progress for any. */
#ifndef NUMBERD_SERVER_LOADER_H
#define NUMBERD_SERVER_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "persist/fault.h"
#include "persist/registrations/store.h"

struct loader;

struct loader_options {
    struct store_options store; /* what it points to lives as long as the loader */
    bool is_low;                /* at a low priority, which ends with its threads: others serve meanwhile */
    struct event_base *base;
    void (*done)(void *context); /* in the main loop, once; then take what was loaded */
    void *context;
};

struct loader *loader_start(const struct loader_options *options, struct fault *fault);

/* After `done`: what was loaded, the caller's from now on; NULL and the fault when that failed. */
struct directory *loader_take(struct loader *loader, struct store_found *found, struct fault *fault);

/* Ends the loading if it is under way, and frees it all, with a directory that was not taken. NULL is fine. */
void loader_stop(struct loader *loader);

/* Of the snapshot, in percent. */
unsigned loader_progress(struct loader *loader);

#endif
