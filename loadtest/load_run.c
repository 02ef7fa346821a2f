/* A load from its pools to its report; see load_run.h. */
#include "load_run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "load_loader.h"
#include "load_watch.h"

#define SECOND_NS UINT64_C(1000000000)
/* Registrations beside lookups: of so many of the population, again and again. */
#define BESIDE_MAX (UINT64_C(1) << 20)

struct crew {
    struct load_loader *loaders;
    pthread_t *threads;
    uint64_t started;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    uint64_t ended_count; /* under the mutex */
};

struct member {
    struct crew *crew;
    struct load_loader *loader;
};

static void *run(void *context)
{
    struct member *member = context;
    struct crew *crew = member->crew;
    load_loader_run(member->loader);
    free(member);
    pthread_mutex_lock(&crew->mutex);
    crew->ended_count++;
    pthread_cond_signal(&crew->ended);
    pthread_mutex_unlock(&crew->mutex);
    return NULL;
}

static bool fill_pools(struct load_pool *lookups, struct load_pool *registrations,
                       const struct load_options *options, const struct population *population)
{
    bool registers = options->verb == LOAD_REGISTER;
    uint64_t beside = options->count < BESIDE_MAX ? options->count : BESIDE_MAX;
    bool good = true;
    if (!registers)
        good = load_pool_draw(lookups, options, population);
    if (registers || options->register_ratio > 0)
        good = good && load_pool_list(registrations, registers ? options->count : beside, population);
    if (!good)
        fprintf(stderr, "numberload: out of memory for the numbers\n");
    return good;
}

static void start_clocks(struct load_loader *loaders, const struct load_options *options)
{
    uint64_t now = load_now_ns();
    for (uint64_t i = 0; i < options->threads; i++) {
        struct load_loader *loader = &loaders[i];
        loader->start_ns = now;
        loader->count_from_ns = now + options->warmup_seconds * SECOND_NS;
        loader->end_ns =
            options->seconds == 0 ? UINT64_MAX / 2 : loader->count_from_ns + options->seconds * SECOND_NS;
    }
}

static void start_threads(struct crew *crew, uint64_t count)
{
    for (; crew->started < count; crew->started++) {
        struct member *member = malloc(sizeof *member);
        if (member == NULL)
            return;
        *member = (struct member){crew, &crew->loaders[crew->started]};
        if (pthread_create(&crew->threads[crew->started], NULL, run, member) != 0) {
            free(member);
            return;
        }
    }
}

static void sum_up(const struct crew *crew, struct load_record *total)
{
    load_record_clear(total);
    for (uint64_t i = 0; i < crew->started; i++)
        load_record_merge(total, &crew->loaders[i].record);
}

/* Until all threads have ended; looks once a second. */
static void wait_and_watch(struct crew *crew, const struct load_options *options, struct load_report *report)
{
    struct load_watch *watch = malloc(sizeof *watch);
    uint64_t next_ns = crew->loaders[0].start_ns;
    if (watch != NULL)
        load_watch_init(watch, crew->loaders[0].count_from_ns, options->seconds);
    pthread_mutex_lock(&crew->mutex);
    while (crew->ended_count < crew->started) {
        next_ns += SECOND_NS;
        struct timespec until = {(time_t)(next_ns / SECOND_NS), (long)(next_ns % SECOND_NS)};
        while (crew->ended_count < crew->started && load_now_ns() < next_ns)
            pthread_cond_timedwait(&crew->ended, &crew->mutex, &until);
        if (watch == NULL || crew->ended_count == crew->started)
            continue;
        sum_up(crew, &report->total);
        load_watch_look(watch, &report->total, load_now_ns(), report);
    }
    pthread_mutex_unlock(&crew->mutex);
    if (watch != NULL)
        load_watch_end(watch);
    free(watch);
}

static bool run_crew(struct crew *crew, const struct load_options *options, struct load_report *report)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->ended, &attributes);
    start_clocks(crew->loaders, options);
    start_threads(crew, options->threads);
    wait_and_watch(crew, options, report);
    for (uint64_t i = 0; i < crew->started; i++) {
        pthread_join(crew->threads[i], NULL);
        if (crew->loaders[i].seconds > report->seconds)
            report->seconds = crew->loaders[i].seconds;
    }
    sum_up(crew, &report->total);
    pthread_cond_destroy(&crew->ended);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_destroy(&crew->mutex);
    return crew->started == options->threads;
}

static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

bool load_run(const struct load_options *options, const struct population *population,
              struct load_report *report)
{
    struct load_pool lookups = {0};
    struct load_pool registrations = {0};
    struct crew crew = {.loaders = calloc(options->threads, sizeof *crew.loaders),
                        .threads = calloc(options->threads, sizeof *crew.threads)};
    bool good = crew.loaders != NULL && crew.threads != NULL &&
                fill_pools(&lookups, &registrations, options, population);
    uint64_t ready = 0;
    raise_file_limit();
    for (; good && ready < options->threads; ready++)
        good = load_loader_init(&crew.loaders[ready], options, &lookups, &registrations, (unsigned)ready);
    good = good && run_crew(&crew, options, report);
    for (uint64_t i = 0; i < ready; i++)
        load_loader_deinit(&crew.loaders[i]);
    free(crew.loaders);
    free(crew.threads);
    load_pool_deinit(&lookups);
    load_pool_deinit(&registrations);
    return good;
}
