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
};

#define NUMBER_OPTION_COUNT (sizeof number_options / sizeof number_options[0])
enum {
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_JSON,
    OPTION_SERVER,
    OPTION_TOKEN,
    OPTION_HIT_RATIO,
    OPTION_TLS,
    OPTION_TLS_CA,
    OPTION_TLS_NAME,
    OPTION_TLS_CERTIFICATE,
    OPTION_TLS_KEY
};

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
           "       numberload register [OPTION]...   registrations; takes the options of run\n\n"
           "  --server ADDRESS     the server (default 127.0.0.1:%d)\n"
           "  --token-file FILE    file whose first word is the token to show\n"
           "  --tls, --tls-ca FILE, --tls-name NAME, --tls-certificate FILE, --tls-key FILE\n"
           "                       speak TLS, as numberctl lookup --help says\n"
           "  --hit-ratio R        run: share of registered numbers, 0 to 1 (default 0.5)\n"
           "  --json               the report as one JSON object\n",
           WIRE_PORT_DEFAULT);
    number_option_print(number_options, NUMBER_OPTION_COUNT);
    printf(
        "\nThe population is --count numbers over real numbering plans, the same for the same seed; each has "
        "an\n"
        "unregistered neighbour. Every answer is checked; the status is 65 when one was wrong, 69 when the\n"
        "server was lost or did not take a registration. In the open loop a latency counts from when the "
        "request should have been sent.\n");
}

static char *read_token(const char *path)
{
    char token[WIRE_TOKEN_BYTES_MAX + 1];
    return client_read_token(path, token) ? strdup(token) : NULL;
}

/* Takes one option; -1 to go on. */
static int take(struct load_options *options, int option, const char *value)
{
    char *end;
    switch (option) {
    case OPTION_HELP:
        print_help();
        return EX_OK;
    case OPTION_VERSION:
        puts("numberload " NUMBERD_VERSION);
        return EX_OK;
    case OPTION_JSON:
        options->json = true;
        return -1;
    case OPTION_SERVER:
        options->server = value;
        return -1;
    case OPTION_TOKEN:
        options->token = read_token(value);
        return options->token == NULL ? mistake("cannot read a token from ", value) : -1;
    case OPTION_TLS:
        options->wants_tls = true;
        return -1;
    case OPTION_TLS_CA:
        options->tls_files.authority = value;
        return -1;
    case OPTION_TLS_NAME:
        options->tls_name = value;
        return -1;
    case OPTION_TLS_CERTIFICATE:
        options->tls_files.certificate = value;
        return -1;
    case OPTION_TLS_KEY:
        options->tls_files.key = value;
        return -1;
    case OPTION_HIT_RATIO:
        options->hit_ratio = strtod(value, &end);
        return *value == '\0' || *end != '\0' || !(options->hit_ratio >= 0 && options->hit_ratio <= 1)
                   ? mistake("--hit-ratio must be from 0 to 1", "")
                   : -1;
    default:
        return number_option_take(&number_options[option], "numberload", value, options) ? -1 : EX_USAGE;
    }
}

static int take_verb(struct load_options *options, const char *verb)
{
    static const char *const names[] = {"generate", "verify", "run", "register"};
    for (int i = 0; i < 4; i++) {
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
    struct option known[NUMBER_OPTION_COUNT + 12] = {{0}};
    for (size_t i = 0; i < NUMBER_OPTION_COUNT; i++)
        known[i] = (struct option){number_options[i].name, required_argument, NULL, (int)i};
    known[NUMBER_OPTION_COUNT] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    known[NUMBER_OPTION_COUNT + 1] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    known[NUMBER_OPTION_COUNT + 2] = (struct option){"json", no_argument, NULL, OPTION_JSON};
    known[NUMBER_OPTION_COUNT + 3] = (struct option){"server", required_argument, NULL, OPTION_SERVER};
    known[NUMBER_OPTION_COUNT + 4] = (struct option){"token-file", required_argument, NULL, OPTION_TOKEN};
    known[NUMBER_OPTION_COUNT + 5] = (struct option){"hit-ratio", required_argument, NULL, OPTION_HIT_RATIO};
    known[NUMBER_OPTION_COUNT + 6] = (struct option){"tls", no_argument, NULL, OPTION_TLS};
    known[NUMBER_OPTION_COUNT + 7] = (struct option){"tls-ca", required_argument, NULL, OPTION_TLS_CA};
    known[NUMBER_OPTION_COUNT + 8] = (struct option){"tls-name", required_argument, NULL, OPTION_TLS_NAME};
    known[NUMBER_OPTION_COUNT + 9] =
        (struct option){"tls-certificate", required_argument, NULL, OPTION_TLS_CERTIFICATE};
    known[NUMBER_OPTION_COUNT + 10] = (struct option){"tls-key", required_argument, NULL, OPTION_TLS_KEY};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":", known, NULL)) != -1;) {
        if (option == '?' || option == ':')
            return mistake(option == ':' ? "the value is missing: " : "unknown option: ", argv[optind - 1]);
        int status = take(options, option, optarg);
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

int load_options_read(struct load_options *options, int argc, char **argv)
{
    *options = (struct load_options){
        .verb = LOAD_RUN, .server = "127.0.0.1", .count = 100000, .seed = 1, .threads = 1, .hit_ratio = 0.5};
    int status = walk(options, argc, argv);
    if (status < 0 && optind + 1 < argc)
        return mistake("too many arguments: ", argv[optind + 1]);
    if (status < 0 && optind < argc)
        status = take_verb(options, argv[optind]);
    if (status >= 0)
        return status;
    set_defaults(options);
    if (!read_tls(options))
        return EX_CONFIG;
    return options->threads > options->connections ? mistake("--threads must not be above --connections", "")
                                                   : -1;
}
