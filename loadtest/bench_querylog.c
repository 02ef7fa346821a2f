/* bench_querylog: events a second through the whole of the query log (ring, drain, seal, segment, Redis), bytes an event in
 * Redis, and the time that a disclosure takes.
 *
 * One thread plays the worker; the drain and the sink are the product's. "Through" ends when the tally counts the last
 * event as stored. Beside it the same events in Redis without a log of ours: one XADD each, and one key with EX each, from a
 * pipeline of 1,000. A Redis of the benchmark's own, on a unix socket, without persistence. The rounds take turns, each figure
 * is their median; all counts are checked. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "bench.h"
#include "persist/datadir.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/querylog.h"
#include "ring/event.h"
#include "server/cipher.h"

#define DEFAULT_N UINT64_C(100000000)
#define QUICK_N UINT64_C(300000)
#define ROUNDS 3
#define RING_BYTES ((size_t)16 << 20)
#define SPOOL_BYTES (UINT64_C(64) << 30)
/* The comparison's events, and the lone lookups': each is a command or a block. */
#define SHARE_FOR_SINGLES 50
#define PIPELINE 1000
#define REQUESTERS 10000
#define NUMBERS 1000000
#define FIRST_NUMBER UINT64_C(491510000000)
#define BATCH 128
#define THE_REQUESTER UINT64_C(77)
#define THE_NUMBER (FIRST_NUMBER + 4711)

static const struct bench_row bench_rows[] = {
    {"segments", "M/s", BENCH_AT_LEAST, 20, "events of batches of 128, until they are in segments"},
    {"segments_lone", "M/s", BENCH_NO_BAR, 0, "events of lone lookups, the same"},
    {"redis", "M/s", BENCH_AT_LEAST, 10, "events of batches of 128, until Redis has confirmed them"},
    {"redis_lone", "M/s", BENCH_NO_BAR, 0, "events of lone lookups, the same"},
    {"redis_xadd", "M/s", BENCH_NO_BAR, 0, "one XADD each"},
    {"redis_set", "M/s", BENCH_NO_BAR, 0, "one key with EX each"},
    {"redis_bytes", "bytes/event", BENCH_AT_MOST, 10, "MEMORY USAGE of the streams, batches of 128"},
    {"redis_bytes_lone", "bytes/event", BENCH_AT_MOST, 72, "the same, lone lookups"},
    {"redis_bytes_xadd", "bytes/event", BENCH_NO_BAR, 0, "MEMORY USAGE of the stream with one XADD each"},
    {"redis_bytes_set", "bytes/event", BENCH_NO_BAR, 0, "used_memory for one key with EX each"},
    {"disclose_requester", "s", BENCH_AT_MOST, 1,
     "numberctl disclose --requester over the segments of all events"},
    {"disclose_number", "s", BENCH_AT_MOST, 10, "the same with --number"},
    {"disclose_redis_requester", "s", BENCH_AT_MOST, 1, "--requester over Redis"},
    {"disclose_redis_number", "s", BENCH_AT_MOST, 10, "--number over Redis"},
    {"disclose_memory", "MiB", BENCH_AT_MOST, 256, "the most that one of these had resident"},
};

struct world {
    struct bench bench;
    uint64_t n;
    char programs[PATH_MAX]; /* the folder of numberctl */
    char folder[PATH_MAX];
    pid_t redis_pid;
    redisContext *redis;
    char redis_url[PATH_MAX];
    unsigned disclosures;
    double memory_mib;
    uint64_t requester_events; /* of THE_REQUESTER in the last run */
    uint64_t number_events;
};

/* What would be wrong shows in the counts; that this Redis persists nothing is as meant. */
static void ignore_notice(enum notice_level level, const char *line)
{
    (void)level;
    (void)line;
}

static void set_path(char path[static PATH_MAX], const char *folder, const char *name)
{
    bench_assert((size_t)snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX, "a path is too long");
}

static void run_shell(const char *command, const char *folder)
{
    char line[2 * PATH_MAX];
    snprintf(line, sizeof line, "%s '%s'", command, folder);
    bench_assert(system(line) == 0, "a folder cannot be removed"); /* NOLINT(cert-env33-c): our own folder */
}

/* --- Redis --- */

static void start_redis(struct world *world)
{
    char socket[PATH_MAX];
    set_path(socket, world->folder, "redis.sock");
    snprintf(world->redis_url, sizeof world->redis_url, "unix://%.*s", PATH_MAX - 8, socket);
    world->redis_pid = fork();
    if (world->redis_pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
               "--appendonly", "no", "--daemonize", "no", "--logfile", "/dev/null", "--dir", world->folder,
               (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && world->redis == NULL; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        world->redis = redisConnectUnix(socket);
        if (world->redis != NULL && world->redis->err != 0) {
            redisFree(world->redis);
            world->redis = NULL;
        }
    }
    bench_assert(world->redis != NULL, "redis-server does not start: is it installed?");
}

static void stop_redis(struct world *world)
{
    redisFree(world->redis);
    kill(world->redis_pid, SIGKILL);
    waitpid(world->redis_pid, NULL, 0);
}

/* The answer's integer. */
static long long ask(struct world *world, const char *command)
{
    redisReply *reply = redisCommand(world->redis, command);
    bench_assert(reply != NULL && reply->type != REDIS_REPLY_ERROR, "Redis refuses a command");
    long long answer = reply->integer;
    freeReplyObject(reply);
    return answer;
}

/* The sum of MEMORY USAGE over all keys of the pattern. KEYS: it is our own Redis. */
static double usage_of(struct world *world, const char *pattern)
{
    redisReply *keys = redisCommand(world->redis, "KEYS %s", pattern);
    double bytes = 0;
    bench_assert(keys != NULL && keys->type == REDIS_REPLY_ARRAY && keys->elements > 0,
                 "there are no keys in Redis");
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *usage = redisCommand(world->redis, "MEMORY USAGE %s SAMPLES 0", keys->element[i]->str);
        bench_assert(usage != NULL && usage->type == REDIS_REPLY_INTEGER, "Redis refuses MEMORY USAGE");
        bytes += (double)usage->integer;
        freeReplyObject(usage);
    }
    freeReplyObject(keys);
    return bytes;
}

static double used_memory(struct world *world)
{
    redisReply *info = redisCommand(world->redis, "INFO memory");
    bench_assert(info != NULL && info->type == REDIS_REPLY_STRING, "Redis refuses INFO");
    const char *line = strstr(info->str, "used_memory:");
    bench_assert(line != NULL, "INFO has no used_memory");
    double bytes = strtod(line + strlen("used_memory:"), NULL);
    freeReplyObject(info);
    return bytes;
}

/* --- the events --- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t requester_of(uint64_t block)
{
    return mix(block) % REQUESTERS;
}

static uint64_t number_of(uint64_t event)
{
    return FIRST_NUMBER + mix(event + 1) % NUMBERS;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* As a worker does for a request. */
static void push_block(struct ring *ring, struct query_counts *counts, uint64_t block_index, uint64_t first,
                       uint32_t count)
{
    struct query_block *block;
    while ((block = ring_reserve(ring, query_block_bytes(count, false))) == NULL)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    *block = (struct query_block){.time_ms = now_ms(),
                                  .requester = requester_of(block_index),
                                  .ip = {[10] = 0xff, [11] = 0xff, [12] = 10},
                                  .sequence = block_index + 1,
                                  .count = count};
    for (uint32_t i = 0; i < count; i++)
        block->events[i] = query_event(number_of(first + i), 1);
    atomic_store_explicit(&counts->logged,
                          atomic_load_explicit(&counts->logged, memory_order_relaxed) + count,
                          memory_order_relaxed);
    ring_commit(ring);
}

/* What a disclosure must find. */
static void count_expected(struct world *world, uint64_t n, uint32_t batch)
{
    world->requester_events = world->number_events = 0;
    for (uint64_t first = 0, block = 0; first < n; first += batch, block++) {
        uint32_t count = n - first < batch ? (uint32_t)(n - first) : batch;
        if (requester_of(block) == THE_REQUESTER)
            world->requester_events += count;
        for (uint32_t i = 0; i < count; i++)
            world->number_events += number_of(first + i) == THE_NUMBER;
    }
}

/* Events a second, in millions, of `n` through a new log. The data directory stays. */
static double run_log(struct world *world, const char *data_dir, uint64_t n, uint32_t batch, bool to_redis)
{
    struct datadir dir;
    struct fault fault;
    uint8_t officer[OFFICER_KEY_BYTES];
    bool is_exposed;
    run_shell("rm -rf", data_dir);
    bench_assert(datadir_open(&dir, data_dir, &fault) && officer_of(data_dir, officer, &is_exposed, &fault),
                 "the data directory cannot be made");
    struct ring *ring = ring_create(RING_BYTES);
    struct querylog *log =
        querylog_start(&(struct querylog_options){.folder = dir.querylog_path,
                                                  .cipher = cipher_seal,
                                                  .officer = officer,
                                                  .server_id = dir.server_id,
                                                  .redis_url = to_redis ? world->redis_url : NULL,
                                                  .retention_hours = QUERYLOG_RETENTION_HOURS_MAX,
                                                  .bytes_max = SPOOL_BYTES,
                                                  .rings = &ring,
                                                  .ring_count = 1,
                                                  .notice = ignore_notice},
                       &fault);
    bench_assert(ring != NULL && log != NULL, "the query log does not start");
    struct query_counts *counts = querylog_worker(log, 0);
    uint64_t started = bench_now_ns();
    for (uint64_t first = 0, block = 0; first < n; first += batch, block++)
        push_block(ring, counts, block, first, n - first < batch ? (uint32_t)(n - first) : batch);
    while (querylog_figures(log).stored < n)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    double seconds = (double)(bench_now_ns() - started) / 1e9;
    struct querylog_figures figures = querylog_stop(log, 1000);
    bench_assert(figures.stored == n && figures.lost == 0 && figures.looked_up == n, "events are missing");
    ring_destroy(ring);
    datadir_close(&dir);
    return (double)n / 1e6 / seconds;
}

/* --- the same events, one command each --- */

static double run_commands(struct world *world, uint64_t n, bool is_stream)
{
    uint64_t started = bench_now_ns();
    for (uint64_t done = 0; done < n;) {
        uint64_t more = n - done < PIPELINE ? n - done : PIPELINE;
        for (uint64_t i = done; i < done + more; i++) {
            int status =
                is_stream
                    ? redisAppendCommand(world->redis, "XADD bench:xadd * n %" PRIu64 " r %" PRIu64 " i %s",
                                         number_of(i), requester_of(i), "10.0.0.0")
                    : redisAppendCommand(world->redis,
                                         "SET bench:set:%" PRIu64 " %" PRIu64 ",%" PRIu64 ",%s EX 2592000", i,
                                         number_of(i), requester_of(i), "10.0.0.0");
            bench_assert(status == REDIS_OK, "out of memory");
        }
        for (uint64_t i = 0; i < more; i++) {
            void *reply;
            bench_assert(redisGetReply(world->redis, &reply) == REDIS_OK &&
                             ((redisReply *)reply)->type != REDIS_REPLY_ERROR,
                         "Redis refuses an event");
            freeReplyObject(reply);
        }
        done += more;
    }
    double seconds = (double)(bench_now_ns() - started) / 1e9;
    bench_assert(ask(world, is_stream ? "XLEN bench:xadd" : "DBSIZE") == (long long)n,
                 "events are missing in Redis");
    return (double)n / 1e6 / seconds;
}

/* --- disclosures --- */

/* The count that disclosure.json gives. */
static uint64_t count_of(const char *folder)
{
    char path[PATH_MAX];
    char line[256];
    uint64_t records = UINT64_MAX;
    set_path(path, folder, "disclosure.json");
    FILE *file = fopen(path, "re");
    bench_assert(file != NULL, "a disclosure has no disclosure.json");
    while (fgets(line, sizeof line, file) != NULL &&
           sscanf(line, " \"recordCount\": %" SCNu64, &records) != 1)
        ;
    fclose(file);
    return records;
}

static double disclose(struct world *world, const char *data_dir, bool by_requester, bool from_redis)
{
    char program[PATH_MAX];
    char output[PATH_MAX];
    char key[PATH_MAX];
    char value[32];
    char name[32];
    struct rusage usage;
    int status;
    snprintf(name, sizeof name, "disclosed-%u", world->disclosures++);
    set_path(program, world->programs, "numberctl");
    set_path(output, world->folder, name);
    set_path(key, data_dir, "officer.private");
    snprintf(value, sizeof value, by_requester ? "%" PRIu64 : "+%" PRIu64,
             by_requester ? THE_REQUESTER : THE_NUMBER);
    uint64_t started = bench_now_ns();
    pid_t child = fork();
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        execl(program, "numberctl", "disclose", "--order", "bench", "--authority", "bench", "--basis",
              "bench", "--from", "2026-01-01", "--until", "2099-01-01", "--key", key, "--data-dir", data_dir,
              "--output", output, by_requester ? "--requester" : "--number", value,
              from_redis ? "--redis" : (char *)NULL, world->redis_url, (char *)NULL);
        _exit(127);
    }
    bench_assert(wait4(child, &status, 0, &usage) == child && status == 0, "numberctl disclose fails");
    double seconds = (double)(bench_now_ns() - started) / 1e9;
    double mib = (double)usage.ru_maxrss / 1024;
    world->memory_mib = mib > world->memory_mib ? mib : world->memory_mib;
    bench_assert(count_of(output) == (by_requester ? world->requester_events : world->number_events),
                 "a disclosure has not what was stored");
    run_shell("rm -rf", output);
    return seconds;
}

static void measure_disclosures(struct world *world, const char *data_dir, bool from_redis)
{
    double times[2][ROUNDS];
    count_expected(world, world->n, BATCH);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned by = 0; by < 2; by++)
            times[by][round] = disclose(world, data_dir, by == 0, from_redis);
    bench_report(&world->bench, from_redis ? "disclose_redis_requester" : "disclose_requester", world->n,
                 bench_median(times[0], ROUNDS));
    bench_report(&world->bench, from_redis ? "disclose_redis_number" : "disclose_number", world->n,
                 bench_median(times[1], ROUNDS));
}

/* --- all --- */

static void measure_segments(struct world *world, const char *data_dir, uint64_t singles)
{
    double many[ROUNDS];
    double lone[ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        lone[round] = run_log(world, data_dir, singles, 1, false);
        many[round] = run_log(world, data_dir, world->n, BATCH, false);
    }
    bench_report(&world->bench, "segments", world->n, bench_median(many, ROUNDS));
    bench_report(&world->bench, "segments_lone", singles, bench_median(lone, ROUNDS));
    measure_disclosures(world, data_dir, false);
}

static void measure_redis(struct world *world, const char *data_dir, uint64_t singles)
{
    enum { LONE, XADD, SET, MANY, KINDS };
    static const char *const names[] = {"redis_lone", "redis_xadd", "redis_set", "redis"};
    static const char *const byte_names[] = {"redis_bytes_lone", "redis_bytes_xadd", "redis_bytes_set",
                                             "redis_bytes"};
    double rates[KINDS][ROUNDS];
    double bytes[KINDS][ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned kind = 0; kind < KINDS; kind++) {
            uint64_t n = kind == MANY ? world->n : singles;
            (void)ask(world, "FLUSHALL");
            double before = used_memory(world);
            rates[kind][round] = kind == XADD  ? run_commands(world, n, true)
                                 : kind == SET ? run_commands(world, n, false)
                                               : run_log(world, data_dir, n, kind == MANY ? BATCH : 1, true);
            bytes[kind][round] = (kind == SET    ? used_memory(world) - before
                                  : kind == XADD ? usage_of(world, "bench:xadd")
                                                 : usage_of(world, "querylog:{*")) /
                                 (double)n;
        }
    }
    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint64_t n = kind == MANY ? world->n : singles;
        bench_report(&world->bench, names[kind], n, bench_median(rates[kind], ROUNDS));
        bench_report(&world->bench, byte_names[kind], n, bench_median(bytes[kind], ROUNDS));
    }
    measure_disclosures(world, data_dir, true);
}

static void find_programs(struct world *world)
{
    ssize_t length = readlink("/proc/self/exe", world->programs, sizeof world->programs - 1);
    bench_assert(length > 0, "/proc/self/exe cannot be read");
    world->programs[length] = '\0';
    *strrchr(world->programs, '/') = '\0';
}

int main(int argc, char **argv)
{
    static struct world world;
    char data_dir[PATH_MAX];
    int status = bench_init(
        &world.bench,
        "Events a second through the query log, bytes an event in Redis, and the time of a disclosure.",
        bench_rows, sizeof bench_rows / sizeof bench_rows[0], argc, argv);
    if (status >= 0)
        return status;
    world.n = world.bench.n > 0 ? world.bench.n : world.bench.quick ? QUICK_N : DEFAULT_N;
    uint64_t singles = world.n / SHARE_FOR_SINGLES;
    find_programs(&world);
    snprintf(world.folder, sizeof world.folder, "%s/numberd-bench-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp");
    bench_assert(mkdtemp(world.folder) != NULL && singles > 0, "no temporary folder can be made");
    set_path(data_dir, world.folder, "data");
    start_redis(&world);
    if (bench_wants(&world.bench, "segments") || bench_wants(&world.bench, "disclose_requester"))
        measure_segments(&world, data_dir, singles);
    if (bench_wants(&world.bench, "redis") || bench_wants(&world.bench, "disclose_redis_requester"))
        measure_redis(&world, data_dir, singles);
    bench_report(&world.bench, "disclose_memory", world.n, world.memory_mib);
    stop_redis(&world);
    run_shell("rm -rf", world.folder);
    return bench_status(&world.bench);
}
