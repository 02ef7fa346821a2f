/* One thread of the load: its connections, and the loop that asks and checks. See load_run.h for what a load is.
 *
 * Threads: init, deinit before and after the thread; load_loader_run is it. The record is read by others meanwhile. */
#ifndef NUMBERD_LOADTEST_LOAD_LOADER_H
#define NUMBERD_LOADTEST_LOAD_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "load_connection.h"
#include "load_pace.h"
#include "load_pool.h"
#include "load_record.h"
#include "load_slow.h"

struct load_loader {
    const struct load_options *options;
    const struct load_pool *lookups; /* one of the two may be empty */
    const struct load_pool *registrations;
    struct load_pace pace;
    int epoll;
    struct load_connection *connections;
    unsigned connection_count;
    unsigned next_connection; /* open loop */
    unsigned next_churned;
    struct load_slow slow;
    uint64_t lookup_offset;
    uint64_t registration_offset;
    uint64_t start_ns;
    uint64_t count_from_ns;
    uint64_t end_ns;
    uint64_t churned;
    uint64_t numbers_left; /* to be sent; UINT64_MAX: no limit */
    uint64_t unanswered;
    double seconds; /* counted, at the end */
    struct load_answer answer;
    struct load_record record;
};

uint64_t load_now_ns(void);

/* Of the options' threads the one with this number; opens its connections. False: the reason was printed, unless memory is short;
 * load_loader_deinit is due all the same. */
bool load_loader_init(struct load_loader *loader, const struct load_options *options,
                      const struct load_pool *lookups, const struct load_pool *registrations,
                      unsigned number);
void load_loader_deinit(struct load_loader *loader);

/* Until the end of the time or of the numbers, and until what was asked is answered, for which there are two seconds. */
void load_loader_run(struct load_loader *loader);

#endif
