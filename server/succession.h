/* A restart that nobody notices: numberd starts another numberd, which loads the registrations beside it, and then hands everything
 * over to it, the listening sockets first.
 *
 *   the old one                                          the new one (the successor)
 *   starts it with its own command line, and sends it
 *   the listening sockets ----------------------------> reads its configuration, loads the newest snapshot and what the journal has
 *   serves all the while                                 by then, both only for reading
 *   takes no more connections, answers what was     <--- is loaded
 *   asked, says goodbye to its clients, ends journal
 *   and query log, gives the directory's lock up ------> takes the lock, reads the rest of the journal, and serves: connections that
 *   ends as its last clients close                       were made meanwhile have waited in the sockets that both have
 *
 * The new one is no child of the old one's: what the old one starts forks and ends, so that the new one is a child of the service manager's
 * (or of whoever takes orphans), who could else not wait for its end and would take it for ended at once.
 *
 * As long as the new one is not loaded the old one does not depend on it: if the new one cannot start, it says why in the log, and the
 * old one goes on. The two talk over a pair of sockets whose number is in the environment (NUMBERD_SUCCESSION); that one has ended is
 * seen by its end of it. Memory for the registrations is needed twice while both are there.
 *
 * Main thread only. */
#ifndef NUMBERD_SERVER_SUCCESSION_H
#define NUMBERD_SERVER_SUCCESSION_H

#include <stdbool.h>
#include <sys/types.h>

#include <event2/event.h>

#include "persist/fault.h"

#define SUCCESSION_SOCKETS_MAX 8

/* --- the old one's end --- */

struct succession;

struct succession_options {
    struct event_base *base;
    const char *program; /* its path */
    char *const *argv;
    const int
        *listeners; /* SUCCESSION_SOCKETS_MAX at most; -1: there is no such socket, for the new one neither */
    unsigned count;
    /* In the main loop, one of the two, once: the new one is loaded and waits; it has ended before that. */
    void (*loaded)(void *context);
    void (*failed)(void *context);
    void *context;
};

/* Starts the new one, and waits some milliseconds until it is there. NULL with a fault when that cannot be done. */
struct succession *succession_start(const struct succession_options *options, struct fault *fault);
pid_t succession_process(const struct succession *succession);
/* After `loaded`, when some time has passed: whether the new one still waits. */
bool succession_waits(const struct succession *succession);
/* After `loaded`: the new one may take what there is. */
void succession_complete(struct succession *succession);
/* Ends the new one, unless it was let go, and frees. NULL is fine. */
void succession_stop(struct succession *succession);

/* --- the new one's end --- */

/* The socket to the old one, which the caller closes; -1 when there is none, since this is no successor. To be asked once, before other
 * descriptors are opened and threads are started, since it forks; only the child returns. */
int succession_inherit(void);
/* Takes the listening sockets; the same `count`. */
bool succession_take(int fd, int *listeners, unsigned count, struct fault *fault);
/* Says that all is loaded, and waits until the old one has let go or has ended. False when it had given this one up. */
bool succession_await(int fd, struct fault *fault);

#endif
