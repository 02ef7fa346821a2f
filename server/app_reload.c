/* Tokens and certificate: read at the start, and again at SIGHUP; see app.h. */
#include "server/app.h"

#include <stdio.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

static void warn_of_tls(const struct app *app)
{
    if (app->ports.tls != NULL && tls_context_ends_at(app->ports.tls) < time(NULL))
        log_line(NOTICE_WARNING, "the certificate has expired: clients that look will not connect");
}

static void warn_of_tokens(const struct app *app)
{
    size_t count = 1;
    if (app->tokens != NULL)
        (void)tokens_list(app->tokens, &count);
    if (count == 0)
        log_line(NOTICE_WARNING, "there is no token in the token file: nobody gets in");
}

/* What was read as root may be closed to whom it has become. */
static void warn_of_reloads(const struct app *app)
{
    const struct config *config = &app->config;
    const char *const files[] = {config->token_file, config->tls_certificate, config->tls_key,
                                 config->tls_client_ca};
    char line[600];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (files[i] == NULL || access(files[i], R_OK) == 0)
            continue;
        snprintf(line, sizeof line, "%s cannot be read by --user %s: SIGHUP will not read it again", files[i],
                 config->user == NULL ? "" : config->user);
        log_line(NOTICE_WARNING, line);
    }
}

bool app_load_tokens(struct app *app, struct fault *fault)
{
    char error[512];
    if (app->config.token_file == NULL)
        return true;
    app->tokens = tokens_load(app->config.token_file, error, sizeof error);
    return app->tokens != NULL || fault_set(fault, EX_CONFIG, "%s", error);
}

void app_take_tls(struct app *app)
{
    if (app->ports.tls == NULL)
        return;
    atomic_store(&app->certificate_ends_at, tls_context_ends_at(app->ports.tls));
    acceptor_set_tls(app->acceptor, app->ports.tls);
    if (app->config.stats_tls)
        http_set_tls(app->http, app->ports.tls);
}

static void reload_tls(struct app *app)
{
    struct fault fault;
    char line[600];
    if (app->ports.tls == NULL)
        return;
    if (ports_reload_tls(&app->ports, &app->config, &fault)) {
        app_take_tls(app);
        log_line(NOTICE_NORMAL, "SIGHUP: the certificate was read again");
        warn_of_tls(app);
    } else {
        snprintf(line, sizeof line, "SIGHUP: the certificate stays as it was: %s", fault.text);
        log_line(NOTICE_ERROR, line);
    }
}

/* What cannot be read changes nothing. */
static void reload_tokens(struct app *app)
{
    char line[600];
    char error[512];
    size_t count;
    struct tokens *tokens = tokens_load(app->config.token_file, error, sizeof error);
    if (tokens == NULL) {
        snprintf(line, sizeof line, "SIGHUP: the tokens stay as they were: %s", error);
        log_line(NOTICE_ERROR, line);
        return;
    }
    tokens_release(app->tokens);
    app->tokens = tokens;
    http_replace_tokens(app->http, tokens);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_replace_tokens(app->workers[i], tokens);
    (void)tokens_list(tokens, &count);
    snprintf(line, sizeof line, "SIGHUP: %zu tokens were read again", count);
    log_line(NOTICE_NORMAL, line);
    warn_of_tokens(app);
}

/* In the main loop. */
void app_reload(struct app *app)
{
    bool is_ready = atomic_load(&app->open);
    if (is_ready)
        supervisor_reloading();
    if (app->config.token_file == NULL && app->ports.tls == NULL)
        log_line(NOTICE_WARNING,
                 "SIGHUP: there is no token file and no certificate, and nothing else that is read again");
    reload_tls(app);
    if (app->config.token_file != NULL)
        reload_tokens(app);
    if (is_ready)
        supervisor_ready("serving; files were read again");
}

void app_warn(const struct app *app)
{
    warn_of_tls(app);
    warn_of_tokens(app);
    warn_of_reloads(app);
}
