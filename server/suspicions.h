/* Reports of who seems to walk through the numbers: one line each, ten a minute at most, the others counted.
 *
 * A line names the principal, and the requester if a front end has named one: both are numbers that the operator gave out, and
 * without them nobody could do anything about it. Networks are not named, since no IP goes into a log. Any thread. */
#ifndef NUMBERD_SERVER_SUSPICIONS_H
#define NUMBERD_SERVER_SUSPICIONS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "persist/notice.h"

struct suspicions {
    notice_fn *notice;
    bool tightens; /* what the detectors see makes budgets strict */
    pthread_mutex_t lock;
    time_t minute;
    unsigned reported; /* in that minute */
    unsigned left_out; /* since the last report */
};

void suspicions_init(struct suspicions *suspicions, bool tightens, notice_fn *notice);
void suspicions_deinit(struct suspicions *suspicions);

/* `detectors`: bits 1 << enum detector (access/budgets.h); principal and named: 0 for nobody. */
void suspicions_report(struct suspicions *suspicions, unsigned detectors, uint64_t principal, uint64_t named);

#endif
