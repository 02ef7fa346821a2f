/* What another server may copy of this one's data directory, to begin from there (numberctl fetch, server/CLUSTER.md): the newest snapshot and
 * the journal from it on. For the main alone; main thread only. */
#ifndef NUMBERD_SERVER_SHARING_H
#define NUMBERD_SERVER_SHARING_H

#include "server/http.h"

/* `data_dir` outlives the port. */
struct http_files sharing_of(const char *data_dir);

#endif
