/* server/config: what its file says is what is set; what cannot be understood is named, the first of it. */
#include "server/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "folder.h"
#include "unit.h"

static char path[PATH_MAX];

static enum config_result read_text(const char *text, size_t length, struct config *config,
                                    struct fault *fault)
{
    char program[] = "numberd";
    char flag[] = "--config";
    char *arguments[] = {program, flag, path, NULL};
    assert_true((size_t)snprintf(path, sizeof path, "%s/config", folder) < sizeof path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
    return config_read(config, 3, arguments, fault);
}

static void expect_fault(const char *text, size_t length, const char *what)
{
    struct config config;
    struct fault fault;
    assert_int_equal(read_text(text, length, &config, &fault), CONFIG_FAULT);
    assert_int_equal(fault.status, EX_CONFIG);
    if (strstr(fault.text, what) == NULL)
        fail_msg("\"%s\" is not in: %s", what, fault.text);
    config_deinit(&config);
}

/* Each setting is a line's, wherever the line begins. */
static void test_lines(void **state)
{
    (void)state;
    static const char text[] = "# a comment\n\n listen = 127.0.0.1:1 ; another\n\tthreads = 3\naccounts=no\n"
                               "officer-key = key\nredis : unix:///r\nnetwork-budget = 7/5";
    struct config config;
    struct fault fault;
    assert_int_equal(read_text(text, sizeof text - 1, &config, &fault), CONFIG_RUN);
    assert_string_equal(config.listen, "127.0.0.1:1");
    assert_int_equal(config.threads, 3);
    assert_false(config.accounts);
    assert_string_equal(config.officer_key, "key");
    assert_string_equal(config.redis, "unix:///r");
    assert_int_equal(config.network_budget.burst, 7);
    config_deinit(&config);
}

/* A line that is too long is refused, and nothing of it is taken for a line of its own: not even of a comment. */
static void test_long_lines(void **state)
{
    (void)state;
    char text[512];
    struct config config;
    struct fault fault;
    for (int dashes = 150; dashes < 230; dashes++) {
        int length = snprintf(text, sizeof text, "#%0*d insecure = yes\n", dashes, 0);
        if (length <= 199) {
            assert_int_equal(read_text(text, (size_t)length, &config, &fault), CONFIG_RUN);
            assert_false(config.insecure);
            config_deinit(&config);
        } else {
            expect_fault(text, (size_t)length, "line 1: longer");
        }
    }
}

/* The first thing that is wrong is the one that is named. */
static void test_faults(void **state)
{
    (void)state;
    static const char unknown[] = "threads = 2\nthread = 2\nlisten =\n";
    static const char empty[] = "threads = 2\nlisten =\nthread = 2\n";
    static const char formless[] = "threads = 2\n\nthreads\n";
    static const char zero[] = "threads = 2\nlisten = a\0b\n";
    static const char section[] = "[server]\nthreads = 2\n";
    expect_fault(unknown, sizeof unknown - 1, "unknown key \"thread\"");
    expect_fault(empty, sizeof empty - 1, "listen is \"\"");
    expect_fault(formless, sizeof formless - 1, "line 3: not of the form");
    expect_fault(zero, sizeof zero - 1, "line 2: not a text");
    expect_fault(section, sizeof section - 1, "unknown key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests_name("config", tests, make_folder, remove_folder);
}
