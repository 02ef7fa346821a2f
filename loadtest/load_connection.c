/* A connection of the load tester; see load_connection.h. */
#include "load_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"
#include "server/client.h"

/* The longest reply of all dialects, and a read behind it. */
#define IN_BYTES (512u << 10)

static bool connect_numberd(struct load_connection *connection, const struct load_options *options,
                            unsigned patience_ms)
{
    char error[256];
    struct client *client = client_connect(&(struct client_options){.server = options->server,
                                                                    .token = options->token,
                                                                    .patience_ms = patience_ms,
                                                                    .tls = options->tls,
                                                                    .tls_name = options->tls_name},
                                           error, sizeof error);
    if (client == NULL) {
        fprintf(stderr, "numberload: %s\n", error);
        return false;
    }
    connection->stream = client_detach(client);
    return true;
}

static bool connect_peer(struct load_connection *connection, const struct load_options *options)
{
    struct address address;
    char error[256];
    int one = 1;
    if (!address_parse(options->server, options->dialect->port, &address, error, sizeof error)) {
        fprintf(stderr, "numberload: %s\n", error);
        return false;
    }
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address.storage, address.length) != 0) {
        fprintf(stderr, "numberload: %s: cannot connect: %s\n", options->server, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    connection->stream = (struct stream){.fd = fd};
    return true;
}

static bool open_connection(struct load_connection *connection, const struct load_options *options,
                            unsigned patience_ms)
{
    return options->dialect->greets ? connect_numberd(connection, options, patience_ms)
                                    : connect_peer(connection, options);
}

bool load_connection_init(struct load_connection *connection, const struct load_options *options)
{
    *connection =
        (struct load_connection){.stream.fd = -1,
                                 .next_id = 1,
                                 .awaited_id = 1,
                                 .pending = malloc(LOAD_OUTSTANDING_MAX * sizeof *connection->pending),
                                 .in = malloc(IN_BYTES)};
    return connection->pending != NULL && connection->in != NULL && open_connection(connection, options, 0);
}

void load_connection_deinit(struct load_connection *connection)
{
    if (connection->pending == NULL)
        return; /* it never began */
    stream_close(&connection->stream);
    free(connection->pending);
    free(connection->in);
    free(connection->out);
}

bool load_connection_reopen(struct load_connection *connection, const struct load_options *options)
{
    stream_close(&connection->stream);
    connection->stream = (struct stream){.fd = -1};
    connection->out_bytes = connection->in_bytes = 0;
    connection->is_leaving = connection->wants_write = false;
    return open_connection(connection, options, LOAD_PATIENCE_MS);
}

uint8_t *load_connection_reserve(struct load_connection *connection, size_t bytes)
{
    if (connection->out_capacity - connection->out_bytes < bytes) {
        size_t capacity = connection->out_capacity * 2 + bytes;
        uint8_t *grown = realloc(connection->out, capacity);
        if (grown == NULL)
            return NULL;
        connection->out = grown;
        connection->out_capacity = capacity;
    }
    return connection->out + connection->out_bytes;
}

bool load_connection_flush(struct load_connection *connection)
{
    size_t done = 0;
    bool is_good = true;
    while (is_good && done < connection->out_bytes) {
        ssize_t sent = stream_send(&connection->stream, connection->out + done, connection->out_bytes - done);
        if (sent >= 0)
            done += (size_t)sent;
        else if (errno == EAGAIN)
            break;
        else
            is_good = errno == EINTR;
    }
    if (done > 0)
        memmove(connection->out, connection->out + done, connection->out_bytes - done);
    connection->out_bytes -= done;
    return is_good;
}

bool load_connection_fill(struct load_connection *connection)
{
    ssize_t got = stream_receive(&connection->stream, connection->in + connection->in_bytes,
                                 IN_BYTES - connection->in_bytes);
    if (got > 0)
        connection->in_bytes += (size_t)got;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

void load_connection_take(struct load_connection *connection, size_t bytes)
{
    memmove(connection->in, connection->in + bytes, connection->in_bytes - bytes);
    connection->in_bytes -= bytes;
}
