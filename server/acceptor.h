/* The acceptor: takes new connections in the main loop and deals them out to the workers in turn.
 *
 * Several ports may lead to the same workers: plain, under TLS, behind a proxy. Who gets no seat (access/seats.h) is told so
 * (PROTOCOL.md; under TLS and through a proxy it is closed without a word) and closed; who comes to a proxies' port from elsewhere
 * is closed. Out of descriptors, a spare one is given up to accept and close what waits, so that clients learn of it and the loop
 * does not spin, and then accepting pauses for 100 ms; the same without memory, but for the spare one.
 *
 * Main thread only, but for the counters. */
#ifndef NUMBERD_SERVER_ACCEPTOR_H
#define NUMBERD_SERVER_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "server/access/seats.h"
#include "server/address.h"
#include "server/porter.h"
#include "server/tls.h"
#include "server/worker.h"

struct acceptor;

struct acceptor_options {
    struct event_base *base;
    struct worker *const *workers;
    struct porter *const *porters; /* as many, for ports that need them; else NULL */
    unsigned worker_count;
    struct seats *seats;
    struct counters *counters; /* for those that are accepted or refused; nobody else writes to them */
    const struct address_network *proxies; /* who may connect to the proxies' port */
    size_t proxy_count;
    const struct address_network *operators; /* whom the reserve of the seats is for */
    size_t operator_count;                   /* 0: for all */
};

/* What is special about a port. */
enum acceptor_port {
    ACCEPTOR_PLAIN = 0,
    ACCEPTOR_TLS = 1,
    ACCEPTOR_PROXIED = 2 /* a PROXY protocol's header comes first; may be joined with TLS */
};

/* NULL when memory or descriptors are short. All that the options point to must live longer. */
struct acceptor *acceptor_create(const struct acceptor_options *options);

/* `listener` is a listening, non-blocking socket that the acceptor then owns, also on failure (memory). */
bool acceptor_listen(struct acceptor *acceptor, int listener, unsigned port);

/* What connections under TLS get from now on. Takes a reference of its own. */
void acceptor_set_tls(struct acceptor *acceptor, struct tls_context *tls);

/* Stops listening; the connections live on. NULL is fine. */
void acceptor_destroy(struct acceptor *acceptor);

#endif
