/* The PROXY protocol's header, version 2 (as HAProxy specifies it), with which something in front of numberd says for whom it
 * connects.
 *
 * Layout: 12 bytes of signature; version 2 and command (0 LOCAL, 1 PROXY) in one byte; family (0 none, 1 IPv4, 2 IPv6, 3 UNIX)
 * and transport (0 none, 1 stream, 2 datagram) in one byte; the length of what follows, big-endian; source and destination
 * address, source and destination port; and extensions, which are skipped.
 *
 * Pure: looks at (bytes, length) and nothing else. */
#ifndef NUMBERD_SERVER_PROXY_H
#define NUMBERD_SERVER_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A longer header is invalid: addresses take 36 bytes, the extensions that proxies send a few hundred. */
#define PROXY_HEADER_BYTES_MAX 2048u

enum proxy_state {
    PROXY_DONE,
    PROXY_INCOMPLETE,
    PROXY_INVALID /* no header of version 2, or one for what is no stream over IP */
};

struct proxy_header {
    size_t bytes;   /* of the header, as far as it is known yet: what follows is the client's */
    bool is_local;  /* the proxy speaks for itself, to see whether we live: `ip` says nothing */
    uint8_t ip[16]; /* the client's; IPv4 as ::ffff:a.b.c.d; all zero when the proxy does not know it */
};

enum proxy_state proxy_decode(const uint8_t *bytes, size_t length, struct proxy_header *header);

#endif
