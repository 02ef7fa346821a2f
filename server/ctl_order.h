/* A legal order as the verbs that open the query log have it: its options, its entries in the ledger, the query that it makes, and
 * the keys that open it. For numberctl alone; one thread. */
#ifndef NUMBERD_SERVER_CTL_ORDER_H
#define NUMBERD_SERVER_CTL_ORDER_H

#include <limits.h>
#include <stdbool.h>

#include <jansson.h>

#include "persist/fault.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/hold.h"
#include "persist/querylog/ledger.h"
#include "persist/querylog/officer.h"
#include "server/numberctl.h"

/* Options that all these verbs have. */
#define ORDER_OPTIONS 15

struct order {
    const char *reference;
    const char *authority;
    const char *country;
    const char *basis;
    const char *number;
    const char *requester;
    const char *ip;
    const char *from;
    const char *until;
    /* Who opens the log, and where it is. */
    const char *key;
    const char *second_key;
    const char *data_dir;
    const char *keys;
    const char *redis;
    const char *hold; /* a file of records that were held; NULL: the log */
    const char *ledger;

    char folder[PATH_MAX]; /* of the segments */
    char ledger_path[PATH_MAX];
    struct ledger_state ledger_state;
};

void order_options(struct order *order, struct ctl_option options[static ORDER_OPTIONS]);

/* Checks what was given and fills the query. `missing` names a part of the verb's own that was not given, NULL: none. A status
 * other than EX_OK was printed, and the refusal entered. */
int order_prepare(struct order *order, const char *missing, struct disclose_query *query);

/* Reads the officer's key, opens the hours' keys (query->keys: close them in any case), and enters it. A status other than EX_OK
 * was printed, and the refusal entered. The caller wipes `officer`. */
int order_open(struct order *order, struct disclose_query *query, struct officer_pair *officer);

/* Reads what the order names from where it says. */
bool order_read(const struct order *order, const struct disclose_query *query,
                const struct officer_pair *officer, const struct disclose_target *target,
                struct fault *fault);

/* What was asked for, under the names that ETSI TS 102 657 has for a request where it has one. */
json_t *order_describe(const struct order *order);

/* Appends an entry about this order to the ledger; `more` is taken over. */
bool order_note(struct order *order, const char *event, json_t *more, struct fault *fault);

/* Prints why not, and enters it if there is a ledger to be had: nothing was opened, so its failure changes nothing. Returns the
 * status. */
int order_refuse(struct order *order, const char *event, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
