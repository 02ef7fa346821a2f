/* numberload's command line. */
#ifndef NUMBERD_LOADTEST_LOAD_OPTIONS_H
#define NUMBERD_LOADTEST_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "load_dialect.h"
#include "server/tls.h"

enum load_verb { LOAD_GENERATE, LOAD_VERIFY, LOAD_RUN, LOAD_REGISTER, LOAD_FLOOR };
enum load_draw { LOAD_UNIFORM, LOAD_ZIPF, LOAD_SEQUENTIAL };

struct load_options {
    enum load_verb verb;
    const char *server; /* of the floor: where it listens */
    const struct load_dialect *dialect;
    char *token; /* NULL: none */
    struct tls_files tls_files;
    bool wants_tls;
    struct tls_context *tls; /* NULL: plain */
    const char *tls_name;
    uint64_t count; /* registered numbers of the population */
    uint64_t seed;
    uint64_t connections;
    uint64_t threads;
    uint64_t outstanding; /* closed loop: requests under way on each connection */
    uint64_t spin_us;     /* closed loop: so long replies are looked for before the thread sleeps */
    uint64_t rate;        /* numbers per second; 0: closed loop */
    bool poisson;         /* open loop: requests at random moments; else evenly */
    uint64_t batch;       /* numbers in a request */
    bool books;           /* requests as large as address books; else `batch` */
    uint64_t seconds;     /* 0: until `numbers` are answered */
    uint64_t numbers;     /* 0: until `seconds` are over */
    uint64_t warmup_seconds;
    uint64_t churn;        /* connections closed and opened anew in a second */
    uint64_t slow_readers; /* connections beside the others */
    enum load_draw draw;
    double zipf_exponent;
    double hit_ratio;
    double register_ratio;        /* of the requests of a run */
    const char *percentiles_path; /* NULL: no such file */
    const char *page_path;
    bool json;
};

/* Returns -1 to go on, or the exit status after help or a mistake, which were printed. */
int load_options_read(struct load_options *options, int argc, char **argv);

#endif
