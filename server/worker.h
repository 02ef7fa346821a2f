/* A worker: one thread with one libevent loop that owns its connections (connections.h) from adoption to close.
 *
 * Threads: create, start, drain and join are for the main thread; adopt is for any, until worker_join. What is handed over goes
 * through a mutex-guarded queue and an eventfd. The counters may be read by anyone. */
#ifndef NUMBERD_SERVER_WORKER_H
#define NUMBERD_SERVER_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "server/connections.h"

struct worker;

struct worker_options {
    struct registrations *registrations;
    struct tokens *tokens;   /* NULL: none are needed. The worker takes a reference of its own */
    struct budgets *budgets; /* NULL: nobody is limited; must live as long as the worker */
    struct seats *seats;  /* what connections leave when they are closed; must live as long as the worker */
    unsigned patience_ms; /* above 0 */
    uint64_t buffer_bytes_max; /* of this worker's connections; CONNECTIONS_BUFFER_BYTES_MIN at least */
    const struct service_hooks *hooks;
    uint32_t cache_seconds;
    uint32_t stale_ms;
    bool refuse_stale;
    /* The query log's end of this worker; the ring is the caller's. */
    struct recorder recorder;
};

/* NULL and one line of error when something is short. */
struct worker *worker_create(const struct worker_options *options, char *error, size_t error_bytes);
bool worker_start(struct worker *worker);

/* Takes over what has arrived. False when memory is short; it is then still the caller's. */
bool worker_adopt(struct worker *worker, const struct arrival *arrival);

/* From now on (not at once) answers from the directory; before the first one it answers NOT_READY. A directory must live until
 * the worker is joined, or until it is known to serve another one. */
void worker_serve(struct worker *worker, struct directory *directory);
/* True when it no longer looks into any directory but this one. */
bool worker_serves(struct worker *worker, const struct directory *directory);

/* From now on (not at once) these tokens count, and sessions with others are closed at their next request. Takes a reference of
 * its own. Only for a worker that had tokens. */
void worker_replace_tokens(struct worker *worker, struct tokens *tokens);

/* From any thread, until worker_destroy: registrations_acknowledged has moved, or the journal has failed. */
void worker_acknowledge(struct worker *worker);

/* Whether it has answered the ping before, if there was one; and pings it anew. For the main thread alone. */
bool worker_answers(struct worker *worker);

/* Has it measured how long what arrives now waits until the worker comes to it (counters.h: waits). To be called each
 * WORKER_PROBE_MS; while a probe is still under way this does nothing, and its time counts for those that it kept from being sent, too. For
 * the main thread alone. */
#define WORKER_PROBE_MS 50
void worker_probe(struct worker *worker);

/* Answers what has arrived, says goodbye to all, closes as their output goes out, and after `patience_ms` in any
 * case; then the thread ends. */
void worker_drain(struct worker *worker, unsigned patience_ms);

/* While it drains: it has carried out and answered all that it will, and what is left is to be read by the clients. Also true when it has
 * ended, or was never started. */
bool worker_is_silent(struct worker *worker);

/* Waits for the end of the thread (after a drain; at once when never started) and frees all but what
 * worker_counters points to, which worker_destroy frees. */
void worker_join(struct worker *worker);
void worker_destroy(struct worker *worker);

/* Processor time that its thread has taken so far; from any thread, until worker_join. */
uint64_t worker_busy_ns(struct worker *worker);

const struct counters *worker_counters(const struct worker *worker);

#endif
