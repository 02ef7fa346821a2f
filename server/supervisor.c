/* What numberd and systemd tell each other; see supervisor.h. */
#include "server/supervisor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

/* How often a start that loads asks for more time, and for how much. */
#define TICK_US 5000000
#define EXTENSION_US 30000000

struct supervisor {
    struct supervisor_options options;
    struct event *tick;
    bool has_watchdog;
};

/* --- sockets --- */

static bool is_among(const char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void free_names(char **names)
{
    for (char **name = names; name != NULL && *name != NULL; name++)
        free(*name);
    free(names);
}

bool supervisor_check_sockets(const char *const *names, unsigned count, struct fault *fault)
{
    char **passed = NULL;
    int passed_count = sd_listen_fds_with_names(0, &passed);
    bool good = true;
    for (int i = 0; i < passed_count && good; i++) {
        if (!is_among(names, count, passed[i]))
            good = fault_set(
                fault, EX_CONFIG,
                "systemd passes a socket named \"%s\"; FileDescriptorName= must be lookup, lookup-tls, "
                "proxy or stats",
                passed[i]);
        else if (sd_is_socket(SD_LISTEN_FDS_START + i, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
            good = fault_set(
                fault, EX_CONFIG,
                "the socket \"%s\" that systemd passes does not listen: use ListenStream= with Accept=no",
                passed[i]);
    }
    free_names(passed);
    return good;
}

int supervisor_socket(const char *name)
{
    char **passed = NULL;
    int passed_count = sd_listen_fds_with_names(0, &passed);
    int found = -1;
    for (int i = 0; i < passed_count && found < 0; i++)
        if (strcmp(passed[i], name) == 0)
            found = SD_LISTEN_FDS_START + i;
    free_names(passed);
    if (found >= 0)
        (void)fcntl(found, F_SETFL, fcntl(found, F_GETFL) | O_NONBLOCK);
    return found;
}

/* --- the state --- */

bool supervisor_has_journal(void)
{
    struct stat status;
    uintmax_t device;
    uintmax_t inode;
    const char *stream = getenv("JOURNAL_STREAM");
    return stream != NULL && sscanf(stream, "%ju:%ju", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void supervisor_ready(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void supervisor_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                     (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void supervisor_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

void supervisor_hand_over(pid_t process)
{
    (void)sd_notifyf(0, "MAINPID=%d\nSTATUS=handing over to process %d", (int)process, (int)process);
}

/* --- life --- */

static void on_tick(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    const struct supervisor *supervisor = context;
    const struct supervisor_options *options = &supervisor->options;
    unsigned percent = 0;
    if (options->is_loading(options->context, &percent))
        (void)sd_notifyf(0, "STATUS=loading the registrations, %u percent\nEXTEND_TIMEOUT_USEC=%d", percent,
                         EXTENSION_US);
    if (supervisor->has_watchdog && options->is_alive(options->context))
        (void)sd_notify(0, "WATCHDOG=1");
}

struct supervisor *supervisor_start(const struct supervisor_options *options)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    uint64_t tick_us = TICK_US;
    uint64_t watchdog_us = 0;
    if (supervisor == NULL)
        return NULL;
    supervisor->options = *options;
    supervisor->has_watchdog = sd_watchdog_enabled(0, &watchdog_us) > 0;
    if (supervisor->has_watchdog && watchdog_us / 3 < tick_us)
        tick_us = watchdog_us / 3;
    supervisor->tick = event_new(options->base, -1, EV_PERSIST, on_tick, supervisor);
    if (supervisor->tick != NULL &&
        event_add(supervisor->tick, &(struct timeval){.tv_sec = (time_t)(tick_us / 1000000),
                                                      .tv_usec = (suseconds_t)(tick_us % 1000000)}) == 0)
        return supervisor;
    supervisor_stop(supervisor);
    return NULL;
}

void supervisor_stop(struct supervisor *supervisor)
{
    if (supervisor == NULL)
        return;
    if (supervisor->tick != NULL)
        event_free(supervisor->tick);
    free(supervisor);
}
