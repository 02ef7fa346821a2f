/* The ports that numberd opens, what each wants before it may be beyond loopback, and what they need: descriptors, TLS, the
 * proxies' addresses. For the main alone. */
#ifndef NUMBERD_SERVER_PORTS_H
#define NUMBERD_SERVER_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "server/address.h"
#include "server/config.h"
#include "server/tls.h"

enum port { PORT_LOOKUP, PORT_LOOKUP_TLS, PORT_PROXY, PORT_STATS, PORTS };

#define PORTS_NETWORKS_MAX 64

struct ports {
    int listeners[PORTS]; /* -1: closed, or given away */
    int sockets[PORTS];   /* the same, also when they are given away; -1: there is no such port */
    char addresses[PORTS][ADDRESS_TEXT_BYTES]; /* as the system gave them; "": there is no such port */
    uint64_t connections_max;                  /* as configured, or fewer if descriptors are */
    struct tls_context *tls;                   /* NULL: none is configured */
    struct address_network proxies[PORTS_NETWORKS_MAX];
    size_t proxy_count;
    struct address_network operators[PORTS_NETWORKS_MAX]; /* whom the reserve of connections is for */
    size_t operator_count;                                /* 0: for all */
};

/* Before all else: what ports_close may be called with. */
void ports_init(struct ports *ports);

/* Sees whether all fits together, the certificate and the keys too, without listening. ports_close in every case. */
bool ports_check(struct ports *ports, const struct config *config, struct fault *fault);

/* The same, and listens. A socket that systemd has passed under a port's name (lookup, lookup-tls, proxy, stats), or that the numberd has
 * that is to be succeeded (`predecessor`, see succession.h; -1: none), takes the place of what the configuration says of its address; for
 * lookup-tls and proxy it makes the port. */
bool ports_open(struct ports *ports, const struct config *config, int predecessor, struct fault *fault);

/* Reads certificate and keys again; on failure those that were read before stay. */
bool ports_reload_tls(struct ports *ports, const struct config *config, struct fault *fault);

/* Gives the port away; -1 when there is none. */
int ports_take(struct ports *ports, enum port port);

/* Closes what was not given away. */
void ports_close(struct ports *ports);

#endif
