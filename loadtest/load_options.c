/* numberload's command line; see load_options.h. */
#include "load_options.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "number_option.h"
#include "population.h"
#include "server/client.h"
#include "server/wire.h"

static const struct number_option number_options[] = {
    {"count", "registered numbers of the population (default 100000)", offsetof(struct load_options, count),
     1, POPULATION_MAX},
    {"seed", "of the population (default 1)", offsetof(struct load_options, seed), 0, UINT64_MAX},
    {"connections", "run: connections (default 4; register: 64)", offsetof(struct load_options, connections),
     1, 60000},
    {"threads", "run: threads (default 1)", offsetof(struct load_options, threads), 1, 64},
    {"outstanding", "run: requests under way on each connection, closed loop (default 8; register: 1)",
     offsetof(struct load_options, outstanding), 1, 4096},
    {"spin", "run: closed loop, microseconds to look for replies before the thread sleeps (default 0)",
     offsetof(struct load_options, spin_us), 0, 1000000},
    {"rate", "run: open loop, numbers per second in all (default: closed loop)",
     offsetof(struct load_options, rate), 1, UINT64_C(1000000000)},
    {"batch", "run: numbers in a request (default 16; register: 64)", offsetof(struct load_options, batch), 1,
     WIRE_COUNT_MAX},
    {"seconds", "run: length (default 10; register: until all are registered)",
     offsetof(struct load_options, seconds), 1, 86400},
    {"numbers", "run: end after so many numbers instead", offsetof(struct load_options, numbers), 1,
     UINT64_C(1000000000000)},
    {"warmup", "run: seconds before the counting begins (default 0)",
     offsetof(struct load_options, warmup_seconds), 0, 3600},
    {"churn", "run: connections closed and opened anew in a second (default 0)",
     offsetof(struct load_options, churn), 0, 10000},
    {"slow-readers", "run: further connections that ask and hardly read (default 0)",
     offsetof(struct load_options, slow_readers), 0, 10000},
};
#define NUMBER_OPTION_COUNT (sizeof number_options / sizeof number_options[0])

/* The other options: a text, a flag, or a real number from 0 to `max`. */
enum kind { KIND_FLAG, KIND_TEXT, KIND_REAL, KIND_OWN };
static const struct other_option {
    const char *name;
    const char *value; /* as the help calls it; NULL: it has none */
    const char *help;  /* NULL: with the line before */
    enum kind kind;
    size_t offset;
    double max;
} other_options[] = {
    {"server", "ADDRESS",
     "the server (default: this machine, the server's usual port); floor: where it listens", KIND_TEXT,
     offsetof(struct load_options, server), 0},
    {"peer", "KIND", "what serves there: numberd (default), floor, redis-set, redis-keys, memcached",
     KIND_OWN, 0, 0},
    {"token-file", "FILE", "file whose first word is the token to show", KIND_OWN, 0, 0},
    {"tls", NULL, "speak TLS, as numberctl lookup --help says; also:", KIND_FLAG,
     offsetof(struct load_options, wants_tls), 0},
    {"tls-ca", "FILE", "", KIND_TEXT, offsetof(struct load_options, tls_files.authority), 0},
    {"tls-name", "NAME", "", KIND_TEXT, offsetof(struct load_options, tls_name), 0},
    {"tls-certificate", "FILE", "", KIND_TEXT, offsetof(struct load_options, tls_files.certificate), 0},
    {"tls-key", "FILE", "", KIND_TEXT, offsetof(struct load_options, tls_files.key), 0},
    {"hit-ratio", "R", "run: share of registered numbers, 0 to 1 (default 0.5)", KIND_REAL,
     offsetof(struct load_options, hit_ratio), 1},
    {"draw", "HOW", "run: numbers drawn uniform (default), zipf, or sequential: in ascending order", KIND_OWN,
     0, 0},
    {"zipf-exponent", "R", "run: of --draw zipf (default 0.99)", KIND_REAL,
     offsetof(struct load_options, zipf_exponent), 10},
    {"books", NULL,
     "run: requests as large as address books: around 50, 500, 5,000 and 25,000 numbers, of 100 requests 70, "
     "25, 4.5 and 0.5",
     KIND_FLAG, offsetof(struct load_options, books), 0},
    {"poisson", NULL, "run: with --rate, requests at random moments rather than evenly", KIND_FLAG,
     offsetof(struct load_options, poisson), 0},
    {"register-ratio", "R", "run: share of the requests that register rather than look up (default 0)",
     KIND_REAL, offsetof(struct load_options, register_ratio), 1},
    {"percentiles", "FILE", "run: the latencies' percentiles, in HdrHistogram's format", KIND_TEXT,
     offsetof(struct load_options, percentiles_path), 0},
    {"page", "FILE", "run: the report as a page of HTML, with charts", KIND_TEXT,
     offsetof(struct load_options, page_path), 0},
    {"json", NULL, "the report as one JSON object", KIND_FLAG, offsetof(struct load_options, json), 0},
    {"help", NULL, "this", KIND_OWN, 0, 0},
    {"version", NULL, "the version", KIND_OWN, 0, 0},
};
#define OTHER_OPTION_COUNT (sizeof other_options / sizeof other_options[0])

/* Beyond what getopt returns by itself. */
#define FIRST_OPTION 256

static int mistake(const char *text, const char *detail)
{
    fprintf(stderr, "numberload: %s%s; see numberload --help\n", text, detail);
    return EX_USAGE;
}

static void print_help(void)
{
    printf("usage: numberload generate [OPTION]...   the population as CSV, for numberctl import\n"
           "       numberload verify [OPTION]...     looks up every number and every neighbour once\n"
           "       numberload run [OPTION]...        lookups, closed loop or open loop\n"
           "       numberload register [OPTION]...   registrations; takes the options of run\n"
           "       numberload floor [OPTION]...      serves: reads numberd's frames and answers, and does "
           "nothing else\n\n");
    for (size_t i = 0; i < OTHER_OPTION_COUNT; i++) {
        const struct other_option *option = &other_options[i];
        int used = printf("  --%s%s%s", option->name, option->value == NULL ? "" : " ",
                          option->value == NULL ? "" : option->value);
        printf("%*s %s\n", used < 22 ? 22 - used : 0, "", option->help);
    }
    number_option_print(number_options, NUMBER_OPTION_COUNT);
    printf(
        "\nThe population is --count numbers over real numbering plans, the same for the same seed; each has "
        "an\n"
        "unregistered neighbour. Every answer is checked; the status is 65 when one was wrong, 69 when the\n"
        "server was lost or did not take a registration. In the open loop a latency counts from when the "
        "request\n"
        "should have been sent. A server that says goodbye is connected to again, and asked again what it "
        "has not answered.\n");
}

static char *read_token(const char *path)
{
    char token[WIRE_TOKEN_BYTES_MAX + 1];
    return client_read_token(path, token) ? strdup(token) : NULL;
}

static int take_real(double *value, const struct other_option *option, const char *text)
{
    char *end;
    char detail[96];
    *value = strtod(text, &end);
    if (*text != '\0' && *end == '\0' && *value >= 0 && *value <= option->max)
        return -1;
    snprintf(detail, sizeof detail, "--%s must be from 0 to %g", option->name, option->max);
    return mistake(detail, "");
}

static int take_draw(struct load_options *options, const char *value)
{
    static const char *const names[] = {"uniform", "zipf", "sequential"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(value, names[i]) == 0) {
            options->draw = (enum load_draw)i;
            return -1;
        }
    }
    return mistake("--draw must be uniform, zipf or sequential, not ", value);
}

/* Those that need more than to be stored. */
static int take_own(struct load_options *options, const char *name, const char *value)
{
    if (strcmp(name, "help") == 0) {
        print_help();
        return EX_OK;
    }
    if (strcmp(name, "version") == 0) {
        puts("numberload " NUMBERD_VERSION);
        return EX_OK;
    }
    if (strcmp(name, "draw") == 0)
        return take_draw(options, value);
    if (strcmp(name, "peer") == 0) {
        options->dialect = load_dialect(value);
        return options->dialect != NULL ? -1 : mistake("--peer: there is no ", value);
    }
    options->token = read_token(value);
    return options->token != NULL ? -1 : mistake("cannot read a token from ", value);
}

/* Takes one option; -1 to go on. */
static int take(struct load_options *options, size_t index, const char *value)
{
    if (index < NUMBER_OPTION_COUNT)
        return number_option_take(&number_options[index], "numberload", value, options) ? -1 : EX_USAGE;
    const struct other_option *option = &other_options[index - NUMBER_OPTION_COUNT];
    void *field = (char *)options + option->offset;
    switch (option->kind) {
    case KIND_FLAG:
        *(bool *)field = true;
        return -1;
    case KIND_TEXT:
        *(const char **)field = value;
        return -1;
    case KIND_REAL:
        return take_real(field, option, value);
    case KIND_OWN:
        break;
    }
    return take_own(options, option->name, value);
}

static int take_verb(struct load_options *options, const char *verb)
{
    static const char *const names[] = {"generate", "verify", "run", "register", "floor"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(verb, names[i]) == 0) {
            options->verb = (enum load_verb)i;
            return -1;
        }
    }
    return mistake("no such verb: ", verb);
}

/* What was not given; it may depend on the verb. */
static void set_defaults(struct load_options *options)
{
    bool registers = options->verb == LOAD_REGISTER;
    if (options->connections == 0)
        options->connections = registers ? 64 : 4;
    if (options->outstanding == 0)
        options->outstanding = registers ? 1 : 8;
    if (options->batch == 0)
        options->batch = registers ? 64 : 16;
    if (options->seconds == 0 && options->numbers == 0 && registers)
        options->numbers = options->count;
    else if (options->seconds == 0 && options->numbers == 0)
        options->seconds = 10;
}

/* Takes the options; -1 to go on. */
static int walk(struct load_options *options, int argc, char **argv)
{
    struct option known[NUMBER_OPTION_COUNT + OTHER_OPTION_COUNT + 1] = {{0}};
    for (size_t i = 0; i < NUMBER_OPTION_COUNT; i++)
        known[i] = (struct option){number_options[i].name, required_argument, NULL, FIRST_OPTION + (int)i};
    for (size_t i = 0; i < OTHER_OPTION_COUNT; i++)
        known[NUMBER_OPTION_COUNT + i] = (struct option){
            other_options[i].name, other_options[i].value == NULL ? no_argument : required_argument, NULL,
            FIRST_OPTION + (int)(NUMBER_OPTION_COUNT + i)};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":", known, NULL)) != -1;) {
        if (option == '?' || option == ':')
            return mistake(option == ':' ? "the value is missing: " : "unknown option: ", argv[optind - 1]);
        int status = take(options, (size_t)(option - FIRST_OPTION), optarg);
        if (status >= 0)
            return status;
    }
    return -1;
}

static bool read_tls(struct load_options *options)
{
    const struct tls_files *files = &options->tls_files;
    char error[512];
    if (!options->wants_tls && files->authority == NULL && files->certificate == NULL && files->key == NULL &&
        options->tls_name == NULL)
        return true;
    options->tls = tls_context_client(files, error, sizeof error);
    if (options->tls == NULL)
        fprintf(stderr, "numberload: %s\n", error);
    return options->tls != NULL;
}

/* What does not go together. */
static int check(const struct load_options *options)
{
    bool has_peer = strcmp(options->dialect->name, "numberd") != 0;
    if (options->threads > options->connections)
        return mistake("--threads must not be above --connections", "");
    if (options->spin_us > 0 && options->rate > 0)
        return mistake("--spin is for the closed loop, not for --rate", "");
    if (options->poisson && options->rate == 0)
        return mistake("--poisson is for the open loop: say --rate, too", "");
    if (has_peer && options->verb != LOAD_RUN && options->verb != LOAD_REGISTER)
        return mistake("--peer is for run and register", "");
    if (has_peer && (options->tls != NULL || options->token != NULL))
        return mistake("tokens and TLS are for numberd, not for ", options->dialect->name);
    if ((options->books ? WIRE_COUNT_MAX / 2 : options->batch) > options->dialect->count_max)
        return mistake("so many numbers in a request are too many for ", options->dialect->name);
    if (options->register_ratio > 0 && (options->verb != LOAD_RUN || !options->dialect->answers))
        return mistake("--register-ratio is for run, and not for the floor", "");
    return -1;
}

int load_options_read(struct load_options *options, int argc, char **argv)
{
    *options = (struct load_options){.verb = LOAD_RUN,
                                     .server = "127.0.0.1",
                                     .dialect = load_dialect("numberd"),
                                     .count = 100000,
                                     .seed = 1,
                                     .threads = 1,
                                     .zipf_exponent = 0.99,
                                     .hit_ratio = 0.5};
    int status = walk(options, argc, argv);
    if (status < 0 && optind + 1 < argc)
        return mistake("too many arguments: ", argv[optind + 1]);
    if (status < 0 && optind < argc)
        status = take_verb(options, argv[optind]);
    if (status >= 0)
        return status;
    set_defaults(options);
    return read_tls(options) ? check(options) : EX_CONFIG;
}
