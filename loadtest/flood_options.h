/* numberflood's command line. */
#ifndef NUMBERD_LOADTEST_FLOOD_OPTIONS_H
#define NUMBERD_LOADTEST_FLOOD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/address.h"
#include "server/tls.h"
#include "server/wire.h"

enum flood_mode {
    FLOOD_CONNECTS,
    FLOOD_HALF,
    FLOOD_SLOW_SEND,
    FLOOD_SLOW_READ,
    FLOOD_GARBAGE,
    FLOOD_HELLOS,
    FLOOD_HANDSHAKES,
    FLOOD_SINK,
    FLOOD_MODES
};

struct flood_options {
    enum flood_mode mode;
    struct address server; /* of loopback */
    uint32_t from;         /* the first address to come from, host byte order; 0: whichever */
    uint64_t addresses;    /* so many from there on, in turn */
    uint64_t seconds;
    uint64_t connections; /* at once */
    uint64_t rate;        /* new ones a second; 0: as fast as it can */
    uint64_t first_bytes; /* connects, half: of a hello, sent at once */
    uint64_t read_bytes;  /* slow-read: so many each tenth of a second */
    char token[WIRE_TOKEN_BYTES_MAX + 1];
    struct tls_files tls_files;
    struct tls_context *tls; /* of the modes that need it */
    bool json;
};

const char *flood_mode_name(enum flood_mode mode);

/* Returns -1 to go on, or the exit status after help or a mistake, which were printed. */
int flood_options_read(struct flood_options *options, int argc, char **argv);

#endif
