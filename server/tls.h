/* TLS 1.3 (OpenSSL) as the server and its clients use it: what each side shows and trusts. The bytes of a connection go through
 * stream.h.
 *
 * A context never changes; one that was read anew takes its place for later connections. Those that are open keep theirs, so
 * references are counted. Session tickets are good for the context that gave them: after a reload everybody shows everything
 * again.
 *
 * Threads: a context may be used by all at once; a connection's TLS by one thread at a time. Errors are one line in the caller's
 * buffer. */
#ifndef NUMBERD_SERVER_TLS_H
#define NUMBERD_SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

struct tls_context;

/* PEM files; NULL: none. */
struct tls_files {
    const char *certificate; /* with the chain behind it */
    const char *key;
    /* Server: who signs clients' certificates; without it none is asked for. Client: who signs the server's; without it those
     * whom the system trusts. */
    const char *authority;
};

struct tls_context *tls_context_server(const struct tls_files *files, char *error, size_t error_bytes);

/* The context keeps the last session, so that a later connection to the same server resumes it. */
struct tls_context *tls_context_client(const struct tls_files *files, char *error, size_t error_bytes);

/* Until when the certificate is valid, Unix time; 0: there is none. */
int64_t tls_context_ends_at(const struct tls_context *context);

struct tls_context *tls_context_acquire(struct tls_context *context);
void tls_context_release(struct tls_context *context); /* NULL is fine */

/* The server's side of a connection (fd -1: its input and output are set later), or a client's, that wants the server to be
 * `name`: a DNS name or an IP. The socket stays the caller's. NULL when memory is short. */
SSL *tls_accept(struct tls_context *context, int fd);
SSL *tls_connect(struct tls_context *context, int fd, const char *name);

#define TLS_FINGERPRINT_BYTES 32

/* The SHA-256 of the public key (SubjectPublicKeyInfo) in the certificate that the peer has shown and that was verified. False:
 * it showed none. */
bool tls_peer_fingerprint(const SSL *ssl, uint8_t fingerprint[static TLS_FINGERPRINT_BYTES]);

/* The same of the certificate in a PEM file. */
bool tls_file_fingerprint(const char *path, uint8_t fingerprint[static TLS_FINGERPRINT_BYTES], char *error,
                          size_t error_bytes);

#endif
