/* The ledger; see ledger.h. */
#include "persist/querylog/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>

#include "persist/durable.h"

#define HASH_BYTES 32
#define HEAD_SUFFIX ".head"
#define HASH_MEMBER ",\"hash\":\""
/* Of `,"hash":"HASH"}` and the newline. */
#define TAIL_BYTES (sizeof HASH_MEMBER - 1 + LEDGER_HASH_DIGITS + 3)

static void hash_text(const char *text, size_t length, char digits[static LEDGER_HASH_DIGITS + 1])
{
    unsigned char hash[HASH_BYTES];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)text, length, NULL, 0);
    sodium_bin2hex(digits, LEDGER_HASH_DIGITS + 1, hash, sizeof hash);
}

/* True when the line is the next one, and the state then counts it. */
static bool take_line(const char *line, size_t length, const char *kept, struct ledger_state *state)
{
    char expected[128];
    char digits[LEDGER_HASH_DIGITS + 1];
    int head = snprintf(expected, sizeof expected, "{\"entry\":%" PRIu64 ",\"previous\":\"%s\",",
                        state->entries + 1, state->head);
    if (length < (size_t)head + TAIL_BYTES || memcmp(line, expected, (size_t)head) != 0)
        return false;
    hash_text(line, length - TAIL_BYTES, digits);
    char tail[TAIL_BYTES + 1];
    snprintf(tail, sizeof tail, HASH_MEMBER "%s\"}\n", digits);
    if (memcmp(line + length - TAIL_BYTES, tail, TAIL_BYTES) != 0)
        return false;
    state->entries++;
    memcpy(state->head, digits, sizeof digits);
    state->has_kept = state->has_kept || (kept != NULL && strcmp(kept, digits) == 0);
    return true;
}

/* Reads the lines of the open file, from its beginning. */
static bool check_lines(FILE *file, const char *path, const char *kept, struct ledger_state *state,
                        struct fault *fault)
{
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    *state = (struct ledger_state){0};
    memset(state->head, '0', LEDGER_HASH_DIGITS);
    for (ssize_t length; good && (length = getline(&line, &room, file)) >= 0;)
        good =
            take_line(line, (size_t)length, kept, state) ||
            fault_set(
                fault, EX_DATAERR,
                "%s: line %" PRIu64
                " is not as it was written: the ledger was changed or damaged; keep it as it is, and begin "
                "another with --ledger",
                path, state->entries + 1);
    free(line);
    return good &&
           (ferror(file) == 0 || fault_set(fault, EX_IOERR, "cannot read %s: %s", path, strerror(errno)));
}

static bool start_sodium(struct fault *fault)
{
    return sodium_init() >= 0 || fault_set(fault, EX_OSERR, "libsodium cannot be used: no random numbers");
}

/* The head that FILE.head has; empty when there is none. */
static void read_head(const char *path, char head[static LEDGER_HASH_DIGITS + 1])
{
    char head_path[PATH_MAX];
    FILE *file = (size_t)snprintf(head_path, sizeof head_path, "%s" HEAD_SUFFIX, path) < sizeof head_path
                     ? fopen(head_path, "re")
                     : NULL;
    if (file == NULL || fscanf(file, "%64[0-9a-f]", head) != 1)
        head[0] = '\0';
    if (file != NULL)
        fclose(file);
}

static bool write_head(const char *path, const struct ledger_state *state, struct fault *fault)
{
    char folder[PATH_MAX];
    char name[PATH_MAX];
    char text[LEDGER_HASH_DIGITS + 2];
    bool fits = (size_t)snprintf(folder, sizeof folder, "%s", path) < sizeof folder &&
                (size_t)snprintf(name, sizeof name, "%s" HEAD_SUFFIX, path) < sizeof name;
    snprintf(text, sizeof text, "%s\n", state->head);
    return fits ? durable_write(dirname(folder), basename(name), text, sizeof text - 1, fault)
                : fault_set(fault, EX_USAGE, "the path of the ledger is too long");
}

/* check_lines, and that none is missing at the end. A crash between the two files leaves the head one line behind. */
static bool check_whole(FILE *file, const char *path, const char *kept, struct ledger_state *state,
                        struct fault *fault)
{
    char head[LEDGER_HASH_DIGITS + 1];
    struct ledger_state again;
    read_head(path, head);
    if (!check_lines(file, path, kept, state, fault))
        return false;
    if (head[0] == '\0' || strcmp(head, state->head) == 0)
        return true;
    rewind(file);
    return check_lines(file, path, head, &again, fault) &&
           (again.has_kept ||
            fault_set(fault, EX_DATAERR,
                      "%s: entries are missing at the end (after %" PRIu64
                      "): the ledger was changed or damaged; keep it as it is, and begin another "
                      "with --ledger",
                      path, state->entries));
}

bool ledger_check(const char *path, const char *kept, struct ledger_state *state, struct fault *fault)
{
    if (!start_sodium(fault))
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the ledger %s: %s", path, strerror(errno));
    bool good = check_whole(file, path, kept, state, fault);
    fclose(file);
    return good;
}

/* Behind what was checked, all or nothing. */
static bool write_line(int fd, const char *path, const char *members, struct ledger_state *state,
                       struct fault *fault)
{
    char *line = NULL;
    char digits[LEDGER_HASH_DIGITS + 1];
    struct stat status;
    int length = asprintf(&line, "{\"entry\":%" PRIu64 ",\"previous\":\"%s\",%s", state->entries + 1,
                          state->head, members);
    if (length < 0)
        return fault_set(fault, EX_OSERR, "out of memory for the ledger");
    hash_text(line, (size_t)length, digits);
    char tail[TAIL_BYTES + 1];
    snprintf(tail, sizeof tail, HASH_MEMBER "%s\"}\n", digits);
    bool good = fstat(fd, &status) == 0;
    uint64_t end = good ? (uint64_t)status.st_size : 0;
    good = good && durable_pwrite(fd, line, (size_t)length, end) &&
           durable_pwrite(fd, tail, TAIL_BYTES, end + (uint64_t)length) && fsync(fd) == 0;
    free(line);
    if (!good) {
        fault_set(fault, EX_IOERR, "cannot write the ledger %s: %s; nothing is disclosed without it", path,
                  strerror(errno));
        (void)!ftruncate(fd, (off_t)end); /* the next check says so if it stays */
        return false;
    }
    state->entries++;
    memcpy(state->head, digits, sizeof digits);
    return true;
}

bool ledger_append(const char *path, const char *members, struct ledger_state *state, struct fault *fault)
{
    if (!start_sodium(fault))
        return false;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    if (file == NULL || flock(fd, LOCK_EX) != 0) {
        fault_set(fault, EX_CANTCREAT, "cannot open the ledger %s: %s; name another with --ledger", path,
                  strerror(errno));
        if (file != NULL)
            fclose(file);
        else if (fd >= 0)
            close(fd);
        return false;
    }
    bool good = check_whole(file, path, NULL, state, fault) && write_line(fd, path, members, state, fault) &&
                write_head(path, state, fault);
    fclose(file);
    return good;
}
