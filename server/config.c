/* The configuration of numberd; see config.h. */
#include "server/config.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <ini.h>

#include "persist/querylog/querylog.h"
#include "persist/registrations/feed.h"
#include "server/config_settings.h"

static bool refuse_value(const struct setting *setting, const char *where, const char *value,
                         struct fault *fault)
{
    if (setting->kind == KIND_INTEGER || setting->kind == KIND_BYTES)
        return fault_set(fault, EX_USAGE, "%s: %s is \"%s\", but must be an integer from %llu to %llu", where,
                         setting->name, value, (unsigned long long)setting->min,
                         (unsigned long long)setting->max);
    return fault_set(
        fault, EX_USAGE, "%s: %s is \"%s\", but must be %s%s", where, setting->name, value, setting->argument,
        setting->kind == KIND_BUDGET ? ": up to 1000000000 an hour, a burst of less than 100000 hours" : "");
}

/* What may have been meant by a name that there is not, as the end of a sentence. */
static const char *guess(const char *name, char text[static 128])
{
    const struct setting *nearest = setting_nearest(name);
    if (nearest == NULL)
        snprintf(text, 128, "numberd --help lists them");
    else
        snprintf(text, 128, "did you mean %s?", nearest->name);
    return text;
}

static bool set_defaults(struct config *config, struct fault *fault)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    *config = (struct config){.data_dir = strdup("numberd-data"),
                              .listen = strdup("127.0.0.1:4164"),
                              .stats_listen = strdup("127.0.0.1:4165"),
                              .threads = processors > 65  ? 64
                                         : processors > 2 ? (uint64_t)processors - 1
                                                          : 1,
                              .connections_max = 16384,
                              .connections_reserve = 16,
                              .connections_per_address = 4096,
                              .connects_per_second = 1000,
                              .cache_seconds = 300,
                              .retention_hours = QUERYLOG_RETENTION_HOURS_MAX,
                              .query_log_bytes = UINT64_C(16) << 30,
                              .drain_seconds = 5,
                              .durability_interval_ms = 1000,
                              .snapshot_minutes = 60,
                              .journal_bytes = UINT64_C(1) << 30,
                              .partitions = FEED_PARTITIONS_DEFAULT,
                              .catch_up_percent = FEED_CATCH_UP_PERCENT_DEFAULT,
                              .stale_seconds = 10,
                              .principal_budget = BUDGET_PRINCIPAL_DEFAULT,
                              .principal_rate = BUDGET_PRINCIPAL_RATE_DEFAULT,
                              .network_budget = BUDGET_NETWORK_DEFAULT,
                              .network_rate = BUDGET_NETWORK_RATE_DEFAULT,
                              .budget_accounts = BUDGET_ACCOUNTS_DEFAULT,
                              .detection = DETECTION_TIGHTEN,
                              .miss_percent_max = MISS_PERCENT_MAX_DEFAULT,
                              .network_principals_max = NETWORK_PRINCIPALS_MAX_DEFAULT,
                              .patience_seconds = 20,
                              .buffer_bytes_max = UINT64_C(1) << 30,
                              .accounts = true};
    if (config->data_dir == NULL || config->listen == NULL || config->stats_listen == NULL)
        return fault_set(fault, EX_OSERR, "out of memory");
    return true;
}

/* --- the file --- */

struct file_reader {
    struct config *config;
    const char *path;
    FILE *file;
    unsigned line;
    struct fault *fault; /* the first one; status 0: none yet */
};

static void skip_blanks(FILE *file)
{
    int next;
    while ((next = getc(file)) == ' ' || next == '\t')
        ;
    if (next != EOF)
        (void)ungetc(next, file);
}

/* Lends inih a line, in place of fgets(3), with which it would take the tail of a line that is too long for it, be it a
 * comment's, for a setting; and one that is indented for the rest of the value before. */
static char *lend_line(char *line, int room, void *context)
{
    struct file_reader *reader = context;
    int length = 0;
    reader->line++;
    skip_blanks(reader->file);
    for (int next; reader->fault->status == 0 && (next = getc(reader->file)) != EOF;) {
        if (next == '\0' || length == room - 1) {
            fault_set(reader->fault, EX_CONFIG, "%s line %u: %s", reader->path, reader->line,
                      next == '\0' ? "not a text" : "longer than 198 characters");
            return NULL;
        }
        line[length++] = (char)next;
        if (next == '\n')
            break;
    }
    line[length] = '\0';
    return length == 0 || reader->fault->status != 0 ? NULL : line;
}

static int take_key(void *context, const char *section, const char *name, const char *value)
{
    struct file_reader *reader = context;
    if (value == NULL)
        value = "";
    if (reader->fault->status != 0)
        return 0;
    const struct setting *setting = section[0] == '\0' ? setting_find(name) : NULL;
    if (setting == NULL) {
        char text[128];
        fault_set(reader->fault, EX_CONFIG, "%s: unknown key \"%s\"; %s", reader->path, name,
                  guess(name, text));
        return 0;
    }
    if (setting_assign(reader->config, setting, value))
        return 1;
    refuse_value(setting, reader->path, value, reader->fault);
    reader->fault->status = EX_CONFIG;
    return 0;
}

static bool read_file(struct config *config, const char *path, struct fault *fault)
{
    struct file_reader reader = {.config = config, .path = path, .file = fopen(path, "re"), .fault = fault};
    fault->status = 0;
    if (reader.file == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the configuration %s: %s", path, strerror(errno));
    int result = ini_parse_stream(lend_line, &reader, take_key, &reader);
    bool is_broken = ferror(reader.file) != 0;
    fclose(reader.file);
    if (fault->status != 0)
        return false;
    if (is_broken)
        return fault_set(fault, EX_IOERR, "cannot read the configuration %s", path);
    if (result > 0)
        return fault_set(fault, EX_CONFIG, "%s line %d: not of the form KEY = VALUE", path, result);
    return true;
}

/* --- the command line --- */

static void print_help(void)
{
    size_t count;
    const struct setting *settings = setting_list(&count);
    printf("numberd: answers whether phone numbers are registered, and logs who asked.\n\n"
           "usage: numberd [--NAME VALUE]...\n\n"
           "  --config FILE  lines NAME = VALUE with the names below; flags win over the file\n"
           "  --check-config  look at flags, file and what they name, say what is wrong, and end\n"
           "  --print-config  print what would be in force as such a file, each setting with what it means, "
           "and end\n");
    for (size_t i = 0; i < count; i++)
        printf("  --%s %s\n        %s\n", settings[i].name, settings[i].argument, settings[i].help);
    printf(
        "  --help, --version\n\nSIGTERM and SIGINT stop it in order: clients are answered, the query log "
        "is written, "
        "a\nsnapshot of the registrations is saved. SIGHUP: token file and certificate are read again. The "
        "protocol is\ndescribed in server/PROTOCOL.md.\n");
}

static void print_config(const struct config *config)
{
    size_t count;
    const struct setting *settings = setting_list(&count);
    puts("# The configuration of numberd: lines NAME = VALUE; what stands behind # or ; counts for nothing.");
    for (size_t i = 0; i < count; i++) {
        char value[SETTING_VALUE_BYTES];
        setting_format(config, &settings[i], value);
        printf("\n# %s: ", settings[i].argument);
        for (const char *at = settings[i].help; *at != '\0'; at++)
            printf(*at == '\n' ? "\n#" : "%c", *at);
        /* What is not set cannot be written as a value. */
        printf("\n%s%s =%s%s\n", value[0] == '\0' ? "# " : "", settings[i].name, value[0] == '\0' ? "" : " ",
               value);
    }
}

enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_CONFIG, OPTION_CHECK, OPTION_PRINT };

#define OWN_OPTIONS 5
#define SETTINGS_MAX 96

static void make_options(struct option options[static SETTINGS_MAX + OWN_OPTIONS + 1])
{
    static const struct option own[OWN_OPTIONS] = {{"help", no_argument, NULL, OPTION_HELP},
                                                   {"version", no_argument, NULL, OPTION_VERSION},
                                                   {"config", required_argument, NULL, OPTION_CONFIG},
                                                   {"check-config", no_argument, NULL, OPTION_CHECK},
                                                   {"print-config", no_argument, NULL, OPTION_PRINT}};
    size_t count;
    const struct setting *settings = setting_list(&count);
    assert(count <= SETTINGS_MAX);
    for (size_t i = 0; i < count; i++)
        options[i] = (struct option){settings[i].name, required_argument, NULL, (int)i};
    memcpy(options + count, own, sizeof own);
    options[count + OWN_OPTIONS] = (struct option){0};
}

static bool refuse_flag(int found, const char *word, struct fault *fault)
{
    char text[128];
    char name[128];
    if (found == ':')
        return fault_set(fault, EX_USAGE, "%s: the value is missing; numberd --help lists the flags", word);
    if (optopt != 0) {
        const char short_flag[3] = {'-', (char)optopt, 0};
        return fault_set(fault, EX_USAGE, "%s: unknown flag; numberd --help lists the flags", short_flag);
    }
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    return fault_set(fault, EX_USAGE, "%s: unknown or ambiguous flag; %s", word,
                     guess(name + strspn(name, "-"), text));
}

/* What the command line asks for besides settings. */
struct wanted {
    const char *file;
    bool check;
    bool print;
};

/* One walk over the flags: the first for all that is no setting, the second for the settings. */
static enum config_result walk_flags(struct config *config, int argc, char **argv, bool settings_too,
                                     struct wanted *wanted, struct fault *fault)
{
    struct option options[SETTINGS_MAX + OWN_OPTIONS + 1];
    size_t count;
    const struct setting *settings = setting_list(&count);
    make_options(options);
    opterr = 0;
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        const char *value = optarg == NULL ? "" : optarg; /* the settings and --config all have one */
        switch (option) {
        case OPTION_HELP:
            print_help();
            return CONFIG_EXIT;
        case OPTION_VERSION:
            puts("numberd " NUMBERD_VERSION);
            return CONFIG_EXIT;
        case OPTION_CONFIG:
            wanted->file = value;
            break;
        case OPTION_CHECK:
            wanted->check = true;
            break;
        case OPTION_PRINT:
            wanted->print = true;
            break;
        case '?':
        case ':':
            refuse_flag(option, argv[optind - 1], fault);
            return CONFIG_FAULT;
        default:
            if (settings_too && !setting_assign(config, &settings[option], value)) {
                refuse_value(&settings[option], "command line", value, fault);
                return CONFIG_FAULT;
            }
        }
    }
    if (optind < argc) {
        fault_set(fault, EX_USAGE, "\"%s\" is not understood; numberd --help lists the flags", argv[optind]);
        return CONFIG_FAULT;
    }
    return CONFIG_RUN;
}

enum config_result config_read(struct config *config, int argc, char **argv, struct fault *fault)
{
    struct wanted wanted = {0};
    if (!set_defaults(config, fault))
        return CONFIG_FAULT;
    enum config_result result = walk_flags(config, argc, argv, false, &wanted, fault);
    if (result != CONFIG_RUN)
        return result;
    if (wanted.file != NULL && !read_file(config, wanted.file, fault))
        return CONFIG_FAULT;
    result = walk_flags(config, argc, argv, true, &wanted, fault);
    if (result != CONFIG_RUN || !(wanted.check || wanted.print))
        return result;
    if (wanted.print)
        print_config(config);
    return wanted.check ? CONFIG_CHECK : CONFIG_EXIT;
}

void config_deinit(struct config *config)
{
    size_t count;
    const struct setting *settings = setting_list(&count);
    for (size_t i = 0; i < count; i++)
        if (settings[i].kind == KIND_TEXT)
            free(*(char **)(void *)((char *)config + settings[i].offset));
}
