/* Fuzz target: any bytes as an entry of the feed. One that is taken is the same when it is written again.
 *
 * Input: 1 byte: how many partitions there are, less one; 1 byte: bit 0 the checksum is put right, so that what lies behind it is reached;
 * then the entry. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "persist/registrations/feed_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool is_so)
{
    if (!is_so)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct feed_entry entry;
    static uint8_t again[FEED_ENTRY_BYTES_MAX];
    if (size < 2)
        return -1;
    size_t length = size - 2;
    uint8_t *bytes = malloc(length > 0 ? length : 1); /* of its own, so that a read beyond its end is seen */
    expect(bytes != NULL);
    memcpy(bytes, data + 2, length);
    if ((data[1] & 1) != 0 && length >= 8) {
        XXH64_hash_t sum = XXH3_64bits(bytes, length - 8);
        memcpy(bytes + length - 8, &sum, sizeof sum); /* little-endian here */
    }
    if (feed_entry_decode(&entry, bytes, length, data[0] + 1u)) {
        expect(entry.count > 0 && entry.count <= FEED_STEPS_MAX);
        expect(feed_entry_encode(again, &entry) == length && memcmp(again, bytes, length) == 0);
    }
    free(bytes);
    return 0;
}
