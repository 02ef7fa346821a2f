/* Partitions: the numbers of a directory that several servers share are spread over so many of them, and a server holds all or some.
 * Pure; any thread. */
#ifndef NUMBERD_HASHING_PARTITION_H
#define NUMBERD_HASHING_PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARTITIONS_MAX 256u
/* Of a set as text; the longest one has two of every three. */
#define PARTITION_SET_TEXT_BYTES 768

struct partition_set {
    bool has[PARTITIONS_MAX];
};

/* The partition of a number: the upper 32 bits of number * 0x9E3779B97F4A7C15 modulo 2^64 (Knuth's multiplicative hashing), modulo the
 * count. The same for everybody, servers and clients. */
static inline unsigned partition_of(uint64_t number, unsigned partitions)
{
    return (unsigned)((number * UINT64_C(0x9E3779B97F4A7C15) >> 32) % partitions);
}

/* "0-7,12", in any order; the whole text. False when it is none, empty, or names one beyond PARTITIONS_MAX. */
bool partition_set_parse(const char *text, struct partition_set *set);

/* The same, of the first `partitions`, in order; "-" for none. */
void partition_set_format(char text[static PARTITION_SET_TEXT_BYTES], const struct partition_set *set,
                          unsigned partitions);

/* How many of the first `partitions` it has. */
unsigned partition_set_count(const struct partition_set *set, unsigned partitions);

#endif
