/* What numberload prints and writes of a load. Main thread. */
#ifndef NUMBERD_LOADTEST_LOAD_REPORT_H
#define NUMBERD_LOADTEST_LOAD_REPORT_H

#include <stdbool.h>

#include "load_options.h"
#include "load_record.h"

void load_report_print(const struct load_report *report, const struct load_options *options);

/* The latencies' percentiles as HdrHistogram's tools print them: value in ms, percentile, how many up to there, 1 / (1 - percentile). False: errno
 * says why. */
bool load_report_write_percentiles(const struct load_report *report, const char *path);

/* The page (load_page.c). False: errno says why. */
bool load_page_write(const struct load_report *report, const struct load_options *options, const char *path);

#endif
