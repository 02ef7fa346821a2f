/* loadtest/load_dialect: what the load tester says to each server, and understands of it; hiredis is the oracle for Redis. And what it draws and
 * counts with: Zipf's ranks, histograms. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hiredis/hiredis.h>

#include "loadtest/histogram.h"
#include "loadtest/load_dialect.h"
#include "loadtest/load_random.h"
#include "loadtest/load_zipf.h"
#include "unit.h"

#define COUNT 300
#define ROOM_BYTES (1u << 20)

static uint64_t numbers[COUNT];
static uint64_t accounts[COUNT];
static uint8_t room[ROOM_BYTES];
static struct load_answer answer;

static int make_numbers(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (unsigned i = 0; i < COUNT; i++) {
        numbers[i] = load_random(&random) % (i % 2 == 0 ? 1000000000000000 : 1000) + 1;
        accounts[i] = i + 1;
    }
    return 0;
}

static struct load_asked lookup(uint16_t count)
{
    return (struct load_asked){.numbers = numbers, .id = 7, .count = count};
}

static struct load_asked registration(uint16_t count)
{
    return (struct load_asked){.numbers = numbers, .accounts = accounts, .id = 7, .count = count};
}

/* --- Redis --- */

/* The command as hiredis writes it; `head` are its first words, `value` stands behind each number. */
static char *format(const char *const *head, int words, const char *value, uint16_t count, long long *length)
{
    static char digits[COUNT][24];
    const char *arguments[2 + 2 * COUNT];
    int used = 0;
    for (int i = 0; i < words; i++)
        arguments[used++] = head[i];
    for (unsigned i = 0; i < count; i++) {
        snprintf(digits[i], sizeof digits[i], "%llu", (unsigned long long)numbers[i]);
        arguments[used++] = digits[i];
        if (value != NULL)
            arguments[used++] = value;
    }
    char *text;
    *length = redisFormatCommandArgv(&text, used, arguments, NULL);
    return text;
}

static void same_command(const struct load_dialect *dialect, const struct load_asked *asked,
                         const char *const *head, int words, const char *value)
{
    long long length;
    char *text = format(head, words, value, asked->count, &length);
    size_t bytes = dialect->encode(room, asked);
    assert_true(bytes <= dialect->request_bytes(asked));
    assert_int_equal(bytes, length);
    assert_memory_equal(room, text, bytes);
    redisFreeCommand(text);
}

/* Byte for byte what hiredis would send. */
static void test_redis_commands(void **state)
{
    (void)state;
    static const uint16_t counts[] = {1, 2, 16, COUNT};
    for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct load_asked asked = lookup(counts[i]);
        struct load_asked told = registration(counts[i]);
        same_command(&load_redis_set, &asked, (const char *[]){"SMISMEMBER", "numbers"}, 2, NULL);
        same_command(&load_redis_set, &told, (const char *[]){"SADD", "numbers"}, 2, NULL);
        same_command(&load_redis_keys, &asked, (const char *[]){"MGET"}, 1, NULL);
        same_command(&load_redis_keys, &told, (const char *[]){"MSET"}, 1, "1");
    }
}

/* A reply of this length at the front of a buffer that ends with it, so that reading on is seen. */
static enum wire_state decode(const struct load_dialect *dialect, const struct load_asked *asked,
                              const char *text, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    assert_non_null(copy);
    uint8_t *at = copy + 1;
    memcpy(at, text, length);
    enum wire_state state = dialect->decode(at, length, asked, &answer);
    free(copy);
    return state;
}

/* Every beginning is incomplete, all of it is done, and what follows is left. */
static void whole_and_cut(const struct load_dialect *dialect, const struct load_asked *asked,
                          const char *text)
{
    size_t length = strlen(text);
    char *longer = malloc(length + 3);
    assert_non_null(longer);
    memcpy(longer, text, length);
    memcpy(longer + length, "*1", 2);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(decode(dialect, asked, text, cut), WIRE_INCOMPLETE);
    assert_int_equal(decode(dialect, asked, longer, length + 2), WIRE_DONE);
    assert_int_equal(answer.bytes, length);
    free(longer);
}

/* What hiredis reads of it, as statuses. */
static void same_reply(const struct load_asked *asked, const char *text)
{
    redisReader *reader = redisReaderCreate();
    redisReply *reply = NULL;
    assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
    assert_int_equal(redisReaderGetReply(reader, (void **)&reply), REDIS_OK);
    assert_non_null(reply);
    assert_int_equal(reply->elements, asked->count);
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *one = reply->element[i];
        bool is_there =
            one->type == REDIS_REPLY_INTEGER ? one->integer == 1 : one->type == REDIS_REPLY_STRING;
        assert_int_equal(answer.statuses[i], is_there ? WIRE_REGISTERED : WIRE_NOT_REGISTERED);
    }
    freeReplyObject(reply);
    redisReaderFree(reader);
}

static void check_replies(const struct load_dialect *dialect, const char *yes, const char *no, uint64_t seed)
{
    char text[16 * COUNT];
    struct load_asked asked = lookup((uint16_t)(1 + seed % COUNT));
    int length = snprintf(text, sizeof text, "*%u\r\n", asked.count);
    for (unsigned i = 0; i < asked.count; i++)
        length +=
            snprintf(text + length, sizeof text - (size_t)length, "%s", load_random(&seed) % 2 ? yes : no);
    whole_and_cut(dialect, &asked, text);
    same_reply(&asked, text);
}

static void test_redis_replies(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        check_replies(&load_redis_set, ":1\r\n", ":0\r\n", seed * 31);
        check_replies(&load_redis_keys, "$1\r\n1\r\n", "$-1\r\n", seed * 37);
    }
    struct load_asked told = registration(3);
    whole_and_cut(&load_redis_set, &told, ":2\r\n");
    assert_memory_equal(answer.statuses, ((uint8_t[]){WIRE_ADDED, WIRE_ADDED, WIRE_REPLACED}), 3);
    whole_and_cut(&load_redis_keys, &told, "+OK\r\n");
    struct load_asked asked = lookup(2);
    whole_and_cut(&load_redis_set, &asked, "-LOADING Redis is loading the dataset in memory\r\n");
    assert_int_equal(answer.kind, LOAD_REFUSED);
    static const char *const wrong[] = {"*3\r\n:1\r\n:0\r\n",
                                        "*2\r\n:2\r\n:0\r\n",
                                        "*2\r\n+1\r\n:0\r\n",
                                        "*-1\r\n",
                                        "*99999999999999999999999\r\n",
                                        "$2\r\n",
                                        "*2\n\r"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(decode(&load_redis_set, &asked, wrong[i], strlen(wrong[i])), WIRE_MALFORMED);
}

/* What the two take for a number of a reply: printed, for load_dialect.h. */
static void test_redis_cost(void **state)
{
    (void)state;
    char text[8 + 4 * COUNT + 1];
    struct timespec marks[3];
    struct load_asked asked = lookup(COUNT);
    const unsigned times = 2000;
    int length = snprintf(text, sizeof text, "*%u\r\n", COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, ":%u\r\n", i % 2);
    redisReader *reader = redisReaderCreate();
    clock_gettime(CLOCK_MONOTONIC, &marks[0]);
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(load_redis_set.decode((const uint8_t *)text, (size_t)length, &asked, &answer),
                         WIRE_DONE);
    clock_gettime(CLOCK_MONOTONIC, &marks[1]);
    for (unsigned i = 0; i < times; i++) {
        void *reply = NULL;
        assert_int_equal(redisReaderFeed(reader, text, (size_t)length), REDIS_OK);
        assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
        freeReplyObject(reply);
    }
    clock_gettime(CLOCK_MONOTONIC, &marks[2]);
    redisReaderFree(reader);
    double ns[2];
    for (unsigned i = 0; i < 2; i++)
        ns[i] = ((double)(marks[i + 1].tv_sec - marks[i].tv_sec) * 1e9 +
                 (double)(marks[i + 1].tv_nsec - marks[i].tv_nsec)) /
                times / COUNT;
    printf("a number of a reply: %.1f ns here, %.1f ns with hiredis\n", ns[0], ns[1]);
}

/* --- memcached --- */

static void test_memcached(void **state)
{
    (void)state;
    static const uint64_t few[] = {41, 42, 43, 42};
    struct load_asked asked = {.numbers = few, .count = 4};
    struct load_asked told = {.numbers = few, .accounts = accounts, .count = 2};
    static const char get[] = "get 41 42 43 42\r\n";
    static const char set[] = "set 41 0 0 1\r\n1\r\nset 42 0 0 1\r\n1\r\n";
    assert_int_equal(load_memcached.encode(room, &asked), sizeof get - 1);
    assert_memory_equal(room, get, sizeof get - 1);
    assert_int_equal(load_memcached.encode(room, &told), sizeof set - 1);
    assert_memory_equal(room, set, sizeof set - 1);
    whole_and_cut(&load_memcached, &told, "STORED\r\nSTORED\r\n");
    whole_and_cut(&load_memcached, &asked, "END\r\n");
    assert_memory_equal(answer.statuses, ((uint8_t[]){0, 0, 0, 0}), 4);
    whole_and_cut(&load_memcached, &asked, "VALUE 42 0 1\r\n1\r\nVALUE 42 0 1\r\n1\r\nEND\r\n");
    assert_memory_equal(answer.statuses, ((uint8_t[]){0, 1, 0, 1}), 4);
    static const char *const wrong[] = {"ERROR\r\n", "VALUE 44 0 1\r\n1\r\n", "VALUE 42 0 1\r\n2\r\n",
                                        "VALUE 43 0 1\r\n1\r\nVALUE 41 0 1\r\n1\r\n"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(decode(&load_memcached, &asked, wrong[i], strlen(wrong[i])), WIRE_MALFORMED);
}

/* --- numberd --- */

static void test_numberd(void **state)
{
    (void)state;
    const struct load_dialect *numberd = load_dialect("numberd");
    struct load_asked asked = lookup(3);
    uint8_t frame[64];
    struct wire_reply reply = {
        .type = WIRE_LOOKUP | WIRE_REPLY_BIT, .count = 3, .request_id = 7, .body_bytes = 3};
    wire_encode_reply_header(frame, &reply);
    memcpy(frame + WIRE_REPLY_HEADER_BYTES, "\1\0\3", 3);
    for (size_t cut = 0; cut < WIRE_REPLY_HEADER_BYTES + 3; cut++)
        assert_int_equal(decode(numberd, &asked, (const char *)frame, cut), WIRE_INCOMPLETE);
    assert_int_equal(numberd->decode(frame, sizeof frame, &asked, &answer), WIRE_DONE);
    assert_int_equal(answer.kind, LOAD_ANSWERED);
    assert_memory_equal(answer.statuses, "\1\0\3", 3);
    asked.id = 8; /* another's reply */
    assert_int_equal(numberd->decode(frame, sizeof frame, &asked, &answer), WIRE_MALFORMED);
    reply = (struct wire_reply){.type = WIRE_GOODBYE | WIRE_REPLY_BIT, .code = WIRE_GOING_AWAY};
    wire_encode_reply_header(frame, &reply);
    assert_int_equal(numberd->decode(frame, sizeof frame, &asked, &answer), WIRE_DONE);
    assert_int_equal(answer.kind, LOAD_GOODBYE);
    assert_null(load_dialect("nobody"));
}

/* --- Zipf --- */

/* The first ranks come as often as they should, within five deviations. */
static void test_zipf(void **state)
{
    (void)state;
    static const double exponents[] = {0.5, 0.99, 1, 2};
    const unsigned draws = 1000000;
    const unsigned count = 1000;
    for (unsigned e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        struct load_zipf zipf;
        unsigned seen[1000] = {0};
        uint64_t random = e;
        double all = 0;
        load_zipf_init(&zipf, count, exponents[e]);
        for (unsigned i = 0; i < draws; i++) {
            uint64_t rank = load_zipf_draw(&zipf, &random);
            assert_true(rank < count);
            seen[rank]++;
        }
        for (unsigned k = 1; k <= count; k++)
            all += pow(k, -exponents[e]);
        for (unsigned k = 1; k <= 20; k++) {
            double expected = draws * pow(k, -exponents[e]) / all;
            assert_true(fabs(seen[k - 1] - expected) < 5 * sqrt(expected));
        }
    }
    struct load_zipf one;
    uint64_t random = 1;
    load_zipf_init(&one, 1, 0.99);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(load_zipf_draw(&one, &random), 0);
}

/* --- histograms --- */

static int by_value(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;
    return (*a > *b) - (*a < *b);
}

static void count_up(void *context, uint64_t end_ns, uint64_t up_to)
{
    uint64_t *last = context;
    assert_true(end_ns >= last[0] && up_to > last[1]);
    last[0] = end_ns;
    last[1] = up_to;
}

/* Percentiles are right within 1.6 %, and what has come since is what has come since. */
static void test_histogram(void **state)
{
    (void)state;
    static struct histogram before;
    static struct histogram all;
    static struct histogram since;
    static uint64_t values[20000];
    const unsigned half = 10000;
    uint64_t random = 3;
    for (unsigned i = 0; i < 2 * half; i++) {
        values[i] = load_random(&random) >> (load_random(&random) % 50 + 10);
        histogram_add(&all, values[i]);
        if (i < half)
            histogram_add(&before, values[i]);
    }
    histogram_since(&since, &all, &before);
    assert_int_equal(since.total, half);
    qsort(values + half, half, sizeof *values, by_value);
    for (unsigned percent = 1; percent <= 100; percent++) {
        double exact = (double)values[half + half * percent / 100 - 1];
        double found = (double)histogram_percentile(&since, percent);
        assert_true(found >= exact && found <= exact * 1.016 + 1);
    }
    uint64_t last[2] = {0, 0};
    histogram_each(&all, count_up, last);
    assert_int_equal(last[1], 2 * half);
    assert_int_equal(last[0], histogram_percentile(&all, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redis_commands), cmocka_unit_test(test_redis_replies),
        cmocka_unit_test(test_redis_cost),     cmocka_unit_test(test_memcached),
        cmocka_unit_test(test_numberd),        cmocka_unit_test(test_zipf),
        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, make_numbers, NULL);
}
