/* numberload: generates a population, verifies a server against it, and loads the server, or a peer of it, with lookups or registrations. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "hashing/phone.h"
#include "load_floor.h"
#include "load_options.h"
#include "load_report.h"
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

static bool write_files(const struct load_options *options, const struct load_report *report)
{
    const char *failed = NULL;
    if (options->percentiles_path != NULL &&
        !load_report_write_percentiles(report, options->percentiles_path))
        failed = options->percentiles_path;
    else if (options->page_path != NULL && !load_page_write(report, options, options->page_path))
        failed = options->page_path;
    if (failed != NULL)
        fprintf(stderr, "numberload: cannot write %s: %s\n", failed, strerror(errno));
    return failed == NULL;
}

static int run(const struct load_options *options, const struct population *population)
{
    static struct load_report report;
    const struct load_record *total = &report.total;
    if (!load_run(options, population, &report))
        return fail(EX_UNAVAILABLE, "the load was not started");
    load_report_print(&report, options);
    bool written = write_files(options, &report);
    free(report.timeline);
    if (!written)
        return EX_CANTCREAT;
    /* A lookup without an answer costs nothing but that; a registration without one may not be there. */
    if (load_record_count(total, LOAD_BROKEN) > 0 ||
        (options->verb == LOAD_REGISTER && load_record_count(total, LOAD_UNAVAILABLE) > 0))
        return EX_UNAVAILABLE;
    return load_record_count(total, LOAD_WRONG) > 0 ? EX_DATAERR : EX_OK;
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
        case LOAD_FLOOR:
            status = load_floor_serve(options.server);
            break;
        }
    }
    free(options.token);
    tls_context_release(options.tls);
    return status;
}
