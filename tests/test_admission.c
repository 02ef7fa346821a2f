/* server/access: tokens are found by nothing but themselves; budgets give what they promise and not more, whoever pushes whom out
 * of the table; detectors see who walks through the numbers and leave address books alone. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "server/access/budgets.h"
#include "server/access/tokens.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
#define HOUR (3600 * SECOND)

/* --- tokens --- */

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static char *path_in_folder(void)
{
    static char path[PATH_MAX];
    assert_true((size_t)snprintf(path, sizeof path, "%s/tokens", folder) < sizeof path);
    return path;
}

/* What was added comes back from the file; every flipped bit of a token, and every other length, is nobody's. */
static void test_tokens(void **state)
{
    (void)state;
    char error[512];
    char texts[20][TOKEN_TEXT_BYTES];
    char *printed;
    size_t printed_bytes;
    struct tokens *tokens = tokens_create();
    for (unsigned i = 0; i < 20; i++) {
        struct token token = {.grant = {.principal = i + 1, .roles = 1 + i % 15}};
        assert_true(grant_budget_parse(i % 3 == 0 ? "default" : i % 3 == 1 ? "none" : "70/5", &token.grant));
        snprintf(token.name, sizeof token.name, "%s", i % 2 == 0 ? "" : "gate-way");
        assert_true(tokens_add(tokens, &token, texts[i]));
    }
    FILE *stream = open_memstream(&printed, &printed_bytes);
    tokens_print(tokens, stream);
    fclose(stream);
    tokens_release(tokens);
    for (unsigned i = 0; i < 20; i++)
        assert_null(strstr(printed, texts[i] + 4 + 12 + 1)); /* the secret is nowhere */
    write_file(path_in_folder(), printed, 0600);
    free(printed);
    tokens = tokens_load(path_in_folder(), error, sizeof error);
    assert_non_null(tokens);
    for (unsigned i = 0; i < 20; i++) {
        struct grant grant;
        assert_true(tokens_find(tokens, (uint8_t *)texts[i], TOKEN_TEXT_BYTES - 1, &grant));
        assert_int_equal(grant.principal, i + 1);
        assert_int_equal(grant.roles, 1 + i % 15);
        assert_int_equal(grant.has_own_budget, i % 3 != 0);
        assert_int_equal(grant.budget.burst, i % 3 == 2 ? 70 : 0);
    }
    struct grant grant;
    uint8_t shown[TOKEN_TEXT_BYTES];
    memcpy(shown, texts[3], sizeof shown);
    for (size_t bit = 0; bit < 8 * (sizeof shown - 1); bit++) {
        shown[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(tokens_find(tokens, shown, sizeof shown - 1, &grant));
        shown[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t length = 0; length <= sizeof shown; length++)
        assert_int_equal(tokens_find(tokens, shown, length, &grant), length == sizeof shown - 1);
    tokens_release(tokens);
}

/* A grant is renewed with what its token gives now, until that is revoked, or another one is there under its id. */
static void test_renewal(void **state)
{
    (void)state;
    char text[TOKEN_TEXT_BYTES];
    char error[512];
    char line[512];
    struct token token = {.grant = {.principal = 5, .roles = ROLE_LOOKUP}};
    struct tokens *tokens = tokens_create();
    assert_true(tokens_add(tokens, &token, text));
    struct grant grant = token.grant;
    assert_true(tokens_renew(tokens, &grant));
    assert_true(tokens_revoke(tokens, token.grant.id));
    assert_false(tokens_revoke(tokens, token.grant.id));
    assert_false(tokens_renew(tokens, &grant));
    tokens_release(tokens);
    snprintf(line, sizeof line, "%012lx 9 front none %032d %064d\n", (unsigned long)token.grant.id, 1, 2);
    write_file(path_in_folder(), line, 0600);
    tokens = tokens_load(path_in_folder(), error, sizeof error);
    assert_non_null(tokens);
    assert_false(tokens_renew(tokens, &grant));
    size_t count;
    grant = tokens_list(tokens, &count)->grant;
    assert_int_equal(count, 1);
    grant.roles = 0;
    assert_true(tokens_renew(tokens, &grant));
    assert_int_equal(grant.roles, ROLE_FRONT);
    tokens_release(tokens);
}

/* Each mistake in a file is named by its line, which is never shown. */
static void test_token_lines(void **state)
{
    (void)state;
    char text[600];
    char error[512];
    const char *good = "0123456789ab 4 lookup,front 100/10 00112233445566778899aabbccddeeff "
                       "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff name";
    static const char *const bad[] = {"0123456789a 4 lookup default 00 11",
                                      "0123456789ab 0 lookup default 00 11",
                                      "0123456789ab 4 look default 00 11",
                                      "0123456789ab 4 lookup, default 00 11",
                                      "0123456789ab 4 lookup 10 00 11",
                                      "0123456789ab 4 lookup 0/10 00 11",
                                      "0123456789ab 4 lookup 1000000000001/1000000000 00 11",
                                      "0123456789ab 4 lookup 1000000/1 00 11",
                                      "0123456789ab 4 lookup default 00 11",
                                      "41 0123456789abcdef"};
    snprintf(text, sizeof text, "# comment\n\n%s\n", good);
    write_file(path_in_folder(), text, 0600);
    struct tokens *tokens = tokens_load(path_in_folder(), error, sizeof error);
    assert_non_null(tokens);
    tokens_release(tokens);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "# comment\n%s", bad[i]);
        write_file(path_in_folder(), text, 0600);
        assert_null(tokens_load(path_in_folder(), error, sizeof error));
        assert_non_null(strstr(error, "line 2: "));
        assert_null(strstr(error, "0123456789a"));
    }
    snprintf(text, sizeof text, "%s\n%s\n", good, good);
    write_file(path_in_folder(), text, 0600);
    assert_null(tokens_load(path_in_folder(), error, sizeof error));
    assert_non_null(strstr(error, "line 2: the id is there already"));
    write_file(path_in_folder(), good, 0604);
    assert_null(tokens_load(path_in_folder(), error, sizeof error));
    assert_non_null(strstr(error, "chmod 600"));
}

/* --- budgets --- */

static const uint8_t ipv4[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1};
static const uint8_t ipv6[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, [15] = 9};

static struct budgets *make_budgets(struct budget_limits principal, struct budget_limits network,
                                    uint64_t accounts)
{
    struct budgets *budgets = budgets_create(&(struct budget_options){.principal = principal,
                                                                      .network = network,
                                                                      .accounts = accounts,
                                                                      .detection = DETECTION_TIGHTEN,
                                                                      .miss_percent_max = 90,
                                                                      .network_principals_max = 50});
    assert_non_null(budgets);
    return budgets;
}

static struct asker asker_of(const struct budgets *budgets, uint64_t principal, const uint8_t *ip)
{
    return budgets_asker(budgets, &(struct asker_name){.principal = principal, .ip = ip});
}

/* A bucket of `burst` numbers that fills at `hourly`, in exact fractions: nanoseconds of filling that are missing. */
struct model {
    uint64_t cost_ns;
    uint64_t burst;
    uint64_t missing_ns;
    uint64_t seen_ns;
};

static uint32_t model_charge(struct model *model, uint64_t now_ns, uint32_t count)
{
    uint64_t passed = now_ns - model->seen_ns;
    model->missing_ns -= passed < model->missing_ns ? passed : model->missing_ns;
    model->seen_ns = now_ns;
    uint64_t has = (model->burst * model->cost_ns - model->missing_ns) / model->cost_ns;
    uint32_t given = has < count ? (uint32_t)has : count;
    model->missing_ns += given * model->cost_ns;
    return given;
}

static struct budget_verdict charge(struct budgets *budgets, const struct asker *asker, uint64_t now_ns,
                                    uint32_t count)
{
    struct budget_verdict verdict;
    budgets_charge(budgets, asker, now_ns, count, &verdict);
    return verdict;
}

/* A principal, and a network of two addresses, get to the number what buckets would give. */
static void test_budgets_are_buckets(void **state)
{
    (void)state;
    uint64_t random = 7;
    const struct budget_limits limits = {.burst = 1000, .hourly = 3600};
    const struct budget_limits none = {0};
    for (int is_network = 0; is_network < 2; is_network++) {
        struct budgets *budgets =
            is_network ? make_budgets(none, limits, 64) : make_budgets(limits, none, 64);
        struct asker asker = asker_of(budgets, is_network ? 0 : 3, ipv4);
        assert_int_equal(asker.count, is_network ? 1 : 2);
        struct model model = {.cost_ns = SECOND, .burst = 1000};
        uint64_t now = SECOND;
        for (int i = 0; i < 100000; i++) {
            uint32_t count = 1 + (uint32_t)(unit_random(&random) % (i % 100 == 0 ? 2000 : 20));
            now += unit_random(&random) % (i % 1000 == 0 ? 2 * HOUR : 20 * SECOND);
            uint32_t expected = model_charge(&model, now, count);
            struct budget_verdict verdict = charge(budgets, &asker, now, count);
            assert_int_equal(verdict.served, expected);
            assert_int_equal(verdict.left, (1000 * SECOND - model.missing_ns) / SECOND);
            assert_int_equal(verdict.retry_after_ms > 0, expected < count);
            if (expected == count)
                continue;
            /* Exactly when it is said, the rest can be had, or as many as ever can. */
            struct model later = model;
            uint32_t most = count - expected < 1000 ? count - expected : 1000;
            uint64_t wait = verdict.retry_after_ms * UINT64_C(1000000);
            assert_int_equal(model_charge(&later, now + wait, most), most);
            later = model;
            assert_true(wait <= 2000000 || model_charge(&later, now + wait - 2000000, most) < most);
        }
        budgets_destroy(budgets);
    }
}

/* Every account has to have room, and only what was served is charged. */
static void test_accounts_of_an_asker(void **state)
{
    (void)state;
    const struct budget_limits principal = {.burst = 100, .hourly = 1};
    const struct budget_limits network = {.burst = 250, .hourly = 1};
    struct budgets *budgets = make_budgets(principal, network, 64);
    for (uint64_t id = 1; id <= 4; id++) {
        struct asker asker = asker_of(budgets, id, ipv6);
        assert_int_equal(asker.count, 3); /* the principal, the /64, the /48 */
        assert_int_equal(charge(budgets, &asker, SECOND, 120).served, id < 3 ? 100 : id == 3 ? 50 : 0);
    }
    uint8_t other_64[16];
    memcpy(other_64, ipv6, sizeof other_64);
    other_64[7]++;
    struct asker asker = asker_of(budgets, 3, other_64); /* has 50 left, but the /48 is used up */
    assert_int_equal(charge(budgets, &asker, SECOND, 1).served, 0);
    other_64[5]++;
    asker = asker_of(budgets, 3, other_64);
    assert_int_equal(charge(budgets, &asker, SECOND, 60).served, 50);
    /* Whom a front end names is somebody else for each front end; its own budget counts when it has one. */
    const struct budget_limits own = {.burst = 130, .hourly = 1};
    const struct budget_limits unlimited = {0};
    struct asker_name name = {.principal = 70, .named = 3};
    asker = budgets_asker(budgets, &name);
    assert_int_equal(charge(budgets, &asker, SECOND, 120).served, 100);
    name.own = &own;
    name.named = 4;
    asker = budgets_asker(budgets, &name);
    assert_int_equal(asker.count, 2);
    assert_int_equal(charge(budgets, &asker, SECOND, 120).served, 100);
    name.named = 5;
    asker = budgets_asker(budgets, &name);
    assert_int_equal(charge(budgets, &asker, SECOND, 120).served, 30);
    name = (struct asker_name){.principal = 71, .own = &unlimited};
    asker = budgets_asker(budgets, &name);
    struct budget_verdict verdict = charge(budgets, &asker, SECOND, UINT32_MAX);
    assert_int_equal(verdict.served, UINT32_MAX);
    assert_int_equal(verdict.left, BUDGETS_UNLIMITED);
    budgets_destroy(budgets);
}

/* A rate lets the largest request through at once, then so many a second. */
static void test_rate(void **state)
{
    (void)state;
    struct budgets *budgets = budgets_create(
        &(struct budget_options){.principal_rate = 1000, .accounts = 64, .miss_percent_max = 100});
    struct asker asker = asker_of(budgets, 1, NULL);
    assert_int_equal(charge(budgets, &asker, SECOND, 65535).served, 65535);
    struct budget_verdict verdict = charge(budgets, &asker, SECOND, 10);
    assert_int_equal(verdict.served, 0);
    assert_int_equal(verdict.retry_after_ms, 11);
    assert_int_equal(charge(budgets, &asker, 2 * SECOND, 2000).served, 1000);
    budgets_destroy(budgets);
}

/* However many strangers come, nobody gets more than the budget; and a table with room lets strangers be. */
static void test_no_amnesty(void **state)
{
    (void)state;
    const struct budget_limits limits = {.burst = 1000, .hourly = 3600};
    struct budgets *budgets = make_budgets(limits, (struct budget_limits){0}, 8); /* one set */
    struct asker asker = asker_of(budgets, 1, NULL);
    uint64_t served = 0;
    uint64_t now = SECOND;
    for (uint64_t stranger = 2; stranger < 30000; stranger++) {
        struct asker other = asker_of(budgets, stranger, NULL);
        charge(budgets, &other, now, 1 + (uint32_t)(stranger % 50));
        served += charge(budgets, &asker, now, 10).served;
        assert_true(served <= 1000 + now / SECOND);
        now += SECOND / 100;
    }
    assert_true(served > 0);
    budgets_destroy(budgets);
    budgets = make_budgets(limits, (struct budget_limits){0}, 1 << 16);
    served = 0;
    for (uint64_t stranger = 0; stranger < 10000; stranger++) {
        asker = asker_of(budgets, 1 + stranger, NULL);
        served += charge(budgets, &asker, now, 1000).served;
    }
    assert_true(served >=
                10000 * 1000 - 20 * 1000); /* of 8,192 sets of eight hardly one has got nine of them */
    budgets_destroy(budgets);
}

#define THREADS 4
#define ROUNDS 20000

struct crowd {
    struct budgets *budgets;
    pthread_t thread;
    unsigned number;
    uint64_t served;
};

static void *charge_together(void *context)
{
    struct crowd *crowd = context;
    struct asker shared = asker_of(crowd->budgets, 1, ipv4);
    uint64_t numbers[8] = {4915100000000};
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct asker own = asker_of(crowd->budgets, 10 + (i * THREADS + crowd->number) % 100, NULL);
        struct budget_verdict verdict = charge(crowd->budgets, &shared, SECOND, 8);
        crowd->served += verdict.served;
        if (verdict.served > 0)
            budgets_observe(crowd->budgets, &shared, &verdict, SECOND, numbers, verdict.served, 0, i);
        charge(crowd->budgets, &own, SECOND, 8);
    }
    return NULL;
}

/* Threads that share an account get together no more than it has, but for one request of each. */
static void test_together(void **state)
{
    (void)state;
    struct crowd crowds[THREADS];
    struct budgets *budgets =
        make_budgets((struct budget_limits){.burst = 50001, .hourly = 1}, (struct budget_limits){0}, 64);
    uint64_t served = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){.budgets = budgets, .number = i};
        pthread_create(&crowds[i].thread, NULL, charge_together, &crowds[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(crowds[i].thread, NULL);
        served += crowds[i].served;
    }
    assert_in_range(served, 50001 - 8 * THREADS, 50001 + 8 * THREADS);
    budgets_destroy(budgets);
}

/* --- detectors --- */

#define BOOK_MAX 25000

static struct budgets *watching(void)
{
    return make_budgets((struct budget_limits){.burst = 1000000, .hourly = 10},
                        (struct budget_limits){.burst = 1000000, .hourly = 10}, 1024);
}

/* Asks for the numbers in requests of `batch`; `hit_percent` of them are registered. The detectors that saw something. */
static unsigned ask(struct budgets *budgets, const struct asker *asker, const uint64_t *numbers,
                    uint32_t count, uint32_t batch, unsigned hit_percent, uint64_t *random)
{
    unsigned seen = 0;
    for (uint32_t done = 0; done < count;) {
        uint32_t size = count - done < batch ? count - done : batch;
        uint32_t missed = 0;
        for (uint32_t i = 0; i < size; i++)
            missed += unit_random(random) % 100 >= hit_percent;
        struct budget_verdict verdict = charge(budgets, asker, SECOND, size);
        if (verdict.served > 0)
            seen |= budgets_observe(budgets, asker, &verdict, SECOND, numbers + done, verdict.served, missed,
                                    unit_random(random));
        done += size;
    }
    return seen;
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void shuffle(uint64_t *numbers, uint32_t count, uint64_t *random)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)(unit_random(random) % i);
        uint64_t number = numbers[i - 1];
        numbers[i - 1] = numbers[other];
        numbers[other] = number;
    }
}

/* An address book of a city with ten million numbers, a tenth of it from one company's block; sorted or not. */
static void make_book(uint64_t *numbers, uint32_t count, bool sorted, uint64_t *random)
{
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = i % 10 == 0 && i < 500 ? UINT64_C(493012345000) + unit_random(random) % 1000
                                            : UINT64_C(493010000000) + unit_random(random) % 10000000;
    if (sorted)
        qsort(numbers, count, sizeof *numbers, by_value);
}

/* Address books of all sizes, synced in requests of all sizes, again and again, and chats with a few colleagues. Estimates are chance, differently in each process:
 * of 400,000 such days two were taken for a walk. */
static void test_honest_are_not_seen(void **state)
{
    (void)state;
    static uint64_t numbers[BOOK_MAX];
    static const uint32_t sizes[] = {50, 500, 5000, BOOK_MAX};
    static const uint32_t batches[] = {1, 7, 128, 1000, BOOK_MAX};
    uint64_t random = 11;
    unsigned suspected = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct budgets *budgets = watching();
        struct asker asker = asker_of(budgets, 1, ipv4);
        uint32_t size = sizes[i % 4];
        make_book(numbers, size, i % 2 == 0, &random);
        unsigned seen = 0;
        for (unsigned again = 0; again < 4; again++)
            seen |= ask(budgets, &asker, numbers, size, batches[i % 5], 40, &random);
        for (uint32_t j = 0; j < 3000; j++)
            numbers[j] = UINT64_C(493012345000) + 3 * (unit_random(&random) % 3);
        seen |= ask(budgets, &asker, numbers, 3000, 1, 100, &random);
        suspected += seen != 0;
        budgets_destroy(budgets);
    }
    assert_true(suspected <= 1);
}

enum walk { WALK_UP, WALK_DOWN, WALK_SHUFFLED, WALK_BLOCKS, WALK_BLIND, WALKS };

#define WALK_NUMBERS 32000

/* So many numbers of a walk; true when the share of misses has to give it away. */
static bool make_walk(enum walk walk, uint64_t *numbers, uint64_t *random)
{
    for (uint32_t i = 0; i < WALK_NUMBERS; i++)
        numbers[i] = UINT64_C(4915112000000) + (walk == WALK_DOWN    ? WALK_NUMBERS - i
                                                : walk == WALK_BLIND ? unit_random(random) % 1000000000
                                                                     : i);
    if (walk == WALK_SHUFFLED)
        shuffle(numbers, WALK_NUMBERS, random);
    for (uint32_t block = 0; walk == WALK_BLOCKS && block < WALK_NUMBERS / 1000; block++)
        shuffle(numbers + (size_t)block * 1000, 1000, random);
    return walk == WALK_BLIND;
}

/* Who walks is seen before WALK_NUMBERS are gone, whatever the size of the requests, and pays ten times as much from then on. (Of 6,000 walks one was
 * seen later.) */
static void test_walkers_are_seen(void **state)
{
    (void)state;
    static uint64_t numbers[WALK_NUMBERS];
    static const uint32_t batches[] = {1, 3, 7, 8, 50, 128, 1000, 5000};
    uint64_t random = 13;
    unsigned unseen = 0;
    for (enum walk walk = 0; walk < WALKS; walk++) {
        for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            bool is_blind = make_walk(walk, numbers, &random);
            struct budgets *budgets = watching();
            struct asker asker = asker_of(budgets, 1, NULL);
            unsigned seen =
                ask(budgets, &asker, numbers, WALK_NUMBERS, batches[i], is_blind ? 5 : 60, &random);
            unsigned expected = 1u << (is_blind ? DETECTOR_MISSES : DETECTOR_DENSITY);
            if ((seen & expected) == 0) {
                unseen++;
                budgets_destroy(budgets);
                continue;
            }
            /* A number costs ten times as much now. */
            uint64_t before = charge(budgets, &asker, SECOND, 0).left;
            assert_int_equal(charge(budgets, &asker, SECOND, 1000).left, before - 1000);
            assert_true(before <= (1000000 - 2000) / 10 + 1000);
            budgets_destroy(budgets);
        }
    }
    assert_true(unseen <= 1);
}

/* Many principals from one network are seen there, some are not; and the principals themselves are let be. */
static void test_principals_of_a_network(void **state)
{
    (void)state;
    for (unsigned many = 0; many < 2; many++) {
        struct budgets *budgets = watching();
        unsigned seen = 0;
        uint64_t number = 4915112345678;
        for (uint64_t id = 1; id <= (many ? 150 : 20); id++) {
            struct asker asker = asker_of(budgets, id, ipv4);
            struct budget_verdict verdict = charge(budgets, &asker, SECOND, 1);
            seen |= budgets_observe(budgets, &asker, &verdict, SECOND, &number, 1, 0, id);
        }
        assert_int_equal(seen, many ? 1u << DETECTOR_PRINCIPALS : 0);
        budgets_destroy(budgets);
    }
}

/* Strictness ends after a day; without policy it never begins. */
static void test_strictness_ends(void **state)
{
    (void)state;
    static uint64_t numbers[WALK_NUMBERS];
    uint64_t random = 17;
    for (uint32_t i = 0; i < WALK_NUMBERS; i++)
        numbers[i] = UINT64_C(4915112000000) + i;
    for (enum detection detection = DETECTION_OFF; detection <= DETECTION_TIGHTEN; detection++) {
        struct budgets *budgets =
            budgets_create(&(struct budget_options){.principal = {.burst = 50000, .hourly = 50000},
                                                    .accounts = 64,
                                                    .detection = detection,
                                                    .miss_percent_max = 90});
        struct asker asker = asker_of(budgets, 1, NULL);
        unsigned seen = ask(budgets, &asker, numbers, WALK_NUMBERS, 1000, 60, &random);
        assert_int_equal(seen != 0, detection != DETECTION_OFF);
        uint64_t hours = 23;
        uint64_t left = charge(budgets, &asker, SECOND + hours * HOUR, 0).left;
        assert_int_equal(left, detection == DETECTION_TIGHTEN ? 5000 : 50000);
        assert_int_equal(charge(budgets, &asker, 2 * SECOND + 24 * HOUR, 0).left, 50000);
        budgets_destroy(budgets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tokens, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_renewal, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_token_lines, make_folder, remove_folder),
        cmocka_unit_test(test_budgets_are_buckets),
        cmocka_unit_test(test_accounts_of_an_asker),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_no_amnesty),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_honest_are_not_seen),
        cmocka_unit_test(test_walkers_are_seen),
        cmocka_unit_test(test_principals_of_a_network),
        cmocka_unit_test(test_strictness_ends),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
