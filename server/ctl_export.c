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
#include "persist/registrations/snapshot.h"

struct export
{
    struct ctl_common common;
    const char *data_dir;
    const char *output;
    bool last;
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

/* The server asked must be the one that has the directory open, or its snapshot is of no use here. */
static int check_server(const struct export *export, struct client *client)
{
    struct wire_reply reply;
    const char *server = "";
    if (!client_send_plain(client, WIRE_STATS) || !client_finish(client, &reply))
        return ctl_fail_client(client);
    json_t *stats = json_loadb((const char *)reply.body, reply.body_bytes, 0, NULL);
    json_unpack(stats, "{s:s}", "server", &server);
    bool same = strtoull(server, NULL, 16) == export->server_id;
    json_decref(stats);
    return same ? EX_OK
                : ctl_fail(EX_USAGE,
                           "the server at %s does not serve %s; name the one that does with --server",
                           export->common.server, export->data_dir);
}

/* Brings the snapshot up to date when a server has the directory open. */
static int refresh(const struct export *export)
{
    int status = EX_OK;
    if (export->last || !datadir_is_in_use(export->data_dir))
        return EX_OK;
    struct client *client = ctl_connect(&export->common, &status);
    if (client == NULL)
        return ctl_fail(
            status,
            "%s is in use, and its server was not reached; name it with --server, or take the last "
            "snapshot with --last",
            export->data_dir);
    status = check_server(export, client);
    if (status == EX_OK)
        status = ctl_take_snapshot(client);
    client_close(client);
    return status;
}

static int write_all(struct export *export)
{
    struct fault fault;
    if (!export->common.json)
        fputs("number,account,flags\n", export->stream);
    if (snapshot_exists(export->data_dir) && !snapshot_read(export->data_dir, put_record, export, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    return EX_OK;
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
    if (fclose(export->stream) != 0 && status == EX_OK)
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
    export->stream = file.stream;
    int status = write_all(export);
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
    int status = ctl_parse(&common, "snapshot", "", "Has the server write its registrations to the disk now.",
                           NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    struct client *client = ctl_connect(&common, &status);
    if (client == NULL)
        return status;
    status = ctl_take_snapshot(client);
    client_close(client);
    if (status == EX_OK && common.json)
        ctl_print_json(json_pack("{s:b}", "written", 1));
    else if (status == EX_OK)
        puts("the snapshot is written");
    return status;
}
