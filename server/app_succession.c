/* Being succeeded by a new process, at SIGUSR2; see app.h and succession.h. */
#include "server/app.h"

#include <stdio.h>

/* A hand-over that waits for a snapshot looks so often whether it is written. */
#define HAND_OVER_US 20000

static void give_up_successor(struct app *app, const char *why)
{
    char line[600];
    succession_stop(app->succession);
    app->succession = NULL;
    app->is_waiting_to_hand_over = false;
    (void)durability_hold(app->durability, false);
    snprintf(line, sizeof line, "%s: this process goes on", why);
    log_line(NOTICE_ERROR, line);
}

static void on_successor_failed(void *context)
{
    give_up_successor(context, "the successor has ended before it was ready, for the reason above");
}

/* The successor is loaded. A snapshot is finished first, since nobody serves while the stop waits for it. */
void app_on_hand_over(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct app *app = context;
    if (durability_has_failed(app->durability)) {
        give_up_successor(app, "the journal has failed, and the successor would not have all changes");
        return;
    }
    if (!succession_waits(app->succession)) {
        give_up_successor(app, "the successor has ended while it waited");
        return;
    }
    if (!durability_hold(app->durability, true)) {
        if (!app->is_waiting_to_hand_over)
            log_line(NOTICE_NORMAL,
                     "the successor is loaded; the snapshot that is being written is finished first");
        app->is_waiting_to_hand_over = true;
        event_add(app->hand_over_event, &(struct timeval){.tv_usec = HAND_OVER_US});
        return;
    }
    app->is_handing_over = true;
    supervisor_hand_over(succession_process(app->succession));
    event_base_loopbreak(app->base);
}

static void on_successor_loaded(void *context)
{
    app_on_hand_over(-1, 0, context);
}

/* In the main loop. */
void app_succeed(struct app *app)
{
    struct fault fault;
    char line[600];
    const char *refusal = !atomic_load(&app->open)  ? "the registrations are still being loaded"
                          : app->succession != NULL ? "a successor is being started already"
                          : durability_has_failed(app->durability) ? "the journal has failed; mend that first"
                                                                   : NULL;
    if (refusal == NULL) {
        app->succession = succession_start(&(struct succession_options){.base = app->base,
                                                                        .program = app->program,
                                                                        .argv = app->argv,
                                                                        .listeners = app->ports.sockets,
                                                                        .count = PORTS,
                                                                        .loaded = on_successor_loaded,
                                                                        .failed = on_successor_failed,
                                                                        .context = app},
                                           &fault);
        refusal = app->succession == NULL ? fault.text : NULL;
    }
    if (refusal == NULL)
        snprintf(line, sizeof line, "SIGUSR2: process %d loads the registrations, to take over",
                 (int)succession_process(app->succession));
    else
        snprintf(line, sizeof line, "SIGUSR2: no successor: %s", refusal);
    log_line(refusal == NULL ? NOTICE_NORMAL : NOTICE_ERROR, line);
}
