/* What numberd and systemd tell each other (sd_notify(3), sd_listen_fds(3)): that it is ready, loading, reading its files again,
 * stopping, and alive; and the sockets that systemd has opened for it. Without systemd all of it does nothing.
 *
 * Alive means that the main loop turns and that each worker has answered since the last time. While the registrations are being
 * loaded the time that the start may take is extended.
 *
 * Main thread only. */
#ifndef NUMBERD_SERVER_SUPERVISOR_H
#define NUMBERD_SERVER_SUPERVISOR_H

#include <stdbool.h>
#include <sys/types.h>

#include <event2/event.h>

#include "persist/fault.h"

/* The socket that was passed under this name (FileDescriptorName=), non-blocking; -1: none. */
int supervisor_socket(const char *name);
/* False when one was passed whose name is not among these, or that does not listen for streams. */
bool supervisor_check_sockets(const char *const *names, unsigned count, struct fault *fault);

struct supervisor_options {
    struct event_base *base;
    bool (*is_alive)(void *context); /* asked each time; the answer is for the time before */
    bool (*is_loading)(void *context, unsigned *percent);
    void *context;
};

struct supervisor;

/* NULL when memory is short. */
struct supervisor *supervisor_start(const struct supervisor_options *options);
void supervisor_stop(struct supervisor *supervisor); /* NULL is fine */

/* What is written to standard error goes to journald, which adds the time, and takes "<N>" in front for a priority (sd-daemon(3)). */
bool supervisor_has_journal(void);

void supervisor_ready(const char *status);
void supervisor_reloading(void); /* supervisor_ready ends it */
void supervisor_stopping(void);
/* From now on the other process is the service, and will say when it is ready. */
void supervisor_hand_over(pid_t process);

#endif
