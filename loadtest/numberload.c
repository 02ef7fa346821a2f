/* numberload: generates a population, verifies a server against it, and loads the server with lookups or registrations. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "hashing/phone.h"
#include "load_options.h"
#include "load_run.h"
#include "population.h"
#include "server/client.h"

#define VERIFY_BATCH 4096
#define VERIFY_WINDOW UINT64_C(8)

static int fail(int status, const char *text)
{
    fprintf(stderr, "numberload: %s\n", text);
    return status;
}

/* --- generate --- */

static int generate(const struct load_options *options, const struct population *population)
{
    char text[PHONE_TEXT_BYTES];
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    puts("number,account,flags");
    for (uint64_t i = 0; i < options->count; i++) {
        phone_format(population_number(population, i), text);
        printf("%s,%" PRIu64 ",0\n", text, population_account(population, i));
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? EX_OK : fail(EX_IOERR, "cannot write to standard output");
}

/* --- verify --- */

struct verification {
    const struct load_options *options;
    const struct population *population;
    struct client *client;
    uint64_t registered;     /* registered numbers answered so */
    uint64_t not_registered; /* neighbours answered so */
    uint64_t wrong;
};

/* Index space: 2i is the registered number i, 2i + 1 its neighbour. */
static bool send_batch(struct verification *verification, uint64_t first, uint16_t count)
{
    uint64_t numbers[VERIFY_BATCH];
    for (uint16_t i = 0; i < count; i++) {
        uint64_t index = (first + i) / 2;
        numbers[i] = (first + i) % 2 == 0 ? population_number(verification->population, index)
                                          : population_neighbour(verification->population, index);
    }
    return client_send_numbers(verification->client, WIRE_LOOKUP, NULL, numbers, count) &&
           client_flush(verification->client);
}

static bool take_batch(struct verification *verification, uint64_t first, uint16_t count)
{
    struct wire_reply reply;
    if (!client_receive(verification->client, &reply))
        return false;
    if (reply.code != WIRE_OK || reply.count != count) {
        verification->wrong += count;
        return true;
    }
    for (uint16_t i = 0; i < count; i++) {
        bool registered = (first + i) % 2 == 0;
        bool right = reply.body[i] == (registered ? WIRE_REGISTERED : WIRE_NOT_REGISTERED);
        verification->registered += right && registered;
        verification->not_registered += right && !registered;
        verification->wrong += !right;
    }
    return true;
}

static uint16_t batch_size(uint64_t first, uint64_t total)
{
    return (uint16_t)(total - first < VERIFY_BATCH ? total - first : VERIFY_BATCH);
}

static bool verify_all(struct verification *verification)
{
    uint64_t total = 2 * verification->options->count;
    uint64_t sent = 0;
    for (uint64_t taken = 0; taken < total; taken += VERIFY_BATCH) {
        for (; sent < total && sent < taken + VERIFY_WINDOW * VERIFY_BATCH; sent += VERIFY_BATCH)
            if (!send_batch(verification, sent, batch_size(sent, total)))
                return false;
        if (!take_batch(verification, taken, batch_size(taken, total)))
            return false;
    }
    return client_goodbye(verification->client);
}

static int verify(const struct load_options *options, const struct population *population)
{
    char error[256];
    struct verification verification = {.options = options, .population = population};
    verification.client = client_connect(&(struct client_options){.server = options->server,
                                                                  .token = options->token,
                                                                  .timeout_ms = 30000,
                                                                  .tls = options->tls,
                                                                  .tls_name = options->tls_name},
                                         error, sizeof error);
    if (verification.client == NULL)
        return fail(EX_UNAVAILABLE, error);
    if (!verify_all(&verification)) {
        int status = fail(EX_UNAVAILABLE, client_error(verification.client));
        client_close(verification.client);
        return status;
    }
    client_close(verification.client);
    printf(options->json
               ? "{\"registered\":%" PRIu64 ",\"not_registered\":%" PRIu64 ",\"wrong\":%" PRIu64 "}\n"
               : "%" PRIu64 " registered, %" PRIu64 " neighbours not registered, %" PRIu64 " wrong\n",
           verification.registered, verification.not_registered, verification.wrong);
    return verification.wrong == 0 ? EX_OK : EX_DATAERR;
}

/* --- run and register --- */

static const double percents[] = {50, 90, 99, 99.9, 99.99};
#define PERCENT_COUNT (sizeof percents / sizeof percents[0])

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static json_t *latency_json(const struct histogram *latency)
{
    json_t *object = json_object();
    for (size_t i = 0; i < PERCENT_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%g", percents[i]);
        json_object_set_new(object, name,
                            json_integer((json_int_t)histogram_percentile(latency, percents[i])));
    }
    json_object_set_new(object, "max", json_integer((json_int_t)latency->max_ns));
    return object;
}

/* The answers of the verb's kind. */
static json_t *answers_json(const struct load_report *report, enum load_verb verb)
{
    if (verb == LOAD_REGISTER)
        return json_pack("{s:I, s:I}", "added", (json_int_t)report->added, "replaced",
                         (json_int_t)report->replaced);
    return json_pack("{s:I, s:I}", "registered", (json_int_t)report->registered, "limited",
                     (json_int_t)report->limited);
}

static void print_json(const struct load_report *report, enum load_verb verb)
{
    json_t *object = json_pack(
        "{s:f, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:o}", "seconds", report->seconds, "requests",
        (json_int_t)report->requests, "numbers", (json_int_t)report->numbers, "requests_per_second",
        rate(report->requests, report->seconds), "numbers_per_second", rate(report->numbers, report->seconds),
        "wrong", (json_int_t)report->wrong, "unavailable", (json_int_t)report->unavailable, "broken",
        (json_int_t)report->broken, "latency_ns", latency_json(&report->latency));
    json_t *answers = answers_json(report, verb);
    json_object_update(object, answers);
    json_decref(answers);
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
}

static void print_text(const struct load_report *report, enum load_verb verb)
{
    printf("%" PRIu64 " numbers in %" PRIu64 " requests in %.2f s: %.0f numbers/s, %.0f requests/s\n",
           report->numbers, report->requests, report->seconds, rate(report->numbers, report->seconds),
           rate(report->requests, report->seconds));
    printf("latency of a request:");
    for (size_t i = 0; i < PERCENT_COUNT; i++)
        printf(" p%g %.3f ms,", percents[i],
               (double)histogram_percentile(&report->latency, percents[i]) / 1e6);
    printf(" max %.3f ms\n", (double)report->latency.max_ns / 1e6);
    if (verb == LOAD_REGISTER)
        printf("%" PRIu64 " added, %" PRIu64 " replaced, ", report->added, report->replaced);
    else
        printf("%" PRIu64 " registered, %" PRIu64 " limited, ", report->registered, report->limited);
    printf("%" PRIu64 " wrong; %" PRIu64 " requests unavailable, %" PRIu64 " connections broken\n",
           report->wrong, report->unavailable, report->broken);
}

static int run(const struct load_options *options, const struct population *population)
{
    static struct load_report report;
    if (!load_run(options, population, &report))
        return fail(EX_UNAVAILABLE, "the load was not started");
    if (options->json)
        print_json(&report, options->verb);
    else
        print_text(&report, options->verb);
    /* A lookup without an answer costs nothing but that; a registration without one may not be there. */
    if (report.broken > 0 || (options->verb == LOAD_REGISTER && report.unavailable > 0))
        return EX_UNAVAILABLE;
    return report.wrong > 0 ? EX_DATAERR : EX_OK;
}

int main(int argc, char **argv)
{
    static struct population population;
    struct load_options options;
    int status = load_options_read(&options, argc, argv);
    if (status < 0) {
        signal(SIGPIPE, SIG_IGN);
        population_init(&population, options.seed);
        switch (options.verb) {
        case LOAD_GENERATE:
            status = generate(&options, &population);
            break;
        case LOAD_VERIFY:
            status = verify(&options, &population);
            break;
        case LOAD_RUN:
        case LOAD_REGISTER:
            status = run(&options, &population);
            break;
        }
    }
    free(options.token);
    tls_context_release(options.tls);
    return status;
}
