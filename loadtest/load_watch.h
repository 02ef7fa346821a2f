/* Looks at a load from second to second while it runs: a line on the terminal, and the report's timeline.
 *
 * For the thread that has started the load. */
#ifndef NUMBERD_LOADTEST_LOAD_WATCH_H
#define NUMBERD_LOADTEST_LOAD_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "load_record.h"

struct load_watch {
    bool is_shown;           /* standard error is a terminal */
    uint64_t count_from_ns;  /* when the counting begins */
    uint64_t length_seconds; /* of the counting; 0: not known */
    uint64_t last_ns;
    uint64_t last_numbers;
    struct histogram last;
    struct histogram second;
};

void load_watch_init(struct load_watch *watch, uint64_t count_from_ns, uint64_t length_seconds);

/* To be called each second with the sum of all records. */
void load_watch_look(struct load_watch *watch, const struct load_record *now, uint64_t now_ns,
                     struct load_report *report);

/* The line goes. */
void load_watch_end(const struct load_watch *watch);

#endif
