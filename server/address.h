/* Network addresses as text: "HOST:PORT", "[IPv6]:PORT", "HOST" with a default port; and IPs as 16 bytes.
 * Functions that resolve names may block on the resolver. Errors are one line in the caller's buffer. */
#ifndef NUMBERD_SERVER_ADDRESS_H
#define NUMBERD_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_BYTES 64

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

bool address_parse(const char *text, uint16_t default_port, struct address *address, char *error,
                   size_t error_bytes);

/* All that the host stands for, in the order in which they are to be tried (getaddrinfo(3)); `max` at most. How many; 0 and the error. */
unsigned address_parse_all(const char *text, uint16_t default_port, struct address *addresses, unsigned max,
                           char *error, size_t error_bytes);

/* False for a host alone, and for what is no address. */
bool address_has_port(const char *text);

/* The host of "HOST:PORT" and the like. False: it has none. */
#define ADDRESS_HOST_BYTES 256
bool address_host(const char *text, char host[static ADDRESS_HOST_BYTES]);

/* "IP:PORT" or "[IP]:PORT". */
void address_format(const struct address *address, char text[static ADDRESS_TEXT_BYTES]);

/* The IP in 16 bytes, IPv4 as ::ffff:a.b.c.d; all zero for what is no IP. And back to text: IPv4 dotted. */
void address_ip(const struct sockaddr_storage *storage, uint8_t ip[static 16]);
void address_format_ip(const uint8_t ip[static 16], char text[static ADDRESS_TEXT_BYTES]);

/* True for loopback; for an address of zeros; for these two, which belong to nobody. */
bool address_ip_is_loopback(const uint8_t ip[static 16]);
bool address_ip_is_zero(const uint8_t ip[static 16]);
bool address_ip_is_nobodys(const uint8_t ip[static 16]);

/* A network: an address and how many of its 128 bits count; IPv4 lies in ::ffff:0:0/96. */
struct address_network {
    uint8_t ip[16];
    unsigned bits;
};

/* "IP" or "IP/BITS", IPv4 or IPv6 without brackets, up to the end of the text or a comma; `*rest` is there. False: it is none. */
bool address_network_parse(const char *text, struct address_network *network, const char **rest);
bool address_network_has(const struct address_network *network, const uint8_t ip[static 16]);

/* A listening, non-blocking socket, or -1 and the error. With port 0 the system chooses a free one, which is in *address
 * then. */
int address_listen(struct address *address, char *error, size_t error_bytes);

#endif
