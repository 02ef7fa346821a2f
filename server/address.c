/* Network addresses as text; see address.h. */
#include "server/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 4096

/* Splits "HOST:PORT"; the port stays as the default when there is none. False when it has no such form. */
static bool split(const char *text, char host[static ADDRESS_HOST_BYTES], char port[static 8])
{
    const char *host_end;
    const char *colon;
    if (text[0] == '[') {
        text++;
        host_end = strchr(text, ']');
        if (host_end == NULL || (host_end[1] != '\0' && host_end[1] != ':'))
            return false;
        colon = host_end[1] == ':' ? host_end + 1 : NULL;
    } else {
        colon = strrchr(text, ':');
        host_end = colon == NULL ? text + strlen(text) : colon;
    }
    size_t host_length = (size_t)(host_end - text);
    if (host_length == 0 || text[0] == '+' || host_length >= ADDRESS_HOST_BYTES ||
        (colon != NULL && (colon[1] == '\0' || strlen(colon + 1) > 5)))
        return false;
    memcpy(host, text, host_length);
    host[host_length] = '\0';
    if (colon != NULL)
        snprintf(port, 8, "%s", colon + 1);
    return true;
}

unsigned address_parse_all(const char *text, uint16_t default_port, struct address *addresses, unsigned max,
                           char *error, size_t error_bytes)
{
    char host[ADDRESS_HOST_BYTES];
    char port[8];
    snprintf(port, sizeof port, "%u", default_port);
    if (!split(text, host, port) || strspn(port, "0123456789") != strlen(port) ||
        strtoul(port, NULL, 10) > 65535) {
        snprintf(error, error_bytes, "not an address: write HOST:PORT, with an IPv6 host in [ ]");
        return 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0) {
        snprintf(error, error_bytes, "cannot resolve \"%s\": %s", host, gai_strerror(result));
        return 0;
    }
    unsigned count = 0;
    for (const struct addrinfo *each = found; each != NULL && count < max; each = each->ai_next, count++) {
        memcpy(&addresses[count].storage, each->ai_addr, each->ai_addrlen);
        addresses[count].length = each->ai_addrlen;
    }
    freeaddrinfo(found);
    return count;
}

bool address_parse(const char *text, uint16_t default_port, struct address *address, char *error,
                   size_t error_bytes)
{
    return address_parse_all(text, default_port, address, 1, error, error_bytes) == 1;
}

bool address_host(const char *text, char host[static ADDRESS_HOST_BYTES])
{
    char port[8] = "";
    return split(text, host, port);
}

bool address_has_port(const char *text)
{
    char host[ADDRESS_HOST_BYTES];
    char port[8] = "";
    return split(text, host, port) && port[0] != '\0';
}

void address_format(const struct address *address, char text[static ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr *any = (const struct sockaddr *)&address->storage;
    char port[8] = "?";
    getnameinfo(any, address->length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, ADDRESS_TEXT_BYTES, any->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void address_ip(const struct sockaddr_storage *storage, uint8_t ip[static 16])
{
    memset(ip, 0, 16);
    if (storage->ss_family == AF_INET6) {
        memcpy(ip, &((const struct sockaddr_in6 *)storage)->sin6_addr, 16);
    } else if (storage->ss_family == AF_INET) {
        ip[10] = ip[11] = 0xff;
        memcpy(ip + 12, &((const struct sockaddr_in *)storage)->sin_addr, 4);
    }
}

static const uint8_t ipv4_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool address_ip_is_loopback(const uint8_t ip[static 16])
{
    static const uint8_t loopback[16] = {[15] = 1};
    bool is_ipv4 = memcmp(ip, ipv4_prefix, sizeof ipv4_prefix) == 0;
    return is_ipv4 ? ip[12] == 127 : memcmp(ip, loopback, sizeof loopback) == 0;
}

bool address_ip_is_zero(const uint8_t ip[static 16])
{
    static const uint8_t zeros[16];
    bool is_ipv4 = memcmp(ip, ipv4_prefix, sizeof ipv4_prefix) == 0;
    return memcmp(is_ipv4 ? ip + 12 : ip, zeros, is_ipv4 ? 4 : 16) == 0;
}

bool address_ip_is_nobodys(const uint8_t ip[static 16])
{
    return address_ip_is_loopback(ip) || address_ip_is_zero(ip);
}

bool address_network_parse(const char *text, struct address_network *network, const char **rest)
{
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "/,");
    char *end;
    *network = (struct address_network){.bits = 128};
    if (length >= sizeof host)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    bool is_ipv4 = inet_pton(AF_INET, host, network->ip + 12) == 1;
    if (is_ipv4)
        memcpy(network->ip, ipv4_prefix, sizeof ipv4_prefix);
    else if (inet_pton(AF_INET6, host, network->ip) != 1)
        return false;
    *rest = text + length;
    if (**rest != '/')
        return true;
    unsigned long bits = strtoul(*rest + 1, &end, 10);
    bool good = (*rest)[1] >= '0' && (*rest)[1] <= '9' && bits <= (is_ipv4 ? 32 : 128) &&
                (*end == ',' || *end == '\0');
    network->bits = (unsigned)bits + (is_ipv4 ? 96 : 0);
    *rest = end;
    return good;
}

bool address_network_has(const struct address_network *network, const uint8_t ip[static 16])
{
    size_t whole = network->bits / 8;
    unsigned left = network->bits % 8;
    return memcmp(network->ip, ip, whole) == 0 &&
           (left == 0 || (network->ip[whole] ^ ip[whole]) >> (8 - left) == 0);
}

void address_format_ip(const uint8_t ip[static 16], char text[static ADDRESS_TEXT_BYTES])
{
    struct in6_addr address;
    memcpy(&address, ip, sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&address))
        inet_ntop(AF_INET, ip + 12, text, ADDRESS_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, &address, text, ADDRESS_TEXT_BYTES);
}

int address_listen(struct address *address, char *error, size_t error_bytes)
{
    struct sockaddr *any = (struct sockaddr *)&address->storage;
    int one = 1;
    int fd = socket(any->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, any, address->length) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, any, &address->length) == 0)
        return fd;
    char text[ADDRESS_TEXT_BYTES];
    int problem = errno;
    address_format(address, text);
    snprintf(error, error_bytes, "cannot listen on %s: %s; %s", text, strerror(problem),
             problem == EADDRINUSE ? "stop what listens there or choose another port"
                                   : "choose an address of this machine and a port you may use");
    if (fd >= 0)
        close(fd);
    return -1;
}
