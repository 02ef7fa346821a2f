/* numberctl plan: the room that the query log will take, from a rate of lookups.
 *
 * The model is the drain's (persist/querylog/drain.h): blocks wait for 50 ms at most, or until 64 KiB are there; each turn
 * leaves a frame in each bucket that has blocks. The constants of Redis are measured (MEMORY USAGE of streams with frames of
 * 0.1 to 42 KiB, Redis 7.0 with jemalloc): an entry's own bytes, and what the allocator rounds up, at most. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sysexits.h>

#include "persist/querylog/frame.h"
#include "persist/querylog/querylog.h"
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

static void print_plan(const struct ctl_common *common, const struct plan *plan, const struct room *room)
{
    double days = plan->hours / 24;
    /* The first hour of the window is erased an hour after its last event may no longer be read. */
    double kept_seconds = (plan->hours + 2) * 3600;
    if (common->json) {
        ctl_print_json(json_pack(
            "{s:f, s:f, s:f, s:f, s:f, s:f}", "bytes_per_event", room->bytes_per_event, "retention_days",
            days, "disk_bytes_per_day", room->disk_per_second * DAY_SECONDS, "disk_bytes",
            room->disk_per_second * kept_seconds, "redis_bytes_per_day", room->redis_per_second * DAY_SECONDS,
            "redis_bytes", room->redis_per_second * kept_seconds));
        return;
    }
    printf("%.4g numbers/s in requests of %.4g, %.4g bytes each on disk; kept for %.4g days\n", plan->rate,
           plan->batch, room->bytes_per_event, days);
    print_bytes("disk, a day", room->disk_per_second * DAY_SECONDS);
    print_bytes("disk, all that is kept", room->disk_per_second * kept_seconds);
    print_bytes("Redis memory, a day", room->redis_per_second * DAY_SECONDS);
    print_bytes("Redis memory, all that is kept", room->redis_per_second * kept_seconds);
    puts("Without Redis the disk has it all: set --query-log-bytes above it. With Redis the disk is the "
         "queue only.");
}

int ctl_plan(int argc, char **argv)
{
    struct ctl_common common;
    const char *rate = NULL;
    const char *batch = "1";
    const char *requesters = "10000";
    const char *hours = "720";
    uint64_t values[4];
    const struct ctl_option options[] = {
        {"rate", "N", "numbers looked up a second, on average", &rate, NULL},
        {"batch", "N", "numbers in a request (default 1)", &batch, NULL},
        {"requesters", "N", "different requesters (default 10000)", &requesters, NULL},
        {"retention-hours", "N", "as numberd's (default 720)", &hours, NULL},
    };
    int status = ctl_parse(&common, "plan", "--rate N [--batch N] [--requesters N] [--retention-hours N]",
                           "Says how much disk and how much of Redis' memory the query log will take.",
                           options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0 || rate == NULL)
        return ctl_fail(EX_USAGE, "plan: name the numbers looked up a second with --rate");
    if (!ctl_unsigned(rate, "--rate", UINT64_C(1000000000000), &values[0]) ||
        !ctl_unsigned(batch, "--batch", WIRE_COUNT_MAX, &values[1]) ||
        !ctl_unsigned(requesters, "--requesters", UINT64_C(1000000000000), &values[2]) ||
        !ctl_unsigned(hours, "--retention-hours", QUERYLOG_RETENTION_HOURS_MAX, &values[3]))
        return EX_USAGE;
    for (int i = 0; i < 4; i++)
        if (values[i] == 0)
            return ctl_fail(EX_USAGE, "plan: nothing can be 0");
    struct plan plan = {(double)values[0], (double)values[1], (double)values[2], (double)values[3]};
    struct room room = estimate(&plan);
    print_plan(&common, &plan, &room);
    return EX_OK;
}
