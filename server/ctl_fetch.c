/* numberctl fetch: a data directory with what another server has, so that one which shares its feed of registrations can begin from
 * there (server/CLUSTER.md). Over HTTP, with libcurl. */
#include "server/numberctl.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <curl/curl.h>

#include "persist/datadir.h"
#include "persist/durable.h"
#include "persist/priority.h"
#include "persist/registrations/journal_file.h"
#include "persist/registrations/store.h"

#define LIST_BYTES_MAX (UINT32_C(1) << 20)
#define TRIES 5
#define HTTP_NOT_FOUND 404
/* Nothing at all for so long is a failure. */
#define SILENCE_SECONDS 30L
#define MEGABYTES_A_SECOND_MAX 1000000

struct fetch {
    const char *from;                     /* http://HOST:PORT */
    char token[WIRE_TOKEN_BYTES_MAX + 1]; /* empty: none */
    const struct ctl_common *common;
    uint64_t megabytes_a_second; /* at most; 0: as fast as it goes */
    struct datadir datadir;
    CURL *curl;
    struct fault fault;
    bool is_gone; /* a file was not there any more: the list is old */
    uint64_t total;
    uint64_t done;
    bool shows_progress;
};

/* --- one transfer --- */

struct sink {
    struct fetch *fetch;
    struct durable_file *file; /* or: */
    char *text;
    size_t length;
    uint64_t offset;
};

static void show_progress(const struct fetch *fetch)
{
    if (fetch->shows_progress && fetch->total > 0)
        fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MB, %.0f %% ", fetch->done / 1000000,
                fetch->total / 1000000, 100 * (double)fetch->done / (double)fetch->total);
}

static size_t take_bytes(char *bytes, size_t size, size_t count, void *context)
{
    struct sink *sink = context;
    size_t length = size * count;
    if (sink->file != NULL) {
        if (!durable_put(sink->file, bytes, length, sink->offset, &sink->fetch->fault))
            return 0;
        sink->offset += length;
        sink->fetch->done += length;
        show_progress(sink->fetch);
        return length;
    }
    char *grown =
        sink->length + length > LIST_BYTES_MAX ? NULL : realloc(sink->text, sink->length + length + 1);
    if (grown == NULL)
        return 0;
    sink->text = grown;
    memcpy(grown + sink->length, bytes, length);
    sink->length += length;
    grown[sink->length] = '\0';
    return length;
}

static bool fail(struct fetch *fetch, CURLcode code, long status)
{
    if (code == CURLE_WRITE_ERROR && fetch->fault.status != 0)
        return false; /* said already */
    if (code != CURLE_OK && code != CURLE_HTTP_RETURNED_ERROR)
        return fault_set(&fetch->fault, EX_UNAVAILABLE, "%s: %s", fetch->from, curl_easy_strerror(code));
    fetch->is_gone = status == HTTP_NOT_FOUND;
    return fault_set(
        &fetch->fault, status == 401 || status == 403 ? EX_NOPERM : EX_UNAVAILABLE, "%s answers %ld: %s",
        fetch->from, status,
        status == HTTP_NOT_FOUND
            ? "it shares nothing (--share yes)"
            : "it wants a token with the role replicate, and without tokens somebody on its own machine");
}

static bool transfer(struct fetch *fetch, const char *path, struct sink *sink)
{
    char url[1024];
    char authorization[512];
    struct curl_slist *headers = NULL;
    long status = 0;
    CURL *curl = fetch->curl;
    fetch->is_gone = false;
    fetch->fault.status = 0;
    if ((size_t)snprintf(url, sizeof url, "%s%s", fetch->from, path) >= sizeof url)
        return fault_set(&fetch->fault, EX_USAGE, "--from is too long");
    if (fetch->token[0] != '\0') {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", fetch->token);
        headers = curl_slist_append(NULL, authorization);
    }
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (fetch->common->tls_ca != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, fetch->common->tls_ca);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink);
    if (fetch->megabytes_a_second > 0)
        curl_easy_setopt(curl, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)fetch->megabytes_a_second * 1000000);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    return code == CURLE_OK || fail(fetch, code, status);
}

/* --- all files --- */

/* "snapshots/0123456789abcdef.snapshot": the folder and the name, if it is one of the two kinds. */
static bool split_name(const char *whole, const char **folder, const char **name)
{
    static const char *const folders[] = {SNAPSHOT_FOLDER, JOURNAL_FOLDER};
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(folders[i]);
        if (strncmp(whole, folders[i], length) != 0 || whole[length] != '/')
            continue;
        *folder = folders[i];
        *name = whole + length + 1;
        return strspn(*name, "0123456789abcdef") == 16 && (*name)[16] == '.' && strchr(*name, '/') == NULL &&
               strlen(*name) < POSITIONS_NAME_BYTES;
    }
    return false;
}

static bool fetch_file(struct fetch *fetch, const char *whole)
{
    char folder_path[PATH_MAX];
    char path[128];
    const char *folder;
    const char *name;
    struct durable_file file;
    if (!split_name(whole, &folder, &name) ||
        (size_t)snprintf(folder_path, sizeof folder_path, "%s/%s", fetch->datadir.path, folder) >=
            sizeof folder_path)
        return fault_set(&fetch->fault, EX_PROTOCOL, "%s names a file that is none of a data directory's",
                         fetch->from);
    snprintf(path, sizeof path, "/copy/file?name=%s/%s", folder, name);
    if (!durable_begin(&file, folder_path, name, &fetch->fault))
        return false;
    struct sink sink = {.fetch = fetch, .file = &file};
    if (transfer(fetch, path, &sink))
        return durable_commit(&file, &fetch->fault);
    durable_abort(&file);
    return false;
}

static bool read_list(struct fetch *fetch, json_t **files)
{
    struct sink sink = {.fetch = fetch};
    bool good = transfer(fetch, "/copy/files", &sink);
    json_t *list = good && sink.text != NULL ? json_loads(sink.text, 0, NULL) : NULL;
    free(sink.text);
    *files = json_incref(json_object_get(list, "files"));
    json_decref(list);
    return !good ? false
                 : json_is_array(*files) ||
                       fault_set(&fetch->fault, EX_PROTOCOL, "%s: no list of files", fetch->from);
}

static void remove_files(struct fetch *fetch, const json_t *files, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        const char *name = json_string_value(json_object_get(json_array_get(files, i), "name"));
        if (name != NULL &&
            (size_t)snprintf(path, sizeof path, "%s/%s", fetch->datadir.path, name) < sizeof path)
            (void)unlink(path);
    }
}

/* The snapshot, then the journal; a start refuses what lacks either. */
static bool fetch_listed(struct fetch *fetch, const json_t *files)
{
    size_t count = json_array_size(files);
    fetch->total = fetch->done = 0;
    for (size_t i = 0; i < count; i++)
        fetch->total += (uint64_t)json_integer_value(json_object_get(json_array_get(files, i), "bytes"));
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(files, i), "name"));
        if (fetch_file(fetch, name == NULL ? "" : name))
            continue;
        remove_files(fetch, files, i);
        return false;
    }
    return true;
}

static bool fetch_all(struct fetch *fetch)
{
    for (unsigned tries = 0; tries < TRIES; tries++) {
        json_t *files = NULL;
        bool is_listed = read_list(fetch, &files);
        bool good = is_listed && fetch_listed(fetch, files);
        json_decref(files);
        /* One was trimmed meanwhile: then there is a newer snapshot. */
        if (good || !is_listed || !fetch->is_gone)
            return good;
    }
    return false;
}

/* --- the verb --- */

static bool is_empty(const char *data_dir, struct fault *fault)
{
    char folder[PATH_MAX];
    uint64_t *positions = NULL;
    size_t snapshots = 0;
    size_t segments = 0;
    struct journal_segment *list = NULL;
    if ((size_t)snprintf(folder, sizeof folder, "%s/" SNAPSHOT_FOLDER, data_dir) >= sizeof folder ||
        !snapshot_list(folder, &positions, &snapshots, fault))
        return false;
    free(positions);
    snprintf(folder, sizeof folder, "%s/" JOURNAL_FOLDER, data_dir);
    if (!journal_list(folder, &list, &segments, fault))
        return false;
    free(list);
    return (snapshots == 0 && segments == 0) ||
           fault_set(fault, EX_CANTCREAT,
                     "%s has registrations already: name another directory, or move its " SNAPSHOT_FOLDER
                     " and " JOURNAL_FOLDER " away",
                     data_dir);
}

static int finish(const struct fetch *fetch, bool good)
{
    if (fetch->shows_progress && fetch->total > 0)
        fputc('\n', stderr);
    if (!good)
        return ctl_fail(fetch->fault.status, "%s", fetch->fault.text);
    if (fetch->common->json)
        ctl_print_json(json_pack("{s:I}", "bytes", (json_int_t)fetch->done));
    else
        printf("%" PRIu64 " bytes; numberd --data-dir %s --registrations URL goes on from there\n",
               fetch->done, fetch->datadir.path);
    return EX_OK;
}

int ctl_fetch(int argc, char **argv)
{
    struct ctl_common common;
    const char *from = NULL;
    const char *data_dir = CTL_DATA_DIR_DEFAULT;
    const char *rate = "50";
    uint64_t megabytes_a_second;
    const struct ctl_option options[] = {
        {"from", "URL", "the other server's stats port: http://HOST:PORT, or https://", &from, NULL},
        {"data-dir", "DIR", "to be filled; must have no registrations (default " CTL_DATA_DIR_DEFAULT ")",
         &data_dir, NULL},
        {"megabytes-per-second", "N",
         "at most, so that clients of the other server feel little (default 50; 0: no limit)", &rate, NULL},
    };
    int status = ctl_parse(
        &common, "fetch", "--from URL [--data-dir DIR] [--megabytes-per-second N]",
        "Copies the registrations of a server that shares its feed with others and was started with --share "
        "yes, so\\nthat one with nothing need not read all of the feed. With --token-file: a token with the "
        "role "
        "replicate.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 0 || from == NULL || (strncmp(from, "http://", 7) != 0 && strncmp(from, "https://", 8) != 0))
        return ctl_fail(EX_USAGE, "fetch: name the other server's stats port, --from http://HOST:PORT");
    if (!ctl_unsigned(rate, "--megabytes-per-second", MEGABYTES_A_SECOND_MAX, &megabytes_a_second))
        return EX_USAGE;
    struct fetch fetch = {.from = from,
                          .common = &common,
                          .megabytes_a_second = megabytes_a_second,
                          .curl = curl_easy_init(),
                          .shows_progress = isatty(STDERR_FILENO) != 0 && !common.json};
    if (fetch.curl == NULL)
        return ctl_fail(EX_OSERR, "out of memory");
    if (common.token_file != NULL && !client_read_token(common.token_file, fetch.token)) {
        curl_easy_cleanup(fetch.curl);
        return ctl_fail(EX_NOINPUT, "cannot read a token from %s", common.token_file);
    }
    priority_step_back(); /* servers on the same machine go on as before */
    bool is_open = datadir_open(&fetch.datadir, data_dir, &fetch.fault);
    bool good = is_open && store_make_folders(data_dir, &fetch.fault) && is_empty(data_dir, &fetch.fault) &&
                fetch_all(&fetch);
    status = finish(&fetch, good);
    if (is_open)
        datadir_close(&fetch.datadir);
    curl_easy_cleanup(fetch.curl);
    return status;
}
