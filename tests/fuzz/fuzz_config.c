/* Fuzz target: any bytes as numberd's configuration file. Either each setting has a value that it may have, or there is one line
 * that says what is wrong. The file is one in memory, made once. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static bool is_within(uint64_t value, uint64_t min, uint64_t max)
{
    return value >= min && value <= max;
}

static bool is_budget(const struct budget_limits *limits)
{
    if (limits->burst == 0 && limits->hourly == 0)
        return true;
    return is_within(limits->burst, 1, BUDGET_BURST_MAX) && is_within(limits->hourly, 1, BUDGET_HOURLY_MAX) &&
           limits->burst / limits->hourly < BUDGET_HOURS_MAX;
}

/* The ranges that numberd --help names. */
static void check_values(const struct config *config)
{
    expect(config->data_dir[0] != '\0' && config->listen[0] != '\0' && config->stats_listen[0] != '\0');
    expect(config->redis == NULL || config->redis[0] != '\0');
    expect(config->officer_key == NULL || config->officer_key[0] != '\0');
    expect(config->token_file == NULL || config->token_file[0] != '\0');
    expect(is_within(config->threads, 1, 64) && is_within(config->connections_max, 1, 1000000));
    expect(config->cache_seconds <= 86400 && is_within(config->retention_hours, 2, 720));
    expect(is_within(config->query_log_bytes, UINT64_C(1) << 20, UINT64_C(1) << 50));
    expect(config->drain_seconds <= 600 && config->durability <= 2 && config->log_ip <= 2);
    expect(is_within(config->durability_interval_ms, 1, 60000) && config->snapshot_minutes <= 10080);
    expect(config->journal_bytes <= UINT64_C(1) << 50);
    expect(is_budget(&config->principal_budget) && is_budget(&config->network_budget));
    expect(config->principal_rate <= BUDGET_RATE_MAX && config->network_rate <= BUDGET_RATE_MAX);
    expect(is_within(config->budget_accounts, 1024, UINT64_C(1) << 28) && config->detection <= 2);
    expect(is_within(config->miss_percent_max, 1, 100) && config->network_principals_max <= 150);
    expect(is_within(config->patience_seconds, 1, 3600));
}

static void write_file(int fd, const uint8_t *data, size_t size)
{
    expect(pwrite(fd, data, size, 0) == (ssize_t)size && ftruncate(fd, (off_t)size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[32];
    char program[] = "numberd";
    char flag[] = "--config";
    char *arguments[] = {program, flag, path, NULL};
    struct config config;
    struct fault fault = {0};
    if (fd < 0) {
        fd = memfd_create("config", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    write_file(fd, data, size);
    enum config_result result = config_read(&config, 3, arguments, &fault);
    if (result == CONFIG_RUN) {
        check_values(&config);
    } else {
        expect(result == CONFIG_FAULT && fault.status == EX_CONFIG);
        expect(strncmp(fault.text, path, strlen(path)) == 0 && strchr(fault.text, '\n') == NULL);
    }
    config_deinit(&config);
    return 0;
}
