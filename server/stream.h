/* A connection's bytes, plain or under TLS: what recv, send, shutdown and close are for a non-blocking socket.
 *
 * A stream owns its socket and its TLS. One thread at a time. A handshake that stream_shake_hands has not done happens by
 * itself within the first receive or send. */
#ifndef NUMBERD_SERVER_STREAM_H
#define NUMBERD_SERVER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/types.h>

struct stream {
    int fd;
    SSL *ssl; /* NULL: plain */
    /* What it waits for when it says EAGAIN: as a rule a receive waits for input and a send for room, but a handshake may want
     * the other one. */
    bool receive_wants_room;
    bool send_wants_input;
    bool
        has_input; /* the last receive took as much as it might: there may be more here that no wait on the socket tells of */
};

/* At least one byte; 0: the peer has ended its side; -1 with errno, EAGAIN when there is nothing to be had now. A peer that
 * breaks TLS is EPROTO, one whose certificate is not trusted EACCES. */
ssize_t stream_receive(struct stream *stream, void *bytes, size_t length);

/* As many bytes as went out; -1 with errno as above. What EAGAIN has refused must begin the next send. */
ssize_t stream_send(struct stream *stream, const void *bytes, size_t length);

/* Goes on with the handshake, if there is one. True when it is over; else errno, EAGAIN when it waits for the peer (or for room:
 * receive_wants_room). */
bool stream_shake_hands(struct stream *stream);

/* Something has been read ahead of which no wait on the socket tells. */
bool stream_has_pending(const struct stream *stream);

/* Tells the peer that nothing more will be sent. False: it is gone. */
bool stream_shut(struct stream *stream);

/* Closes at once. */
void stream_close(struct stream *stream);

#endif
