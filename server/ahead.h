/* Lookups ahead: requests that are there together, from one connection or many, are carried out one by one, but their lookups are joined
 * into one, whose reads of memory overlap. (5 million numbers, 8 requests on each of 4 connections, by turns with a server that joined only
 * what one connection had sent: 1.05 times as many requests of one number, 1.09 times as many of 16, 1.15 times as many of 128. Joined within a
 * connection against not at all: 1.37 times as many of one number, of 16 numbers 1.12 times when they are only fetched ahead, 1.15 times
 * that when they are joined.)
 *
 * A lookup is looked up after it has come and before it is answered, as without this; and of one connection no further ahead than up to the
 * next request that is no lookup, since it may change what is registered. Whoever is not served after all has been looked up for nothing.
 * A lone number is only fetched into the cache: its lookup takes the same time whatever becomes of it (directory_lookup_alike). A long
 * request is left alone: its own reads overlap.
 *
 * In turn: gather for each connection, look, take for each request in the same order, clear. One thread; the caller's memory. */
#ifndef NUMBERD_SERVER_AHEAD_H
#define NUMBERD_SERVER_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "hashing/directory.h"

/* What 64 KiB of requests hold; what there is beyond is looked up request by request. */
#define AHEAD_NUMBERS 8192u
#define AHEAD_REQUESTS 2048u
/* Longer requests are not joined with others. */
#define AHEAD_JOINED_MAX 256u

struct ahead {
    uint32_t used; /* of the numbers */
    uint32_t count;
    uint32_t next;
    const uint8_t *entries[AHEAD_REQUESTS]; /* of the request, as wire_decode_request has them */
    uint16_t firsts[AHEAD_REQUESTS];        /* its first number's place */
    uint8_t answers[AHEAD_NUMBERS];         /* enum directory_answer */
    uint64_t numbers[AHEAD_NUMBERS];
};

/* Forgets all: to be called before bytes are looked at that others were in the place of. */
static inline void ahead_clear(struct ahead *ahead)
{
    ahead->used = ahead->count = ahead->next = 0;
}

/* Adds what the frames ask for. The bytes must lie behind those that were given before, and stay until all is taken. */
void ahead_gather(struct ahead *ahead, const struct directory *directory, const uint8_t *bytes,
                  size_t length);

/* Looks up what was gathered. */
void ahead_look(struct ahead *ahead, const struct directory *directory, struct epoch_reader *reader);

/* Where the request with these entries has its numbers and answers, or AHEAD_NUMBERS: it was not looked up. To be asked in the requests'
 * order; some may be left out. */
static inline uint32_t ahead_take(struct ahead *ahead, const uint8_t *entries)
{
    while (ahead->next < ahead->count && ahead->entries[ahead->next] < entries)
        ahead->next++;
    if (ahead->next < ahead->count && ahead->entries[ahead->next] == entries)
        return ahead->firsts[ahead->next++];
    return AHEAD_NUMBERS;
}

#endif
