/* numberctl import's two halves: through a running server, and aside into a data directory. Private to the verb. */
#ifndef NUMBERD_SERVER_CTL_IMPORT_H
#define NUMBERD_SERVER_CTL_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "server/ctl_rows.h"
#include "server/numberctl.h"

struct ctl_import {
    struct ctl_common common;
    const char *input;
    const char *rejects;
    const char *data_dir; /* NULL: through the server */
    bool tolerant;
    bool replace_all;
    bool dry_run;
    bool force;
    uint64_t shrink_percent_max; /* of a replacement, without force */
    uint64_t expected;           /* rows; 0: unknown */
    /* Figures. */
    struct ctl_rows_figures rows;
    uint64_t added;
    uint64_t changed;    /* account or flags */
    uint64_t unchanged;  /* aside only */
    uint64_t removed;    /* aside only */
    uint64_t duplicates; /* aside only: rows that a later one of the same number made void */
    bool compared;       /* the last three and `unchanged` are known */
};

/* Registers the rows one request after the other: what is interrupted is there up to that point, and durable. */
int ctl_import_online(struct ctl_import *import);

/* Builds what will be aside, compares it with what is there, and puts it in place at once or not at all. */
int ctl_import_aside(struct ctl_import *import);

#endif
