/* numberctl plan: the room that the query log will take, from a rate of lookups; and how many machines the directory wants
 * (plan_machines.h).
 *
 * The model is the drain's (persist/querylog/drain.h): blocks wait for 50 ms at most, or until 64 KiB are there; each turn
 * leaves a frame in each bucket that has blocks. The constants of Redis are measured (MEMORY USAGE of streams with frames of
 * 0.1 to 42 KiB, Redis 7.0 with jemalloc): an entry's own bytes, and what the allocator rounds up, at most. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "hashing/partition.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/querylog.h"
#include "server/plan_machines.h"
#include "server/wire.h"

#define TURN_SECONDS 0.05
#define TURN_BYTES 65536.0
#define TURNS_MAX 200.0 /* a second: the drain's naps are 5 ms */
#define FRAME_OVERHEAD_BYTES ((double)(sizeof(struct frame) + FRAME_TAG_BYTES))
#define REDIS_ENTRY_BYTES 34.0
#define REDIS_ROUNDING 1.16
#define KEY_FILE_BYTES 192.0
#define DAY_SECONDS 86400.0

struct plan {
    double rate;  /* numbers a second */
    double batch; /* numbers a request */
    double requesters;
    double hours; /* of retention */
};

struct room {
    double disk_per_second;
    double redis_per_second;
    double bytes_per_event; /* on the disk */
};

/* Expected number of distinct ones among `count` drawn from `of`. */
static double distinct(double of, double count)
{
    return of * (1 - pow(1 - 1 / of, count));
}

static struct room estimate(const struct plan *plan)
{
    double requests = plan->rate / plan->batch;
    double blocks = requests * ceil(plan->batch / QUERY_BLOCK_EVENTS_MAX);
    double payload = plan->rate * sizeof(uint64_t) + blocks * sizeof(struct query_block);
    double buckets = distinct(FRAME_GAP_BUCKET, plan->requesters);
    double frames = payload * TURN_SECONDS < TURN_BYTES
                        ? distinct(buckets, blocks * TURN_SECONDS) / TURN_SECONDS
                        : buckets * fmin(payload / TURN_BYTES, TURNS_MAX) + payload / FRAME_BATCH_MAX;
    frames = fmin(frames, blocks);
    double disk = payload + frames * FRAME_OVERHEAD_BYTES;
    return (struct room){.disk_per_second = disk + KEY_FILE_BYTES / 3600,
                         .redis_per_second = disk * REDIS_ROUNDING + frames * REDIS_ENTRY_BYTES,
                         .bytes_per_event = disk / plan->rate};
}

static void print_bytes(const char *what, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    unsigned unit = 0;
    for (; bytes >= 1000 && unit < 5; unit++)
        bytes /= 1000;
    printf("%-34s %.3g %s\n", what, bytes, units[unit]);
}

static json_t *room_json(const struct plan *plan, const struct room *room, double kept_seconds)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "bytes_per_event", room->bytes_per_event,
                     "retention_days", plan->hours / 24, "disk_bytes_per_day",
                     room->disk_per_second * DAY_SECONDS, "disk_bytes", room->disk_per_second * kept_seconds,
                     "redis_bytes_per_day", room->redis_per_second * DAY_SECONDS, "redis_bytes",
                     room->redis_per_second * kept_seconds);
}

static void print_room(const struct plan *plan, const struct room *room, double kept_seconds)
{
    printf("%.4g numbers/s in requests of %.4g, %.4g bytes each on disk; kept for %.4g days\n", plan->rate,
           plan->batch, room->bytes_per_event, plan->hours / 24);
    print_bytes("disk, a day", room->disk_per_second * DAY_SECONDS);
    print_bytes("disk, all that is kept", room->disk_per_second * kept_seconds);
    print_bytes("Redis memory, a day", room->redis_per_second * DAY_SECONDS);
    print_bytes("Redis memory, all that is kept", room->redis_per_second * kept_seconds);
    puts("Without Redis the disk has it all: set --query-log-bytes above it. With Redis the disk is the "
         "queue only.");
}

/* --- machines --- */

static json_t *machines_json(const struct plan_machines *plan)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:b}",
                     "worker_lookups_per_second", plan->worker_lookups, "machine_lookups_per_second",
                     plan->machine_lookups, "directory_bytes", plan->directory_bytes, "machines_per_copy",
                     plan->machines_a_copy, "copies", plan->copies, "servers", plan->servers,
                     "server_disk_bytes", plan->disk_bytes, "feed_bytes", plan->feed_bytes, "redis_bytes",
                     plan->redis_bytes, "redis_masters", plan->masters, "redis_replicas", plan->replicas,
                     "partitions", plan->partitions, "needs_parts", (int)plan->has_parts, "too_many_changes",
                     (int)plan->has_many_changes);
}

static void print_parts(const struct plan_machines *plan)
{
    if (plan->partitions > PARTITIONS_MAX)
        printf("A copy on more than %u machines is not possible: take machines with more memory.\n",
               PARTITIONS_MAX);
    else
        printf(
            "A copy does not fit on one machine: start the feed with --partitions %.0f, and each machine of "
            "a copy "
            "with --holds\nand %.0f of them (server/CLUSTER.md). A request is split among the machines of a "
            "copy.\n",
            plan->partitions, plan->partitions / plan->machines_a_copy);
}

static void print_machines(const struct plan_wish *wish, const struct plan_machines *plan)
{
    printf("\n%.4g numbers of %.4g bytes; machines of %.3g GB and %.3g processors\n", wish->numbers,
           wish->accounts ? PLAN_NUMBER_BYTES : PLAN_NUMBER_BYTES_BARE, wish->memory / 1e9, wish->processors);
    print_bytes("the directory, in memory", plan->directory_bytes);
    printf("%-34s %.3g GB: %.0f %% of it, less %.3g GB\n", "a machine has for it", plan->usable_bytes / 1e9,
           100 * PLAN_MEMORY_SHARE, PLAN_OTHER_BYTES / 1e9);
    printf("%-34s %.0f\n", "machines for one copy", plan->machines_a_copy);
    printf("%-34s %.3g M/s at %.4g numbers a request\n", "a worker answers", plan->worker_lookups / 1e6,
           plan->machine_batch);
    printf("%-34s %.3g M/s: its workers, %.0f %% busy\n", "a machine is given", plan->machine_lookups / 1e6,
           100 * PLAN_LOAD_SHARE);
    printf("%-34s %.0f, for %.4g lookups/s at the busiest and %.0f at least\n", "copies", plan->copies,
           wish->lookups, wish->copies);
    printf("%-34s %.0f numberd, and %.0f + %.0f Redis (masters, replicas)\n", "machines", plan->servers,
           plan->masters, plan->replicas);
    print_bytes("disk of a numberd, registrations", plan->disk_bytes);
    print_bytes("feed in Redis", plan->feed_bytes);
    if (wish->log_bytes > 0)
        print_bytes("with the query log", plan->redis_bytes);
    if (plan->has_parts)
        print_parts(plan);
    if (plan->has_many_changes)
        printf("More changes than the %.3g a second that a server can follow.\n", PLAN_CHANGES_PER_SECOND);
}

/* --- the verb --- */

/* "24G", in bytes. */
static bool read_size(const char *text, const char *which, double *bytes)
{
    char number[24];
    uint64_t value;
    size_t length = strcspn(text, "KMGT");
    static const char units[] = "KMGT";
    const char *unit = text[length] == '\0' ? NULL : strchr(units, text[length]);
    if (length >= sizeof number || (unit != NULL && text[length + 1] != '\0')) {
        ctl_fail(EX_USAGE, "%s: write it like 24G", which);
        return false;
    }
    memcpy(number, text, length);
    number[length] = '\0';
    if (!ctl_unsigned(number, which, UINT64_C(1) << 50, &value))
        return false;
    *bytes = ldexp((double)value, unit == NULL ? 0 : 10 * (int)(unit - units + 1));
    return true;
}

struct texts {
    const char *rate;
    const char *batch;
    const char *requesters;
    const char *hours;
    const char *numbers; /* NULL: the log alone */
    const char *peak;    /* NULL: PEAK times the rate */
    const char *changes;
    const char *copies;
    const char *memory;
    const char *processors;
    const char *minutes;
    bool bare;
    bool log_to_redis;
};

#define PEAK 3.0

static bool read_plan(const struct texts *texts, struct plan *plan)
{
    uint64_t values[4];
    if (!ctl_unsigned(texts->rate, "--rate", UINT64_C(1000000000000), &values[0]) ||
        !ctl_unsigned(texts->batch, "--batch", WIRE_COUNT_MAX, &values[1]) ||
        !ctl_unsigned(texts->requesters, "--requesters", UINT64_C(1000000000000), &values[2]) ||
        !ctl_unsigned(texts->hours, "--retention-hours", QUERYLOG_RETENTION_HOURS_MAX, &values[3]))
        return false;
    for (int i = 0; i < 4; i++)
        if (values[i] == 0) {
            ctl_fail(EX_USAGE, "plan: nothing can be 0");
            return false;
        }
    *plan = (struct plan){(double)values[0], (double)values[1], (double)values[2], (double)values[3]};
    return true;
}

static bool read_wish(const struct texts *texts, const struct plan *plan, struct plan_wish *wish)
{
    uint64_t numbers, peak = 0, changes, copies, processors, minutes;
    if (!ctl_unsigned(texts->numbers, "--numbers", UINT64_C(1000000000000), &numbers) ||
        (texts->peak != NULL && !ctl_unsigned(texts->peak, "--peak", UINT64_C(1000000000000), &peak)) ||
        !ctl_unsigned(texts->changes, "--changes", UINT64_C(1000000000), &changes) ||
        !ctl_unsigned(texts->copies, "--copies", 1000, &copies) ||
        !ctl_unsigned(texts->processors, "--processors", 1024, &processors) ||
        !ctl_unsigned(texts->minutes, "--snapshot-minutes", 10080, &minutes) ||
        !read_size(texts->memory, "--memory", &wish->memory))
        return false;
    if (copies == 0 || processors == 0 || wish->memory * PLAN_MEMORY_SHARE <= PLAN_OTHER_BYTES) {
        ctl_fail(EX_USAGE, "plan: that is no machine, or no copy: --memory, --processors, --copies");
        return false;
    }
    wish->numbers = (double)numbers;
    wish->lookups = texts->peak != NULL ? (double)peak : PEAK * plan->rate;
    wish->batch = plan->batch;
    wish->changes = (double)changes;
    wish->accounts = !texts->bare;
    wish->copies = (double)copies;
    wish->processors = (double)processors;
    wish->trim_hours = (double)minutes / 60;
    return true;
}

static int print_plan(const struct ctl_common *common, const struct texts *texts, const struct plan *plan)
{
    /* The first hour of the window is erased an hour after its last event may no longer be read. */
    double kept_seconds = (plan->hours + 2) * 3600;
    struct plan_wish wish;
    struct plan_machines machines;
    struct room room = estimate(plan);
    if (texts->numbers != NULL) {
        if (!read_wish(texts, plan, &wish))
            return EX_USAGE;
        wish.log_bytes = texts->log_to_redis ? room.redis_per_second * kept_seconds : 0;
        plan_machines(&wish, &machines);
    }
    if (common->json) {
        json_t *all = room_json(plan, &room, kept_seconds);
        if (texts->numbers != NULL)
            json_object_update_new(all, machines_json(&machines));
        ctl_print_json(all);
        return EX_OK;
    }
    print_room(plan, &room, kept_seconds);
    if (texts->numbers != NULL)
        print_machines(&wish, &machines);
    return EX_OK;
}

int ctl_plan(int argc, char **argv)
{
    struct ctl_common common;
    struct plan plan;
    struct texts texts = {.batch = "1",
                          .requesters = "10000",
                          .hours = "720",
                          .changes = "100",
                          .copies = "2",
                          .memory = "24G",
                          .processors = "2",
                          .minutes = "60"};
    const struct ctl_option options[] = {
        {"rate", "N", "numbers looked up a second, on average", &texts.rate, NULL},
        {"batch", "N", "numbers in a request (default 1)", &texts.batch, NULL},
        {"requesters", "N", "different requesters (default 10000)", &texts.requesters, NULL},
        {"retention-hours", "N", "as numberd's (default 720)", &texts.hours, NULL},
        {"numbers", "N", "registered: then the machines are counted, too", &texts.numbers, NULL},
        {"peak", "N", "numbers looked up a second at the busiest (default: 3 times the rate)", &texts.peak,
         NULL},
        {"changes", "N", "registrations changed a second (default 100)", &texts.changes, NULL},
        {"copies", "N", "of the directory, at least (default 2)", &texts.copies, NULL},
        {"memory", "SIZE", "of a machine, K M G T allowed (default 24G)", &texts.memory, NULL},
        {"processors", "N", "of a machine (default 2)", &texts.processors, NULL},
        {"snapshot-minutes", "N", "as numberd's (default 60)", &texts.minutes, NULL},
        {"no-accounts", NULL, "as numberd's --accounts no", NULL, &texts.bare},
        {"log-to-redis", NULL, "the query log goes to the same Redis", NULL, &texts.log_to_redis},
    };
    int status = ctl_parse(
        &common, "plan", "--rate N [--batch N] [--numbers N] [OPTION]...",
        "Says how much disk and how much of Redis' memory the query log will take; and with --numbers how "
        "many "
        "machines\nthe directory wants, with the arithmetic. The constants were measured on machines with 2 "
        "processors: see\nserver/plan_machines.h.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0 || texts.rate == NULL)
        return ctl_fail(EX_USAGE, "plan: name the numbers looked up a second with --rate");
    return read_plan(&texts, &plan) ? print_plan(&common, &texts, &plan) : EX_USAGE;
}
