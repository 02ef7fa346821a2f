/* The registrations of a data directory; see store.h. */
#include "persist/registrations/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "hashing/phone.h"
#include "persist/durable.h"
#include "persist/registrations/journal.h"
#include "persist/registrations/journal_file.h"

/* Records that are replayed at a time. */
#define REPLAY_BATCH 512

/* DIR/NAME; false when that is too long. */
static bool make_folder_path(char path[PATH_MAX], const char *data_dir, const char *name, struct fault *fault)
{
    return (size_t)snprintf(path, PATH_MAX, "%s/%s", data_dir, name) < PATH_MAX ||
           fault_set(fault, EX_USAGE, "the path of the data directory is too long");
}

static bool make_folder(const char *data_dir, const char *name, struct fault *fault)
{
    char path[PATH_MAX];
    if (!make_folder_path(path, data_dir, name, fault))
        return false;
    return mkdir(path, 0700) == 0 || errno == EEXIST ||
           fault_set(fault, EX_CANTCREAT, "cannot create the folder %s: %s", path, strerror(errno));
}

bool store_make_folders(const char *data_dir, struct fault *fault)
{
    return make_folder(data_dir, SNAPSHOT_FOLDER, fault) && make_folder(data_dir, JOURNAL_FOLDER, fault) &&
           make_folder(data_dir, STORE_INCOMING_FOLDER, fault) && durable_sync_folder(data_dir, fault);
}

static void notify(const struct store_options *options, const char *line)
{
    if (options->notice != NULL)
        options->notice(NOTICE_WARNING, line);
}

/* --- the snapshot --- */

struct loading {
    const struct store_options *options;
    struct snapshot_progress *progress;
    struct store_found *found;
    struct fault *fault;
    bool is_ahead; /* another process still writes: where the journal cannot be read, it is read later */
    char snapshots[PATH_MAX];
    char journal[PATH_MAX];
};

static struct directory *out_of_memory(struct fault *fault, uint64_t records)
{
    fault_set(fault, EX_OSERR, "out of memory for the directory of %" PRIu64 " numbers", records);
    return NULL;
}

/* An empty directory with a seed of its own, sized ahead. */
static struct directory *make_empty(uint64_t expected, bool accounts, struct fault *fault)
{
    struct directory_options options = {.shard_bits = DIRECTORY_SHARD_BITS_DEFAULT,
                                        .expected_records = expected,
                                        .accounts = accounts,
                                        .doubling_slots = DIRECTORY_DOUBLING_SLOTS,
                                        .populate = true};
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed) {
        fault_set(fault, EX_OSERR, "the system gave no random seed");
        return NULL;
    }
    struct directory *directory = directory_create(&options);
    return directory != NULL ? directory : out_of_memory(fault, expected);
}

struct conversion {
    struct directory *directory;
    const char *folder;
    struct fault *fault;
};

static bool copy_record(void *context, const struct record *record)
{
    const struct conversion *conversion = context;
    enum directory_result result = directory_register(conversion->directory, record);
    if (result == DIRECTORY_ADDED)
        return true;
    if (result == DIRECTORY_NO_MEMORY)
        return fault_set(conversion->fault, EX_OSERR, "out of memory for the registrations in %s",
                         conversion->folder);
    return fault_set(conversion->fault, EX_DATAERR, "a snapshot in %s has a number that is none, or twice",
                     conversion->folder);
}

/* One by one, into another shape: with account ids where there were none, or the other way round. */
static struct directory *convert(const char *folder, const struct snapshot_info *info, bool accounts,
                                 struct fault *fault)
{
    struct directory *directory = make_empty(info->records, accounts, fault);
    if (directory == NULL)
        return NULL;
    struct conversion conversion = {directory, folder, fault};
    if (snapshot_visit(folder, info->position, copy_record, &conversion, fault))
        return directory;
    directory_destroy(directory);
    return NULL;
}

struct directory *store_load_snapshot(const char *folder, uint64_t position, bool accounts, unsigned threads,
                                      struct snapshot_progress *progress, struct fault *fault)
{
    struct snapshot_info info;
    if (!snapshot_read_info(folder, position, &info, fault))
        return NULL;
    if (info.shape.accounts != accounts)
        return convert(folder, &info, accounts, fault);
    struct directory_options options = {.seed = info.shape.seed,
                                        .shard_bits = info.shape.shard_bits,
                                        .accounts = info.shape.accounts,
                                        .expected_records = info.records,
                                        .doubling_slots = DIRECTORY_DOUBLING_SLOTS,
                                        .images = true};
    struct directory *directory = directory_create(&options);
    if (directory == NULL)
        return out_of_memory(fault, info.records);
    if (snapshot_load(folder, position, directory, threads, progress, fault))
        return directory;
    directory_destroy(directory);
    return NULL;
}

static struct directory *load_snapshot(const struct loading *loading, uint64_t position)
{
    const struct store_options *options = loading->options;
    if (!snapshot_read_info(loading->snapshots, position, &loading->found->snapshot, loading->fault))
        return NULL;
    return store_load_snapshot(loading->snapshots, position, options->accounts, options->threads,
                               loading->progress, loading->fault);
}

static void pass_over(const struct loading *loading, uint64_t position, bool is_last)
{
    char line[sizeof loading->fault->text + 80];
    struct store_found *found = loading->found;
    if (!found->is_fallback)
        found->damaged_position = position;
    found->is_fallback = true;
    snprintf(line, sizeof line, "%s; taking %s", loading->fault->text,
             is_last ? "the journal from its beginning" : "the one before it and the journal since");
    notify(loading->options, line);
}

/* The newest good snapshot, or an empty directory if there is none. */
static struct directory *load_newest(const struct loading *loading)
{
    uint64_t *positions;
    size_t count;
    struct directory *directory = NULL;
    if (!snapshot_list(loading->snapshots, &positions, &count, loading->fault))
        return NULL;
    loading->fault->status = EX_DATAERR;
    for (size_t i = 0; i < count && directory == NULL && loading->fault->status == EX_DATAERR; i++) {
        directory = load_snapshot(loading, positions[i]);
        if (directory != NULL) {
            loading->found->position = positions[i];
            break;
        }
        loading->found->snapshot = (struct snapshot_info){0};
        if (loading->fault->status == EX_DATAERR)
            pass_over(loading, positions[i], i + 1 == count);
    }
    free(positions);
    if (directory == NULL && loading->fault->status == EX_DATAERR)
        return make_empty(0, loading->options->accounts, loading->fault);
    if (loading->fault->status == EX_CONFIG) /* of another version, which is no damage */
        loading->fault->status = EX_DATAERR;
    return directory;
}

/* --- the journal --- */

/* Changes on their way into the directory; those that set go many at a time. */
struct replay {
    const struct store_options *options;
    struct directory *directory;
    struct snapshot_progress *progress;
    struct store_found *found;
    struct fault *fault;
    bool has_failed; /* to carry out what was read */
    size_t count;
    struct record records[REPLAY_BATCH];
};

static bool fail_replay(struct replay *replay, int status, const char *text)
{
    replay->has_failed = true;
    return fault_set(replay->fault, status, "%s", text);
}

static bool flush_replay(struct replay *replay)
{
    uint8_t results[REPLAY_BATCH];
    directory_register_batch(replay->directory, replay->records, replay->count, results);
    for (size_t i = 0; i < replay->count; i++) {
        if (results[i] == DIRECTORY_NO_MEMORY)
            return fail_replay(replay, EX_OSERR, "out of memory for the journal's registrations");
        if (results[i] == DIRECTORY_INVALID_NUMBER)
            return fail_replay(replay, EX_DATAERR, "the journal holds a number that is none");
    }
    replay->count = 0;
    return true;
}

static bool replay_change(void *context, uint64_t position, const struct change *change)
{
    struct replay *replay = context;
    replay->found->position = position;
    replay->found->replayed++;
    if (change->kind == CHANGE_MARK) {
        if (replay->options->mark != NULL)
            replay->options->mark(replay->options->mark_context, change);
        return true;
    }
    if (change->kind == CHANGE_SET) {
        replay->records[replay->count++] = change->record;
        return replay->count < REPLAY_BATCH || flush_replay(replay);
    }
    if (!flush_replay(replay))
        return false;
    directory_deregister(replay->directory, change->record.number);
    return !atomic_load(&replay->progress->cancel) ||
           fail_replay(replay, EX_TEMPFAIL, "loading the registrations was interrupted");
}

/* Whether the segment continues what was read so far; and, once it was read, how it ended. */
static bool judge_beginning(const char *folder, const struct journal_segment *segment, uint64_t position,
                            struct fault *fault)
{
    if (segment->first_position <= position + 1)
        return true;
    return fault_set(fault, EX_DATAERR,
                     "the journal in %s lacks the changes %" PRIu64 " to %" PRIu64
                     ": restore it from a backup, or move the segments from %016" PRIx64
                     ".journal on away to go on without what they hold",
                     folder, position + 1, segment->first_position - 1, segment->first_position);
}

static bool judge_end(const char *folder, const struct journal_segment *segment,
                      const struct journal_extent *extent, struct fault *fault)
{
    if (extent->end != JOURNAL_DAMAGED)
        return true;
    return fault_set(
        fault, EX_DATAERR,
        "%s/%016" PRIx64 ".journal is damaged behind byte %" PRIu64 ", change %" PRIu64
        ": restore it from a backup, or move it and later ones away to go on without what they hold",
        folder, segment->first_position, extent->valid_bytes, extent->last_position);
}

/* The first segment that has changes above `position`, or may get some. */
static size_t first_needed(const struct journal_segment *segments, size_t count, uint64_t position)
{
    size_t i = 0;
    while (i + 1 < count && segments[i + 1].first_position <= position + 1)
        i++;
    return i;
}

/* Once all is read: whether it goes as far as it must. */
static bool judge_whole(const struct loading *loading, size_t segment_count)
{
    const struct store_found *found = loading->found;
    if (segment_count == 0 && (found->snapshot.written_at_ms != 0 || found->is_fallback))
        return fault_set(
            loading->fault, EX_DATAERR,
            "%s has no segment, and changes may be missing: restore the data directory from a backup",
            loading->journal);
    if (found->is_fallback && found->position < found->damaged_position)
        return fault_set(loading->fault, EX_DATAERR,
                         "the snapshot of change %" PRIu64
                         " in %s is damaged, and the journal ends before it: "
                         "restore the data directory from a backup; numberctl check says what is wrong",
                         found->damaged_position, loading->snapshots);
    return true;
}

static bool replay_segments(const struct loading *loading, struct replay *replay,
                            const struct journal_segment *segments, size_t count)
{
    struct store_found *found = loading->found;
    for (size_t i = first_needed(segments, count, found->position); i < count; i++) {
        struct journal_extent extent;
        if (!judge_beginning(loading->journal, &segments[i], found->position, loading->fault) ||
            !journal_read(loading->journal, &segments[i], found->position, replay_change, replay, &extent,
                          loading->fault) ||
            !judge_end(loading->journal, &segments[i], &extent, loading->fault))
            return loading->is_ahead && !replay->has_failed && flush_replay(replay);
        if (extent.end == JOURNAL_TORN && !loading->is_ahead)
            found->torn_bytes += segments[i].bytes - extent.valid_bytes;
    }
    return flush_replay(replay) && (loading->is_ahead || judge_whole(loading, count));
}

static bool replay_journal(const struct loading *loading, struct directory *directory)
{
    struct journal_segment *segments;
    size_t count;
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL)
        return fault_set(loading->fault, EX_OSERR, "out of memory for reading the journal");
    replay->options = loading->options;
    replay->directory = directory;
    replay->progress = loading->progress;
    replay->found = loading->found;
    replay->fault = loading->fault;
    bool good = journal_list(loading->journal, &segments, &count, loading->fault);
    if (good) {
        good = replay_segments(loading, replay, segments, count);
        free(segments);
    }
    free(replay);
    return good;
}

static bool find_folders(struct loading *loading)
{
    const char *data_dir = loading->options->data_dir;
    return make_folder_path(loading->snapshots, data_dir, SNAPSHOT_FOLDER, loading->fault) &&
           make_folder_path(loading->journal, data_dir, JOURNAL_FOLDER, loading->fault);
}

static struct directory *load(struct loading *loading)
{
    *loading->found = (struct store_found){0};
    if (!find_folders(loading))
        return NULL;
    struct directory *directory = load_newest(loading);
    if (directory == NULL || replay_journal(loading, directory))
        return directory;
    directory_destroy(directory);
    return NULL;
}

static void notify_of_torn(const struct loading *loading)
{
    char line[200];
    if (loading->found->torn_bytes == 0)
        return;
    snprintf(line, sizeof line,
             "the journal ends in an unfinished commit, which nobody had an acknowledgement of: cut off "
             "behind change %" PRIu64,
             loading->found->position);
    notify(loading->options, line);
}

struct directory *store_load(const struct store_options *options, struct snapshot_progress *progress,
                             struct store_found *found, struct fault *fault)
{
    struct loading loading = {.options = options, .progress = progress, .found = found, .fault = fault};
    struct directory *directory = load(&loading);
    if (directory != NULL)
        notify_of_torn(&loading);
    return directory;
}

struct directory *store_load_ahead(const struct store_options *options, struct snapshot_progress *progress,
                                   struct store_found *found, struct fault *fault)
{
    struct loading loading = {
        .options = options, .progress = progress, .found = found, .fault = fault, .is_ahead = true};
    return load(&loading);
}

bool store_catch_up(const struct store_options *options, struct directory *directory,
                    struct store_found *found, struct fault *fault)
{
    struct snapshot_progress progress = {0};
    struct loading loading = {.options = options, .progress = &progress, .found = found, .fault = fault};
    if (!find_folders(&loading) || !replay_journal(&loading, directory))
        return false;
    notify_of_torn(&loading);
    return true;
}

struct partial_replay {
    struct directory *directory;
    uint64_t position; /* of the last that was carried out */
    uint64_t until;
    struct fault *fault;
};

static bool carry_out(void *context, uint64_t position, const struct change *change)
{
    struct partial_replay *replay = context;
    if (position > replay->until)
        return true;
    replay->position = position;
    if (change->kind == CHANGE_MARK)
        return true;
    enum directory_result result = change->kind == CHANGE_SET
                                       ? directory_register(replay->directory, &change->record)
                                       : directory_deregister(replay->directory, change->record.number);
    return result != DIRECTORY_NO_MEMORY ||
           fault_set(replay->fault, EX_OSERR, "out of memory for the journal's registrations");
}

bool store_replay(const char *data_dir, uint64_t after, uint64_t position, struct directory *directory,
                  struct fault *fault)
{
    char folder[PATH_MAX];
    struct journal_segment *segments;
    size_t count;
    struct partial_replay replay = {
        .directory = directory, .position = after, .until = position, .fault = fault};
    if (!make_folder_path(folder, data_dir, JOURNAL_FOLDER, fault) ||
        !journal_list(folder, &segments, &count, fault))
        return false;
    bool good = true;
    for (size_t i = first_needed(segments, count, after); good && i < count && replay.position < position;
         i++) {
        struct journal_extent extent;
        good = judge_beginning(folder, &segments[i], replay.position, fault) &&
               journal_read(folder, &segments[i], replay.position, carry_out, &replay, &extent, fault);
    }
    free(segments);
    if (good && replay.position != position)
        good = fault_set(fault, EX_DATAERR, "the journal in %s ends at change %" PRIu64 ", not at %" PRIu64,
                         folder, replay.position, position);
    return good;
}

/* --- settling and trimming --- */

static bool ignore_change(void *context, uint64_t position, const struct change *change)
{
    (void)context;
    (void)position;
    (void)change;
    return true;
}

static bool settle_segment(const char *folder, const struct journal_segment *segment, struct fault *fault)
{
    struct journal_extent extent;
    char name[JOURNAL_NAME_BYTES];
    char path[PATH_MAX];
    if (!journal_read(folder, segment, UINT64_MAX, ignore_change, NULL, &extent, fault))
        return false;
    journal_name(segment->first_position, name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return fault_set(fault, EX_USAGE, "the path of %s is too long", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && ftruncate(fd, (off_t)extent.valid_bytes) == 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return good || fault_set(fault, EX_IOERR, "cannot sync %s: %s", path, strerror(error));
}

/* What was being written aside, and is of no use. */
static void remove_unfinished(const char *folder)
{
    DIR *entries = opendir(folder);
    if (entries == NULL)
        return; /* what cannot be listed does no harm either */
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".new") == 0)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
}

/* So that they do not count as one of the two that are kept. */
static bool set_damaged_aside(const char *folder, const struct store_found *found, struct fault *fault)
{
    uint64_t *positions;
    size_t count;
    if (!found->is_fallback)
        return true;
    if (!snapshot_list(folder, &positions, &count, fault))
        return false;
    bool good = true;
    for (size_t i = 0;
         i < count && (positions[i] > found->snapshot.position || found->snapshot.written_at_ms == 0); i++) {
        char name[SNAPSHOT_NAME_BYTES];
        char from[PATH_MAX];
        char to[PATH_MAX];
        snapshot_name(positions[i], name);
        good = good && (size_t)snprintf(from, sizeof from, "%s/%s", folder, name) < sizeof from &&
               (size_t)snprintf(to, sizeof to, "%s/%s.damaged", folder, name) < sizeof to &&
               rename(from, to) == 0;
    }
    free(positions);
    return good || fault_set(fault, EX_IOERR, "cannot rename the damaged snapshots in %s: %s", folder,
                             strerror(errno));
}

bool store_settle(const char *data_dir, const struct store_found *found, struct fault *fault)
{
    char journal[PATH_MAX];
    char snapshots[PATH_MAX];
    char incoming[PATH_MAX];
    struct journal_segment *segments;
    size_t count;
    if (!make_folder_path(journal, data_dir, JOURNAL_FOLDER, fault) ||
        !make_folder_path(snapshots, data_dir, SNAPSHOT_FOLDER, fault) ||
        !make_folder_path(incoming, data_dir, STORE_INCOMING_FOLDER, fault) ||
        !set_damaged_aside(snapshots, found, fault) || !journal_list(journal, &segments, &count, fault))
        return false;
    remove_unfinished(journal);
    remove_unfinished(snapshots);
    remove_unfinished(incoming);
    bool good = count == 0 || settle_segment(journal, &segments[count - 1], fault);
    free(segments);
    return good;
}

static void ignore_call(void *context)
{
    (void)context;
}

static void ignore_line(enum notice_level level, const char *line)
{
    (void)level;
    (void)line;
}

bool store_begin_journal(const char *data_dir, uint64_t position, struct fault *fault)
{
    char folder[PATH_MAX];
    struct journal_segment *segments;
    size_t count;
    if (!make_folder_path(folder, data_dir, JOURNAL_FOLDER, fault) ||
        !journal_list(folder, &segments, &count, fault))
        return false;
    free(segments);
    if (count > 0)
        return true;
    struct journal *journal = journal_start(&(struct journal_options){.folder = folder,
                                                                      .position = position,
                                                                      .segment_bytes = JOURNAL_HEADER_BYTES,
                                                                      .changed = ignore_call,
                                                                      .notice = ignore_line},
                                            fault);
    return journal != NULL && journal_stop(journal, fault);
}

uint64_t store_trim(const char *data_dir)
{
    char folder[PATH_MAX];
    struct fault ignored; /* what cannot be listed cannot be removed, and nothing is lost */
    uint64_t *positions;
    size_t count;
    if (!make_folder_path(folder, data_dir, SNAPSHOT_FOLDER, &ignored) ||
        !snapshot_list(folder, &positions, &count, &ignored))
        return 0;
    for (size_t i = 2; i < count; i++)
        snapshot_remove(folder, positions[i]);
    uint64_t older = count >= 2 ? positions[1] : 0;
    free(positions);
    return older;
}

/* --- the check --- */

struct check {
    FILE *out;
    struct fault *fault; /* the first */
    bool good;
};

static void blame(struct check *check, const struct fault *fault)
{
    fprintf(check->out, "BAD   %s\n", fault->text);
    if (check->good)
        *check->fault = *fault;
    check->good = false;
}

static bool check_record(void *context, const struct record *record)
{
    uint64_t *records = context;
    ++*records;
    return phone_check(record->number) == PHONE_OK;
}

static void check_snapshot(struct check *check, const char *folder, uint64_t position)
{
    struct snapshot_info info;
    struct fault fault = {0};
    uint64_t records = 0;
    bool good = snapshot_read_info(folder, position, &info, &fault) &&
                snapshot_visit(folder, position, check_record, &records, &fault);
    if (good && records != info.records)
        good = fault_set(&fault, EX_DATAERR, "%s/%016" PRIx64 ".snapshot has another count than it says",
                         folder, position);
    if (!good && fault.status == 0)
        fault_set(&fault, EX_DATAERR, "%s/%016" PRIx64 ".snapshot holds a number that is none", folder,
                  position);
    if (good)
        fprintf(check->out,
                "ok    %s/%016" PRIx64 ".snapshot: %" PRIu64 " registrations, up to change %" PRIu64 "\n",
                folder, position, records, position);
    else
        blame(check, &fault);
}

static bool count_change(void *context, uint64_t position, const struct change *change)
{
    uint64_t *changes = context;
    (void)position;
    ++*changes;
    return change->kind == CHANGE_MARK || phone_check(change->record.number) == PHONE_OK;
}

static void check_segment(struct check *check, const char *folder, const struct journal_segment *segment)
{
    struct journal_extent extent;
    struct fault fault = {0};
    uint64_t changes = 0;
    bool good = journal_read(folder, segment, 0, count_change, &changes, &extent, &fault);
    if (!good && fault.status == 0)
        fault_set(&fault, EX_DATAERR, "%s/%016" PRIx64 ".journal holds a number that is none", folder,
                  segment->first_position);
    if (!good || !judge_end(folder, segment, &extent, &fault)) {
        blame(check, &fault);
        return;
    }
    fprintf(check->out, "ok    %s/%016" PRIx64 ".journal: %" PRIu64 " changes, up to change %" PRIu64 "%s\n",
            folder, segment->first_position, changes, extent.last_position,
            extent.end == JOURNAL_TORN ? ", then an unfinished commit" : "");
}

static void check_files(struct check *check, const char *data_dir)
{
    char folder[PATH_MAX];
    struct fault fault;
    uint64_t *positions = NULL;
    struct journal_segment *segments = NULL;
    size_t count;
    if (!make_folder_path(folder, data_dir, SNAPSHOT_FOLDER, &fault) ||
        !snapshot_list(folder, &positions, &count, &fault)) {
        blame(check, &fault);
        return;
    }
    for (size_t i = 0; i < count; i++)
        check_snapshot(check, folder, positions[i]);
    free(positions);
    if (!make_folder_path(folder, data_dir, JOURNAL_FOLDER, &fault) ||
        !journal_list(folder, &segments, &count, &fault)) {
        blame(check, &fault);
        return;
    }
    for (size_t i = 0; i < count; i++)
        check_segment(check, folder, &segments[i]);
    free(segments);
}

/* What a start would make of it: the whole is loaded, and each number looked for where it should be. */
static void check_whole(struct check *check, const char *data_dir)
{
    struct store_options options = {.data_dir = data_dir, .accounts = true, .threads = 2};
    struct snapshot_progress progress = {0};
    struct store_found found;
    struct fault fault;
    struct directory *directory = store_load(&options, &progress, &found, &fault);
    if (directory == NULL) {
        blame(check, &fault);
        return;
    }
    struct directory_stats stats;
    directory_stats(directory, &stats);
    for (unsigned shard = 0; shard < stats.shards; shard++) {
        if (!directory_check_shard(directory, shard)) {
            fault_set(&fault, EX_DATAERR, "shard %u of %s has numbers where no lookup would find them", shard,
                      data_dir);
            blame(check, &fault);
        }
    }
    directory_destroy(directory);
    if (check->good || found.is_fallback)
        fprintf(check->out,
                "%s  a start loads %" PRIu64 " registrations, up to change %" PRIu64 ", %" PRIu64
                " of them from the journal\n",
                check->good ? "ok  " : "note", stats.records, found.position, found.replayed);
}

bool store_check(const char *data_dir, FILE *out, struct fault *fault)
{
    struct check check = {.out = out, .fault = fault, .good = true};
    check_files(&check, data_dir);
    check_whole(&check, data_dir);
    return check.good;
}
