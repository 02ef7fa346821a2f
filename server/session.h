/* One client's conversation, without its socket: bytes in, bytes out.
 *
 * A session belongs to one worker. The worker's `struct service` lends it what all sessions of that worker share.
 * Splitting the same input in any way gives the same output (but for the time in the query log). */
#ifndef NUMBERD_SERVER_SESSION_H
#define NUMBERD_SERVER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/directory.h"
#include "server/access/budgets.h"
#include "server/access/tokens.h"
#include "server/ahead.h"
#include "server/buffer.h"
#include "server/counters.h"
#include "server/recorder.h"
#include "server/registrations.h"
#include "server/wire.h"

/* Above this much unsent output no further request is taken on. */
#define SESSION_OUTPUT_CAP (4u << 20)

/* What the main lends to the workers; called from worker threads. */
struct service_hooks {
    /* The statistics as JSON text, to be freed with free(); NULL when memory is short. */
    char *(*stats_json)(void *context);
    /* Asks for a snapshot of the registrations; returns its number, which the statistics report when done. */
    uint64_t (*request_snapshot)(void *context);
    /* Asks for the replacement of all registrations by what lies ready in the data directory; the same number. */
    uint64_t (*request_replacement)(void *context);
    /* Some detectors (bits 1 << enum detector) have begun to suspect the principal (0: nobody has one, so it is a network) or,
     * if not 0, the requester that it has named. */
    void (*suspect)(void *context, unsigned detectors, uint64_t principal, uint64_t named);
    void *context;
};

/* Room for one full batch; too large for a stack. */
struct service_scratch {
    uint64_t numbers[WIRE_COUNT_MAX];
    uint8_t answers[WIRE_COUNT_MAX];
    struct record records[WIRE_COUNT_MAX];
    struct registrations_pair pairs[WIRE_COUNT_MAX];
    struct ahead ahead;
};

struct service {
    struct directory *directory; /* NULL: the registrations are being loaded */
    struct epoch_reader *reader;
    struct registrations *registrations;
    struct recorder *recorder;
    struct counters *counters;
    struct tokens *tokens;   /* NULL: hellos need none */
    uint32_t tokens_version; /* rises when others take their place: sessions then look theirs up again */
    struct budgets *budgets; /* NULL: nobody is limited */
    uint64_t random;         /* for the detectors' samples; never 0 */
    const struct service_hooks *hooks;
    struct service_scratch *scratch;
    uint32_t cache_seconds; /* how long clients may keep an answer */
    uint32_t stale_ms;      /* answers from a feed that has not been read for so long are stale, */
    bool refuse_stale;      /* ... and then not given at all */
                            /* Of longer requests so many entries are taken in one turn (requests.h). */
    uint32_t part_numbers;
    uint32_t part_changes;
    /* Set by requests that change registrations: what was appended to `out` since it was 0 may be sent when this position is
     * acknowledged (registrations.h). The caller takes it and sets it to 0. */
    uint64_t hold_position;
    /* The clocks, monotonic and of the day, as they were when one of the requests of this turn first asked; 0: none has. */
    uint64_t turn_ns;
    uint64_t turn_ms;
};

struct session {
    uint8_t ip[16];
    uint8_t via[16]; /* of the proxy through which it came; all zero: none */
    /* Set by the caller after session_init. */
    bool operators_only;  /* only a token with the role operate is let in */
    bool has_fingerprint; /* a certificate was shown and verified, which may stand in for a token */
    uint8_t fingerprint[TOKEN_FINGERPRINT_BYTES];
    struct grant grant; /* the token's; without tokens principal 0 and all roles */
    uint32_t tokens_version;
    struct asker asker; /* who pays for lookups without an origin */
    bool greeted;
    bool closing;  /* send what is left, then close */
    bool busy;     /* it has stopped taking for the sake of the others */
    uint32_t cost; /* of what it took last, in lookups of one number */
    uint32_t
        limited; /* numbers of the request it took last, if all of them were LIMITED, by the session's own budgets; else 0 */
    struct work *work; /* a long request of which parts are done (requests.h); NULL: none */
};

/* `via` may be NULL. */
void session_init(struct session *session, const uint8_t ip[static 16], const uint8_t *via);
/* Frees what is under way. */
void session_deinit(struct session *session, const struct service *service);

/* Adds what the input asks for to the lookups ahead (ahead.h), so that session_consume finds their answers; it need not be called. */
void session_gather(const struct session *session, struct service *service, const uint8_t *bytes,
                    size_t length);

/* Takes whole frames from the input and appends their replies to `out`, until the input has no whole frame
 * more, the session is closing, `out` has `output_max` bytes (the last reply may go beyond), or about as much was done as
 * service->part_numbers lookups are, so that others may have their turn: then the session is busy, and the rest of the input is to be
 * shown again. A request that is longer is taken at its end. Returns the bytes taken. */
size_t session_consume(struct session *session, struct service *service, const uint8_t *bytes, size_t length,
                       size_t output_max, struct buffer *out);

/* The next call has something to do without more input. */
static inline bool session_is_busy(const struct session *session)
{
    return session->busy;
}

/* A request of it is decided elsewhere; only behind that a goodbye may be said. */
bool session_waits(const struct session *session);

/* Memory that the session holds apart from itself. */
size_t session_held_bytes(const struct session *session);

/* The size of the frame that the input begins with, as far as its header is there; else 0. For buffers. */
size_t session_frame_bytes(const uint8_t *bytes, size_t length);

/* The journal has failed: turns the replies to changes that are in `out` from `from` on, where a frame begins, into
 * READ_ONLY. */
void session_retract(struct buffer *out, size_t from);

/* Appends the server's own goodbye and closes the session. */
void session_say_goodbye(struct session *session, const struct service *service, struct buffer *out);

#endif
