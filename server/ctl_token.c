/* numberctl token: makes, lists and revokes the tokens that clients show. */
#include "server/numberctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/durable.h"
#include "server/access/tokens.h"
#include "server/tls.h"

/* The file of tokens, while nobody else of us changes it. */
struct token_file {
    const char *path;
    char folder[PATH_MAX];
    char name[PATH_MAX];
    int lock_fd; /* of the folder */
    struct tokens *tokens;
};

static void close_file(struct token_file *file)
{
    tokens_release(file->tokens);
    if (file->lock_fd >= 0)
        close(file->lock_fd);
}

/* EX_OK, or the status with which to end, printed. */
static int open_file(struct token_file *file, const char *path, bool may_be_new)
{
    char copy[PATH_MAX];
    char error[PATH_MAX + 256];
    *file = (struct token_file){.path = path, .lock_fd = -1};
    if (strlen(path) >= sizeof copy || path[0] == '\0')
        return ctl_fail(EX_USAGE, "token: the file's path is empty or too long");
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(file->folder, sizeof file->folder, "%s", dirname(copy));
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(file->name, sizeof file->name, "%s", basename(copy));
    file->lock_fd = open(file->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->lock_fd < 0 || flock(file->lock_fd, LOCK_EX) != 0)
        return ctl_fail(EX_NOINPUT, "cannot use the folder %s: %s", file->folder, strerror(errno));
    if (may_be_new && access(path, F_OK) != 0 && errno == ENOENT) {
        file->tokens = tokens_create();
        return file->tokens == NULL ? ctl_fail(EX_OSERR, "out of memory") : EX_OK;
    }
    file->tokens = tokens_load(path, error, sizeof error);
    if (file->tokens == NULL)
        return ctl_fail(access(path, R_OK) != 0 ? EX_NOINPUT : EX_DATAERR, "%s", error);
    return EX_OK;
}

/* EX_OK, or the status with which to end, printed. */
static int save_file(const struct token_file *file)
{
    char *text = NULL;
    size_t length;
    struct fault fault;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL)
        return ctl_fail(EX_OSERR, "out of memory");
    tokens_print(file->tokens, stream);
    if (fclose(stream) != 0) {
        free(text);
        return ctl_fail(EX_OSERR, "out of memory");
    }
    bool good = durable_write(file->folder, file->name, text, length, &fault);
    free(text);
    return good ? EX_OK : ctl_fail(fault.status, "%s", fault.text);
}

static bool parse_id(const char *text, uint64_t *id)
{
    char *end;
    if (strlen(text) != 12 || strspn(text, "0123456789abcdef") != 12)
        return false;
    *id = strtoull(text, &end, 16);
    return *end == '\0';
}

/* --- the three things to do --- */

static json_t *to_json(const struct token *token)
{
    char id[16];
    char roles[ROLES_TEXT_BYTES];
    char budget[BUDGET_TEXT_BYTES];
    snprintf(id, sizeof id, "%012" PRIx64, token->grant.id);
    roles_format(token->grant.roles, roles);
    grant_budget_format(&token->grant, budget);
    return json_pack("{s:s, s:I, s:s, s:s, s:s}", "id", id, "principal", (json_int_t)token->grant.principal,
                     "roles", roles, "budget", budget, "name", token->name);
}

static int add_certificate(const struct ctl_common *common, struct token_file *file, struct token *token,
                           const char *path)
{
    uint8_t fingerprint[TLS_FINGERPRINT_BYTES];
    char error[512];
    if (!tls_file_fingerprint(path, fingerprint, error, sizeof error))
        return ctl_fail(access(path, R_OK) != 0 ? EX_NOINPUT : EX_DATAERR, "%s", error);
    enum tokens_addition addition = tokens_add_certificate(file->tokens, token, fingerprint);
    if (addition == TOKENS_REPEATED)
        return ctl_fail(EX_DATAERR, "the key of %s is in %s already, as %012" PRIx64 "; revoke it first",
                        path, file->path, token->grant.id);
    if (addition == TOKENS_NO_MEMORY)
        return ctl_fail(EX_OSERR, "out of memory");
    int status = save_file(file);
    if (status != EX_OK)
        return status;
    if (common->json)
        ctl_print_json(to_json(token));
    else
        fprintf(stderr,
                "numberctl: the certificate is in %s as %012" PRIx64
                "; a running numberd takes it at SIGHUP\n",
                file->path, token->grant.id);
    return EX_OK;
}

static int add_token(const struct ctl_common *common, struct token_file *file, struct token *token)
{
    char text[TOKEN_TEXT_BYTES];
    if (!tokens_add(file->tokens, token, text))
        return ctl_fail(EX_OSERR, "out of memory");
    int status = save_file(file);
    if (status != EX_OK)
        return status;
    if (common->json) {
        json_t *object = to_json(token);
        json_object_set_new(object, "token", json_string(text));
        ctl_print_json(object);
        return EX_OK;
    }
    fprintf(stderr,
            "numberctl: token %012" PRIx64
            " is in %s; a running numberd takes it at SIGHUP. This is the only "
            "time that it is shown:\n",
            token->grant.id, file->path);
    printf("%s\n", text);
    return EX_OK;
}

static int list_tokens(const struct ctl_common *common, const struct token_file *file)
{
    size_t count;
    const struct token *tokens = tokens_list(file->tokens, &count);
    for (size_t i = 0; i < count; i++) {
        char roles[ROLES_TEXT_BYTES];
        char budget[BUDGET_TEXT_BYTES];
        if (common->json) {
            ctl_print_json(to_json(&tokens[i]));
            continue;
        }
        roles_format(tokens[i].grant.roles, roles);
        grant_budget_format(&tokens[i].grant, budget);
        printf("%012" PRIx64 "  principal %-10" PRIu64 " %-30s budget %-20s %s\n", tokens[i].grant.id,
               tokens[i].grant.principal, roles, budget, tokens[i].name);
    }
    return EX_OK;
}

/* All of them or none. */
static int revoke_ids(const struct ctl_common *common, struct token_file *file, int count, char **ids)
{
    for (int i = 0; i < count; i++) {
        uint64_t id;
        if (!parse_id(ids[i], &id))
            return ctl_fail(EX_USAGE,
                            "token revoke: argument %d is no id: 12 hexadecimal digits, as numberctl "
                            "token list prints them; nothing was revoked",
                            i + 1);
        if (!tokens_revoke(file->tokens, id))
            return ctl_fail(EX_DATAERR, "%s has no token %s; nothing was revoked", file->path, ids[i]);
    }
    int status = save_file(file);
    if (status != EX_OK)
        return status;
    if (common->json)
        ctl_print_json(json_pack("{s:i}", "revoked", count));
    else
        fprintf(stderr, "numberctl: revoked; a running numberd closes their connections from SIGHUP on\n");
    return EX_OK;
}

/* --- the verb --- */

struct choices {
    const char *principal;
    const char *roles;
    const char *budget;
    const char *name;
    const char *certificate;
};

/* EX_OK, or the status with which to end, printed. */
static int read_token(const struct choices *choices, struct token *token)
{
    *token = (struct token){0};
    if (choices->principal == NULL || choices->roles == NULL)
        return ctl_fail(EX_USAGE, "token add: --principal and --roles are needed");
    if (!ctl_unsigned(choices->principal, "--principal", UINT64_MAX >> 1, &token->grant.principal))
        return EX_USAGE;
    if (token->grant.principal == 0)
        return ctl_fail(EX_USAGE, "--principal must be above 0");
    if (!roles_parse(choices->roles, &token->grant.roles))
        return ctl_fail(EX_USAGE, "--roles must be some of lookup,register,front,operate, joined by commas");
    if (choices->budget != NULL && !grant_budget_parse(choices->budget, &token->grant))
        return ctl_fail(
            EX_USAGE,
            "--budget must be default, none or BURST/HOURLY: up to 1000000000 an hour, a burst of less than "
            "100000 hours");
    const char *name = choices->name == NULL ? "" : choices->name;
    for (const char *at = name; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return ctl_fail(EX_USAGE, "--name must be printable, without spaces");
    if (strlen(name) > TOKEN_NAME_MAX)
        return ctl_fail(EX_USAGE, "--name must have 64 characters at most");
    memcpy(token->name, name, strlen(name) + 1);
    return EX_OK;
}

int ctl_token(int argc, char **argv)
{
    struct ctl_common common;
    struct choices choices = {0};
    const struct ctl_option options[] = {
        {"principal", "N", "add: whom the token stands for, an integer above 0", &choices.principal, NULL},
        {"roles", "ROLES", "add: lookup, register, front, operate, joined by commas", &choices.roles, NULL},
        {"budget", "BUDGET", "add: default, none, or BURST/HOURLY in numbers (default: default)",
         &choices.budget, NULL},
        {"name", "NAME", "add: for people", &choices.name, NULL},
        {"certificate", "FILE", "add: a client's certificate, PEM, in place of a token", &choices.certificate,
         NULL},
    };
    struct token_file file;
    struct token token;
    int status = ctl_parse(
        &common, "token",
        "add FILE --principal N --roles ROLES [--budget BUDGET] [--name NAME] [--certificate FILE]\n"
        "       numberctl token list FILE\n"
        "       numberctl token revoke FILE ID...",
        "Makes, lists and revokes the tokens in FILE, which is numberd's --token-file and "
        "holds only salted hashes.\n"
        "A new token is printed once. With --certificate there is none: the client shows that certificate in "
        "its "
        "TLS handshake\n(numberd's --tls-client-ca), or one that was renewed for the same key. "
        "numberd reads the file again at SIGHUP.\n\n"
        "lookup: look numbers up; register: change registrations; front: look numbers up "
        "for requesters and IPs\n"
        "that it names; operate: statistics, snapshots, replacing all registrations.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    const char *action = argc < 1 ? "" : argv[0];
    bool is_add = strcmp(action, "add") == 0;
    bool is_list = strcmp(action, "list") == 0;
    if (!is_add && !is_list && strcmp(action, "revoke") != 0)
        return ctl_fail(EX_USAGE, "token: say add, list or revoke; numberctl token --help says more");
    if (argc < (is_add || is_list ? 2 : 3) || ((is_add || is_list) && argc > 2))
        return ctl_fail(EX_USAGE, "token %s: name one file%s", action,
                        is_add || is_list ? "" : ", then the ids to revoke");
    if (is_add && (status = read_token(&choices, &token)) != EX_OK)
        return status;
    status = open_file(&file, argv[1], is_add);
    if (status == EX_OK)
        status = is_add && choices.certificate != NULL
                     ? add_certificate(&common, &file, &token, choices.certificate)
                 : is_add  ? add_token(&common, &file, &token)
                 : is_list ? list_tokens(&common, &file)
                           : revoke_ids(&common, &file, argc - 2, argv + 2);
    close_file(&file);
    return status;
}
