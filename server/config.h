/* The configuration of numberd: defaults, then the file, then the flags.
 *
 * Every flag --NAME VALUE is also a key NAME = VALUE of the file (inih, no section). For the main alone. */
#ifndef NUMBERD_SERVER_CONFIG_H
#define NUMBERD_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "server/access/budgets.h"

struct config {
    char *data_dir;
    char *listen;
    char *stats_listen;
    char *redis; /* NULL: the query log stays in the data directory */
    char *
        registrations; /* URL of the Redis whose feed they come from; NULL: the data directory is the truth */
    char *holds;       /* with registrations: partitions, as hashing/partition.h has them; NULL: all */
    char *advertise;   /* with registrations: where clients reach it; NULL: where it listens */
    char *officer_key; /* NULL: the data directory's */
    char *token_file;  /* NULL: no client needs a token */
    char *tls_listen;  /* NULL: no such port */
    char *tls_certificate;
    char *tls_key;        /* NULL: it is in the certificate's file */
    char *tls_client_ca;  /* NULL: clients are asked for no certificate */
    char *proxy_listen;   /* NULL: no such port */
    char *proxy_from;     /* with proxy_listen: networks, joined by commas */
    char *operators_from; /* NULL: they may come from anywhere */
    char *user;           /* NULL: the one who starts it */
    uint64_t threads;
    uint64_t connections_max;
    uint64_t connections_reserve;
    uint64_t connections_per_address;
    uint64_t connects_per_second;
    uint64_t cache_seconds;
    uint64_t retention_hours;
    uint64_t query_log_bytes;
    uint64_t drain_seconds;
    uint64_t durability; /* enum journal_policy */
    uint64_t durability_interval_ms;
    uint64_t snapshot_minutes;
    uint64_t journal_bytes;
    uint64_t min_replicas;
    uint64_t catch_up_percent;
    uint64_t partitions;
    uint64_t stale_seconds;
    uint64_t log_ip;     /* enum query_ip */
    uint64_t log_format; /* enum log_format */
    uint64_t log_level;  /* 0: all; 1: warnings and errors; 2: errors */
    struct budget_limits principal_budget;
    struct budget_limits network_budget;
    uint64_t principal_rate;
    uint64_t network_rate;
    uint64_t budget_accounts;
    uint64_t detection; /* enum detection */
    uint64_t miss_percent_max;
    uint64_t network_principals_max;
    uint64_t patience_seconds;
    uint64_t buffer_bytes_max;
    bool insecure;
    bool proxy_tls;
    bool stats_tls;
    bool log_hits_only;
    bool refuse_when_log_full;
    bool refuse_stale;
    bool share;
    bool accounts;
};

enum config_result { CONFIG_RUN, CONFIG_EXIT, CONFIG_CHECK, CONFIG_FAULT };

/* Reads the command line. CONFIG_EXIT: something was asked for and printed, and that is all. CONFIG_CHECK: what the settings name
 * is to be looked at, and nothing else to be done. CONFIG_FAULT: one line in
 * `fault`. config_deinit in every case. */
enum config_result config_read(struct config *config, int argc, char **argv, struct fault *fault);
void config_deinit(struct config *config);

#endif
