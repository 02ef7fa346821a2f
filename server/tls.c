/* TLS contexts; see tls.h. */
#include "server/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* A ticket is taken for an hour: after that a client shows its certificate again. */
#define TICKET_SECONDS 3600

struct tls_context {
    atomic_uint references;
    SSL_CTX *ssl;
    _Atomic(SSL_SESSION *) last; /* a client's; taken and given by exchange */
};

/* What OpenSSL says of a failure first, and nothing left of it for the next one. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text == NULL ? "unknown reason" : text;
}

static bool fail(char *error, size_t error_bytes, const char *what, const char *path)
{
    snprintf(error, error_bytes, "cannot use the %s %s: %s", what, path, reason());
    return false;
}

/* --- contexts --- */

static struct tls_context *create(const SSL_METHOD *method, char *error, size_t error_bytes)
{
    struct tls_context *context = calloc(1, sizeof *context);
    SSL_CTX *ssl = context == NULL ? NULL : SSL_CTX_new(method);
    if (ssl == NULL) {
        snprintf(error, error_bytes, "out of memory for TLS");
        free(context);
        return NULL;
    }
    atomic_init(&context->references, 1);
    context->ssl = ssl;
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_read_ahead(ssl, 1); /* a record's head and body in one call of the kernel */
    /* The buffers that a connection's bytes are written from move, and an idle connection holds none of OpenSSL's. */
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    return context;
}

/* Who asks for a password would keep the server waiting; and there is nobody to answer. */
// NOLINTNEXTLINE(readability-non-const-parameter): the signature is OpenSSL's
static int refuse_password(char *password, int size, int for_writing, void *context)
{
    (void)password;
    (void)size;
    (void)for_writing;
    (void)context;
    return -1;
}

/* A pipe or a device could keep the server waiting for ever. NULL is fine: it is not used. */
static bool is_file(const char *path, char *error, size_t error_bytes)
{
    struct stat status;
    if (path == NULL || (stat(path, &status) == 0 && S_ISREG(status.st_mode)))
        return true;
    snprintf(error, error_bytes, "cannot read %s: %s", path,
             errno != 0 ? strerror(errno) : "it is no regular file");
    return false;
}

static bool are_files(const struct tls_files *files, char *error, size_t error_bytes)
{
    errno = 0;
    return is_file(files->certificate, error, error_bytes) && is_file(files->key, error, error_bytes) &&
           is_file(files->authority, error, error_bytes);
}

static bool load_own(SSL_CTX *ssl, const struct tls_files *files, char *error, size_t error_bytes)
{
    if (files->certificate == NULL)
        return true;
    const char *key = files->key == NULL ? files->certificate : files->key;
    SSL_CTX_set_default_passwd_cb(ssl, refuse_password);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ssl, files->certificate) != 1)
        return fail(error, error_bytes, "certificate", files->certificate);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1)
        return fail(error, error_bytes, "private key", key);
    return true;
}

static bool finish(struct tls_context **context, bool good)
{
    if (!good) {
        tls_context_release(*context);
        *context = NULL;
    }
    return good;
}

static bool trust_clients(SSL_CTX *ssl, const char *authority, char *error, size_t error_bytes)
{
    if (authority == NULL)
        return true;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(authority);
    if (names == NULL || SSL_CTX_load_verify_file(ssl, authority) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return fail(error, error_bytes, "authority", authority);
    }
    SSL_CTX_set_client_CA_list(ssl, names); /* takes them over */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    return true;
}

struct tls_context *tls_context_server(const struct tls_files *files, char *error, size_t error_bytes)
{
    static const unsigned char id[] = "numberd";
    struct tls_context *context = create(TLS_server_method(), error, error_bytes);
    if (context == NULL)
        return NULL;
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_session_id_context(ssl, id, sizeof id - 1);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets hold all there is */
    SSL_CTX_set_timeout(ssl, TICKET_SECONDS);
    SSL_CTX_set_num_tickets(ssl, 1);
    /* Frames say how long they are: a client that ends its side without a word cuts nothing off unseen, and is owed its replies. */
    SSL_CTX_set_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)finish(&context, are_files(files, error, error_bytes) && load_own(ssl, files, error, error_bytes) &&
                               trust_clients(ssl, files->authority, error, error_bytes));
    return context;
}

/* OpenSSL gives a reference when 1 is returned. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_free(atomic_exchange(&context->last, session));
    return 1;
}

struct tls_context *tls_context_client(const struct tls_files *files, char *error, size_t error_bytes)
{
    struct tls_context *context = create(TLS_client_method(), error, error_bytes);
    if (context == NULL)
        return NULL;
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_app_data(ssl, context);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, keep_session);
    bool trusts = files->authority == NULL ? SSL_CTX_set_default_verify_paths(ssl) == 1
                                           : SSL_CTX_load_verify_file(ssl, files->authority) == 1;
    if (!trusts)
        fail(error, error_bytes, "authority", files->authority == NULL ? "of the system" : files->authority);
    (void)finish(&context, trusts && load_own(ssl, files, error, error_bytes));
    return context;
}

int64_t tls_context_ends_at(const struct tls_context *context)
{
    const X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    struct tm end;
    if (certificate == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1)
        return 0;
    return timegm(&end);
}

struct tls_context *tls_context_acquire(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_release(struct tls_context *context)
{
    if (context == NULL || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) > 1)
        return;
    SSL_SESSION_free(atomic_load(&context->last));
    SSL_CTX_free(context->ssl);
    free(context);
}

/* --- connections --- */

static SSL *open_on(SSL_CTX *context, int fd)
{
    SSL *ssl = SSL_new(context);
    if (ssl != NULL && (fd < 0 || SSL_set_fd(ssl, fd) == 1))
        return ssl;
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

SSL *tls_accept(struct tls_context *context, int fd)
{
    SSL *ssl = open_on(context->ssl, fd);
    if (ssl == NULL)
        return NULL;
    SSL_set_accept_state(ssl);
    if (fd < 0)
        SSL_set_read_ahead(ssl, 0); /* libevent does not look for what was read ahead */
    return ssl;
}

/* An IP is looked for among the certificate's IPs, a name among its names. */
static bool want_name(SSL *ssl, const char *name)
{
    unsigned char ip[16];
    if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    char copy[TLSEXT_MAXLEN_host_name + 1]; /* since the macro takes the constness away */
    if (strlen(name) >= sizeof copy)
        return false;
    memcpy(copy, name, strlen(name) + 1);
    return SSL_set1_host(ssl, copy) == 1 && SSL_set_tlsext_host_name(ssl, copy) == 1;
}

SSL *tls_connect(struct tls_context *context, int fd, const char *name)
{
    SSL *ssl = open_on(context->ssl, fd);
    if (ssl == NULL)
        return NULL;
    if (!want_name(ssl, name)) {
        SSL_free(ssl);
        return NULL;
    }
    /* Nobody else resumes it meanwhile: a ticket that is used twice tells who watches that the two belong together. */
    SSL_SESSION *session = atomic_exchange(&context->last, NULL);
    if (session != NULL)
        (void)SSL_set_session(ssl, session); /* without it the handshake is a full one */
    SSL_SESSION_free(session);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* --- fingerprints --- */

static bool fingerprint_of(const X509 *certificate, uint8_t fingerprint[static TLS_FINGERPRINT_BYTES])
{
    unsigned char *encoded = NULL;
    size_t length;
    int bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
    bool good =
        bytes > 0 && EVP_Q_digest(NULL, "SHA256", NULL, encoded, (size_t)bytes, fingerprint, &length) == 1;
    OPENSSL_free(encoded);
    return good;
}

bool tls_peer_fingerprint(const SSL *ssl, uint8_t fingerprint[static TLS_FINGERPRINT_BYTES])
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    return certificate != NULL && SSL_get_verify_result(ssl) == X509_V_OK &&
           fingerprint_of(certificate, fingerprint);
}

bool tls_file_fingerprint(const char *path, uint8_t fingerprint[static TLS_FINGERPRINT_BYTES], char *error,
                          size_t error_bytes)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(error, error_bytes, "cannot read the certificate %s: %s", path, strerror(errno));
        return false;
    }
    ERR_clear_error();
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    bool good = certificate != NULL && fingerprint_of(certificate, fingerprint);
    if (!good)
        fail(error, error_bytes, "certificate", path);
    X509_free(certificate);
    fclose(file);
    return good;
}
