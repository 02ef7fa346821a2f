/* numberctl import into a data directory: the rows become a directory of their own, which is compared with what is there, and
 * then a snapshot that counts from its last rename on. Where a server has the data directory open, it is the server that
 * takes the snapshot over (replacement.h). */
#include "server/ctl_import.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

#include "hashing/directory.h"
#include "persist/datadir.h"
#include "persist/registrations/builder.h"
#include "persist/registrations/store.h"

#define THREADS 2
#define MERGE_BATCH 512

struct aside {
    struct ctl_import *import;
    uint64_t server_id;
    bool is_served;            /* by a server */
    struct datadir datadir;    /* locked, unless a server has it or nothing is to be changed */
    struct directory *present; /* what is there */
    struct store_found found;
    struct directory *fresh; /* what the rows make */
};

static void notice(enum notice_level level, const char *line)
{
    (void)level;
    ctl_fail(EX_OK, "%s", line);
}

/* --- what is there --- */

static int fail(const struct fault *fault)
{
    return ctl_fail(fault->status, "%s", fault->text);
}

/* DIR/NAME; data_dir was opened, so its path is not too long. */
static void join(char path[PATH_MAX], const struct aside *aside, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", aside->import->data_dir, name);
}

/* What a server has just written. */
static int load_served(struct aside *aside)
{
    char folder[PATH_MAX];
    struct snapshot_progress progress = {0};
    struct fault fault;
    uint64_t *positions = NULL;
    size_t count;
    int status = ctl_refresh_snapshot(&aside->import->common, aside->import->data_dir, aside->server_id, "");
    if (status != EX_OK)
        return status;
    join(folder, aside, SNAPSHOT_FOLDER);
    if (!snapshot_list(folder, &positions, &count, &fault))
        return fail(&fault);
    aside->found.position = count == 0 ? 0 : positions[0];
    free(positions);
    aside->present = store_load_snapshot(folder, aside->found.position, true, THREADS, &progress, &fault);
    return aside->present != NULL ? EX_OK : fail(&fault);
}

static int load_present(struct aside *aside)
{
    struct store_options options = {
        .data_dir = aside->import->data_dir, .accounts = true, .threads = THREADS, .notice = notice};
    struct snapshot_progress progress = {0};
    struct fault fault;
    if (aside->is_served)
        return load_served(aside);
    aside->present = store_load(&options, &progress, &aside->found, &fault);
    return aside->present != NULL ? EX_OK : fail(&fault);
}

static uint64_t count_of(const struct directory *directory)
{
    struct directory_stats stats;
    directory_stats(directory, &stats);
    return stats.records;
}

/* --- what the rows make --- */

static int take(void *context, const struct record *records, size_t count)
{
    builder_add(context, records, count);
    return EX_OK;
}

/* Rows that are expected: as told, or estimated, and where they replace what is there, mostly as many. */
static uint64_t expected_rows(const struct aside *aside)
{
    const struct ctl_import *import = aside->import;
    if (import->expected > 0)
        return import->expected;
    uint64_t estimate = ctl_rows_estimate(import->input);
    return estimate == 0 && import->replace_all ? count_of(aside->present) : estimate;
}

static int read_rows(struct aside *aside)
{
    const struct ctl_import *import = aside->import;
    struct directory_options options = {.shard_bits = DIRECTORY_SHARD_BITS_DEFAULT,
                                        .expected_records = expected_rows(aside),
                                        .accounts = true,
                                        .populate = true};
    struct fault fault;
    struct directory_bulk bulk = {0};
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed)
        return ctl_fail(EX_OSERR, "the system gave no random seed");
    aside->fresh = directory_create(&options);
    if (aside->fresh == NULL)
        return ctl_fail(EX_OSERR, "out of memory for %zu registrations", options.expected_records);
    struct builder *builder = builder_start(aside->fresh, THREADS, &fault);
    if (builder == NULL)
        return fail(&fault);
    struct ctl_rows_options rows = {.input = import->input,
                                    .rejects = import->rejects,
                                    .tolerant = import->tolerant,
                                    .quiet = import->common.json,
                                    .take = take,
                                    .context = builder};
    int status = ctl_rows_read(&rows, &aside->import->rows);
    if (!builder_finish(builder, &bulk, &fault) && status == EX_OK)
        status = fail(&fault);
    aside->import->duplicates = bulk.replaced;
    return status;
}

/* --- the comparison --- */

static bool compare_record(void *context, const struct record *record)
{
    struct aside *aside = context;
    struct record present;
    bool found = directory_read(aside->present, record->number, &present);
    bool same = found && present.account == record->account && present.flags == record->flags;
    aside->import->added += !found;
    aside->import->changed += found && !same;
    aside->import->unchanged += same;
    return true;
}

static void compare(struct aside *aside)
{
    struct ctl_import *import = aside->import;
    struct directory_stats stats;
    directory_stats(aside->fresh, &stats);
    bool is_empty = count_of(aside->present) == 0;
    if (is_empty)
        import->added = stats.records;
    for (unsigned shard = 0; !is_empty && shard < stats.shards; shard++)
        directory_visit_shard(aside->fresh, shard, compare_record, aside);
    if (import->replace_all)
        import->removed = count_of(aside->present) - import->changed - import->unchanged;
    import->compared = true;
}

/* A replacement that removes much is mostly a wrong file, and a row that was rejected would be removed for its typo. */
static int check_removal(const struct aside *aside)
{
    const struct ctl_import *import = aside->import;
    uint64_t before = count_of(aside->present);
    if (!import->replace_all || import->force)
        return EX_OK;
    if (import->rows.rejected > 0)
        return ctl_fail(EX_DATAERR,
                        "refused: %" PRIu64
                        " rows were rejected, and their numbers would be deregistered; nothing was "
                        "changed. Mend the rows, or use --force; they are in %s",
                        import->rows.rejected, import->rejects);
    double percent = before == 0 ? 0 : 100.0 * (double)import->removed / (double)before;
    if (percent <= (double)import->shrink_percent_max)
        return EX_OK;
    return ctl_fail(
        EX_DATAERR,
        "refused: %" PRIu64 " of %" PRIu64 " registrations would be removed, %.2f percent, and %" PRIu64
        " is the limit; nothing was changed. Is it the right file? --force or --max-shrink does it",
        import->removed, before, percent, import->shrink_percent_max);
}

/* --- putting it in place --- */

struct merge {
    struct directory *into;
    struct record records[MERGE_BATCH];
    size_t count;
    bool short_of_memory;
};

static void flush_merge(struct merge *merge)
{
    uint8_t results[MERGE_BATCH];
    directory_register_batch(merge->into, merge->records, merge->count, results);
    for (size_t i = 0; i < merge->count; i++)
        merge->short_of_memory = merge->short_of_memory || results[i] == DIRECTORY_NO_MEMORY;
    merge->count = 0;
}

static bool merge_record(void *context, const struct record *record)
{
    struct merge *merge = context;
    merge->records[merge->count++] = *record;
    if (merge->count == MERGE_BATCH)
        flush_merge(merge);
    return !merge->short_of_memory;
}

static int merge_into_present(struct aside *aside)
{
    struct merge merge = {.into = aside->present};
    struct directory_stats stats;
    directory_stats(aside->fresh, &stats);
    for (unsigned shard = 0; shard < stats.shards; shard++)
        directory_visit_shard(aside->fresh, shard, merge_record, &merge);
    flush_merge(&merge);
    return merge.short_of_memory
               ? ctl_fail(EX_OSERR, "out of memory for the registrations; nothing was changed")
               : EX_OK;
}

/* The snapshot's position is one behind what is there, and no journal has that change: an older snapshot can't be
 * taken for the newer one's equal (persist/registrations/store.h). */
static int write_result(struct aside *aside, struct directory *result)
{
    const char *data_dir = aside->import->data_dir;
    char folder[PATH_MAX];
    struct snapshot_info info;
    struct fault fault;
    join(folder, aside, SNAPSHOT_FOLDER);
    if (!store_make_folders(data_dir, &fault) || !store_settle(data_dir, &aside->found, &fault) ||
        !store_begin_journal(data_dir, aside->found.position, &fault) ||
        !snapshot_write(folder, result, aside->found.position + 1, ctl_now_ms(), false, NULL, NULL, &info,
                        &fault))
        return fail(&fault);
    store_trim(data_dir);
    return EX_OK;
}

/* The server does the rest. */
static int hand_over(struct aside *aside)
{
    char folder[PATH_MAX];
    struct snapshot_info info;
    struct fault fault;
    int status = EX_OK;
    join(folder, aside, STORE_INCOMING_FOLDER);
    if (!snapshot_write(folder, aside->fresh, aside->found.position, ctl_now_ms(), false, NULL, NULL, &info,
                        &fault))
        return fail(&fault);
    struct client *client = ctl_connect(&aside->import->common, &status);
    if (client == NULL)
        return status;
    status = ctl_take_snapshot(client, WIRE_REPLACE_ALL);
    client_close(client);
    return status;
}

static int put_in_place(struct aside *aside)
{
    const struct ctl_import *import = aside->import;
    if (import->added + import->changed + import->removed == 0)
        return EX_OK;
    if (aside->is_served)
        return hand_over(aside);
    if (import->replace_all || count_of(aside->present) == 0)
        return write_result(aside, aside->fresh);
    int status = merge_into_present(aside);
    return status == EX_OK ? write_result(aside, aside->present) : status;
}

/* --- the whole --- */

/* Takes the lock, or finds that there is no need to. */
static int open_directory(struct aside *aside)
{
    const struct ctl_import *import = aside->import;
    struct fault fault;
    aside->is_served = datadir_is_in_use(import->data_dir);
    if (aside->is_served && !import->replace_all && !import->dry_run)
        return ctl_fail(
            EX_TEMPFAIL,
            "%s is in use: leave --data-dir out to import through its server, or use --replace-all",
            import->data_dir);
    if (import->dry_run && access(import->data_dir, F_OK) != 0 && errno == ENOENT)
        return EX_OK; /* it would be made */
    if (aside->is_served || import->dry_run)
        return datadir_identify(import->data_dir, &aside->server_id, &fault) ? EX_OK : fail(&fault);
    return datadir_open(&aside->datadir, import->data_dir, &fault) ? EX_OK : fail(&fault);
}

static int run(struct aside *aside)
{
    int status = load_present(aside);
    if (status == EX_OK)
        status = read_rows(aside);
    if (status != EX_OK)
        return status;
    compare(aside);
    status = check_removal(aside);
    return status == EX_OK && !aside->import->dry_run ? put_in_place(aside) : status;
}

int ctl_import_aside(struct ctl_import *import)
{
    struct aside aside = {.import = import, .datadir = {.lock_fd = -1}};
    int status = open_directory(&aside);
    if (status != EX_OK)
        return status;
    status = run(&aside);
    directory_destroy(aside.fresh);
    directory_destroy(aside.present);
    datadir_close(&aside.datadir);
    return status;
}
