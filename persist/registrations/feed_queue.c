/* What is to be appended to one partition; see feed_queue.h. */
#include "persist/registrations/feed_queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "hashing/directory.h"
#include "persist/clock.h"

/* Steps that go as one entry. */
struct feed_outgoing {
    TAILQ_ENTRY(feed_outgoing) link;
    uint64_t sequence;
    uint64_t begun_ms;
    uint8_t *bytes; /* once it was sent */
    size_t length;
    bool is_sent; /* on the connections that there are now */
    bool has_release;
    size_t count;
    struct step steps[FEED_STEPS_MAX];
    struct {
        struct feed_job *job;
        size_t index;
    } owners[FEED_STEPS_MAX];
};

void feed_queue_init(struct feed_queue *queue)
{
    *queue = (struct feed_queue){0};
    TAILQ_INIT(&queue->entries);
}

void feed_queue_deinit(struct feed_queue *queue)
{
    struct feed_outgoing *outgoing;
    while ((outgoing = TAILQ_FIRST(&queue->entries)) != NULL) {
        TAILQ_REMOVE(&queue->entries, outgoing, link);
        free(outgoing->bytes);
        free(outgoing);
    }
}

/* --- filling --- */

/* Has a number that the others know, or have never heard of. */
static bool be_known(struct feed_queue *queue)
{
    uint64_t now = clock_ms(CLOCK_MONOTONIC);
    bool is_forgotten = TAILQ_EMPTY(&queue->entries) && now - queue->used_ms > FEED_WRITER_FORGOTTEN_MS / 2;
    if (queue->sequence == 0 || is_forgotten) {
        if (getrandom(&queue->writer, sizeof queue->writer, 0) != sizeof queue->writer)
            return false;
        queue->sequence = 0;
    }
    queue->used_ms = now;
    return true;
}

/* The entry that is being filled; NULL when memory is short. */
static struct feed_outgoing *filling(struct feed_queue *queue)
{
    struct feed_outgoing *last = TAILQ_LAST(&queue->entries, feed_outgoings);
    if (last != NULL && last->bytes == NULL && last->count < FEED_STEPS_MAX)
        return last;
    struct feed_outgoing *fresh = malloc(sizeof *fresh);
    if (fresh == NULL || !be_known(queue)) {
        free(fresh);
        return NULL;
    }
    fresh->sequence = ++queue->sequence;
    fresh->begun_ms = clock_ms(CLOCK_MONOTONIC);
    fresh->bytes = NULL;
    fresh->count = 0;
    fresh->is_sent = fresh->has_release = false;
    TAILQ_INSERT_TAIL(&queue->entries, fresh, link);
    return fresh;
}

bool feed_queue_append(struct feed_queue *queue, struct feed_job *job, size_t index, const struct step *step)
{
    struct feed_outgoing *entry = filling(queue);
    if (entry == NULL)
        return false;
    entry->steps[entry->count] = *step;
    entry->owners[entry->count].job = job;
    entry->owners[entry->count].index = index;
    entry->count++;
    entry->has_release = entry->has_release || step->kind == STEP_RELEASE;
    return true;
}

/* --- sending --- */

/* As bytes, with what must be carried out before it. */
static bool seal(const struct feed_queue *queue, struct feed_outgoing *outgoing,
                 const struct feed_state *state, struct feed_entry *entry)
{
    entry->writer = queue->writer;
    entry->sequence = outgoing->sequence;
    entry->dependencies = outgoing->has_release ? state->partitions : 0;
    for (unsigned i = 0; i < entry->dependencies; i++)
        entry->after[i] = state->progress[i].position;
    entry->count = outgoing->count;
    memcpy(entry->steps, outgoing->steps, outgoing->count * sizeof *entry->steps);
    uint8_t *bytes = malloc(FEED_ENTRY_BYTES_MAX);
    if (bytes == NULL)
        return false;
    outgoing->length = feed_entry_encode(bytes, entry);
    uint8_t *fitting = realloc(bytes, outgoing->length);
    outgoing->bytes = fitting == NULL ? bytes : fitting;
    return true;
}

void feed_queue_load(struct feed_queue *queue, struct feed_lane *lane, const struct feed_state *state,
                     struct feed_entry *scratch)
{
    struct feed_outgoing *outgoing;
    lane->append_count = 0;
    for (outgoing = TAILQ_FIRST(&queue->entries); outgoing != NULL; outgoing = TAILQ_NEXT(outgoing, link)) {
        if (outgoing->is_sent)
            continue;
        if (lane->append_count == FEED_APPENDS_MAX ||
            (outgoing->bytes == NULL && !seal(queue, outgoing, state, scratch)))
            break;
        lane->appends[lane->append_count++] = (struct feed_blob){outgoing->bytes, outgoing->length};
    }
}

void feed_queue_note_sent(struct feed_queue *queue, const struct feed_lane *lane)
{
    struct feed_outgoing *outgoing;
    unsigned left = lane->has_appended ? lane->append_count : 0;
    for (outgoing = TAILQ_FIRST(&queue->entries); outgoing != NULL && left > 0;
         outgoing = TAILQ_NEXT(outgoing, link)) {
        left -= !outgoing->is_sent;
        outgoing->is_sent = true;
    }
}

void feed_queue_send_again(struct feed_queue *queue)
{
    struct feed_outgoing *outgoing;
    for (outgoing = TAILQ_FIRST(&queue->entries); outgoing != NULL; outgoing = TAILQ_NEXT(outgoing, link))
        outgoing->is_sent = false;
}

/* --- the end --- */

/* Ends it, `results` by step; NULL: nobody knows them any more. */
static size_t settle(struct feed_queue *queue, struct feed_outgoing *own, const uint8_t *results)
{
    size_t count = own->count;
    for (size_t i = 0; i < count; i++)
        feed_job_settle(own->owners[i].job, own->owners[i].index,
                        results != NULL ? results[i] : (uint8_t)DIRECTORY_NO_MEMORY);
    TAILQ_REMOVE(&queue->entries, own, link);
    free(own->bytes);
    free(own);
    return count;
}

/* It is the first one, unless that has been given up. */
size_t feed_queue_settle(struct feed_queue *queue, const struct feed_entry *entry, const uint8_t *results)
{
    struct feed_outgoing *first = TAILQ_FIRST(&queue->entries);
    if (first == NULL || entry->writer != queue->writer || first->sequence != entry->sequence)
        return 0;
    return settle(queue, first, results);
}

size_t feed_queue_give_up_old(struct feed_queue *queue)
{
    size_t count = 0;
    struct feed_outgoing *next;
    struct feed_outgoing *first = TAILQ_FIRST(&queue->entries);
    if (first == NULL || clock_ms(CLOCK_MONOTONIC) - first->begun_ms <= FEED_WRITER_FORGOTTEN_MS / 2)
        return 0;
    for (; first != NULL; first = next) {
        next = TAILQ_NEXT(first, link);
        count += settle(queue, first, NULL);
    }
    queue->sequence = 0;
    return count;
}
