/* Text, JSON and percentiles of a load; see load_report.h. */
#include "load_report.h"

#include <inttypes.h>
#include <stdio.h>

#include <jansson.h>

static const double percents[] = {50, 90, 99, 99.9, 99.99};
#define PERCENT_COUNT (sizeof percents / sizeof percents[0])

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

/* --- JSON --- */

static json_t *latency_json(const struct histogram *latency)
{
    json_t *object = json_object();
    for (size_t i = 0; i < PERCENT_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%g", percents[i]);
        json_object_set_new(object, name,
                            json_integer((json_int_t)histogram_percentile(latency, percents[i])));
    }
    json_object_set_new(object, "max", json_integer((json_int_t)histogram_percentile(latency, 100)));
    return object;
}

static void set_counts(json_t *object, const struct load_record *total, enum load_verb verb)
{
    static const struct {
        const char *name;
        enum load_count count;
        bool of_lookups;
        bool of_registrations;
    } all[] = {{"requests", LOAD_REQUESTS, true, true},
               {"numbers", LOAD_NUMBERS, true, true},
               {"wrong", LOAD_WRONG, true, true},
               {"unavailable", LOAD_UNAVAILABLE, true, true},
               {"broken", LOAD_BROKEN, true, true},
               {"goodbyes", LOAD_GOODBYES, true, true},
               {"churned", LOAD_CHURNED, true, true},
               {"slow_ended", LOAD_SLOW_ENDED, true, true},
               {"registered", LOAD_REGISTERED, true, false},
               {"limited", LOAD_LIMITED, true, false},
               {"updates", LOAD_UPDATES, true, false},
               {"added", LOAD_ADDED, false, true},
               {"replaced", LOAD_REPLACED, false, true}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (verb == LOAD_REGISTER ? all[i].of_registrations : all[i].of_lookups)
            json_object_set_new(object, all[i].name,
                                json_integer((json_int_t)load_record_count(total, all[i].count)));
}

static void print_json(const struct load_report *report, const struct load_options *options)
{
    const struct load_record *total = &report->total;
    json_t *object = json_object();
    json_object_set_new(object, "peer", json_string(options->dialect->name));
    json_object_set_new(object, "seconds", json_real(report->seconds));
    set_counts(object, total, options->verb);
    json_object_set_new(object, "requests_per_second",
                        json_real(rate(load_record_count(total, LOAD_REQUESTS), report->seconds)));
    json_object_set_new(object, "numbers_per_second",
                        json_real(rate(load_record_count(total, LOAD_NUMBERS), report->seconds)));
    json_object_set_new(object, "latency_ns", latency_json(&total->latency));
    if (options->register_ratio > 0)
        json_object_set_new(object, "update_latency_ns", latency_json(&total->update_latency));
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
}

/* --- text --- */

static void print_latency(const char *of, const struct histogram *latency)
{
    printf("latency of %s:", of);
    for (size_t i = 0; i < PERCENT_COUNT; i++)
        printf(" p%g %.3f ms,", percents[i], (double)histogram_percentile(latency, percents[i]) / 1e6);
    printf(" max %.3f ms\n", (double)histogram_percentile(latency, 100) / 1e6);
}

static void print_text(const struct load_report *report, const struct load_options *options)
{
    const struct load_record *total = &report->total;
    uint64_t numbers = load_record_count(total, LOAD_NUMBERS);
    uint64_t requests = load_record_count(total, LOAD_REQUESTS);
    printf("%" PRIu64 " numbers in %" PRIu64 " requests in %.2f s: %.0f numbers/s, %.0f requests/s\n",
           numbers, requests, report->seconds, rate(numbers, report->seconds),
           rate(requests, report->seconds));
    print_latency("a request", &total->latency);
    if (options->register_ratio > 0) {
        printf("%" PRIu64 " requests of registrations beside them\n", load_record_count(total, LOAD_UPDATES));
        print_latency("these", &total->update_latency);
    }
    if (options->verb == LOAD_REGISTER)
        printf("%" PRIu64 " added, %" PRIu64 " replaced, ", load_record_count(total, LOAD_ADDED),
               load_record_count(total, LOAD_REPLACED));
    else if (options->dialect->answers)
        printf("%" PRIu64 " registered, %" PRIu64 " limited, ", load_record_count(total, LOAD_REGISTERED),
               load_record_count(total, LOAD_LIMITED));
    if (options->dialect->answers)
        printf("%" PRIu64 " wrong; ", load_record_count(total, LOAD_WRONG));
    printf("%" PRIu64 " requests unavailable, %" PRIu64 " connections broken\n",
           load_record_count(total, LOAD_UNAVAILABLE), load_record_count(total, LOAD_BROKEN));
    if (options->churn > 0 || options->slow_readers > 0 || load_record_count(total, LOAD_GOODBYES) > 0)
        printf("%" PRIu64 " connections churned, %" PRIu64 " told goodbye and made anew, %" PRIu64
               " slow readers closed by the server\n",
               load_record_count(total, LOAD_CHURNED), load_record_count(total, LOAD_GOODBYES),
               load_record_count(total, LOAD_SLOW_ENDED));
}

void load_report_print(const struct load_report *report, const struct load_options *options)
{
    if (options->json)
        print_json(report, options);
    else
        print_text(report, options);
}

/* --- percentiles --- */

struct percentiles {
    FILE *file;
    uint64_t total;
};

static void put_percentile(void *context, uint64_t end_ns, uint64_t up_to)
{
    const struct percentiles *percentiles = context;
    double share = (double)up_to / (double)percentiles->total;
    if (up_to < percentiles->total)
        fprintf(percentiles->file, "%12.6f %2.12f %10" PRIu64 " %14.2f\n", (double)end_ns / 1e6, share, up_to,
                1 / (1 - share));
    else
        fprintf(percentiles->file, "%12.6f %2.12f %10" PRIu64 "\n", (double)end_ns / 1e6, share, up_to);
}

bool load_report_write_percentiles(const struct load_report *report, const char *path)
{
    const struct histogram *latency = &report->total.latency;
    struct percentiles percentiles = {fopen(path, "we"), latency->total};
    if (percentiles.file == NULL)
        return false;
    fprintf(percentiles.file, "       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    histogram_each(latency, put_percentile, &percentiles);
    fprintf(percentiles.file, "#[Max     = %12.6f, Total count    = %12" PRIu64 "]\n",
            (double)histogram_percentile(latency, 100) / 1e6, percentiles.total);
    bool good = !ferror(percentiles.file);
    return fclose(percentiles.file) == 0 && good;
}
