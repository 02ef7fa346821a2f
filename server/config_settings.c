/* The settings of numberd; see config_settings.h. */
#include "server/config_settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persist/querylog/querylog.h"
#include "persist/registrations/feed.h"

#define NAME_BYTES_MAX 64

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
    TEXT("stats-listen", stats_listen, "ADDRESS",
         "stats port, HTTP (default 127.0.0.1:4165; port 0: a free one)"),
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
    TEXT("redis", redis, "URL",
         "query log to Redis: redis://HOST:PORT/DB or unix:///PATH, or a cluster's nodes, "
         "redis://HOST:PORT,HOST:PORT "
         "(default: segments in the data directory)"),
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
    TEXT("registrations", registrations, "URL",
         "registrations come from a feed in Redis that several servers share, and changes go there: a URL as "
         "for "
         "redis\n"
         "        (default: none, the data directory is the truth)"),
    INTEGER("min-replicas", min_replicas, 0, 16,
            "with registrations: replicas of Redis that must have a change before it counts (default 0)"),
    INTEGER("catch-up-percent", catch_up_percent, 1, 100,
            "with registrations: of its time that it reads the feed until it is ready, so that others are "
            "not slowed down, for "
            "ten minutes at most\n        (1 to 100, default 25)"),
    INTEGER("partitions", partitions, 1, FEED_PARTITIONS_MAX,
            "with registrations: streams of a feed that is not there yet, 1 to 256 (default 16)"),
    TEXT("holds", holds, "LIST",
         "with registrations: the partitions that this server holds, such as 0-7,12; it knows nothing of "
         "numbers "
         "in others\n        (default: all)"),
    TEXT("advertise", advertise, "ADDRESS",
         "with registrations: HOST:PORT at which clients reach it, for the map that they get (default: as "
         "listen)"),
    CHOICE("share", share, "no", "yes",
           "with registrations: another server may copy what this one has from the stats port, with a token "
           "of the role\n"
           "        replicate, or without --token-file from this machine (numberctl fetch; default no)"),
    INTEGER("stale-seconds", stale_seconds, 1, 86400,
            "with registrations: what has not followed the feed for so long is stale (default 10)"),
    CHOICE(
        "stale", refuse_stale, "serve", "refuse",
        "and then: answer lookups, which clients can see and must not cache, or refuse them (default serve)"),
    {"durability",
     "always|interval|off",
     "when a registration is acknowledged: always = when it is on the disk; interval = when the system has "
     "it,\n"
     "        which writes it every durability-interval-ms; off = when the system has it, which writes it "
     "when it\n"
     "        likes (a power cut may then lose what was acknowledged; default always). With registrations of "
     "no account:\n"
     "        what Redis has is acknowledged",
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
    {"log-format",
     "plain|keys|json",
     "lines on standard error: plain, key=value, or a JSON object each (default plain)",
     KIND_POLICY,
     offsetof(struct config, log_format),
     0,
     0,
     {"plain", "keys", "json"}},
    {"log-level",
     "notice|warning|error",
     "which of them: all, warnings and errors, or errors (default notice)",
     KIND_POLICY,
     offsetof(struct config, log_level),
     0,
     0,
     {"notice", "warning", "error"}},
    INTEGER("drain-seconds", drain_seconds, 0, 600,
            "patience with clients and Redis at the stop (default 5)"),
};

#define SETTING_COUNT (sizeof settings / sizeof settings[0])

const struct setting *setting_list(size_t *count)
{
    *count = SETTING_COUNT;
    return settings;
}

const struct setting *setting_find(const char *name)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Letters to insert, take out or change to make one of the other (Wagner and Fischer). */
static size_t distance(const char *from, const char *to)
{
    size_t row[NAME_BYTES_MAX + 1];
    size_t length = strlen(to);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; from[i - 1] != '\0'; i++) {
        size_t corner = row[0]; /* of the row above, one to the left */
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j];
            size_t changed = corner + (from[i - 1] != to[j - 1]);
            row[j] = least_of(changed, least_of(above, row[j - 1]) + 1);
            corner = above;
        }
    }
    return row[length];
}

const struct setting *setting_nearest(const char *name)
{
    const struct setting *nearest = NULL;
    size_t length = strlen(name);
    size_t least = length / 3 + 1;
    for (size_t i = 0; length <= NAME_BYTES_MAX && i < SETTING_COUNT; i++) {
        size_t different = distance(name, settings[i].name);
        if (different < least) {
            least = different;
            nearest = &settings[i];
        }
    }
    return nearest;
}

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

bool setting_assign(struct config *config, const struct setting *setting, const char *value)
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
        for (number = 0; number < SETTING_CHOICES_MAX && strcmp(value, setting->choices[number]) != 0;)
            number++;
        *(uint64_t *)field = number;
        return number < SETTING_CHOICES_MAX;
    case KIND_CHOICE:
        *(bool *)field = strcmp(value, setting->choices[1]) == 0;
        return *(bool *)field || strcmp(value, setting->choices[0]) == 0;
    }
    return false;
}

/* In the largest unit that it is a whole number of. */
static void format_bytes(uint64_t bytes, char value[static SETTING_VALUE_BYTES])
{
    static const char units[] = "KMGT";
    unsigned unit = 0;
    while (unit < sizeof units - 1 && bytes > 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(value, SETTING_VALUE_BYTES, "%" PRIu64, bytes);
    else
        snprintf(value, SETTING_VALUE_BYTES, "%" PRIu64 "%c", bytes, units[unit - 1]);
}

void setting_format(const struct config *config, const struct setting *setting,
                    char value[static SETTING_VALUE_BYTES])
{
    const void *field = (const char *)config + setting->offset;
    const char *text = "";
    switch (setting->kind) {
    case KIND_TEXT:
        text = *(char *const *)field;
        break;
    case KIND_INTEGER:
        snprintf(value, SETTING_VALUE_BYTES, "%" PRIu64, *(const uint64_t *)field);
        return;
    case KIND_BYTES:
        format_bytes(*(const uint64_t *)field, value);
        return;
    case KIND_BUDGET:
        budget_format(field, value);
        return;
    case KIND_POLICY:
        text = setting->choices[*(const uint64_t *)field];
        break;
    case KIND_CHOICE:
        text = setting->choices[*(const bool *)field];
        break;
    }
    snprintf(value, SETTING_VALUE_BYTES, "%s", text == NULL ? "" : text);
}
