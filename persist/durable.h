/* Files that are there whole or not at all, also after a power cut: written aside, synced, renamed, the folder
 * synced. One file at a time is open for writing in a `struct durable_file` of the caller; not thread-safe,
 * blocks on the disk. All writing goes through pwrite(2) here, so that tests can put a disk of their own under it. */
#ifndef NUMBERD_PERSIST_DURABLE_H
#define NUMBERD_PERSIST_DURABLE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"

struct durable_file {
    int fd;
    char final_path[PATH_MAX];
    char aside_path[PATH_MAX];
};

/* Opens `folder`/`name`.new for writing; the file of the final name stays as it is. The new one is for its owner alone; when root writes, it has
 * owner, group and mode of the one that it replaces. */
bool durable_begin(struct durable_file *file, const char *folder, const char *name, struct fault *fault);

/* Writes all bytes at the offset. On failure the file is still open: abort it. */
bool durable_put(struct durable_file *file, const void *bytes, size_t length, uint64_t offset,
                 struct fault *fault);

/* Makes it `folder`/`name`. On failure the aside file is gone and the old one untouched, unless only the folder could
 * not be synced: then the new one is there, and may be gone after a power cut. */
bool durable_commit(struct durable_file *file, struct fault *fault);

/* Gives up: the aside file is removed. */
void durable_abort(struct durable_file *file);

/* All of it for a short content. */
bool durable_write(const char *folder, const char *name, const void *bytes, size_t length,
                   struct fault *fault);

/* pwrite(2) until all is written; false with errno. */
bool durable_pwrite(int fd, const void *bytes, size_t length, uint64_t offset);

/* Makes the folder's entries (creations, renames, removals) durable. */
bool durable_sync_folder(const char *folder, struct fault *fault);

#endif
