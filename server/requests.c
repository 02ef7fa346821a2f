/* What each request does; see requests.h. */
#include "server/requests.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/address.h"

/* How long a client should wait before it repeats what the server could not do. */
#define RETRY_MS 100

static_assert((int)WIRE_NOT_REGISTERED == (int)DIRECTORY_NOT_REGISTERED &&
                  (int)WIRE_REGISTERED == (int)DIRECTORY_REGISTERED &&
                  (int)WIRE_INVALID == (int)DIRECTORY_INVALID,
              "the directory's answers go onto the wire as they are");
static_assert((int)COUNTERS_DETECTORS == (int)DETECTORS && WIRE_QUOTA_UNLIMITED == BUDGETS_UNLIMITED,
              "budgets and detectors are counted and sent as they are");

static struct wire_reply reply_to(const struct wire_request *request, enum wire_code code)
{
    return (struct wire_reply){.type = (uint8_t)(request->type | WIRE_REPLY_BIT),
                               .code = (uint8_t)code,
                               .request_id = request->request_id,
                               .quota_left = WIRE_QUOTA_UNLIMITED};
}

/* Appends the reply's header and room for its body, which is returned; NULL when memory is short. */
static uint8_t *begin_reply(const struct wire_reply *reply, struct buffer *out)
{
    uint8_t *bytes = buffer_reserve(out, WIRE_REPLY_HEADER_BYTES + reply->body_bytes);
    if (bytes == NULL)
        return NULL;
    wire_encode_reply_header(bytes, reply);
    out->length += WIRE_REPLY_HEADER_BYTES + reply->body_bytes;
    return bytes + WIRE_REPLY_HEADER_BYTES;
}

bool requests_reply(const struct wire_request *request, enum wire_code code, const char *text,
                    struct buffer *out)
{
    struct wire_reply reply = reply_to(request, code);
    reply.body_bytes = text == NULL ? 0 : (uint32_t)strlen(text);
    if (code == WIRE_UNAVAILABLE || code == WIRE_NOT_READY)
        reply.retry_after_ms = RETRY_MS;
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    if (text != NULL)
        memcpy(body, text, reply.body_bytes);
    return true;
}

/* --- lookups --- */

static uint64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE,
                  &now); /* to some ms, which is enough for budgets, and costs a quarter */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Marsaglia's xorshift64. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void record(const struct session *session, struct service *service, const struct wire_request *request)
{
    bool named = (request->flags & WIRE_FLAG_ORIGIN) != 0;
    const struct recorder_origin origin = {.time_ms = wall_clock_ms(),
                                           .requester =
                                               named ? request->origin.requester : session->grant.principal,
                                           .ip = named ? request->origin.ip : session->ip,
                                           .via = session->via};
    recorder_write(service->recorder, &origin, service->scratch->numbers, service->scratch->answers,
                   request->count);
}

/* Returns how many were not registered. */
static uint32_t count_answers(const struct service *service, size_t count)
{
    uint64_t seen[COUNTERS_ANSWERS] = {0};
    for (size_t i = 0; i < count; i++)
        seen[service->scratch->answers[i]]++;
    for (size_t i = 0; i < COUNTERS_ANSWERS; i++)
        counter_add(&service->counters->answers[i], seen[i]);
    return (uint32_t)(seen[WIRE_NOT_REGISTERED] + seen[WIRE_INVALID]);
}

/* Whom the request's origin makes pay. */
static struct asker named_asker(const struct session *session, const struct service *service,
                                const struct wire_request *request)
{
    const struct asker_name name = {.principal = session->grant.principal,
                                    .own = session->grant.has_own_budget ? &session->grant.budget : NULL,
                                    .named = request->origin.requester,
                                    .ip = address_ip_is_nobodys(request->origin.ip) ? NULL
                                                                                    : request->origin.ip};
    return budgets_asker(service->budgets, &name);
}

/* A lookup on its way: who pays, and what was said to that. */
struct payment {
    const struct asker *asker;
    struct asker named; /* where it is not the session's */
    struct budget_verdict verdict;
    uint64_t now_ns;
};

static void charge(const struct session *session, const struct service *service,
                   const struct wire_request *request, struct payment *payment)
{
    payment->verdict = (struct budget_verdict){.served = request->count, .left = BUDGETS_UNLIMITED};
    if (service->budgets == NULL)
        return;
    payment->asker = &session->asker;
    if ((request->flags & WIRE_FLAG_ORIGIN) != 0) {
        payment->named = named_asker(session, service, request);
        payment->asker = &payment->named;
    }
    if (payment->asker->count == 0)
        return;
    payment->now_ns = monotonic_ns();
    payment->verdict = budgets_charge(service->budgets, payment->asker, payment->now_ns, request->count);
}

static void observe(const struct session *session, struct service *service,
                    const struct wire_request *request, const struct payment *payment, uint32_t missed)
{
    uint32_t served = payment->verdict.served;
    if (service->budgets == NULL || payment->asker->count == 0 || served == 0)
        return;
    unsigned detectors =
        budgets_observe(service->budgets, payment->asker, &payment->verdict, payment->now_ns,
                        service->scratch->numbers, served, missed, next_random(&service->random));
    if (detectors == 0)
        return;
    for (unsigned i = 0; i < DETECTORS; i++)
        counter_add(&service->counters->suspicions[i], detectors >> i & 1);
    bool named = (request->flags & WIRE_FLAG_ORIGIN) != 0;
    service->hooks->suspect(service->hooks->context, detectors, session->grant.principal,
                            named ? request->origin.requester : 0);
}

static void put_record(uint8_t *bytes, uint8_t answer, const struct record *record)
{
    wire_put_u64(bytes, answer | (uint64_t)record->flags << 8);
    wire_put_u64(bytes + 8, record->account);
}

/* Looks the first `served` numbers up; the rest is LIMITED. */
static void look_up(struct service *service, const struct wire_request *request, uint32_t served,
                    uint8_t *body)
{
    struct service_scratch *scratch = service->scratch;
    size_t count = request->count;
    for (size_t i = 0; i < count; i++)
        scratch->numbers[i] = wire_get_u64(request->entries + i * WIRE_NUMBER_BYTES);
    memset(scratch->answers + served, WIRE_LIMITED, count - served);
    if (request->type == WIRE_LOOKUP_RECORDS) {
        directory_lookup_records(service->directory, service->reader, scratch->numbers, served,
                                 scratch->answers, scratch->records);
        memset(scratch->records + served, 0, (count - served) * sizeof *scratch->records);
        for (size_t i = 0; i < count; i++)
            put_record(body + i * WIRE_RECORD_BYTES, scratch->answers[i], &scratch->records[i]);
    } else {
        /* Who asks about one number at a time can measure what becomes of it; see SECURITY.md. */
        if (served == 1)
            scratch->answers[0] =
                (uint8_t)directory_lookup_alike(service->directory, service->reader, scratch->numbers[0]);
        else
            directory_lookup(service->directory, service->reader, scratch->numbers, served, scratch->answers);
        memcpy(body, scratch->answers, count);
    }
}

bool requests_lookup(const struct session *session, struct service *service,
                     const struct wire_request *request, struct buffer *out)
{
    size_t entry_bytes = request->type == WIRE_LOOKUP_RECORDS ? WIRE_RECORD_BYTES : 1;
    enum recorder_verdict verdict = recorder_admit(service->recorder, request->count);
    struct payment payment;
    if (verdict == RECORDER_REFUSE) {
        counter_add(&service->counters->requests_unavailable, 1);
        return requests_reply(request, WIRE_UNAVAILABLE, "the query log is full", out);
    }
    charge(session, service, request, &payment);
    struct wire_reply reply = reply_to(request, WIRE_OK);
    reply.count = request->count;
    reply.quota_left = payment.verdict.left;
    reply.retry_after_ms = payment.verdict.retry_after_ms;
    reply.cache_seconds = service->cache_seconds;
    reply.body_bytes = (uint32_t)(request->count * entry_bytes);
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    look_up(service, request, payment.verdict.served, body);
    uint32_t missed = count_answers(service, request->count);
    observe(session, service, request, &payment, missed);
    if (verdict == RECORDER_LOG)
        record(session, service, request);
    else
        recorder_drop(service->recorder, service->scratch->answers, request->count);
    return true;
}

/* --- updates --- */

static enum wire_status status_of(enum directory_result result)
{
    switch (result) {
    case DIRECTORY_ADDED:
        return WIRE_ADDED;
    case DIRECTORY_REPLACED:
        return WIRE_REPLACED;
    case DIRECTORY_REMOVED:
        return WIRE_REMOVED;
    case DIRECTORY_MOVED:
        return WIRE_MOVED;
    case DIRECTORY_ABSENT:
        return WIRE_ABSENT;
    case DIRECTORY_OCCUPIED:
        return WIRE_OCCUPIED;
    case DIRECTORY_INVALID_NUMBER:
        return WIRE_INVALID;
    case DIRECTORY_NO_MEMORY:
        return WIRE_REFUSED;
    }
    assert(false);
    return WIRE_REFUSED;
}

static void count_update(struct counters *counters, enum wire_status status)
{
    if (status >= WIRE_ADDED)
        counter_add(&counters->updates[status - WIRE_ADDED], 1);
}

/* Carries the request out; the results as enum directory_result in scratch->answers. */
static bool update(struct service *service, const struct wire_request *request, uint64_t *position)
{
    struct service_scratch *scratch = service->scratch;
    size_t count = request->count;
    const uint8_t *entry = request->entries;
    if (request->type == WIRE_REGISTER) {
        for (size_t i = 0; i < count; i++, entry += WIRE_REGISTER_BYTES)
            scratch->records[i] = (struct record){
                .number = wire_get_u64(entry), .account = wire_get_u64(entry + 8), .flags = entry[16]};
        return registrations_register(service->registrations, scratch->records, count, scratch->answers,
                                      position);
    }
    if (request->type == WIRE_DEREGISTER) {
        for (size_t i = 0; i < count; i++, entry += WIRE_NUMBER_BYTES)
            scratch->numbers[i] = wire_get_u64(entry);
        return registrations_deregister(service->registrations, scratch->numbers, count, scratch->answers,
                                        position);
    }
    for (size_t i = 0; i < count; i++, entry += WIRE_MOVE_BYTES)
        scratch->pairs[i] =
            (struct registrations_pair){.from = wire_get_u64(entry), .to = wire_get_u64(entry + 8)};
    return registrations_move(service->registrations, scratch->pairs, count, scratch->answers, position);
}

#define READ_ONLY_TEXT "the server cannot write its journal; repeat it when that is mended"

bool requests_update(struct service *service, const struct wire_request *request, struct buffer *out)
{
    struct wire_reply reply = reply_to(request, WIRE_OK);
    uint64_t position;
    size_t before = out->length;
    reply.count = request->count;
    reply.body_bytes = request->count;
    /* The room first: what is carried out must be answered. */
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    if (!update(service, request, &position)) {
        out->length = before;
        return requests_reply(request, WIRE_READ_ONLY, READ_ONLY_TEXT, out);
    }
    bool refused = false;
    for (size_t i = 0; i < request->count; i++) {
        enum wire_status status = status_of((enum directory_result)service->scratch->answers[i]);
        body[i] = (uint8_t)status;
        refused = refused || status == WIRE_REFUSED;
        count_update(service->counters, status);
    }
    if (refused) {
        reply.retry_after_ms = RETRY_MS;
        wire_encode_reply_header(body - WIRE_REPLY_HEADER_BYTES, &reply);
    }
    service->hold_position = position;
    return true;
}

/* The text is left out, so that no frame grows. */
void requests_retract(struct buffer *out, size_t from)
{
    size_t kept = from;
    for (size_t at = from; at < out->length;) {
        struct wire_reply reply;
        if (wire_decode_reply(out->bytes + at, out->length - at, &reply) != WIRE_DONE)
            break; /* cannot be: whole frames were appended */
        size_t bytes = reply.frame_bytes;
        at += bytes;
        uint8_t type = reply.type & (uint8_t)~WIRE_REPLY_BIT;
        if (reply.code == WIRE_OK && type >= WIRE_REGISTER && type <= WIRE_MOVE) {
            reply.code = WIRE_READ_ONLY;
            reply.count = 0;
            reply.body_bytes = 0;
            reply.retry_after_ms = 0;
            wire_encode_reply_header(out->bytes + kept, &reply);
            kept += WIRE_REPLY_HEADER_BYTES;
        } else {
            memmove(out->bytes + kept, out->bytes + at - bytes, bytes);
            kept += bytes;
        }
    }
    out->length = kept;
}

/* --- the rest --- */

bool requests_stats(const struct service *service, const struct wire_request *request, struct buffer *out)
{
    char *json = service->hooks->stats_json(service->hooks->context);
    if (json == NULL)
        return requests_reply(request, WIRE_INTERNAL, "out of memory", out);
    bool good = requests_reply(request, WIRE_OK, json, out);
    free(json);
    return good;
}

bool requests_snapshot(const struct service *service, const struct wire_request *request, struct buffer *out)
{
    struct wire_reply reply = reply_to(request, WIRE_OK);
    reply.body_bytes = sizeof(uint64_t);
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    const struct service_hooks *hooks = service->hooks;
    wire_put_u64(body, request->type == WIRE_SNAPSHOT ? hooks->request_snapshot(hooks->context)
                                                      : hooks->request_replacement(hooks->context));
    return true;
}
