/* How many numbers may be looked up: by each principal, and from each network; and who seems to walk through the numbers.
 *
 * A lookup is charged to its asker's accounts: a principal (the token's; or whom a front end names, and then the front end's own
 * if its token has a budget of its own) and the networks of the IP address (IPv4: the /32; IPv6: the /64 and the /48). Each account has a budget, so many numbers at once after a rest and so many an hour, and a rate,
 * so many a second; both by the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a theoretical arrival time (TAT)
 * that each number moves on by its cost, and that may lie no further ahead of the clock than the burst. What does not fit into all
 * of an asker's accounts is not looked up.
 *
 * Detectors look at what was looked up. They see
 *   misses      of 2,000 numbers or more, a larger share than allowed was not registered
 *   density     of what was asked in a day, whatever the order, more than 10 sampled numbers lie in each block of 1,000 numbers:
 *               one number in 32 is sampled, numbers and blocks are counted by HyperLogLogs of 12 registers (Flajolet and
 *               others), and judged from 128 on. A walk through all numbers of a range has 31, the address book of somebody in
 *               a city of ten million 1
 *   principals  more principals than allowed came from one network within an hour (linear counting, Whang and others)
 * The first two watch the principal, or the networks of those who have none; the last the networks. An account that one of them
 * has seen is strict for 24 hours from the last time: each number costs it ten times as much.
 *
 * Memory: a table of fixed size, 64 bytes an account, in sets of eight. Where a set is full of accounts that owe something, the
 * newcomer takes the place and the debt of the one that is even first (as in the Space-Saving algorithm of Metwally, Agrawal, El
 * Abbadi): the least debt in a set never falls, so nobody gets rid of a debt by having others push it out; the price is that
 * strangers may find a debt there while more accounts are in use than the table has. Strictness is taken along as that much debt.
 * The keys are SipHash under a key of this process: nobody can choose whom to share a set with. Nothing is kept over a restart.
 *
 * Threads: all functions but create and destroy, from any thread. An account is a few atomic words, relaxed: no word's value says
 * anything about another's. The two TATs move by compare-and-swap (unless there is one thread), so no charge is lost; where two threads charge an account at
 * once, each may let through what the last of the budget was good for, but both are charged, and waiting pays it back. The
 * detectors' words are loaded and stored: of two threads that watch an account at once one may overwrite the other, which costs
 * some samples. Places are given out under a lock for a group of sets, so that no key is there twice; who just then charges the
 * account that is being pushed out, charges the newcomer. */
#ifndef NUMBERD_SERVER_ACCESS_BUDGETS_H
#define NUMBERD_SERVER_ACCESS_BUDGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUDGETS_UNLIMITED UINT32_MAX /* as quota_left of the protocol */
#define BUDGETS_STRICTNESS 10
#define BUDGETS_STRICT_NS (UINT64_C(24) * 3600 * 1000000000)

/* In numbers: so many at once, 1 to BUDGET_BURST_MAX, and so many an hour, 1 to BUDGET_HOURLY_MAX; a burst of less than
 * BUDGET_HOURS_MAX hours; both 0: unlimited. */
struct budget_limits {
    uint64_t burst;
    uint64_t hourly;
};

#define BUDGET_BURST_MAX UINT64_C(1000000000000)
#define BUDGET_HOURLY_MAX UINT64_C(1000000000)
#define BUDGET_RATE_MAX UINT64_C(1000000000)
#define BUDGET_HOURS_MAX UINT64_C(100000)

/* "none" or "BURST/HOURLY"; false when it is neither, or beyond what is allowed. */
bool budget_parse(const char *text, struct budget_limits *limits);
#define BUDGET_TEXT_BYTES 32
void budget_format(const struct budget_limits *limits, char text[static BUDGET_TEXT_BYTES]);

/* What numberd has unless it is told otherwise. A network's budget is that of ten principals: many share one behind a carrier. */
#define BUDGET_PRINCIPAL_DEFAULT ((struct budget_limits){50000, 2000})
#define BUDGET_PRINCIPAL_RATE_DEFAULT 10000
#define BUDGET_NETWORK_DEFAULT ((struct budget_limits){500000, 20000})
#define BUDGET_NETWORK_RATE_DEFAULT 100000
#define BUDGET_ACCOUNTS_DEFAULT (UINT64_C(1) << 20)
#define MISS_PERCENT_MAX_DEFAULT 90
#define NETWORK_PRINCIPALS_MAX_DEFAULT 100

enum detector { DETECTOR_MISSES, DETECTOR_DENSITY, DETECTOR_PRINCIPALS, DETECTORS };

enum detection { DETECTION_OFF, DETECTION_REPORT, DETECTION_TIGHTEN };

struct budget_options {
    struct budget_limits principal; /* unless the token has a budget of its own */
    struct budget_limits network;
    uint64_t
        principal_rate; /* numbers a second, up to BUDGET_RATE_MAX; the largest request fits at once; 0: no rate */
    uint64_t network_rate;
    unsigned threads;  /* that charge; with 1 no locked instruction is needed, which saves 10 ns a request */
    uint64_t accounts; /* the table's size, at least 8, rounded up to a power of two */
    enum detection detection;
    unsigned miss_percent_max; /* above which misses are suspicious; 100: never */
    unsigned
        network_principals_max; /* the same for principals from one network in an hour, up to 150; 0: never */
};

struct budgets;
struct account;

/* NULL when memory is short. */
struct budgets *budgets_create(const struct budget_options *options);
void budgets_destroy(struct budgets *budgets);

/* What a number costs in an account, and how far its TATs may be ahead. */
struct budget_costs {
    uint64_t budget_ns; /* 0: no budget */
    uint64_t budget_tolerance_ns;
    uint64_t rate_ns; /* 0: no rate */
    uint64_t rate_tolerance_ns;
};

/* Who asks, by name. */
struct asker_name {
    uint64_t principal;              /* of the token; 0: there is no token */
    const struct budget_limits *own; /* of the token; NULL: the default's; unlimited: it has no account */
    uint64_t named;                  /* the requester that a front end names; 0: none */
    const uint8_t *ip;               /* 16 bytes, IPv4 as ::ffff:a.b.c.d; NULL: no network pays */
};

enum asker_part { ASKER_TOKEN, ASKER_NAMED, ASKER_NETWORK };

#define ASKER_ACCOUNTS_MAX 4

/* Whom lookups are charged to: the principal first. A value. */
struct asker {
    struct {
        uint64_t key;
        enum asker_part part;
    } accounts[ASKER_ACCOUNTS_MAX];
    unsigned count;
    struct budget_costs own; /* of ASKER_TOKEN */
};

struct asker budgets_asker(const struct budgets *budgets, const struct asker_name *name);

struct budget_verdict {
    uint32_t served; /* so many of the numbers may be looked up: the first ones */
    uint32_t left;   /* so many more right after them; BUDGETS_UNLIMITED: no limit applies */
    uint32_t
        retry_after_ms; /* when as many may be asked again, or the most that can be at once; 0: all were served */
    struct account *accounts[ASKER_ACCOUNTS_MAX]; /* for budgets_observe */
};

/* Charges as many of `count` numbers as all accounts have room for. `now_ns` is of a monotonic clock, above 0. (The verdict is written
 * where it will be read: returned as a value, it was copied before its parts had left the processor's store buffer, which took three
 * times as long as all the rest.) */
void budgets_charge(struct budgets *budgets, const struct asker *asker, uint64_t now_ns, uint32_t count,
                    struct budget_verdict *verdict);

/* Shows the detectors what was looked up after that verdict: at least one number, of which `missed` were not registered. `random` is for the
 * samples. Returns the detectors that see something where none did before, as bits 1 << enum detector; 0 mostly. */
unsigned budgets_observe(struct budgets *budgets, const struct asker *asker,
                         const struct budget_verdict *verdict, uint64_t now_ns, const uint64_t *numbers,
                         uint32_t count, uint32_t missed, uint64_t random);

/* What they are called in statistics and reports. */
const char *const *detector_names(void);

#endif
