/* The PROXY protocol's header; see proxy.h. */
#include "server/proxy.h"

#include <string.h>

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

#define FIXED_BYTES 16u
#define VERSION_2 0x20
#define COMMAND_LOCAL 0
#define COMMAND_PROXY 1
#define NO_ADDRESS 0x00
#define STREAM_OVER_IPV4 0x11
#define STREAM_OVER_IPV6 0x21
#define IPV4_BYTES 12u /* two addresses, two ports */
#define IPV6_BYTES 36u

/* False: not an address of a stream over IP, or cut short. */
static bool take_source(uint8_t family, const uint8_t *addresses, size_t length, uint8_t ip[static 16])
{
    switch (family) {
    case NO_ADDRESS:
        return true;
    case STREAM_OVER_IPV4:
        ip[10] = ip[11] = 0xff;
        memcpy(ip + 12, addresses, length < IPV4_BYTES ? 0 : 4);
        return length >= IPV4_BYTES;
    case STREAM_OVER_IPV6:
        memcpy(ip, addresses, length < IPV6_BYTES ? 0 : 16);
        return length >= IPV6_BYTES;
    default:
        return false;
    }
}

enum proxy_state proxy_decode(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
    size_t seen = length < sizeof signature ? length : sizeof signature;
    *header = (struct proxy_header){.bytes = FIXED_BYTES};
    /* What does not begin like a header will never be one: no need to wait for the rest. */
    if (seen > 0 && memcmp(bytes, signature, seen) != 0)
        return PROXY_INVALID;
    if (length > sizeof signature && (bytes[12] & 0xf0) != VERSION_2)
        return PROXY_INVALID;
    if (length < FIXED_BYTES)
        return PROXY_INCOMPLETE;
    uint8_t command = bytes[12] & 0x0f;
    size_t rest = (size_t)bytes[14] << 8 | bytes[15];
    if (command > COMMAND_PROXY || FIXED_BYTES + rest > PROXY_HEADER_BYTES_MAX)
        return PROXY_INVALID;
    header->bytes = FIXED_BYTES + rest;
    if (length < header->bytes)
        return PROXY_INCOMPLETE;
    header->is_local = command == COMMAND_LOCAL;
    if (header->is_local) /* the addresses of such a header say nothing, so they are not looked at */
        return PROXY_DONE;
    return take_source(bytes[13], bytes + FIXED_BYTES, rest, header->ip) ? PROXY_DONE : PROXY_INVALID;
}
