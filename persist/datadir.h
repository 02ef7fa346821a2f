/* The data directory: its lock, its format mark and the server's identity.
 *
 *   DIR/numberd.format          text: format version, byte order, server id
 *   DIR/lock                    held with flock(2) by the one process that may write
 *   DIR/snapshots/, DIR/journal/, DIR/incoming/  see registrations/store.h
 *   DIR/querylog/               see querylog/segment.h, hour_key.h, tally.h, erasure.h, hold.h
 *   DIR/officer.*, DIR/disclosures.ledger  see querylog/officer.h and querylog/ledger.h
 *
 * The server id is 64 random bits made with the directory; the query log names its keys by it. */
#ifndef NUMBERD_PERSIST_DATADIR_H
#define NUMBERD_PERSIST_DATADIR_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"

#define DATADIR_FORMAT 2

struct datadir {
    char *path;
    char *querylog_path;
    uint64_t server_id;
    int lock_fd;
};

/* Creates what is missing and takes the lock. On failure nothing is held. */
bool datadir_open(struct datadir *datadir, const char *path, struct fault *fault);
void datadir_close(struct datadir *datadir);

/* For those who only read: checks the format and gives the server's id; takes no lock, changes nothing. */
bool datadir_identify(const char *path, uint64_t *server_id, struct fault *fault);

/* True when some process holds the lock. */
bool datadir_is_in_use(const char *path);

#endif
