/* numberctl's verbs and what they share: options, numbers from the command line, errors, output.
 *
 * A verb is a function that gets its arguments without options and returns a sysexits status. Each verb's
 * options are a table, from which both the parsing and the help come. */
#ifndef NUMBERD_SERVER_NUMBERCTL_H
#define NUMBERD_SERVER_NUMBERCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "server/client.h"
#include "server/client_cluster.h"

#define CTL_SERVER_DEFAULT "127.0.0.1:4164"
#define CTL_DATA_DIR_DEFAULT "numberd-data"

struct ctl_option {
    const char *name;
    const char *argument; /* NULL: a switch */
    const char *help;
    const char **text; /* set for an option with argument */
    bool *flag;        /* set to true for a switch */
};

/* What every verb has. */
struct ctl_common {
    const char *server;
    const char *token_file;
    const char *tls_ca;
    const char *tls_certificate;
    const char *tls_key;
    const char *tls_name;
    bool tls;
    bool json;
};

/* Splits options from arguments; `*argc` and `*argv` are then the arguments. Returns -1 to go on, or the status
 * with which to end (help, or a mistake that was printed). `synopsis` is the verb's line of arguments. */
int ctl_parse(struct ctl_common *common, const char *verb, const char *synopsis, const char *about,
              const struct ctl_option *options, size_t option_count, int *argc, char ***argv);

/* Prints "numberctl: ..." on standard error and returns the status. */
int ctl_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The word as it may be shown, since nobody's phone number goes into an error: hidden when it looks
 * like one. */
const char *ctl_shown(const char *word);

/* Connects, or prints why not and returns NULL with `*status` set. */
struct client *ctl_connect(const struct ctl_common *common, int *status);

/* Those of the server that is named and all that share its feed: for who was told ELSEWHERE. */
struct client_cluster *ctl_connect_cluster(const struct ctl_common *common, int *status);

/* The exit status for a client's failure, printed. */
int ctl_fail_client(const struct client *client);

/* A number from the command line; prints why not, without the number itself. `which` names its place. */
bool ctl_number(const char *text, const char *which, uint64_t *number);
bool ctl_number_of(const char *text, size_t length, const char *which, uint64_t *number);
bool ctl_unsigned(const char *text, const char *which, uint64_t max, uint64_t *value);

/* "2026-11-24" or "2026-11-24T10:30:00Z", UTC; milliseconds since 1970. */
bool ctl_time(const char *text, const char *which, uint64_t *time_ms);
uint64_t ctl_now_ms(void);

/* Prints the object on one line and frees it. */
void ctl_print_json(json_t *object);

/* Asks the server for a snapshot (or WIRE_REPLACE_ALL) and waits until it is written; prints why not. */
int ctl_take_snapshot(struct client *client, enum wire_type type);

/* Has the server that holds the data directory write a snapshot there; prints why not, also when another one answers.
 * `otherwise` is added to the advice when none does. */
int ctl_refresh_snapshot(const struct ctl_common *common, const char *data_dir, uint64_t server_id,
                         const char *otherwise);

/* Closes the stream; false when anything that was written to it is not there. */
bool ctl_close(FILE *stream);

int ctl_lookup(int argc, char **argv);
int ctl_register(int argc, char **argv);
int ctl_deregister(int argc, char **argv);
int ctl_move(int argc, char **argv);
int ctl_import(int argc, char **argv);
int ctl_export(int argc, char **argv);
int ctl_check(int argc, char **argv);
int ctl_cluster(int argc, char **argv);
int ctl_fetch(int argc, char **argv);
int ctl_snapshot(int argc, char **argv);
int ctl_stats(int argc, char **argv);
int ctl_top(int argc, char **argv);
int ctl_ping(int argc, char **argv);
int ctl_disclose(int argc, char **argv);
int ctl_officer_key(int argc, char **argv);
int ctl_ledger(int argc, char **argv);
int ctl_verify(int argc, char **argv);
int ctl_plan(int argc, char **argv);
int ctl_hold(int argc, char **argv);
int ctl_token(int argc, char **argv);

#endif
