/* The reading half of numberctl import; see ctl_rows.h. */
#include "server/ctl_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/registrations/inflow.h"
#include "persist/registrations/rows.h"
#include "server/numberctl.h"

#define READ_BYTES ((size_t)1 << 20)
#define SAMPLE_BYTES ((size_t)4 << 20)
#define TERMINAL_EVERY_MS 250
#define LOG_EVERY_MS 10000

struct reading {
    const struct ctl_rows_options *options;
    struct ctl_rows_figures *figures;
    int fd;
    struct inflow *inflow;
    struct rows *rows;
    FILE *rejects;
    uint64_t bytes_total; /* 0: unknown */
    uint64_t shown_ms;
    bool is_terminal;
    int status; /* not 0: stop */
};

/* --- rows --- */

static void take_records(void *context, const struct record *records, size_t count)
{
    struct reading *reading = context;
    reading->figures->rows += count;
    if (reading->status == EX_OK)
        reading->status = reading->options->take(reading->options->context, records, count);
}

static bool open_rejects(struct reading *reading)
{
    int fd = open(reading->options->rejects, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    reading->rejects = fd < 0 ? NULL : fdopen(fd, "w");
    if (reading->rejects == NULL) {
        reading->status =
            ctl_fail(EX_CANTCREAT, "cannot create the file of rejects %s: %s; name another with --rejects",
                     reading->options->rejects, strerror(errno));
        return false;
    }
    fputs("line\treason\trow\n", reading->rejects);
    return true;
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    struct reading *reading = context;
    reading->figures->rows++;
    reading->figures->rejected++;
    if (reading->status != EX_OK || (reading->rejects == NULL && !open_rejects(reading)))
        return;
    fprintf(reading->rejects, "%" PRIu64 "\t%s\t", line, reason);
    for (; *row != '\0'; row++) /* a reject is one line, whatever the row has in it */
        fputc((unsigned char)*row < ' ' ? ' ' : *row, reading->rejects);
    fputc('\n', reading->rejects);
}

/* --- progress --- */

static void show_progress(struct reading *reading, bool last)
{
    uint64_t now_ms = ctl_now_ms();
    uint64_t every_ms = reading->is_terminal ? TERMINAL_EVERY_MS : LOG_EVERY_MS;
    if (reading->options->quiet || (last && !reading->is_terminal) ||
        (!last && now_ms - reading->shown_ms < every_ms))
        return;
    reading->shown_ms = now_ms;
    double seconds = (double)(now_ms - reading->figures->started_ms + 1) / 1000;
    uint64_t consumed = inflow_consumed(reading->inflow);
    char left[64] = "";
    if (reading->bytes_total > 0 && consumed > 0 && consumed <= reading->bytes_total && !last)
        snprintf(left, sizeof left, ", %.0f s left",
                 seconds * (double)(reading->bytes_total - consumed) / (double)consumed);
    fprintf(stderr, "%s%" PRIu64 " rows, %.0f rows/s, %" PRIu64 " rejects%s%s",
            reading->is_terminal ? "\r\033[K" : "", reading->figures->rows,
            (double)reading->figures->rows / seconds, reading->figures->rejected, left,
            reading->is_terminal && !last ? "" : "\n");
}

/* --- the whole --- */

static int open_input(const char *name, uint64_t *bytes)
{
    struct stat status;
    int fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    *bytes = 0;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        if (S_ISREG(status.st_mode))
            *bytes = (uint64_t)status.st_size;
        if (S_ISDIR(status.st_mode) && fd != STDIN_FILENO) {
            close(fd);
            errno = EISDIR;
            return -1;
        }
    }
    return fd;
}

static void close_input(int fd)
{
    if (fd != STDIN_FILENO)
        close(fd);
}

static bool is_same_file(int fd, const char *path)
{
    struct stat input;
    struct stat other;
    return fstat(fd, &input) == 0 && stat(path, &other) == 0 && input.st_dev == other.st_dev &&
           input.st_ino == other.st_ino;
}

static void read_all(struct reading *reading)
{
    struct fault fault;
    ssize_t got;
    char *bytes = malloc(READ_BYTES);
    if (bytes == NULL) {
        reading->status = ctl_fail(EX_OSERR, "out of memory");
        return;
    }
    while (reading->status == EX_OK && (got = inflow_read(reading->inflow, bytes, READ_BYTES, &fault)) != 0) {
        if (got < 0)
            reading->status =
                ctl_fail(fault.status, "%s: %s", ctl_shown(reading->options->input), fault.text);
        else if (!rows_feed(reading->rows, bytes, (size_t)got))
            reading->status = ctl_fail(EX_OSERR, "out of memory in a row of the input");
        show_progress(reading, false);
    }
    if (reading->status == EX_OK && !rows_finish(reading->rows))
        reading->status = ctl_fail(EX_OSERR, "out of memory in a row of the input");
    show_progress(reading, true);
    free(bytes);
}

static void read_opened(struct reading *reading)
{
    struct fault fault;
    struct rows_options rows = {.tolerant = reading->options->tolerant,
                                .handlers = {take_records, take_reject, reading}};
    reading->inflow = inflow_open(reading->fd, &fault);
    if (reading->inflow == NULL) {
        reading->status = ctl_fail(fault.status, "%s: %s", ctl_shown(reading->options->input), fault.text);
        return;
    }
    reading->rows = rows_create(&rows);
    if (reading->rows != NULL)
        read_all(reading);
    else
        reading->status = ctl_fail(EX_OSERR, "out of memory");
    rows_destroy(reading->rows);
    inflow_close(reading->inflow);
    if (reading->rejects != NULL && !ctl_close(reading->rejects) && reading->status == EX_OK)
        reading->status =
            ctl_fail(EX_IOERR, "cannot write the file of rejects %s", reading->options->rejects);
}

int ctl_rows_unreadable(const char *input)
{
    return ctl_fail(EX_NOINPUT,
                    "cannot read %s: %s; name a file of CSV or JSON lines, or - for standard input",
                    ctl_shown(input), strerror(errno));
}

int ctl_rows_read(const struct ctl_rows_options *options, struct ctl_rows_figures *figures)
{
    struct reading reading = {.options = options, .figures = figures, .is_terminal = isatty(STDERR_FILENO)};
    *figures = (struct ctl_rows_figures){.started_ms = ctl_now_ms()};
    reading.shown_ms = figures->started_ms;
    reading.fd = open_input(options->input, &reading.bytes_total);
    if (reading.fd < 0)
        return ctl_rows_unreadable(options->input);
    if (is_same_file(reading.fd, options->rejects))
        reading.status = ctl_fail(EX_USAGE, "--rejects names the input itself; choose another file");
    else
        read_opened(&reading);
    close_input(reading.fd);
    return reading.status;
}

/* Lines in the first bytes of what the file says, and how many bytes of it that took. */
static uint64_t sample_lines(int fd, uint64_t *consumed)
{
    struct fault ignored; /* whatever is wrong with the file is said when it is read */
    uint64_t lines = 0;
    ssize_t got = 0;
    char *bytes = malloc(SAMPLE_BYTES);
    struct inflow *inflow = bytes == NULL ? NULL : inflow_open(fd, &ignored);
    for (size_t done = 0; inflow != NULL && done < SAMPLE_BYTES; done += (size_t)got) {
        got = inflow_read(inflow, bytes, SAMPLE_BYTES - done, &ignored);
        if (got <= 0)
            break;
        for (ssize_t i = 0; i < got; i++)
            lines += bytes[i] == '\n';
    }
    *consumed = inflow == NULL ? 0 : inflow_consumed(inflow);
    if (inflow != NULL)
        inflow_close(inflow);
    free(bytes);
    return lines;
}

uint64_t ctl_rows_estimate(const char *input)
{
    struct stat status;
    uint64_t consumed = 0;
    /* A pipe would be read away. */
    if (strcmp(input, "-") == 0 || stat(input, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    int fd = open(input, O_RDONLY | O_CLOEXEC);
    uint64_t lines = fd < 0 ? 0 : sample_lines(fd, &consumed);
    if (fd >= 0)
        close(fd);
    return consumed == 0 ? 0 : (uint64_t)((double)lines * (double)status.st_size / (double)consumed);
}
