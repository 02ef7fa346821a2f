/* numberflood's command line; see flood_options.h. */
#include "flood_options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "number_option.h"
#include "server/client.h"

static const struct {
    const char *name;
    const char *help;
} modes[FLOOD_MODES] = {
    [FLOOD_CONNECTS] = {"connects", "connects and closes at once"},
    [FLOOD_HALF] = {"half", "connects and says nothing more"},
    [FLOOD_SLOW_SEND] = {"slow-send",
                         "says hello, then drips a frame of 65,535 numbers, 64 bytes each tenth of a second"},
    [FLOOD_SLOW_READ] =
        {"slow-read",
         "says hello, asks for the records of 65,535 numbers again and again, and does not read"},
    [FLOOD_GARBAGE] = {"garbage", "sends random bytes until it is closed"},
    [FLOOD_HELLOS] = {"hellos", "sends a TLS client hello, takes the first bytes of the answer, and closes"},
    [FLOOD_HANDSHAKES] = {"handshakes", "shakes hands under TLS, and closes"},
    [FLOOD_SINK] = {"sink", "no flood: listens at --server, reads what comes and says nothing; beyond "
                            "--connections it closes at once"},
};

static const struct number_option number_options[] = {
    {"seconds", "length (default 5)", offsetof(struct flood_options, seconds), 1, 600},
    {"connections", "connections at once (default 256)", offsetof(struct flood_options, connections), 1,
     100000},
    {"rate", "new connections a second (default 0: as fast as it can)", offsetof(struct flood_options, rate),
     0, 1000000},
    {"addresses", "come from so many addresses in turn (default 1)",
     offsetof(struct flood_options, addresses), 1, 1000000},
    {"first-bytes", "connects, half: send so many bytes of a hello first (default 0)",
     offsetof(struct flood_options, first_bytes), 0, WIRE_REQUEST_HEADER_BYTES - 1},
    {"read-bytes", "slow-read: read so many each tenth of a second (default 0)",
     offsetof(struct flood_options, read_bytes), 0, 1 << 20},
};

#define NUMBER_OPTION_COUNT (sizeof number_options / sizeof number_options[0])
enum {
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_JSON,
    OPTION_SERVER,
    OPTION_FROM,
    OPTION_TOKEN,
    OPTION_TLS_CA
};

const char *flood_mode_name(enum flood_mode mode)
{
    return modes[mode].name;
}

static int mistake(const char *text, const char *detail)
{
    fprintf(stderr, "numberflood: %s%s; see numberflood --help\n", text, detail);
    return EX_USAGE;
}

static void print_help(void)
{
    printf("usage: numberflood MODE [OPTION]...   one kind of attack on a server of this machine\n\n");
    for (size_t i = 0; i < FLOOD_MODES; i++)
        printf("  %-20s %s\n", modes[i].name, modes[i].help);
    printf("\n"
           "  --server ADDRESS     the server, in 127.0.0.0/8 (default 127.0.0.1:%d)\n"
           "  --from IP            come from there, in 127.0.0.0/8; with --addresses from the ones behind "
           "it, too\n"
           "  --token-file FILE    slow-send, slow-read: file whose first word is the token to show\n"
           "  --tls-ca FILE        hellos, handshakes: who has signed the server's certificate\n"
           "  --json               the report as one JSON object\n",
           WIRE_PORT_DEFAULT);
    number_option_print(number_options, NUMBER_OPTION_COUNT);
    printf("\nIt connects to loopback addresses only, and ends after --seconds.\n");
}

static bool is_loopback(uint32_t ip)
{
    return ip >> 24 == 127;
}

static int take_server(struct flood_options *options, const char *text)
{
    char error[256];
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&options->server.storage;
    if (!address_parse(text, WIRE_PORT_DEFAULT, &options->server, error, sizeof error))
        return mistake(error, "");
    return options->server.storage.ss_family == AF_INET && is_loopback(ntohl(ipv4->sin_addr.s_addr))
               ? -1
               : mistake("--server must be in 127.0.0.0/8", "");
}

static int take_from(struct flood_options *options, const char *text)
{
    struct in_addr ip;
    if (inet_pton(AF_INET, text, &ip) != 1 || !is_loopback(ntohl(ip.s_addr)))
        return mistake("--from must be in 127.0.0.0/8", "");
    options->from = ntohl(ip.s_addr);
    return -1;
}

/* Takes one option; -1 to go on. */
static int take(struct flood_options *options, int option, const char *value)
{
    switch (option) {
    case OPTION_HELP:
        print_help();
        return EX_OK;
    case OPTION_VERSION:
        puts("numberflood " NUMBERD_VERSION);
        return EX_OK;
    case OPTION_JSON:
        options->json = true;
        return -1;
    case OPTION_SERVER:
        return take_server(options, value);
    case OPTION_FROM:
        return take_from(options, value);
    case OPTION_TOKEN:
        return client_read_token(value, options->token) ? -1 : mistake("cannot read a token from ", value);
    case OPTION_TLS_CA:
        options->tls_files.authority = value;
        return -1;
    default:
        return number_option_take(&number_options[option], "numberflood", value, options) ? -1 : EX_USAGE;
    }
}

static int take_mode(struct flood_options *options, const char *text)
{
    for (int i = 0; i < FLOOD_MODES; i++) {
        if (strcmp(text, modes[i].name) == 0) {
            options->mode = (enum flood_mode)i;
            return -1;
        }
    }
    return mistake("no such mode: ", text);
}

/* Takes the options; -1 to go on. */
static int walk(struct flood_options *options, int argc, char **argv)
{
    static const struct option others[] = {{"help", no_argument, NULL, OPTION_HELP},
                                           {"version", no_argument, NULL, OPTION_VERSION},
                                           {"json", no_argument, NULL, OPTION_JSON},
                                           {"server", required_argument, NULL, OPTION_SERVER},
                                           {"from", required_argument, NULL, OPTION_FROM},
                                           {"token-file", required_argument, NULL, OPTION_TOKEN},
                                           {"tls-ca", required_argument, NULL, OPTION_TLS_CA}};
    struct option known[NUMBER_OPTION_COUNT + sizeof others / sizeof others[0] + 1] = {{0}};
    for (size_t i = 0; i < NUMBER_OPTION_COUNT; i++)
        known[i] = (struct option){number_options[i].name, required_argument, NULL, (int)i};
    memcpy(known + NUMBER_OPTION_COUNT, others, sizeof others);
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":", known, NULL)) != -1;) {
        if (option == '?' || option == ':')
            return mistake(option == ':' ? "the value is missing: " : "unknown option: ", argv[optind - 1]);
        int status = take(options, option, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return mistake("name a mode", "");
    return optind + 1 < argc ? mistake("too many arguments: ", argv[optind + 1])
                             : take_mode(options, argv[optind]);
}

int flood_options_read(struct flood_options *options, int argc, char **argv)
{
    char error[512];
    *options = (struct flood_options){.seconds = 5, .connections = 256, .addresses = 1};
    int status = take_server(options, "127.0.0.1");
    if (status < 0)
        status = walk(options, argc, argv);
    if (status >= 0)
        return status;
    if (options->addresses > 1 && !is_loopback(options->from))
        return mistake("--addresses wants a --from", "");
    if (!is_loopback(options->from + (uint32_t)options->addresses - 1) && options->from != 0)
        return mistake("--from and --addresses lead beyond 127.0.0.0/8", "");
    if (options->mode != FLOOD_HELLOS && options->mode != FLOOD_HANDSHAKES)
        return -1;
    options->tls = tls_context_client(&options->tls_files, error, sizeof error);
    if (options->tls == NULL) {
        fprintf(stderr, "numberflood: %s\n", error);
        return EX_CONFIG;
    }
    return -1;
}
