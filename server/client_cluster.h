/* A blocking client of several servers that share one feed of registrations (CLUSTER.md), of which each holds all partitions or some.
 *
 * It fetches the map of who holds what from any server that it is given, sends each number to one that holds it, asks all of them at once,
 * and puts the answers together. A server that cannot be reached or is not ready is left for another that holds the same; one that says
 * ELSEWHERE makes it fetch the map again, as it does by itself every CLIENT_CLUSTER_MAP_MS. Of several that hold a number it keeps to one as
 * long as that answers, so that what it sees of the number never goes back; which one differs from client to client.
 *
 * A server without a feed is a cluster of one.
 *
 * As with client.h: one thread at a time; a failing function returns false and client_cluster_error says why, but the cluster may be asked
 * again. Each call tries every server that may help at least once, and goes on for `patience_ms`.
 *
 *     struct client_options options = {.server = "10.0.0.1,10.0.0.2:4164", .patience_ms = 5000};
 *     struct client_cluster *cluster = client_cluster_connect(&options, error, sizeof error);
 *     if (client_cluster_lookup(cluster, NULL, numbers, count, statuses)) ...
 *     client_cluster_close(cluster);
 */
#ifndef NUMBERD_SERVER_CLIENT_CLUSTER_H
#define NUMBERD_SERVER_CLIENT_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/client.h"

#define CLIENT_CLUSTER_MAP_MS 10000u

struct client_cluster;

/* `options->server`: some of the servers, joined by commas; the others are learnt from them. With TLS and `tls_name` all must have that name.
 * NULL and the error when none of them gives a map. */
struct client_cluster *client_cluster_connect(const struct client_options *options, char *error,
                                              size_t error_bytes);
void client_cluster_close(struct client_cluster *cluster); /* NULL is fine */

/* `origin`: on whose behalf is asked, as in a request; may be NULL.
 * One status (enum wire_status) for each entry, by index; any count. False: some have none, and what became of those is not known. What may be
 * carried out twice without harm is repeated where it must be: a registration that was may come back as REPLACED then, and a removal as ABSENT.
 * But a change that had no answer in time, or READ_ONLY, is not: it may take effect later, and would then undo what came after. The caller, who
 * knows what else is changed, may repeat it. */
bool client_cluster_lookup(struct client_cluster *cluster, const struct wire_origin *origin,
                           const uint64_t *numbers, size_t count, uint8_t *statuses);
/* The same with account and flags of those that are registered, by index. */
bool client_cluster_lookup_records(struct client_cluster *cluster, const struct wire_origin *origin,
                                   const uint64_t *numbers, size_t count, uint8_t *statuses,
                                   struct client_registration *records);
bool client_cluster_register(struct client_cluster *cluster, const struct client_registration *registrations,
                             size_t count, uint8_t *statuses);
bool client_cluster_deregister(struct client_cluster *cluster, const uint64_t *numbers, size_t count,
                               uint8_t *statuses);
/* One server must hold both numbers' partitions. Sent once: when the connection breaks, nobody knows what became of it. */
bool client_cluster_move(struct client_cluster *cluster, uint64_t from, uint64_t to, uint8_t *status);

/* Of the map; and of how many partitions, 0: there is no feed. */
uint64_t client_cluster_version(const struct client_cluster *cluster);
unsigned client_cluster_partitions(const struct client_cluster *cluster);
/* Whether some server of the map does not hold all. */
bool client_cluster_is_split(const struct client_cluster *cluster);

const char *client_cluster_error(const struct client_cluster *cluster);

#endif
