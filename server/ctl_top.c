/* numberctl top: what a server does, at a terminal. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MAX 3600
#define SCREEN "\033[H\033[J" /* to the upper left corner, and all away */
#define RED "\033[1;31m"
#define PLAIN "\033[0m"
#define CERTIFICATE_DAYS 14
#define DAY_SECONDS 86400

struct top {
    struct ctl_common common;
    const char *interval;
    const char *count;
    struct client *client; /* NULL: the server is away */
    json_t *before;        /* NULL: this is the first look */
    json_t *now;
    uint64_t before_ms;
    uint64_t now_ms;
    bool is_terminal;
};

/* --- what is looked at --- */

static double number_at(json_t *stats, const char *section, const char *key)
{
    json_t *from = section == NULL ? stats : json_object_get(stats, section);
    return json_number_value(json_object_get(from, key));
}

static bool is_true_at(json_t *stats, const char *section, const char *key)
{
    return json_is_true(json_object_get(section == NULL ? stats : json_object_get(stats, section), key));
}

static double seconds_between(const struct top *top)
{
    return top->now_ms > top->before_ms ? (double)(top->now_ms - top->before_ms) / 1e3 : 1;
}

/* What has come since the last look, a second; a server that was started anew begins at 0. */
static double rate(const struct top *top, const char *section, const char *key)
{
    double more = number_at(top->now, section, key) - number_at(top->before, section, key);
    return more > 0 ? more / seconds_between(top) : 0;
}

static double rate_of_all(const struct top *top, const char *section)
{
    const char *key;
    json_t *value;
    double sum = 0;
    json_object_foreach(json_object_get(top->now, section), key, value) sum += rate(top, section, key);
    return sum;
}

static double place_of(json_t *stats, const char *section, const char *list, size_t i)
{
    return json_number_value(json_array_get(json_object_get(json_object_get(stats, section), list), i));
}

/* Below which so many of a hundred lie, of those that came since the last look; the bound of their place in the histogram, or 0. */
static double percentile(const struct top *top, const char *section, double percent)
{
    size_t places = json_array_size(json_object_get(json_object_get(top->now, section), "counts"));
    double all = 0;
    double below = 0;
    for (size_t i = 0; i < places; i++)
        all += place_of(top->now, section, "counts", i) - place_of(top->before, section, "counts", i);
    for (size_t i = 0; i + 1 < places && all > 0; i++) {
        below += place_of(top->now, section, "counts", i) - place_of(top->before, section, "counts", i);
        if (below * 100 >= all * percent)
            return place_of(top->now, section, "bounds", i);
    }
    return all > 0 ? place_of(top->now, section, "bounds", places - 2) : 0;
}

static double busy_percent(const struct top *top, size_t worker)
{
    double more =
        json_number_value(json_array_get(json_object_get(top->now, "worker_busy_seconds"), worker)) -
        json_number_value(json_array_get(json_object_get(top->before, "worker_busy_seconds"), worker));
    return more > 0 ? 100 * more / seconds_between(top) : 0;
}

/* --- what is wrong --- */

struct complaint {
    bool is_so;
    const char *text;
};

static void print_complaints(const struct top *top)
{
    json_t *now = top->now;
    const char *redis = json_string_value(json_object_get(json_object_get(now, "query_log"), "redis"));
    double certificate = number_at(now, NULL, "certificate_ends_at");
    const struct complaint complaints[] = {
        {!is_true_at(now, NULL, "ready"),
         "not ready: it loads the registrations, or cannot log what it answers"},
        {is_true_at(now, "journal", "read_only"),
         "read-only: the journal cannot be written; mend the disk, then run numberctl snapshot"},
        {number_at(now, "snapshot", "good_number") < number_at(now, "snapshot", "number"),
         "the last snapshot failed: the log says why"},
        {redis != NULL && strcmp(redis, "away") == 0,
         "Redis is away: events wait in the data directory; see that it runs"},
        {is_true_at(now, "query_log", "redis_may_evict"),
         "Redis may evict the query log: set its maxmemory-policy to noeviction"},
        {number_at(now, "query_log", "erasure_lag_seconds") > 0,
         "the query log is kept beyond its time: see that the data directory can be written"},
        {number_at(now, "query_log", "lost") > number_at(top->before, "query_log", "lost"),
         "query events are being lost: the log's disk or query-log-bytes is full"},
        {certificate > 0 && certificate < (double)top->now_ms / 1e3 + CERTIFICATE_DAYS * DAY_SECONDS,
         "the certificate ends within two weeks: put a new one in its place, then SIGHUP"},
    };
    for (size_t i = 0; i < sizeof complaints / sizeof complaints[0]; i++)
        if (complaints[i].is_so)
            printf("%s! %s%s\n", RED, complaints[i].text, PLAIN);
}

/* --- the screen --- */

static void print_workers(const struct top *top)
{
    size_t workers = json_array_size(json_object_get(top->now, "worker_busy_seconds"));
    printf("workers        ");
    for (size_t i = 0; i < workers; i++)
        printf("%s%.0f %%", i == 0 ? "" : ", ", busy_percent(top, i));
    printf(" busy; waits p99 %.3f ms, turns p50 %.3f ms, p99 %.3f ms\n", 1e3 * percentile(top, "waits", 99),
           1e3 * percentile(top, "turns", 50), 1e3 * percentile(top, "turns", 99));
}

static void print_traffic(const struct top *top)
{
    printf("lookups        %.0f/s: %.0f registered, %.0f not, %.0f invalid, %.0f limited\n",
           rate_of_all(top, "lookups"), rate(top, "lookups", "registered"),
           rate(top, "lookups", "not_registered"), rate(top, "lookups", "invalid"),
           rate(top, "lookups", "limited"));
    printf("requests       %.0f/s; numbers in each p50 %.0f, p99 %.0f\n", rate_of_all(top, "requests"),
           percentile(top, "batches", 50), percentile(top, "batches", 99));
    print_workers(top);
    printf("connections    %.0f open, %.0f/s new, %.0f/s refused\n",
           number_at(top->now, NULL, "connections_open"), rate(top, NULL, "connections_opened"),
           rate_of_all(top, "connections_refused"));
}

static void print_stores(const struct top *top)
{
    json_t *now = top->now;
    double written_ms = number_at(now, "snapshot", "written_at_ms");
    const char *redis = json_string_value(json_object_get(json_object_get(now, "query_log"), "redis"));
    printf("registrations  %.0f, %.0f/s changed; %.1f bytes each, tables %.0f %% full\n",
           number_at(now, "directory", "registered"), rate_of_all(top, "updates"),
           number_at(now, "directory", "bytes_per_number"), 100 * number_at(now, "directory", "fill"));
    printf("journal        %.0f changes, %.0f commits/s\n", number_at(now, "journal", "position"),
           rate(top, "journal", "commits"));
    if (written_ms > 0)
        printf("snapshot       %.0f minutes old, of %.0f numbers\n", ((double)top->now_ms - written_ms) / 6e4,
               number_at(now, "snapshot", "records"));
    else
        printf("snapshot       none yet\n");
    printf("query log      %.0f/s; %.0f in flight, %.0f lost in all; Redis %s\n",
           rate(top, "query_log", "looked_up"), number_at(now, "query_log", "in_flight"),
           number_at(now, "query_log", "lost"), redis == NULL ? "?" : redis);
    printf("memory         %.0f MiB resident, %.0f MiB in tables\n",
           number_at(now, NULL, "resident_bytes") / (1 << 20),
           number_at(now, "directory", "bytes") / (1 << 20));
}

static void print_screen(const struct top *top)
{
    printf(SCREEN "numberd %s at %s, up %.0f s\n\n", json_string_value(json_object_get(top->now, "version")),
           top->common.server, number_at(top->now, NULL, "uptime_seconds"));
    print_traffic(top);
    print_stores(top);
    printf("\n");
    print_complaints(top);
}

static void print_json(const struct top *top)
{
    ctl_print_json(json_pack("{s:o, s:b, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "time_ms",
                             json_integer((json_int_t)top->now_ms), "ready",
                             (int)is_true_at(top->now, NULL, "ready"), "lookups_per_second",
                             rate_of_all(top, "lookups"), "requests_per_second", rate_of_all(top, "requests"),
                             "changes_per_second", rate_of_all(top, "updates"), "wait_seconds_p99",
                             percentile(top, "waits", 99), "turn_seconds_p99", percentile(top, "turns", 99),
                             "connections_open", number_at(top->now, NULL, "connections_open"),
                             "query_log_in_flight", number_at(top->now, "query_log", "in_flight"),
                             "query_log_lost", number_at(top->now, "query_log", "lost")));
}

static void print_line(const struct top *top, uint64_t look)
{
    if (look % 20 == 1)
        printf("%12s %12s %10s %12s %12s %11s %12s %8s\n", "lookups/s", "requests/s", "changes/s",
               "wait p99 ms", "turn p99 ms", "connections", "in flight", "lost");
    printf("%12.0f %12.0f %10.0f %12.3f %12.3f %11.0f %12.0f %8.0f\n", rate_of_all(top, "lookups"),
           rate_of_all(top, "requests"), rate_of_all(top, "updates"), 1e3 * percentile(top, "waits", 99),
           1e3 * percentile(top, "turns", 99), number_at(top->now, NULL, "connections_open"),
           number_at(top->now, "query_log", "in_flight"), number_at(top->now, "query_log", "lost"));
}

/* --- the loop --- */

/* False: the server is away, or said something odd. */
static bool look(struct top *top)
{
    struct wire_reply reply;
    if (!client_send_plain(top->client, WIRE_STATS) || !client_finish(top->client, &reply))
        return false;
    json_t *stats = json_loadb((const char *)reply.body, reply.body_bytes, 0, NULL);
    if (stats == NULL)
        return false;
    json_decref(top->before);
    top->before = top->now;
    top->before_ms = top->now_ms;
    top->now = stats;
    top->now_ms = ctl_now_ms();
    return true;
}

/* Until it is there again: it may be restarting. False: it has not come within the interval. */
static bool come_back(struct top *top)
{
    int status;
    if (top->client != NULL)
        client_close(top->client);
    top->client = ctl_connect(&top->common, &status);
    return top->client != NULL && look(top);
}

static void print_look(const struct top *top, uint64_t looks)
{
    if (top->common.json)
        print_json(top);
    else if (top->is_terminal)
        print_screen(top);
    else
        print_line(top, looks);
    (void)fflush(stdout);
}

static int run(struct top *top, uint64_t interval, uint64_t count)
{
    if (!look(top))
        return ctl_fail_client(top->client);
    for (uint64_t looks = 1; (count == 0 || looks <= count) && !ferror(stdout); looks++) {
        nanosleep(&(struct timespec){.tv_sec = (time_t)interval}, NULL);
        while ((top->client == NULL || !look(top)) && !come_back(top))
            nanosleep(&(struct timespec){.tv_sec = (time_t)interval}, NULL);
        print_look(top, looks);
    }
    return EX_OK;
}

int ctl_top(int argc, char **argv)
{
    struct top top = {.interval = "1", .count = "0", .is_terminal = isatty(STDOUT_FILENO) == 1};
    uint64_t interval;
    uint64_t count;
    const struct ctl_option options[] = {
        {"interval", "SECONDS", "between two looks, 1 to 3600 (default 1)", &top.interval, NULL},
        {"count", "N", "looks before it ends; 0: until it is interrupted (default 0)", &top.count, NULL}};
    int status = ctl_parse(
        &top.common, "top", "[--interval SECONDS] [--count N]",
        "Shows what the server does: on a terminal a screen that is drawn anew, in red what is wrong "
        "and what\nto do about it; elsewhere a line each time.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (!ctl_unsigned(top.interval, "--interval", INTERVAL_MAX, &interval) ||
        !ctl_unsigned(top.count, "--count", UINT32_MAX, &count))
        return EX_USAGE;
    if (interval == 0)
        return ctl_fail(EX_USAGE, "top: --interval is from 1 to %d", INTERVAL_MAX);
    if (argc != 0)
        return ctl_fail(EX_USAGE, "top: \"%s\" is not understood; see numberctl top --help",
                        ctl_shown(argv[0]));
    top.client = ctl_connect(&top.common, &status);
    if (top.client == NULL)
        return status;
    status = run(&top, interval, count);
    json_decref(top.before);
    json_decref(top.now);
    if (top.client != NULL)
        client_close(top.client);
    return status;
}
