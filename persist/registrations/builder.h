/* Fills a directory from a long stream of records: the caller reads, other threads register, shard by shard, hundreds of
 * thousands at a time.
 *
 * Records of one number take effect in the order in which they were added. add may wait for the threads; one thread adds, and
 * nobody else uses the directory meanwhile. Memory: two sets of 24 bytes times BUILDER_BUCKET for each shard, in
 * use as far as there are records.
 *
 *     struct builder *builder = builder_start(directory, 2, &fault);
 *     builder_add(builder, records, count);
 *     good = builder_finish(builder, &bulk, &fault);
 */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_BUILDER_H
#define NUMBERD_PERSIST_REGISTRATIONS_BUILDER_H

#include <stdbool.h>
#include <stddef.h>

#include "hashing/directory.h"
#include "persist/fault.h"

/* Records of a shard that are registered together. */
#define BUILDER_BUCKET 32768

struct builder;

struct builder *builder_start(struct directory *directory, unsigned threads, struct fault *fault);
void builder_add(struct builder *builder, const struct record *records, size_t count);

/* Waits for the rest, adds up what became of the records, and frees the builder (not the directory). False with a fault when
 * memory was short for some. */
bool builder_finish(struct builder *builder, struct directory_bulk *bulk, struct fault *fault);

#endif
