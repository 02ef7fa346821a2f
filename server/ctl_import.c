/* numberctl import: registrations from CSV into a running server, many at a time. */
#include "server/numberctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/registrations/csv_rows.h"

#define BATCH 4096
/* Requests sent ahead of their replies. */
#define WINDOW 8
#define READ_BYTES (1u << 20)

struct import {
    struct ctl_common common;
    struct client *client;
    struct client_registration batch[BATCH];
    uint16_t batch_count;
    unsigned outstanding;
    /* Figures. */
    uint64_t rows;
    uint64_t added;
    uint64_t replaced;
    uint64_t rejected; /* by us, for their form */
    uint64_t refused;  /* by the server */
    /* Rejects; the file is made with the first one. */
    const char *rejects_path;
    FILE *rejects;
    /* Progress. */
    uint64_t bytes_read;
    uint64_t bytes_total; /* 0: unknown */
    uint64_t started_ms;
    uint64_t shown_ms;
    bool show;
    int status; /* not 0: stop */
};

/* --- the server's side --- */

static bool take_reply(struct import *import)
{
    struct wire_reply reply;
    if (!client_receive(import->client, &reply)) {
        import->status = ctl_fail_client(import->client);
        return false;
    }
    import->outstanding--;
    if (reply.code != WIRE_OK) {
        import->status = ctl_fail(EX_UNAVAILABLE, "%s", wire_code_text(reply.code));
        return false;
    }
    for (uint16_t i = 0; i < reply.count; i++) {
        import->added += reply.body[i] == WIRE_ADDED;
        import->replaced += reply.body[i] == WIRE_REPLACED;
        import->refused += reply.body[i] != WIRE_ADDED && reply.body[i] != WIRE_REPLACED;
    }
    if (import->refused > 0) {
        import->status = ctl_fail(EX_UNAVAILABLE, "the server refuses registrations (is it out of memory?); "
                                                  "import again when that is mended: what is there stays");
        return false;
    }
    return true;
}

static void send_batch(struct import *import)
{
    if (import->batch_count == 0 || import->status != 0)
        return;
    if (import->outstanding == WINDOW && !take_reply(import))
        return;
    if (!client_send_register(import->client, import->batch, import->batch_count) ||
        !client_flush(import->client)) {
        import->status = ctl_fail_client(import->client);
        return;
    }
    import->outstanding++;
    import->batch_count = 0;
}

/* --- the rows --- */

static void take_record(void *context, const struct record *record)
{
    struct import *import = context;
    import->rows++;
    if (import->status != 0)
        return;
    import->batch[import->batch_count++] =
        (struct client_registration){record->number, record->account, record->flags};
    if (import->batch_count == BATCH)
        send_batch(import);
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    struct import *import = context;
    import->rows++;
    import->rejected++;
    if (import->rejects == NULL && import->status == 0) {
        int fd = open(import->rejects_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        import->rejects = fd < 0 ? NULL : fdopen(fd, "w");
        if (import->rejects == NULL) {
            import->status = ctl_fail(EX_CANTCREAT,
                                      "cannot create the file of rejects %s: %s; name another with --rejects",
                                      import->rejects_path, strerror(errno));
            return;
        }
        fputs("line\treason\trow\n", import->rejects);
    }
    if (import->rejects == NULL)
        return;
    fprintf(import->rejects, "%" PRIu64 "\t%s\t", line, reason);
    for (; *row != '\0'; row++) /* a reject is one line, whatever the row has in it */
        fputc((unsigned char)*row < ' ' ? ' ' : *row, import->rejects);
    fputc('\n', import->rejects);
}

static void show_progress(struct import *import, bool last)
{
    uint64_t now_ms = ctl_now_ms();
    if (!import->show || (!last && now_ms - import->shown_ms < 250))
        return;
    import->shown_ms = now_ms;
    double seconds = (double)(now_ms - import->started_ms + 1) / 1000;
    char left[64] = "";
    if (import->bytes_total > 0 && import->bytes_read > 0 && !last)
        snprintf(left, sizeof left, ", %.0f s left",
                 seconds * (double)(import->bytes_total - import->bytes_read) / (double)import->bytes_read);
    fprintf(stderr, "\r\033[K%" PRIu64 " rows, %.0f rows/s, %" PRIu64 " rejects%s%s", import->rows,
            (double)import->rows / seconds, import->rejected, left, last ? "\n" : "");
}

static void read_rows(struct import *import, FILE *file, const char *name)
{
    char *bytes = malloc(READ_BYTES);
    struct csv_rows *rows = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, import});
    size_t got;
    if (bytes == NULL || rows == NULL) {
        import->status = ctl_fail(EX_OSERR, "out of memory");
    } else {
        while (import->status == 0 && (got = fread(bytes, 1, READ_BYTES, file)) > 0) {
            import->bytes_read += got;
            if (!csv_rows_feed(rows, bytes, got))
                import->status = ctl_fail(EX_OSERR, "out of memory in a row of the CSV");
            show_progress(import, false);
        }
        if (import->status == 0 && ferror(file))
            import->status = ctl_fail(EX_IOERR, "cannot read %s: %s", name, strerror(errno));
        if (import->status == 0 && !csv_rows_finish(rows))
            import->status = ctl_fail(EX_OSERR, "out of memory in a row of the CSV");
    }
    csv_rows_destroy(rows);
    free(bytes);
    send_batch(import);
    while (import->status == 0 && import->outstanding > 0)
        take_reply(import);
}

/* --- the verb --- */

static void report(const struct import *import)
{
    double seconds = (double)(ctl_now_ms() - import->started_ms + 1) / 1000;
    if (import->common.json) {
        ctl_print_json(json_pack("{s:I, s:I, s:I, s:I, s:f}", "rows", (json_int_t)import->rows, "added",
                                 (json_int_t)import->added, "replaced", (json_int_t)import->replaced,
                                 "rejected", (json_int_t)import->rejected, "seconds", seconds));
        return;
    }
    printf("%" PRIu64 " rows: %" PRIu64 " added, %" PRIu64 " replaced, %" PRIu64 " rejected, in %.1f s\n",
           import->rows, import->added, import->replaced, import->rejected, seconds);
    if (import->rejected > 0)
        printf("rejects, with line and reason: %s\n", import->rejects_path);
}

static FILE *open_input(const char *name, uint64_t *bytes)
{
    struct stat status;
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    *bytes = 0;
    if (file != NULL && fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode))
        *bytes = (uint64_t)status.st_size;
    if (file != NULL && file != stdin && fstat(fileno(file), &status) == 0 && S_ISDIR(status.st_mode)) {
        fclose(file);
        errno = EISDIR;
        return NULL;
    }
    return file;
}

static int import_file(struct import *import, const char *name)
{
    int status = EX_OK;
    FILE *file = open_input(name, &import->bytes_total);
    if (file == NULL)
        return ctl_fail(EX_NOINPUT, "cannot read %s: %s; name a CSV file, or - for standard input",
                        ctl_shown(name), strerror(errno));
    struct stat input;
    struct stat rejects;
    if (fstat(fileno(file), &input) == 0 && stat(import->rejects_path, &rejects) == 0 &&
        input.st_dev == rejects.st_dev && input.st_ino == rejects.st_ino) {
        if (file != stdin)
            fclose(file);
        return ctl_fail(EX_USAGE, "--rejects names the input itself; choose another file");
    }
    import->client = ctl_connect(&import->common, &status);
    if (import->client != NULL) {
        read_rows(import, file, name);
        show_progress(import, true);
        if (import->status == 0 && !client_goodbye(import->client))
            import->status = ctl_fail_client(import->client);
        client_close(import->client);
        status = import->status;
    }
    if (file != stdin)
        fclose(file);
    if (import->rejects != NULL && fclose(import->rejects) != 0 && status == EX_OK)
        status = ctl_fail(EX_IOERR, "cannot write the file of rejects %s", import->rejects_path);
    return status;
}

int ctl_import(int argc, char **argv)
{
    struct import import = {0};
    char default_path[4096];
    const struct ctl_option options[] = {
        {"rejects", "FILE", "where bad rows go (default: FILE.rejects, import.rejects for -)",
         &import.rejects_path, NULL},
    };
    int status = ctl_parse(
        &import.common, "import", "FILE | -",
        "Registers the rows NUMBER,ACCOUNT,FLAGS of a CSV file; a header, quotes and CRLF are fine,\n"
        "account and flags may be missing. A number that is there already is replaced, so an "
        "interrupted\nimport is simply run again. Ends with 65 when rows were rejected; the good "
        "ones are registered.",
        options, 1, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1)
        return ctl_fail(EX_USAGE, "import: name one CSV file, or - for standard input");
    bool from_stdin = strcmp(argv[0], "-") == 0;
    snprintf(default_path, sizeof default_path, "%s.rejects", from_stdin ? "import" : argv[0]);
    if (import.rejects_path == NULL)
        import.rejects_path = default_path;
    import.started_ms = ctl_now_ms();
    import.show = isatty(STDERR_FILENO) && !import.common.json;
    status = import_file(&import, argv[0]);
    if (import.rows > 0 || status == EX_OK)
        report(&import);
    return status == EX_OK && import.rejected > 0 ? EX_DATAERR : status;
}
