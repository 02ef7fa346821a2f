/* Fuzz target: any bytes as a PROXY protocol header. What is taken lies within the input; every shorter input wants more of it;
 * what is refused stays refused however it goes on. */
#include <stdlib.h>
#include <string.h>

#include "server/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole;
    struct proxy_header part;
    enum proxy_state state = proxy_decode(data, size, &whole);
    if (whole.bytes > PROXY_HEADER_BYTES_MAX && state != PROXY_INVALID)
        abort();
    if (state == PROXY_DONE ? whole.bytes > size : state == PROXY_INCOMPLETE && whole.bytes <= size)
        abort();
    /* Cut somewhere, as the input says. */
    size_t cut = size == 0 ? 0 : data[size - 1] % size;
    enum proxy_state before = proxy_decode(data, cut, &part);
    if (before == PROXY_INVALID ? state != PROXY_INVALID
                                : before == PROXY_DONE && (state != PROXY_DONE || part.bytes != whole.bytes))
        abort();
    if (before == PROXY_INCOMPLETE && state == PROXY_DONE && (cut >= whole.bytes || part.bytes > whole.bytes))
        abort();
    return 0;
}
