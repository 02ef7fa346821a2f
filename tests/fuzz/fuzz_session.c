/* Fuzz target: a greeted session fed with any bytes, whole and cut in two, against a small directory; the
 * replies must be well-formed and the same both ways. */
#include <stdlib.h>
#include <string.h>

#include "../journal_in_memory.h"
#include "ring/ring.h"
#include "server/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *some_stats(void *context)
{
    (void)context;
    return strdup("{}");
}

static uint64_t some_snapshot(void *context)
{
    (void)context;
    return 1;
}

/* Runs the conversation, in two pieces if `cut` is inside. */
static void converse(const uint8_t *data, size_t size, size_t cut, struct buffer *out)
{
    static const struct service_hooks hooks = {some_stats, some_snapshot, some_snapshot, NULL, NULL};
    static struct service_scratch scratch;
    atomic_bool gate = false;
    struct counters counters = {0};
    struct directory *directory = directory_create(&(struct directory_options){.seed = 1, .accounts = true});
    struct registrations registrations;
    struct journal_in_memory memory = {0};
    struct registrations_journal journal = journal_in_memory(&memory);
    registrations_init(&registrations);
    registrations_open(&registrations, directory, &journal, 0);
    /* Made once: filling it with zeros would be most of the time. */
    static struct ring *ring;
    if (ring == NULL)
        ring = ring_create(RECORDER_RING_BYTES_MIN);
    static struct query_counts counts;
    struct recorder recorder = {.ring = ring, .gate = &gate, .counts = &counts};
    struct service service = {.directory = directory,
                              .reader = directory_join(directory),
                              .registrations = &registrations,
                              .recorder = &recorder,
                              .counters = &counters,
                              .hooks = &hooks,
                              .scratch = &scratch};
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL}};
    size_t taken = session_consume(&session, &service, data, cut, SESSION_OUTPUT_CAP, out);
    if (!session.closing)
        session_consume(&session, &service, data + taken, size - taken, SESSION_OUTPUT_CAP, out);
    directory_leave(directory, service.reader);
    size_t bytes;
    while (ring_next(ring, &bytes) != NULL)
        ;
    ring_release(ring);
    registrations_deinit(&registrations);
    directory_destroy(directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer whole = {0};
    struct buffer split = {0};
    converse(data, size, size, &whole);
    converse(data, size, size / 2, &split);
    if (whole.length != split.length ||
        (whole.length > 0 && memcmp(whole.bytes, split.bytes, whole.length) != 0))
        abort();
    struct wire_reply reply;
    for (size_t at = 0; at < whole.length; at += reply.frame_bytes)
        if (wire_decode_reply(whole.bytes + at, whole.length - at, &reply) != WIRE_DONE)
            abort();
    buffer_deinit(&whole);
    buffer_deinit(&split);
    return 0;
}
