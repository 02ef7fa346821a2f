/* The log; see log.h. */
#include "server/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "server/clock.h"
#include "server/supervisor.h"

#define LINE_BYTES 1024
#define STAMP_BYTES 32

static struct {
    enum log_format format;
    enum notice_level least;
    pthread_mutex_t mutex;
    /* Under the mutex: a token bucket. */
    uint64_t filled_ns;
    uint64_t left;
    uint64_t left_out;
} logger = {.least = NOTICE_NORMAL, .mutex = PTHREAD_MUTEX_INITIALIZER, .left = LOG_BURST};

void log_configure(enum log_format format, enum notice_level least)
{
    logger.format = format;
    logger.least = least;
}

static const char *level_name(enum notice_level level)
{
    return level == NOTICE_ERROR ? "error" : level == NOTICE_WARNING ? "warning" : "notice";
}

/* Paths may hold anything: what would break the line, or is no UTF-8 beyond ASCII, becomes a question mark. */
static void clean(char text[static LINE_BYTES], const char *line)
{
    json_t *whole = json_string(line); /* NULL: it is no UTF-8 */
    size_t length = 0;
    for (; length < LINE_BYTES - 1 && line[length] != '\0'; length++) {
        unsigned char byte = (unsigned char)line[length];
        text[length] = line[length];
        if (byte < ' ' || byte == 0x7f || (byte > 0x7f && whole == NULL))
            text[length] = '?';
    }
    /* A cut goes between characters. */
    while (line[length] != '\0' && length > 0 && ((unsigned char)line[length] & 0xc0) == 0x80)
        length--;
    text[length] = '\0';
    json_decref(whole);
}

static void format_time(char stamp[static STAMP_BYTES])
{
    struct tm utc;
    time_t now = time(NULL);
    strftime(stamp, STAMP_BYTES, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

static void write_plain(enum notice_level level, const char *text)
{
    char stamp[STAMP_BYTES];
    format_time(stamp);
    const char *name = level_name(level);
    const char *colon = ": ";
    if (level == NOTICE_NORMAL)
        name = colon = "";
    if (supervisor_has_journal())
        fprintf(stderr, "<%d>%s\n", (int)level, text);
    else
        fprintf(stderr, "%s numberd: %s%s%s\n", stamp, name, colon, text);
}

static void write_keys(enum notice_level level, const char *text)
{
    char stamp[STAMP_BYTES];
    char quoted[2 * LINE_BYTES];
    size_t at = 0;
    format_time(stamp);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            quoted[at++] = '\\';
        quoted[at++] = *text;
    }
    quoted[at] = '\0';
    fprintf(stderr, "time=%s level=%s process=%d message=\"%s\"\n", stamp, level_name(level), (int)getpid(),
            quoted);
}

static void write_json(enum notice_level level, const char *text)
{
    char stamp[STAMP_BYTES];
    format_time(stamp);
    json_t *object = json_pack("{s:s, s:s, s:i, s:s}", "time", stamp, "level", level_name(level), "process",
                               (int)getpid(), "message", text);
    char *json = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    if (json != NULL)
        fprintf(stderr, "%s\n", json);
    else /* memory is short, and the line may say so */
        write_keys(level, text);
    free(json);
    json_decref(object);
}

static void put(enum notice_level level, const char *line)
{
    char text[LINE_BYTES];
    clean(text, line);
    if (logger.format == LOG_JSON)
        write_json(level, text);
    else if (logger.format == LOG_KEYS)
        write_keys(level, text);
    else
        write_plain(level, text);
}

/* Under the mutex. */
static bool may_write(void)
{
    const uint64_t interval_ns = UINT64_C(1000000000) / LOG_PER_SECOND;
    uint64_t now_ns = clock_coarse_ns();
    uint64_t more = (now_ns - logger.filled_ns) / interval_ns;
    logger.filled_ns += more * interval_ns;
    logger.left = logger.left + more < LOG_BURST ? logger.left + more : LOG_BURST;
    bool may = logger.left > 0;
    if (may)
        logger.left--;
    else
        logger.left_out++;
    return may;
}

void log_line(enum notice_level level, const char *line)
{
    char others[64];
    if (level > logger.least)
        return;
    pthread_mutex_lock(&logger.mutex);
    if (may_write()) {
        if (logger.left_out > 0) {
            snprintf(others, sizeof others, "%" PRIu64 " lines were left out", logger.left_out);
            put(NOTICE_WARNING, others);
        }
        logger.left_out = 0;
        put(level, line);
    }
    pthread_mutex_unlock(&logger.mutex);
}

void log_end(const char *line)
{
    char text[LINE_BYTES];
    if (logger.format != LOG_PLAIN) {
        put(NOTICE_ERROR, line);
        return;
    }
    clean(text, line);
    fprintf(stderr, "%snumberd: %s\n", supervisor_has_journal() ? "<3>" : "", text);
}
