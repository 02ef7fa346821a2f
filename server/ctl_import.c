/* numberctl import: registrations from CSV or JSON lines, into a running server or a data directory. */
#include "server/ctl_import.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static void report(const struct ctl_import *import)
{
    double seconds = (double)(ctl_now_ms() - import->rows.started_ms + 1) / 1000;
    if (import->common.json) {
        json_t *object =
            json_pack("{s:I, s:I, s:I, s:I, s:f, s:b}", "rows", (json_int_t)import->rows.rows, "added",
                      (json_int_t)import->added, "replaced", (json_int_t)import->changed, "rejected",
                      (json_int_t)import->rows.rejected, "seconds", seconds, "dry_run", (int)import->dry_run);
        json_t *rest = json_pack("{s:I, s:I, s:I}", "removed", (json_int_t)import->removed, "unchanged",
                                 (json_int_t)import->unchanged, "duplicates", (json_int_t)import->duplicates);
        if (import->compared)
            json_object_update(object, rest);
        json_decref(rest);
        ctl_print_json(object);
        return;
    }
    printf("%" PRIu64 " rows%s: %" PRIu64 " added, %" PRIu64 " replaced, ", import->rows.rows,
           import->dry_run ? ", not carried out" : "", import->added, import->changed);
    if (import->compared)
        printf("%" PRIu64 " removed, %" PRIu64 " unchanged, %" PRIu64 " duplicates, ", import->removed,
               import->unchanged, import->duplicates);
    printf("%" PRIu64 " rejected, in %.1f s\n", import->rows.rejected, seconds);
    if (import->rows.rejected > 0)
        printf("rejects, with line and reason: %s\n", import->rejects);
}

/* Values that are checked before anything is read. */
static int check_options(struct ctl_import *import, const char *shrink, const char *expected)
{
    if (!ctl_unsigned(shrink, "--max-shrink", 100, &import->shrink_percent_max) ||
        !ctl_unsigned(expected, "--expect", UINT64_C(10000000000), &import->expected))
        return EX_USAGE;
    if (import->data_dir == NULL && (import->replace_all || import->dry_run))
        return ctl_fail(EX_USAGE,
                        "--replace-all and --dry-run compare with a data directory: name it with --data-dir");
    if (strcmp(import->input, "-") != 0 && access(import->input, R_OK) != 0)
        return ctl_rows_unreadable(import->input);
    if (import->force && !import->replace_all)
        return ctl_fail(EX_USAGE, "--force is for --replace-all: nothing shrinks without it");
    return EX_OK;
}

int ctl_import(int argc, char **argv)
{
    struct ctl_import import = {.data_dir = NULL};
    const char *shrink = "5";
    const char *expected = "0";
    char default_path[4096];
    const struct ctl_option options[] = {
        {"rejects", "FILE", "where bad rows go (default: FILE.rejects, import.rejects for -)",
         &import.rejects, NULL},
        {"data-dir", "DIR", "into this data directory (default: row by row to --server)", &import.data_dir,
         NULL},
        {"replace-all", NULL, "what the input does not name is deregistered; all at once or not at all", NULL,
         &import.replace_all},
        {"dry-run", NULL, "only say what would be added, replaced and removed", NULL, &import.dry_run},
        {"max-shrink", "PERCENT", "--replace-all refuses to remove more of the registrations (default 5)",
         &shrink, NULL},
        {"force", NULL, "--replace-all however many it removes, and in spite of rejects", NULL,
         &import.force},
        {"tolerant", NULL, "take spaces, dashes, dots and parentheses in numbers", NULL, &import.tolerant},
        {"expect", "ROWS", "for a pipe into a data directory: about how many rows come", &expected, NULL},
    };
    int status = ctl_parse(
        &import.common, "import", "FILE | -",
        "Registers the rows NUMBER,ACCOUNT,FLAGS of a CSV file, or the lines "
        "{\"number\":...,\"account\":...,\n"
        "\"flags\":...} of JSON, as they are or compressed with zstd or gzip. A header, quotes and CRLF are "
        "fine,\n"
        "account and flags may be missing. A number that is there already is replaced; of several rows of\n"
        "one number the last counts. To a server it goes row by row, so an interrupted import is simply run\n"
        "again; with --data-dir all is put in place at the end or not at all, by this program if no server\n"
        "has the directory open, else (--replace-all only) by the server. Ends with 65 when rows were\n"
        "rejected; the good ones are registered.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1)
        return ctl_fail(EX_USAGE, "import: name one file of CSV or JSON lines, or - for standard input");
    import.input = argv[0];
    snprintf(default_path, sizeof default_path, "%s.rejects",
             strcmp(import.input, "-") == 0 ? "import" : import.input);
    if (import.rejects == NULL)
        import.rejects = default_path;
    status = check_options(&import, shrink, expected);
    if (status != EX_OK)
        return status;
    status = import.data_dir == NULL ? ctl_import_online(&import) : ctl_import_aside(&import);
    if (status == EX_OK || (import.data_dir == NULL && import.rows.rows > 0) ||
        (import.dry_run && import.compared))
        report(&import);
    return status == EX_OK && import.rows.rejected > 0 ? EX_DATAERR : status;
}
