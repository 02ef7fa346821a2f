/* A disclosure's files; see ctl_disclosure.h. */
#include "server/ctl_disclosure.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "hashing/phone.h"
#include "server/address.h"
#include "server/wire.h"

#define HASH_BYTES crypto_hash_sha256_BYTES
#define HASH_DIGITS ((size_t)2 * HASH_BYTES)
#define SIGNATURE_DIGITS ((size_t)2 * OFFICER_SIGNATURE_BYTES)
#define PART_SUFFIX ".part"

/* The files whose hashes the manifest has, then the manifest and its signature. */
enum file { CSV, JSONL, ABOUT, HASHED_FILES, MANIFEST = HASHED_FILES, SIGNATURE, FILES };

static const char *const names[FILES] = {"records.csv", "records.jsonl", "disclosure.json", "manifest.json",
                                         "manifest.sig"};

struct output {
    FILE *stream;
    uint64_t bytes;
    crypto_hash_sha256_state hash;
};

struct disclosure_files {
    char folder[PATH_MAX];
    char part[PATH_MAX];
    struct output outputs[FILES];
    uint64_t records;
    json_t *gaps;
    json_t *warnings;
};

void disclosure_time(uint64_t time_ms, char text[static DISCLOSURE_TIME_BYTES])
{
    struct tm utc;
    time_t seconds = (time_t)(time_ms / 1000);
    size_t length = strftime(text, DISCLOSURE_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &utc));
    snprintf(text + length, DISCLOSURE_TIME_BYTES - length, ".%03uZ", (unsigned)(time_ms % 1000));
}

/* --- files --- */

static bool set_path(char path[static PATH_MAX], const char *folder, const char *name)
{
    return (size_t)snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static bool open_output(struct disclosure_files *files, enum file file)
{
    char path[PATH_MAX];
    struct output *output = &files->outputs[file];
    crypto_hash_sha256_init(&output->hash);
    output->stream = set_path(path, files->part, names[file]) ? fopen(path, "wxe") : NULL;
    return output->stream != NULL;
}

/* Failures show when the stream is closed. */
static void put(struct output *output, const char *text, size_t length)
{
    (void)fwrite(text, 1, length, output->stream);
    crypto_hash_sha256_update(&output->hash, (const unsigned char *)text, length);
    output->bytes += length;
}

static void put_line(struct output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_line(struct output *output, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    put(output, line, (size_t)length);
}

static bool close_output(struct output *output)
{
    FILE *stream = output->stream;
    output->stream = NULL;
    if (stream == NULL)
        return true;
    bool good = ferror(stream) == 0 && fflush(stream) == 0 && fsync(fileno(stream)) == 0;
    return fclose(stream) == 0 && good;
}

static bool fail_writing(const struct disclosure_files *files, struct fault *fault)
{
    return fault_set(fault, EX_CANTCREAT, "cannot write the disclosure to %s: %s", files->folder,
                     strerror(errno));
}

/* --- begin --- */

struct disclosure_files *disclosure_begin(const char *folder, struct fault *fault)
{
    struct disclosure_files *files = calloc(1, sizeof *files);
    if (files == NULL || sodium_init() < 0) {
        free(files);
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    files->gaps = json_array();
    files->warnings = json_array();
    bool fits = (size_t)snprintf(files->folder, PATH_MAX, "%s", folder) < PATH_MAX &&
                (size_t)snprintf(files->part, PATH_MAX, "%s" PART_SUFFIX, folder) < PATH_MAX;
    bool good = true;
    if (!fits)
        good = fault_set(fault, EX_USAGE, "the path of the output is too long");
    else if (access(folder, F_OK) == 0)
        good = fault_set(fault, EX_CANTCREAT, "%s is there already: name a new folder with --output", folder);
    else if (mkdir(files->part, 0700) != 0)
        good = fault_set(fault, EX_CANTCREAT, "cannot make the folder %s: %s", files->part, strerror(errno));
    if (!good) {
        files->part[0] = '\0'; /* not ours to remove */
        disclosure_abandon(files);
        return NULL;
    }
    if (!open_output(files, CSV) || !open_output(files, JSONL)) {
        fail_writing(files, fault);
        disclosure_abandon(files);
        return NULL;
    }
    put_line(&files->outputs[CSV], "time,partyNumber,answer,requester,ip,via,server,recordNumber\n");
    return files;
}

void disclosure_abandon(struct disclosure_files *files)
{
    char path[PATH_MAX];
    for (int i = 0; i < FILES; i++) {
        (void)close_output(&files->outputs[i]);
        if (files->part[0] != '\0' && set_path(path, files->part, names[i]))
            (void)unlink(path);
    }
    if (files->part[0] != '\0')
        (void)rmdir(files->part);
    json_decref(files->gaps);
    json_decref(files->warnings);
    free(files);
}

/* --- what is found --- */

/* As much as is kept: an address, a network, or nothing. */
static void format_ip(const struct disclose_record *record, char text[static ADDRESS_TEXT_BYTES])
{
    text[0] = '\0';
    if (record->ip_kept == QUERY_IP_NONE || address_ip_is_zero(record->ip))
        return; /* of a front that named none, too */
    address_format_ip(record->ip, text);
    size_t length = strlen(text);
    if (record->ip_kept == QUERY_IP_NETWORK)
        snprintf(text + length, ADDRESS_TEXT_BYTES - length, "%s",
                 query_ip_is_v4(record->ip) ? "/24" : "/48");
}

void disclosure_record(struct disclosure_files *files, const struct disclose_record *record)
{
    char when[DISCLOSURE_TIME_BYTES];
    char number[PHONE_TEXT_BYTES] = "";
    char ip[ADDRESS_TEXT_BYTES];
    char via[ADDRESS_TEXT_BYTES] = "";
    disclosure_time(record->time_ms, when);
    if (record->number != 0 && record->number <= PHONE_KEY_MAX)
        phone_format(record->number, number);
    format_ip(record, ip);
    if (record->via != NULL)
        address_format_ip(record->via, via);
    const char *answer = wire_status_text(record->answer);
    files->records++;
    /* No field has anything to escape, in JSON or in CSV. Ids are text in JSON: readers lose integers above 2^53. */
    put_line(&files->outputs[CSV], "%s,%s,%s,%" PRIu64 ",%s,%s,%016" PRIx64 ",%" PRIu64 "\n", when, number,
             answer, record->requester, ip, via, record->server_id, files->records);
    put_line(&files->outputs[JSONL],
             "{\"time\":\"%s\",\"partyNumber\":\"%s\",\"answer\":\"%s\",\"requester\":\"%" PRIu64
             "\",\"ip\":\"%s\",\"via\":\"%s\",\"server\":\"%016" PRIx64 "\",\"recordNumber\":%" PRIu64 "}\n",
             when, number, answer, record->requester, ip, via, record->server_id, files->records);
}

static const char *reason_text(uint32_t reason)
{
    static const char *const texts[] = {[QUERY_GAP_DROPPED] = "dropped",
                                        [QUERY_GAP_KILLED] = "server killed",
                                        [QUERY_GAP_UNWRITTEN] = "not written at the stop",
                                        [QUERY_GAP_RESTARTED] = "machine restarted",
                                        [QUERY_GAP_DAMAGED] = "damaged before Redis"};
    return reason < sizeof texts / sizeof texts[0] && texts[reason] != NULL ? texts[reason] : "unknown";
}

void disclosure_gap(struct disclosure_files *files, uint64_t server_id, const struct query_gap *gap)
{
    char from[DISCLOSURE_TIME_BYTES];
    char until[DISCLOSURE_TIME_BYTES];
    char server[20];
    disclosure_time(gap->from_ms, from);
    disclosure_time(gap->until_ms, until);
    snprintf(server, sizeof server, "%016" PRIx64, server_id);
    json_t *events = gap->events == 0 ? json_null() : json_integer((json_int_t)gap->events);
    json_array_append_new(files->gaps,
                          json_pack("{s:s, s:s, s:o, s:s, s:s}", "from", from, "until", until, "events",
                                    events, "reason", reason_text(gap->reason), "server", server));
}

void disclosure_warning(struct disclosure_files *files, const char *line)
{
    json_array_append_new(files->warnings, json_string(line));
}

uint64_t disclosure_records(const struct disclosure_files *files)
{
    return files->records;
}

uint64_t disclosure_gaps(const struct disclosure_files *files)
{
    return json_array_size(files->gaps);
}

uint64_t disclosure_warnings(const struct disclosure_files *files)
{
    return json_array_size(files->warnings);
}

/* --- end --- */

/* `*text` is what was written; free() it in any case. */
static bool write_json(struct disclosure_files *files, enum file file, json_t *object, char **text)
{
    char *dump = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(object);
    *text = NULL;
    if (dump == NULL || asprintf(text, "%s\n", dump) < 0)
        *text = NULL;
    free(dump);
    if (*text == NULL || !open_output(files, file))
        return false;
    put(&files->outputs[file], *text, strlen(*text));
    return close_output(&files->outputs[file]);
}

static json_t *describe(struct disclosure_files *files)
{
    json_t *list = json_array();
    for (int i = 0; i < HASHED_FILES; i++) {
        unsigned char hash[HASH_BYTES];
        char digits[HASH_DIGITS + 1];
        crypto_hash_sha256_final(&files->outputs[i].hash, hash);
        sodium_bin2hex(digits, sizeof digits, hash, sizeof hash);
        json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", names[i], "bytes",
                                              (json_int_t)files->outputs[i].bytes, "sha256", digits));
    }
    return json_pack("{s:s, s:o}", "format", "numberd disclosure 1", "files", list);
}

static bool write_all(struct disclosure_files *files, json_t *about, const struct officer_pair *officer)
{
    char *text = NULL;
    uint8_t signature[OFFICER_SIGNATURE_BYTES];
    char digits[SIGNATURE_DIGITS + 1];
    json_object_set_new(about, "recordCount", json_integer((json_int_t)files->records));
    json_object_set(about, "gaps", files->gaps);
    json_object_set(about, "warnings", files->warnings);
    json_object_set_new(about, "notice", json_string(DISCLOSURE_NOTICE));
    bool good = close_output(&files->outputs[CSV]) && close_output(&files->outputs[JSONL]);
    good = write_json(files, ABOUT, about, &text) && good;
    free(text);
    text = NULL;
    good = good && write_json(files, MANIFEST, describe(files), &text);
    if (good)
        officer_sign(officer, text, strlen(text), signature);
    free(text);
    if (!good)
        return false;
    sodium_bin2hex(digits, sizeof digits, signature, sizeof signature);
    if (!open_output(files, SIGNATURE))
        return false;
    put(&files->outputs[SIGNATURE], digits, SIGNATURE_DIGITS);
    put(&files->outputs[SIGNATURE], "\n", 1);
    return close_output(&files->outputs[SIGNATURE]);
}

bool disclosure_end(struct disclosure_files *files, json_t *about, const struct officer_pair *officer,
                    struct fault *fault)
{
    bool good = write_all(files, about, officer) && rename(files->part, files->folder) == 0;
    if (good)
        files->part[0] = '\0';
    else
        fail_writing(files, fault);
    disclosure_abandon(files);
    return good;
}

/* --- verifying --- */

/* A whole file with a zero behind it; free() it. */
static char *read_file(const char *folder, const char *name, size_t *length, struct fault *fault)
{
    char path[PATH_MAX];
    struct stat status;
    FILE *file = set_path(path, folder, name) ? fopen(path, "re") : NULL;
    char *text = NULL;
    if (file != NULL && fstat(fileno(file), &status) == 0 &&
        (text = malloc((size_t)status.st_size + 1)) != NULL) {
        *length = fread(text, 1, (size_t)status.st_size, file);
        text[*length] = '\0';
    }
    if (file != NULL)
        fclose(file);
    if (text == NULL)
        fault_set(fault, EX_NOINPUT, "cannot read %s in %s: %s", name, folder, strerror(errno));
    return text;
}

static bool check_file(const char *folder, const json_t *entry, struct fault *fault)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *expected = json_string_value(json_object_get(entry, "sha256"));
    unsigned char hash[HASH_BYTES];
    char digits[HASH_DIGITS + 1];
    size_t length;
    if (name == NULL || expected == NULL || strchr(name, '/') != NULL)
        return fault_set(fault, EX_DATAERR, "%s: manifest.json is no manifest of a disclosure", folder);
    char *text = read_file(folder, name, &length, fault);
    if (text == NULL)
        return false;
    crypto_hash_sha256(hash, (const unsigned char *)text, length);
    free(text);
    sodium_bin2hex(digits, sizeof digits, hash, sizeof hash);
    return strcmp(digits, expected) == 0 ||
           fault_set(fault, EX_DATAERR, "%s: %s is not as it was disclosed", folder, name);
}

static bool check_signature(const char *folder, const char *manifest, size_t length, const char *verify_key,
                            struct fault *fault)
{
    uint8_t signature[OFFICER_SIGNATURE_BYTES];
    size_t digits;
    size_t bytes = 0;
    char *text = read_file(folder, names[SIGNATURE], &digits, fault);
    if (text == NULL)
        return false;
    bool good =
        digits == SIGNATURE_DIGITS + 1 &&
        sodium_hex2bin(signature, sizeof signature, text, SIGNATURE_DIGITS, NULL, &bytes, NULL) == 0 &&
        bytes == sizeof signature;
    free(text);
    return good ? officer_check_signature(verify_key, manifest, length, signature, fault)
                : fault_set(fault, EX_DATAERR, "%s: manifest.sig is no signature", folder);
}

bool disclosure_verify(const char *folder, const char *verify_key, struct fault *fault)
{
    size_t length;
    if (sodium_init() < 0)
        return fault_set(fault, EX_OSERR, "libsodium cannot be used");
    char *manifest = read_file(folder, names[MANIFEST], &length, fault);
    if (manifest == NULL)
        return false;
    json_t *object = json_loadb(manifest, length, 0, NULL);
    const json_t *files = json_object_get(object, "files");
    bool good = check_signature(folder, manifest, length, verify_key, fault) &&
                (json_array_size(files) == HASHED_FILES ||
                 fault_set(fault, EX_DATAERR, "%s: manifest.json is no manifest of a disclosure", folder));
    for (size_t i = 0; good && i < HASHED_FILES; i++)
        good = check_file(folder, json_array_get(files, i), fault);
    json_decref(object);
    free(manifest);
    return good;
}
