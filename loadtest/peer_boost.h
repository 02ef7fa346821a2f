/* The peer of bench_table: boost::unordered_flat_map<uint64_t, uint64_t> with the same hash and on huge
 * pages, behind a C interface. For the benchmark alone. */
#ifndef NUMBERD_LOADTEST_PEER_BOOST_H
#define NUMBERD_LOADTEST_PEER_BOOST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct peer_boost;

struct peer_boost *peer_boost_create(size_t expected, uint64_t seed);
void peer_boost_destroy(struct peer_boost *peer);
void peer_boost_insert(struct peer_boost *peer, uint64_t number, uint64_t account);

/* Looks the numbers up one by one; returns how many are there. */
size_t peer_boost_lookup(const struct peer_boost *peer, const uint64_t *numbers, size_t count);

#ifdef __cplusplus
}
#endif

#endif
