/* numberctl export and snapshot: the registrations of a data directory as CSV or JSON lines. */
#include "server/numberctl.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "hashing/phone.h"
#include "persist/datadir.h"
#include "persist/durable.h"
#include "persist/registrations/store.h"

#define LOAD_THREADS 2

struct export
{
    struct ctl_common common;
    const char *data_dir;
    const char *output;
    bool last;
    bool is_served; /* by a server, which has just written a snapshot */
    uint64_t server_id;
    char target[PATH_MAX]; /* what --output leads to */
    FILE *stream;
    uint64_t records;
};

static bool put_record(void *context, const struct record *record)
{
    struct export *export = context;
    char text[PHONE_TEXT_BYTES];
    phone_format(record->number, text);
    /* Both forms have nothing to escape. The account is text in JSON: readers lose integers above 2^53. */
    fprintf(export->stream,
            export->common.json ? "{\"number\":\"%s\",\"account\":\"%" PRIu64 "\",\"flags\":%u}\n"
                                : "%s,%" PRIu64 ",%u\n",
            text, record->account, record->flags);
    export->records++;
    return true;
}

/* Brings the snapshot up to date when a server has the directory open. */
static int refresh(struct export *export)
{
    if (export->last)
        return EX_OK;
    export->is_served = datadir_is_in_use(export->data_dir);
    return export->is_served ? ctl_refresh_snapshot(&export->common, export->data_dir, export->server_id,
                                                    ", or take the last snapshot with --last")
                             : EX_OK;
}

/* The last snapshot alone: what a running server has just written. */
static int write_snapshot(struct export *export)
{
    char folder[PATH_MAX];
    struct fault fault = {0};
    uint64_t *positions = NULL;
    size_t count = 0;
    snprintf(folder, sizeof folder, "%s/" SNAPSHOT_FOLDER, export->data_dir);
    bool good = snapshot_list(folder, &positions, &count, &fault) &&
                (count == 0 || snapshot_visit(folder, positions[0], put_record, export, &fault));
    free(positions);
    return good ? EX_OK : ctl_fail(fault.status, "%s", fault.text);
}

static void notice(enum notice_level level, const char *line)
{
    (void)level;
    ctl_fail(EX_OK, "%s", line);
}

/* Nobody has the directory open: the snapshot and the journal behind it. */
static int write_store(struct export *export)
{
    struct store_options options = {
        .data_dir = export->data_dir, .accounts = true, .threads = LOAD_THREADS, .notice = notice};
    struct snapshot_progress progress = {0};
    struct store_found found;
    struct fault fault;
    struct directory_stats stats;
    struct directory *directory = store_load(&options, &progress, &found, &fault);
    if (directory == NULL)
        return ctl_fail(fault.status, "%s", fault.text);
    directory_stats(directory, &stats);
    for (unsigned shard = 0; shard < stats.shards; shard++)
        directory_visit_shard(directory, shard, put_record, export);
    directory_destroy(directory);
    return EX_OK;
}

static int write_all(struct export *export)
{
    if (!export->common.json)
        fputs("number,account,flags\n", export->stream);
    return export->last || export->is_served ? write_snapshot(export) : write_store(export);
}

static int export_to_stdout(struct export *export)
{
    export->stream = stdout;
    int status = write_all(export);
    if (status == EX_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = ctl_fail(EX_IOERR, "cannot write to standard output");
    return status;
}

/* A device or a pipe is written to as it is. */
static int export_to_special(struct export *export)
{
    export->stream = fopen(export->output, "we");
    if (export->stream == NULL)
        return ctl_fail(EX_CANTCREAT, "cannot write to %s: %s", export->output, strerror(errno));
    int status = write_all(export);
    if (!ctl_close(export->stream) && status == EX_OK)
        status = ctl_fail(EX_IOERR, "cannot write to %s: %s", export->output, strerror(errno));
    return status;
}

/* Written aside and renamed: the file is whole or not there. A link is followed, so that its target is
 * replaced. */
static int export_to_file(struct export *export)
{
    struct stat present;
    if (stat(export->output, &present) == 0) {
        if (!S_ISREG(present.st_mode))
            return export_to_special(export);
        if (realpath(export->output, export->target) != NULL)
            export->output = export->target;
    }
    struct durable_file file;
    struct fault fault;
    char folder[PATH_MAX];
    char name[PATH_MAX];
    if (strlen(export->output) >= PATH_MAX)
        return ctl_fail(EX_USAGE, "the path of --output is too long");
    snprintf(folder, sizeof folder, "%s", export->output);
    snprintf(name, sizeof name, "%s", export->output);
    if (!durable_begin(&file, dirname(folder), basename(name), &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    int copy = dup(file.fd); /* the stream's own, so that the file can be synced after its end */
    export->stream = copy < 0 ? NULL : fdopen(copy, "w");
    int status =
        export->stream == NULL ? ctl_fail(EX_OSERR, "out of descriptors or memory") : write_all(export);
    if (export->stream != NULL && !ctl_close(export->stream) && status == EX_OK)
        status = ctl_fail(EX_IOERR, "cannot write to %s: %s", export->output, strerror(errno));
    if (status != EX_OK) {
        durable_abort(&file);
        return status;
    }
    if (!durable_commit(&file, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "%" PRIu64 " registrations written to %s\n", export->records, export->output);
    return EX_OK;
}

int ctl_export(int argc, char **argv)
{
    struct export export = {.data_dir = CTL_DATA_DIR_DEFAULT};
    struct fault fault;
    const struct ctl_option options[] = {
        {"data-dir", "DIR", "the server's data directory (default " CTL_DATA_DIR_DEFAULT ")",
         &export.data_dir, NULL},
        {"output", "FILE", "write to a file (default: standard output)", &export.output, NULL},
        {"last", NULL, "take the last snapshot as it is, do not ask the server", NULL, &export.last},
    };
    int status =
        ctl_parse(&export.common, "export", "[--data-dir DIR] [--output FILE]",
                  "Writes all registrations, hidden ones too, as CSV that import takes (or JSON lines).\n"
                  "A server that has the directory open is first asked to write a snapshot.",
                  options, 3, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0)
        return ctl_fail(EX_USAGE, "export: \"%s\" is not understood; see numberctl export --help",
                        ctl_shown(argv[0]));
    if (!datadir_identify(export.data_dir, &export.server_id, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    status = refresh(&export);
    if (status != EX_OK)
        return status;
    return export.output == NULL ? export_to_stdout(&export) : export_to_file(&export);
}

int ctl_snapshot(int argc, char **argv)
{
    struct ctl_common common;
    int status = ctl_parse(
        &common, "snapshot", "",
        "Has the server write a snapshot of its registrations now. One that is read-only, since its journal\n"
        "could not be written, takes registrations again afterwards.",
        NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    status = ctl_take_snapshot(client, WIRE_SNAPSHOT);
    client_close(client);
    if (status == EX_OK && common.json)
        ctl_print_json(json_pack("{s:b}", "written", 1));
    else if (status == EX_OK)
        puts("the snapshot is written");
    return status;
}
