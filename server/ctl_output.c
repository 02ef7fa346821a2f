/* What numberctl's verbs share; see numberctl.h. */
#include "server/numberctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "hashing/phone.h"

#define OPTIONS_MAX 32

int ctl_fail(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("numberctl: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

const char *ctl_shown(const char *word)
{
    unsigned digits = 0;
    for (const char *c = word; *c != '\0'; c++)
        digits += *c >= '0' && *c <= '9';
    /* Nothing but digits and what people put between them: a file's name or a verb has something else. */
    bool is_number_like = digits >= 5 && word[strspn(word, "0123456789+-.() ")] == '\0';
    return is_number_like ? "(hidden: it may be a number)" : word;
}

/* --- options --- */

static void print_options(const struct ctl_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", options[i].name, options[i].argument == NULL ? "" : " ",
                 options[i].argument == NULL ? "" : options[i].argument);
        printf("  %-24s %s\n", left, options[i].help);
    }
}

static void make_getopt(const struct ctl_option *options, size_t count, struct option *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (struct option){options[i].name,
                                 options[i].argument == NULL ? no_argument : required_argument, NULL, (int)i};
    out[count] = (struct option){"help", no_argument, NULL, OPTIONS_MAX};
    out[count + 1] = (struct option){0};
}

/* What every verb has; returns how many. */
static size_t add_common(struct ctl_common *common, struct ctl_option *all)
{
    const struct ctl_option shared[] = {
        {"server", "ADDRESS", "the server (default " CTL_SERVER_DEFAULT ")", &common->server, NULL},
        {"token-file", "FILE", "file whose first word is the token to show", &common->token_file, NULL},
        {"tls", NULL, "speak TLS with the server", NULL, &common->tls},
        {"tls-ca", "FILE", "who must have signed its certificate, PEM (default: whom the system trusts)",
         &common->tls_ca, NULL},
        {"tls-name", "NAME", "whom it must be for (default: the server's host)", &common->tls_name, NULL},
        {"tls-certificate", "FILE", "certificate to show, PEM", &common->tls_certificate, NULL},
        {"tls-key", "FILE", "its private key, PEM (default: in the certificate's file)", &common->tls_key,
         NULL},
        {"json", NULL, "one JSON object a line", NULL, &common->json},
    };
    memcpy(all, shared, sizeof shared);
    return sizeof shared / sizeof shared[0];
}

int ctl_parse(struct ctl_common *common, const char *verb, const char *synopsis, const char *about,
              const struct ctl_option *options, size_t option_count, int *argc, char ***argv)
{
    *common = (struct ctl_common){.server = CTL_SERVER_DEFAULT};
    struct ctl_option all[OPTIONS_MAX];
    struct option known[OPTIONS_MAX + 2];
    for (size_t i = 0; i < option_count; i++)
        all[i] = options[i];
    size_t count = option_count + add_common(common, &all[option_count]);
    make_getopt(all, count, known);
    opterr = 0;
    optind = 1;
    for (int found; (found = getopt_long(*argc, *argv, ":", known, NULL)) != -1;) {
        if (found == OPTIONS_MAX) {
            printf("usage: numberctl %s %s\n\n%s\n\n", verb, synopsis, about);
            print_options(all, count);
            return EX_OK;
        }
        if (found == '?' && optopt != 0)
            return ctl_fail(EX_USAGE, "-%c: unknown option; see numberctl %s --help", optopt, verb);
        if (found == '?' || found == ':')
            return ctl_fail(EX_USAGE, "%s: %s; see numberctl %s --help", ctl_shown((*argv)[optind - 1]),
                            found == ':' ? "the value is missing" : "unknown or ambiguous option", verb);
        if (all[found].flag != NULL)
            *all[found].flag = true;
        else
            *all[found].text = optarg;
    }
    *argc -= optind;
    *argv += optind;
    return -1;
}

/* --- the server --- */

/* For one of several servers to be ready. */
#define CLUSTER_PATIENCE_MS 5000

static bool use_tls(const struct ctl_common *common, struct client_options *options, char *error,
                    size_t error_bytes)
{
    const struct tls_files files = {common->tls_certificate, common->tls_key, common->tls_ca};
    bool has_file = files.certificate != NULL || files.key != NULL || files.authority != NULL;
    if (!common->tls && !has_file && common->tls_name == NULL)
        return true;
    if (files.key != NULL && files.certificate == NULL) {
        snprintf(error, error_bytes, "--tls-key wants --tls-certificate, the certificate that it belongs to");
        return false;
    }
    signal(SIGPIPE, SIG_IGN); /* as client.h asks for */
    options->tls_name = common->tls_name;
    options->tls = tls_context_client(&files, error, error_bytes);
    return options->tls != NULL;
}

/* Of what the server said last, or of a server that is not there. */
static int status_of(const struct client *client)
{
    switch (client_code(client)) {
    case WIRE_UNAUTHORIZED:
    case WIRE_FORBIDDEN:
        return EX_NOPERM;
    case WIRE_UNAVAILABLE:
    case WIRE_NOT_READY:
    case WIRE_READ_ONLY:
        return EX_TEMPFAIL;
    default:
        return EX_UNAVAILABLE;
    }
}

/* False with the status and why not. Then release options->tls. */
static bool read_options(const struct ctl_common *common, struct client_options *options,
                         char token[static WIRE_TOKEN_BYTES_MAX + 1], int *status, char *error,
                         size_t error_bytes)
{
    *options = (struct client_options){.server = common->server};
    if (common->token_file != NULL) {
        if (!client_read_token(common->token_file, token)) {
            *status = EX_NOINPUT;
            snprintf(error, error_bytes, "cannot read a token from %s", common->token_file);
            return false;
        }
        options->token = token;
    }
    *status = EX_CONFIG;
    return use_tls(common, options, error, error_bytes);
}

/* Connects; NULL with the status and why not. */
static struct client *try_to_connect(const struct ctl_common *common, int *status, char *error,
                                     size_t error_bytes)
{
    char token[WIRE_TOKEN_BYTES_MAX + 1];
    struct client_options options;
    if (!read_options(common, &options, token, status, error, error_bytes))
        return NULL;
    struct client *client = client_create(&options);
    tls_context_release(options.tls);
    if (client != NULL && client_reconnect(client))
        return client;
    *status = client == NULL ? EX_OSERR : status_of(client);
    snprintf(error, error_bytes, "%s", client == NULL ? "out of memory" : client_error(client));
    client_close(client);
    return NULL;
}

struct client *ctl_connect(const struct ctl_common *common, int *status)
{
    char error[512];
    int failed;
    struct client *client = try_to_connect(common, &failed, error, sizeof error);
    if (client == NULL)
        *status = ctl_fail(failed, "%s", error);
    return client;
}

struct client_cluster *ctl_connect_cluster(const struct ctl_common *common, int *status)
{
    char error[512];
    char token[WIRE_TOKEN_BYTES_MAX + 1];
    struct client_options options;
    struct client_cluster *cluster = NULL;
    int failed;
    if (read_options(common, &options, token, &failed, error, sizeof error)) {
        options.patience_ms = CLUSTER_PATIENCE_MS;
        failed = EX_UNAVAILABLE;
        cluster = client_cluster_connect(&options, error, sizeof error);
        tls_context_release(options.tls);
    }
    if (cluster == NULL)
        *status = ctl_fail(failed, "%s", error);
    return cluster;
}

int ctl_fail_client(const struct client *client)
{
    return ctl_fail(status_of(client), "%s", client_error(client));
}

int ctl_take_snapshot(struct client *client, enum wire_type type)
{
    struct wire_reply reply;
    if (!client_send_plain(client, type) || !client_finish(client, &reply))
        return ctl_fail_client(client);
    if (reply.body_bytes < 8)
        return ctl_fail(EX_PROTOCOL, "the server's reply to the snapshot request is too short");
    json_int_t number = (json_int_t)wire_get_u64(reply.body);
    for (;;) {
        json_int_t done = 0;
        json_int_t good = 0;
        if (!client_send_plain(client, WIRE_STATS) || !client_finish(client, &reply))
            return ctl_fail_client(client);
        json_t *stats = json_loadb((const char *)reply.body, reply.body_bytes, 0, NULL);
        json_unpack(stats, "{s:{s:I, s:I}}", "snapshot", "number", &done, "good_number", &good);
        json_decref(stats);
        if (good >= number)
            return EX_OK;
        if (done >= number)
            return ctl_fail(EX_IOERR, "the server could not write the snapshot; its log says why");
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

/* The server asked must be the one that has the directory open, or its snapshot is of no use there. */
static int check_server(const struct ctl_common *common, struct client *client, const char *data_dir,
                        uint64_t server_id)
{
    struct wire_reply reply;
    const char *server = "";
    if (!client_send_plain(client, WIRE_STATS) || !client_finish(client, &reply))
        return ctl_fail_client(client);
    json_t *stats = json_loadb((const char *)reply.body, reply.body_bytes, 0, NULL);
    json_unpack(stats, "{s:s}", "server", &server);
    bool same = strtoull(server, NULL, 16) == server_id;
    json_decref(stats);
    return same ? EX_OK
                : ctl_fail(EX_USAGE,
                           "the server at %s does not serve %s; name the one that does with --server",
                           common->server, data_dir);
}

int ctl_refresh_snapshot(const struct ctl_common *common, const char *data_dir, uint64_t server_id,
                         const char *otherwise)
{
    char error[512];
    int status;
    struct client *client = try_to_connect(common, &status, error, sizeof error);
    if (client == NULL)
        return ctl_fail(status, "%s is in use, and its server was not reached (%s); name it with --server%s",
                        data_dir, error, otherwise);
    status = check_server(common, client, data_dir, server_id);
    if (status == EX_OK)
        status = ctl_take_snapshot(client, WIRE_SNAPSHOT);
    client_close(client);
    return status;
}

bool ctl_close(FILE *stream)
{
    bool failed = ferror(stream) != 0; /* of an earlier write: closing says nothing of it */
    return fclose(stream) == 0 && !failed;
}

/* --- values --- */

bool ctl_number(const char *text, const char *which, uint64_t *number)
{
    return ctl_number_of(text, strlen(text), which, number);
}

bool ctl_number_of(const char *text, size_t length, const char *which, uint64_t *number)
{
    enum phone_error error = phone_parse(text, length, number);
    if (error == PHONE_OK)
        return true;
    ctl_fail(EX_DATAERR, "%s: the number %s", which, phone_error_text(error));
    return false;
}

bool ctl_unsigned(const char *text, const char *which, uint64_t max, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value <= max)
        return true;
    ctl_fail(EX_USAGE, "%s must be an integer from 0 to %" PRIu64, which, max);
    return false;
}

bool ctl_time(const char *text, const char *which, uint64_t *time_ms)
{
    struct tm utc = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (end == NULL || *end != '\0') {
        utc = (struct tm){0};
        end = strptime(text, "%Y-%m-%d", &utc);
    }
    if (end == NULL || *end != '\0') {
        ctl_fail(EX_USAGE, "%s must be a time in UTC, like 2026-11-24 or 2026-11-24T10:30:00Z", which);
        return false;
    }
    struct tm given = utc;
    time_t seconds = timegm(&utc);
    if (seconds < 0 || utc.tm_mday != given.tm_mday) {
        ctl_fail(EX_USAGE, "%s is no date from 1970 on", which);
        return false;
    }
    *time_ms = (uint64_t)seconds * 1000;
    return true;
}

uint64_t ctl_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ctl_print_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}
