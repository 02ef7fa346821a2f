/* The configuration of numberd; see config.h. */
#include "server/config.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <ini.h>

#include "persist/querylog/querylog.h"

enum kind { KIND_TEXT, KIND_INTEGER, KIND_BYTES, KIND_CHOICE, KIND_POLICY, KIND_BUDGET };

#define CHOICES_MAX 3

/* One setting: a flag and a key of the file. */
struct setting {
    const char *name;
    const char *argument;
    const char *help;
    enum kind kind;
    size_t offset;
    uint64_t min;
    uint64_t max;
    /* KIND_CHOICE: what sets the bool to false, and to true. KIND_POLICY: what sets the integer to 0, 1, 2. */
    const char *choices[CHOICES_MAX];
};

#define TEXT(name, field, argument, help)                                                                    \
    {                                                                                                        \
        name, argument, help, KIND_TEXT, offsetof(struct config, field), 0, 0,                               \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }
#define INTEGER(name, field, min, max, help)                                                                 \
    {                                                                                                        \
        name, "N", help, KIND_INTEGER, offsetof(struct config, field), min, max,                             \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }
#define CHOICE(name, field, no, yes, help)                                                                   \
    {                                                                                                        \
        name, no "|" yes, help, KIND_CHOICE, offsetof(struct config, field), 0, 0,                           \
        {                                                                                                    \
            no, yes                                                                                          \
        }                                                                                                    \
    }

#define BUDGET(name, field, help)                                                                            \
    {                                                                                                        \
        name, "BURST/HOURLY|none", help, KIND_BUDGET, offsetof(struct config, field), 0, 0,                  \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

static const struct setting settings[] = {
    TEXT("data-dir", data_dir, "DIR", "registrations and query log (default numberd-data)"),
    TEXT("listen", listen, "ADDRESS", "lookup port (default 127.0.0.1:4164; port 0: a free one)"),
    TEXT("stats-listen", stats_listen, "ADDRESS", "stats port, HTTP (default 127.0.0.1:4165; or 0)"),
    INTEGER("threads", threads, 1, 64, "worker threads, 1 to 64 (default: processors less one, at least 1)"),
    TEXT("tls-listen", tls_listen, "ADDRESS", "lookup port under TLS 1.3 (default: none)"),
    TEXT("tls-certificate", tls_certificate, "FILE",
         "the server's certificate and its chain, PEM; read again at SIGHUP, as the next two"),
    TEXT("tls-key", tls_key, "FILE", "its private key, PEM (default: in the certificate's file)"),
    TEXT("tls-client-ca", tls_client_ca, "FILE",
         "clients may show a certificate signed by these authorities, PEM, which stands for a token\n"
         "        (numberctl token add --certificate; default: none is asked for)"),
    CHOICE("stats-tls", stats_tls, "no", "yes", "the stats port speaks HTTPS (default no)"),
    TEXT(
        "proxy-listen", proxy_listen, "ADDRESS",
        "lookup port for connections through a proxy, each with a PROXY protocol header, version 2 (default: "
        "none)"),
    TEXT("proxy-from", proxy_from, "NETWORKS", "who may connect there: IP or IP/BITS, joined by commas"),
    CHOICE("proxy-tls", proxy_tls, "no", "yes", "behind that header the clients speak TLS (default no)"),
    TEXT("user", user, "NAME", "if started by root: become that user once the ports are open"),
    INTEGER("connections-max", connections_max, 1, 1000000, "connections at once (default 16384)"),
    INTEGER("connections-reserve", connections_reserve, 0, 1000,
            "the last of them, kept for tokens with the role operate; with --token-file (default 16)"),
    TEXT("operators-from", operators_from, "NETWORKS",
         "whom that reserve is for, through a proxy the proxy: IP or IP/BITS, joined by commas (default: "
         "all, so that who\n"
         "        floods from many addresses competes for it)"),
    INTEGER("connections-per-address", connections_per_address, 1, 1000000,
            "connections at once from one address: IPv4 /32, IPv6 /64 (default 4096)"),
    INTEGER("connects-per-second", connects_per_second, 0, 1000000,
            "new ones a second from one address, twice as many at once; 0: any (default 1000)"),
    TEXT(
        "redis", redis, "URL",
        "query log to Redis: redis://HOST:PORT/DB or unix:///PATH (default: segments in the data directory)"),
    TEXT("officer-key", officer_key, "FILE",
         "public key that the query log is sealed to (default: DATA-DIR/officer.public, made at the first "
         "start)"),
    CHOICE(
        "query-log-full", refuse_when_log_full, "drop", "refuse",
        "when the query log takes no more: drop the events and count them, or refuse lookups (default drop)"),
    {"query-log-bytes",
     "SIZE",
     "cap of the query log's segments on disk, K M G T allowed (default 16G)",
     KIND_BYTES,
     offsetof(struct config, query_log_bytes),
     UINT64_C(1) << 20,
     UINT64_C(1) << 50,
     {0}},
    INTEGER("retention-hours", retention_hours, QUERYLOG_RETENTION_HOURS_MIN, QUERYLOG_RETENTION_HOURS_MAX,
            "life of a query event, 2 to 720 (default 720: 30 days)"),
    {"log-ip",
     "whole|network|none",
     "how much of the asker's IP the query log keeps: all, its /24 (IPv6: /48), nothing (default whole)",
     KIND_POLICY,
     offsetof(struct config, log_ip),
     0,
     0,
     {"whole", "network", "none"}},
    CHOICE("log-misses", log_hits_only, "yes", "no",
           "whether the query log keeps lookups of numbers that are not registered (default yes)"),
    INTEGER("cache-seconds", cache_seconds, 0, 86400, "how long clients may keep an answer (default 300)"),
    TEXT(
        "token-file", token_file, "FILE",
        "clients must show one of these tokens, made by numberctl token; read again at SIGHUP (default: none "
        "needed)"),
    CHOICE("insecure", insecure, "no", "yes",
           "listen beyond loopback though anybody there may ask, or hear tokens and answers (default no)"),
    BUDGET("principal-budget", principal_budget,
           "numbers that a principal may look up: so many at once, so many an hour (default 50000/2000)"),
    INTEGER("principal-rate", principal_rate, 0, BUDGET_RATE_MAX,
            "and so many a second; 0: any (default 10000)"),
    BUDGET("network-budget", network_budget,
           "the same for all who ask from one network: IPv4 /32, IPv6 /64 and /48 (default 500000/20000)"),
    INTEGER("network-rate", network_rate, 0, BUDGET_RATE_MAX,
            "and so many a second; 0: any (default 100000)"),
    INTEGER("budget-accounts", budget_accounts, 1024, UINT64_C(1) << 28,
            "principals and networks whose budgets are kept, 64 bytes each (default 1048576)"),
    {"detect",
     "off|report|tighten",
     "who seems to walk through the numbers: ignored, reported, or reported and given a tenth of the budget "
     "for a\n"
     "        day (default tighten)",
     KIND_POLICY,
     offsetof(struct config, detection),
     0,
     0,
     {"off", "report", "tighten"}},
    INTEGER("miss-percent-max", miss_percent_max, 1, 100,
            "a larger share of numbers that are not registered is suspicious; 100: never (default 90)"),
    INTEGER("network-principals-max", network_principals_max, 0, 150,
            "more principals from one network in an hour are suspicious; 0: never (default 100)"),
    INTEGER("patience-seconds", patience_seconds, 1, 3600,
            "a client may take so long for its hello, for one frame, or for reading replies (default 20)"),
    {"buffer-bytes-max",
     "SIZE",
     "memory for frames and replies that are not complete, in all; above it a connection that holds the most "
     "is "
     "closed;\n        at least 16M a thread, K M G T allowed (default 1G)",
     KIND_BYTES,
     offsetof(struct config, buffer_bytes_max),
     UINT64_C(1) << 20,
     UINT64_C(1) << 50,
     {0}},
    CHOICE("accounts", accounts, "no", "yes", "keep account ids, 8 bytes a number (default yes)"),
    {"durability",
     "always|interval|off",
     "when a registration is acknowledged: always = when it is on the disk; interval = when the system has "
     "it,\n"
     "        which writes it every durability-interval-ms; off = when the system has it, which writes it "
     "when it\n"
     "        likes (a power cut may then lose what was acknowledged; default always)",
     KIND_POLICY,
     offsetof(struct config, durability),
     0,
     0,
     {"always", "interval", "off"}},
    INTEGER("durability-interval-ms", durability_interval_ms, 1, 60000,
            "for durability interval, 1 to 60000 (default 1000)"),
    INTEGER("snapshot-minutes", snapshot_minutes, 0, 10080,
            "write a snapshot of the registrations so often, 0 to 10080; 0: not by time (default 60)"),
    {"journal-bytes",
     "SIZE",
     "write one when the journal has grown by so much, K M G T allowed; 0: not for that (default 1G)",
     KIND_BYTES,
     offsetof(struct config, journal_bytes),
     0,
     UINT64_C(1) << 50,
     {0}},
    INTEGER("drain-seconds", drain_seconds, 0, 600,
            "patience with clients and Redis at the stop (default 5)"),
};

#define SETTING_COUNT (sizeof settings / sizeof settings[0])

/* --- values --- */

static bool parse_integer(const char *text, bool with_unit, uint64_t *value)
{
    char *end;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *value = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    static const char units[] = "KMGT";
    const char *unit = with_unit && *end != '\0' ? strchr(units, *end) : NULL;
    if (unit != NULL) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (*value > UINT64_MAX >> shift)
            return false;
        *value <<= shift;
        end++;
    }
    return *end == '\0';
}

/* Sets the field; false when the value is not one of the setting's. */
static bool assign(struct config *config, const struct setting *setting, const char *value)
{
    void *field = (char *)config + setting->offset;
    uint64_t number;
    switch (setting->kind) {
    case KIND_TEXT: {
        char *copy = value[0] == '\0' ? NULL : strdup(value);
        if (copy == NULL)
            return false;
        free(*(char **)field);
        *(char **)field = copy;
        return true;
    }
    case KIND_INTEGER:
    case KIND_BYTES:
        if (!parse_integer(value, setting->kind == KIND_BYTES, &number) || number < setting->min ||
            number > setting->max)
            return false;
        *(uint64_t *)field = number;
        return true;
    case KIND_BUDGET:
        return budget_parse(value, field);
    case KIND_POLICY:
        for (number = 0; number < CHOICES_MAX && strcmp(value, setting->choices[number]) != 0;)
            number++;
        *(uint64_t *)field = number;
        return number < CHOICES_MAX;
    case KIND_CHOICE:
        *(bool *)field = strcmp(value, setting->choices[1]) == 0;
        return *(bool *)field || strcmp(value, setting->choices[0]) == 0;
    }
    return false;
}

static bool refuse_value(const struct setting *setting, const char *where, const char *value,
                         struct fault *fault)
{
    if (setting->kind == KIND_INTEGER || setting->kind == KIND_BYTES)
        return fault_set(fault, EX_USAGE, "%s: %s is \"%s\", but must be an integer from %llu to %llu", where,
                         setting->name, value, (unsigned long long)setting->min,
                         (unsigned long long)setting->max);
    return fault_set(
        fault, EX_USAGE, "%s: %s is \"%s\", but must be %s%s", where, setting->name, value, setting->argument,
        setting->kind == KIND_BUDGET ? ": up to 1000000000 an hour, a burst of less than 100000 hours" : "");
}

static const struct setting *find_setting(const char *name)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

static bool set_defaults(struct config *config, struct fault *fault)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    *config = (struct config){.data_dir = strdup("numberd-data"),
                              .listen = strdup("127.0.0.1:4164"),
                              .stats_listen = strdup("127.0.0.1:4165"),
                              .threads = processors > 65  ? 64
                                         : processors > 2 ? (uint64_t)processors - 1
                                                          : 1,
                              .connections_max = 16384,
                              .connections_reserve = 16,
                              .connections_per_address = 4096,
                              .connects_per_second = 1000,
                              .cache_seconds = 300,
                              .retention_hours = QUERYLOG_RETENTION_HOURS_MAX,
                              .query_log_bytes = UINT64_C(16) << 30,
                              .drain_seconds = 5,
                              .durability_interval_ms = 1000,
                              .snapshot_minutes = 60,
                              .journal_bytes = UINT64_C(1) << 30,
                              .principal_budget = BUDGET_PRINCIPAL_DEFAULT,
                              .principal_rate = BUDGET_PRINCIPAL_RATE_DEFAULT,
                              .network_budget = BUDGET_NETWORK_DEFAULT,
                              .network_rate = BUDGET_NETWORK_RATE_DEFAULT,
                              .budget_accounts = BUDGET_ACCOUNTS_DEFAULT,
                              .detection = DETECTION_TIGHTEN,
                              .miss_percent_max = MISS_PERCENT_MAX_DEFAULT,
                              .network_principals_max = NETWORK_PRINCIPALS_MAX_DEFAULT,
                              .patience_seconds = 20,
                              .buffer_bytes_max = UINT64_C(1) << 30,
                              .accounts = true};
    if (config->data_dir == NULL || config->listen == NULL || config->stats_listen == NULL)
        return fault_set(fault, EX_OSERR, "out of memory");
    return true;
}

/* --- the file --- */

struct file_reader {
    struct config *config;
    const char *path;
    FILE *file;
    unsigned line;
    struct fault *fault; /* the first one; status 0: none yet */
};

static void skip_blanks(FILE *file)
{
    int next;
    while ((next = getc(file)) == ' ' || next == '\t')
        ;
    if (next != EOF)
        (void)ungetc(next, file);
}

/* Lends inih a line, in place of fgets(3), with which it would take the tail of a line that is too long for it, be it a
 * comment's, for a setting; and one that is indented for the rest of the value before. */
static char *lend_line(char *line, int room, void *context)
{
    struct file_reader *reader = context;
    int length = 0;
    reader->line++;
    skip_blanks(reader->file);
    for (int next; reader->fault->status == 0 && (next = getc(reader->file)) != EOF;) {
        if (next == '\0' || length == room - 1) {
            fault_set(reader->fault, EX_CONFIG, "%s line %u: %s", reader->path, reader->line,
                      next == '\0' ? "not a text" : "longer than 198 characters");
            return NULL;
        }
        line[length++] = (char)next;
        if (next == '\n')
            break;
    }
    line[length] = '\0';
    return length == 0 || reader->fault->status != 0 ? NULL : line;
}

static int take_key(void *context, const char *section, const char *name, const char *value)
{
    struct file_reader *reader = context;
    if (value == NULL)
        value = "";
    if (reader->fault->status != 0)
        return 0;
    const struct setting *setting = section[0] == '\0' ? find_setting(name) : NULL;
    if (setting == NULL) {
        fault_set(reader->fault, EX_CONFIG, "%s: unknown key \"%s\"; numberd --help lists the keys",
                  reader->path, name);
        return 0;
    }
    if (assign(reader->config, setting, value))
        return 1;
    refuse_value(setting, reader->path, value, reader->fault);
    reader->fault->status = EX_CONFIG;
    return 0;
}

static bool read_file(struct config *config, const char *path, struct fault *fault)
{
    struct file_reader reader = {.config = config, .path = path, .file = fopen(path, "re"), .fault = fault};
    fault->status = 0;
    if (reader.file == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the configuration %s: %s", path, strerror(errno));
    int result = ini_parse_stream(lend_line, &reader, take_key, &reader);
    bool is_broken = ferror(reader.file) != 0;
    fclose(reader.file);
    if (fault->status != 0)
        return false;
    if (is_broken)
        return fault_set(fault, EX_IOERR, "cannot read the configuration %s", path);
    if (result > 0)
        return fault_set(fault, EX_CONFIG, "%s line %d: not of the form KEY = VALUE", path, result);
    return true;
}

/* --- the command line --- */

static void print_help(void)
{
    printf("numberd: answers whether phone numbers are registered, and logs who asked.\n\n"
           "usage: numberd [--NAME VALUE]...\n\n"
           "  --config FILE  lines NAME = VALUE with the names below; flags win over the file\n");
    for (size_t i = 0; i < SETTING_COUNT; i++)
        printf("  --%s %s\n        %s\n", settings[i].name, settings[i].argument, settings[i].help);
    printf(
        "  --help, --version\n\nSIGTERM and SIGINT stop it in order: clients are answered, the query log "
        "is written, "
        "a\nsnapshot of the registrations is saved. SIGHUP: token file and certificate are read again. The "
        "protocol is\ndescribed in server/PROTOCOL.md.\n");
}

enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_CONFIG };

static void make_options(struct option options[SETTING_COUNT + 4])
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        options[i] = (struct option){settings[i].name, required_argument, NULL, (int)i};
    options[SETTING_COUNT] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    options[SETTING_COUNT + 1] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    options[SETTING_COUNT + 2] = (struct option){"config", required_argument, NULL, OPTION_CONFIG};
    options[SETTING_COUNT + 3] = (struct option){0};
}

/* One walk over the flags: the first for --help, --version and --config, the second for the settings. */
static enum config_result walk_flags(struct config *config, int argc, char **argv, bool settings_too,
                                     const char **file, struct fault *fault)
{
    struct option options[SETTING_COUNT + 4];
    make_options(options);
    opterr = 0;
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (option == OPTION_HELP) {
            print_help();
            return CONFIG_EXIT;
        }
        if (option == OPTION_VERSION) {
            puts("numberd " NUMBERD_VERSION);
            return CONFIG_EXIT;
        }
        const char *value = optarg == NULL ? "" : optarg; /* the settings and --config all have one */
        if (option == OPTION_CONFIG) {
            *file = value;
        } else if (option == '?' || option == ':') {
            char short_flag[3] = {'-', (char)optopt, 0};
            fault_set(fault, EX_USAGE, "%s: %s; numberd --help lists the flags",
                      option == '?' && optopt != 0 ? short_flag : argv[optind - 1],
                      option == ':' ? "the value is missing" : "unknown or ambiguous flag");
            return CONFIG_FAULT;
        } else if (settings_too && !assign(config, &settings[option], value)) {
            refuse_value(&settings[option], "command line", value, fault);
            return CONFIG_FAULT;
        }
    }
    if (optind < argc) {
        fault_set(fault, EX_USAGE, "\"%s\" is not understood; numberd --help lists the flags", argv[optind]);
        return CONFIG_FAULT;
    }
    return CONFIG_RUN;
}

enum config_result config_read(struct config *config, int argc, char **argv, struct fault *fault)
{
    const char *file = NULL;
    if (!set_defaults(config, fault))
        return CONFIG_FAULT;
    enum config_result result = walk_flags(config, argc, argv, false, &file, fault);
    if (result != CONFIG_RUN)
        return result;
    if (file != NULL && !read_file(config, file, fault))
        return CONFIG_FAULT;
    return walk_flags(config, argc, argv, true, &file, fault);
}

void config_deinit(struct config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (settings[i].kind == KIND_TEXT)
            free(*(char **)(void *)((char *)config + settings[i].offset));
}
