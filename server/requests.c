/* What each request does; see requests.h. */
#include "server/requests.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/address.h"
#include "server/clock.h"

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

/* --- long requests --- */

/* A lookup on its way: who pays, and what was said to that. */
struct payment {
    const struct asker *asker; /* NULL: nobody */
    struct asker named;        /* where it is not the session's */
    struct budget_verdict verdict;
    uint64_t now_ns;
};

struct work {
    uint32_t done; /* entries of the request */
    struct payment payment;
    uint64_t position;   /* of an update: what the last change has */
    bool is_refused;     /* an entry of an update was */
    void *job;           /* of an update that the feed has; NULL: none */
    struct buffer reply; /* the whole of it, filled up to `done` */
};

static bool begin_work(struct session *session, const struct wire_reply *reply, const struct payment *payment)
{
    struct work *work = calloc(1, sizeof *work);
    if (work == NULL || begin_reply(reply, &work->reply) == NULL) {
        free(work);
        return false;
    }
    if (payment != NULL)
        work->payment = *payment;
    if (payment != NULL && payment->asker == &payment->named)
        work->payment.asker =
            &work->payment.named; /* else it is the session's, which stays the same meanwhile */
    session->work = work;
    return true;
}

void requests_give_up(struct session *session, const struct registrations *registrations)
{
    struct work *work = session->work;
    if (work == NULL)
        return;
    if (work->job != NULL)
        (void)registrations->feed.take(registrations->feed.context, work->job, NULL);
    buffer_deinit(&work->reply);
    free(work);
    session->work = NULL;
}

bool requests_wait(const struct session *session)
{
    return session->work != NULL && session->work->job != NULL;
}

size_t requests_work_bytes(const struct session *session)
{
    return session->work == NULL ? 0 : session->work->reply.capacity;
}

/* --- lookups --- */

/* The clocks are read once for all requests of a turn. */
static uint64_t turn_ns(struct service *service)
{
    if (service->turn_ns == 0)
        service->turn_ns = clock_coarse_ns();
    return service->turn_ns;
}

static uint64_t turn_ms(struct service *service)
{
    struct timespec now;
    if (service->turn_ms > 0)
        return service->turn_ms;
    clock_gettime(CLOCK_REALTIME, &now);
    service->turn_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return service->turn_ms;
}

/* Marsaglia's xorshift64. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Numbers and what is answered to them: in the scratch, or in its lookups ahead. */
struct looked_up {
    const uint64_t *numbers;
    const uint8_t *answers;
};

static void record(const struct session *session, struct service *service, const struct wire_request *request,
                   const struct looked_up *looked_up, uint32_t count)
{
    bool named = (request->flags & WIRE_FLAG_ORIGIN) != 0;
    struct recorder_origin origin = {.time_ms = turn_ms(service),
                                     .requester =
                                         named ? request->origin.requester : session->grant.principal};
    memcpy(origin.ip, named ? request->origin.ip : session->ip, sizeof origin.ip);
    memcpy(origin.via, session->via, sizeof origin.via);
    recorder_write(service->recorder, &origin, looked_up->numbers, looked_up->answers, count);
}

/* Returns how many were not registered. (A counter of each answer in memory takes four times as long as these two, which the
 * compiler makes vectors of.) */
static uint32_t count_answers(const struct service *service, const uint8_t *answers, uint32_t count)
{
    uint32_t registered = 0;
    uint32_t invalid = 0;
    for (uint32_t i = 0; i < count; i++) {
        registered += answers[i] == WIRE_REGISTERED;
        invalid += answers[i] == WIRE_INVALID;
    }
    counter_add(&service->counters->answers[WIRE_REGISTERED], registered);
    counter_add(&service->counters->answers[WIRE_INVALID], invalid);
    counter_add(&service->counters->answers[WIRE_NOT_REGISTERED], count - registered - invalid);
    return count - registered;
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

static void charge(const struct session *session, struct service *service, const struct wire_request *request,
                   struct payment *payment)
{
    payment->verdict.served = request->count;
    payment->verdict.left = BUDGETS_UNLIMITED;
    payment->verdict.retry_after_ms = 0;
    payment->asker = NULL;
    payment->now_ns = 0;
    if (service->budgets == NULL)
        return;
    const struct asker *asker = &session->asker;
    if ((request->flags & WIRE_FLAG_ORIGIN) != 0) {
        payment->named = named_asker(session, service, request);
        asker = &payment->named;
    }
    if (asker->count == 0)
        return;
    payment->asker = asker;
    payment->now_ns = turn_ns(service);
    budgets_charge(service->budgets, asker, payment->now_ns, request->count, &payment->verdict);
}

static void observe(const struct session *session, struct service *service,
                    const struct wire_request *request, const struct payment *payment,
                    const uint64_t *numbers, uint32_t served, uint32_t missed)
{
    if (payment->asker == NULL || served == 0)
        return;
    unsigned detectors = budgets_observe(service->budgets, payment->asker, &payment->verdict, payment->now_ns,
                                         numbers, served, missed, next_random(&service->random));
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

static void read_numbers(struct service *service, const uint8_t *entries, uint32_t count)
{
    for (size_t i = 0; i < count; i++)
        service->scratch->numbers[i] = wire_get_u64(entries + i * WIRE_NUMBER_BYTES);
}

/* Looks up `count` of the numbers that were read. */
static void look_up(struct service *service, const struct wire_request *request, uint32_t count,
                    uint8_t *body)
{
    struct service_scratch *scratch = service->scratch;
    if (request->type == WIRE_LOOKUP_RECORDS) {
        directory_lookup_records(service->directory, service->reader, scratch->numbers, count,
                                 scratch->answers, scratch->records);
        for (size_t i = 0; i < count; i++)
            put_record(body + i * WIRE_RECORD_BYTES, scratch->answers[i], &scratch->records[i]);
        return;
    }
    /* Who asks about one number at a time can measure what becomes of it; see SECURITY.md. */
    if (count == 1)
        scratch->answers[0] =
            (uint8_t)directory_lookup_alike(service->directory, service->reader, scratch->numbers[0]);
    else
        directory_lookup(service->directory, service->reader, scratch->numbers, count, scratch->answers);
    memcpy(body, scratch->answers, count);
}

/* What was not paid for costs as little as may be: nobody pays for it. */
static void put_limited(const struct wire_request *request, uint32_t count, uint8_t *body)
{
    static const struct record nothing;
    if (request->type == WIRE_LOOKUP_RECORDS)
        for (size_t i = 0; i < count; i++)
            put_record(body + i * WIRE_RECORD_BYTES, WIRE_LIMITED, &nothing);
    else
        memset(body, WIRE_LIMITED, count);
}

static size_t answer_bytes(const struct wire_request *request)
{
    return request->type == WIRE_LOOKUP_RECORDS ? WIRE_RECORD_BYTES : 1;
}

/* Answers `count` of the numbers from `from` on into the reply's body, as far as they were paid for, and logs them as the
 * recorder's verdict says. */
static void answer(const struct session *session, struct service *service, const struct wire_request *request,
                   const struct payment *payment, uint32_t from, uint32_t count,
                   enum recorder_verdict verdict, uint8_t *body)
{
    uint32_t paid = payment->verdict.served > from ? payment->verdict.served - from : 0;
    uint32_t served = paid < count ? paid : count;
    uint32_t logged = served;
    if (served < count)
        logged += recorder_admit_limited(service->recorder, payment->now_ns, count - served);
    body += from * answer_bytes(request);
    struct looked_up looked_up;
    uint32_t first = request->type == WIRE_LOOKUP && served == request->count && count > 1
                         ? ahead_take(&service->scratch->ahead, request->entries)
                         : AHEAD_NUMBERS;
    if (first < AHEAD_NUMBERS) {
        looked_up = (struct looked_up){service->scratch->ahead.numbers + first,
                                       service->scratch->ahead.answers + first};
        memcpy(body, looked_up.answers, count);
    } else {
        looked_up = (struct looked_up){service->scratch->numbers, service->scratch->answers};
        read_numbers(service, request->entries + (size_t)from * WIRE_NUMBER_BYTES, logged);
        look_up(service, request, served, body);
        put_limited(request, count - served, body + served * answer_bytes(request));
        memset(service->scratch->answers + served, WIRE_LIMITED, logged - served);
    }
    uint32_t missed = count_answers(service, looked_up.answers, served);
    observe(session, service, request, payment, looked_up.numbers, served, missed);
    counter_add(&service->counters->answers[WIRE_LIMITED], count - served);
    counter_add(&service->counters->limited_unlogged, count - logged);
    if (verdict == RECORDER_LOG)
        record(session, service, request, &looked_up, logged);
    else
        recorder_drop(service->recorder, looked_up.answers, logged);
}

static struct wire_reply lookup_reply(const struct service *service, const struct wire_request *request,
                                      const struct payment *payment, bool is_stale)
{
    struct wire_reply reply = reply_to(request, WIRE_OK);
    reply.count = request->count;
    reply.quota_left = payment->verdict.left;
    reply.retry_after_ms = payment->verdict.retry_after_ms;
    reply.cache_seconds = is_stale ? 0 : service->cache_seconds;
    reply.body_bytes = (uint32_t)(request->count * answer_bytes(request));
    if ((request->flags & WIRE_FLAG_AGE) != 0)
        reply.body_bytes += WIRE_AGE_BYTES;
    return reply;
}

/* Of what the answers come from; 0: there is no feed that they could be behind. */
static uint64_t age_ms(const struct service *service)
{
    const struct registrations *registrations = service->registrations;
    return registrations_are_fed(registrations) ? registrations->feed.age_ms(registrations->feed.context) : 0;
}

/* Behind the answers of a reply, if it was asked for. */
static void put_age(const struct wire_request *request, uint64_t age, uint8_t *body)
{
    if ((request->flags & WIRE_FLAG_AGE) != 0)
        wire_put_u32(body + request->count * answer_bytes(request),
                     age < UINT32_MAX ? (uint32_t)age : UINT32_MAX);
}
/* Tells the session when nothing was served to itself; who asks for others has some who may be served. */
static void note_limited(struct session *session, const struct wire_request *request,
                         const struct payment *payment)
{
    if (payment->verdict.served == 0 && (request->flags & WIRE_FLAG_ORIGIN) == 0)
        session->limited = request->count;
}

#define LOG_FULL_TEXT "the query log is full"
#define STALE_TEXT "what is registered has not been brought up to date for too long"

static bool refuse_lookup(struct service *service, const struct wire_request *request, const char *text,
                          struct buffer *out)
{
    counter_add(&service->counters->requests_unavailable, 1);
    return requests_reply(request, WIRE_UNAVAILABLE, text, out);
}
bool requests_lookup(struct session *session, struct service *service, const struct wire_request *request,
                     struct buffer *out)
{
    bool is_long = request->count > service->part_numbers;
    counter_add_batch(service->counters, request->count);
    enum recorder_verdict verdict = recorder_admit(service->recorder, request->count, false);
    struct payment payment;
    uint64_t age = age_ms(service);
    bool is_stale = age > service->stale_ms;
    if (verdict == RECORDER_REFUSE || (is_stale && service->refuse_stale))
        return refuse_lookup(service, request, verdict == RECORDER_REFUSE ? LOG_FULL_TEXT : STALE_TEXT, out);
    charge(session, service, request, &payment);
    struct wire_reply reply = lookup_reply(service, request, &payment, is_stale);
    if (is_long && !begin_work(session, &reply, &payment))
        return false;
    if (is_long) {
        put_age(request, age, session->work->reply.bytes + WIRE_REPLY_HEADER_BYTES);
        return requests_go_on(session, service, request, out);
    }
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    put_age(request, age, body);
    answer(session, service, request, &payment, 0, request->count, verdict, body);
    note_limited(session, request, &payment);
    return true;
}

/* The next part of a long lookup. False: the query log takes no more. */
static bool answer_part(struct session *session, struct service *service, const struct wire_request *request)
{
    struct work *work = session->work;
    uint32_t left = request->count - work->done;
    uint32_t count = left < service->part_numbers ? left : service->part_numbers;
    enum recorder_verdict verdict = recorder_admit(service->recorder, count, work->done > 0);
    if (verdict == RECORDER_REFUSE)
        return false;
    answer(session, service, request, &work->payment, work->done, count, verdict,
           work->reply.bytes + WIRE_REPLY_HEADER_BYTES);
    work->done += count;
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

/* Reads `count` entries, from `from` on, into that part of the scratch which their type has; returns it. */
static const void *read_entries(struct service_scratch *scratch, const struct wire_request *request,
                                uint32_t from, uint32_t count)
{
    const uint8_t *entry = request->entries;
    if (request->type == WIRE_REGISTER) {
        entry += (size_t)from * WIRE_REGISTER_BYTES;
        for (size_t i = 0; i < count; i++, entry += WIRE_REGISTER_BYTES)
            scratch->records[i] = (struct record){
                .number = wire_get_u64(entry), .account = wire_get_u64(entry + 8), .flags = entry[16]};
        return scratch->records;
    }
    if (request->type == WIRE_DEREGISTER) {
        entry += (size_t)from * WIRE_NUMBER_BYTES;
        for (size_t i = 0; i < count; i++, entry += WIRE_NUMBER_BYTES)
            scratch->numbers[i] = wire_get_u64(entry);
        return scratch->numbers;
    }
    entry += (size_t)from * WIRE_MOVE_BYTES;
    for (size_t i = 0; i < count; i++, entry += WIRE_MOVE_BYTES)
        scratch->pairs[i] =
            (struct registrations_pair){.from = wire_get_u64(entry), .to = wire_get_u64(entry + 8)};
    return scratch->pairs;
}

/* Carries `count` entries out, from `from` on; the results as enum directory_result in scratch->answers. */
static bool update(struct service *service, const struct wire_request *request, uint32_t from, uint32_t count,
                   uint64_t *position)
{
    struct service_scratch *scratch = service->scratch;
    const void *entries = read_entries(scratch, request, from, count);
    if (request->type == WIRE_REGISTER)
        return registrations_register(service->registrations, entries, count, scratch->answers, position);
    if (request->type == WIRE_DEREGISTER)
        return registrations_deregister(service->registrations, entries, count, scratch->answers, position);
    return registrations_move(service->registrations, entries, count, scratch->answers, position);
}

/* Puts the results into the reply's body. True when an entry was refused. */
static bool put_results(const struct service *service, uint32_t count, uint8_t *body)
{
    bool refused = false;
    for (size_t i = 0; i < count; i++) {
        enum wire_status status = status_of((enum directory_result)service->scratch->answers[i]);
        body[i] = (uint8_t)status;
        refused = refused || status == WIRE_REFUSED;
        count_update(service->counters, status);
    }
    return refused;
}

#define READ_ONLY_TEXT "the server cannot write its journal; repeat it when that is mended"

static struct wire_reply update_reply(const struct wire_request *request, bool is_refused)
{
    struct wire_reply reply = reply_to(request, WIRE_OK);
    reply.count = request->count;
    reply.body_bytes = request->count;
    reply.retry_after_ms = is_refused ? RETRY_MS : 0;
    return reply;
}

/* --- updates that go to a feed --- */

#define AWAY_TEXT "registrations are not possible now: the feed they come from cannot be reached"
#define UNKNOWN_TEXT "the feed has not confirmed it in time: repeat it when it can be reached"

/* Hands the whole request over; what comes of it is taken when its ticket is decided. */
static bool submit_update(struct session *session, struct service *service,
                          const struct wire_request *request, struct buffer *out)
{
    const struct registrations_feed *feed = &service->registrations->feed;
    struct wire_reply reply = update_reply(request, false);
    enum step_kind kind = request->type == WIRE_REGISTER     ? STEP_SET
                          : request->type == WIRE_DEREGISTER ? STEP_REMOVE
                                                             : STEP_RELEASE;
    if (!begin_work(session, &reply, NULL))
        return false;
    struct work *work = session->work;
    work->job = feed->submit(feed->context, kind, read_entries(service->scratch, request, 0, request->count),
                             request->count, &work->position);
    if (work->job == NULL) {
        requests_give_up(session, service->registrations);
        return requests_reply(request, WIRE_UNAVAILABLE, AWAY_TEXT, out);
    }
    service->hold_position = work->position;
    return true;
}

/* Takes the results, if they are there: else the connection waits on. False: it is not known what became of it. */
static bool take_update(struct session *session, struct service *service, const struct wire_request *request)
{
    const struct registrations_feed *feed = &service->registrations->feed;
    struct work *work = session->work;
    if (feed->decided(feed->context) < work->position) {
        service->hold_position = work->position;
        return true;
    }
    bool good = feed->take(feed->context, work->job, service->scratch->answers);
    work->job = NULL;
    if (!good)
        return false;
    work->is_refused = put_results(service, request->count, work->reply.bytes + WIRE_REPLY_HEADER_BYTES);
    work->done = request->count;
    return true;
}

/* --- all updates --- */

bool requests_update(struct session *session, struct service *service, const struct wire_request *request,
                     struct buffer *out)
{
    struct wire_reply reply = update_reply(request, false);
    uint64_t position;
    size_t before = out->length;
    if (registrations_are_fed(service->registrations))
        return submit_update(session, service, request, out);
    if (request->count > service->part_changes)
        return begin_work(session, &reply, NULL) && requests_go_on(session, service, request, out);
    /* The room first: what is carried out must be answered. */
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    if (!update(service, request, 0, request->count, &position)) {
        out->length = before;
        return requests_reply(request, WIRE_READ_ONLY, READ_ONLY_TEXT, out);
    }
    if (put_results(service, request->count, body)) {
        reply = update_reply(request, true);
        wire_encode_reply_header(body - WIRE_REPLY_HEADER_BYTES, &reply);
    }
    service->hold_position = position;
    return true;
}

/* The next part of a long update. False: the journal has failed. */
static bool update_part(struct session *session, struct service *service, const struct wire_request *request)
{
    struct work *work = session->work;
    uint32_t left = request->count - work->done;
    uint32_t count = left < service->part_changes ? left : service->part_changes;
    uint8_t *body = work->reply.bytes + WIRE_REPLY_HEADER_BYTES;
    if (!update(service, request, work->done, count, &work->position))
        return false;
    work->is_refused = put_results(service, count, body + work->done) || work->is_refused;
    work->done += count;
    return true;
}

/* The last part of any long request is done. */
static bool finish_work(struct session *session, struct service *service, const struct wire_request *request,
                        struct buffer *out)
{
    struct work *work = session->work;
    bool is_update = wire_is_update(request->type);
    if (is_update && work->is_refused) {
        struct wire_reply reply = update_reply(request, true);
        wire_encode_reply_header(work->reply.bytes, &reply);
    }
    if (is_update && !registrations_are_fed(service->registrations))
        service->hold_position = work->position;
    else if (!is_update)
        note_limited(session, request, &work->payment);
    bool good = true;
    if (out->length == 0 && out->capacity < work->reply.length) { /* no copy of what may be a megabyte */
        struct buffer empty = *out;
        *out = work->reply;
        work->reply = empty;
    } else {
        good = buffer_append(out, work->reply.bytes, work->reply.length);
    }
    requests_give_up(session, service->registrations);
    return good;
}

bool requests_go_on(struct session *session, struct service *service, const struct wire_request *request,
                    struct buffer *out)
{
    bool is_update = wire_is_update(request->type);
    bool is_fed = is_update && registrations_are_fed(service->registrations);
    bool good = is_fed      ? take_update(session, service, request)
                : is_update ? update_part(session, service, request)
                            : answer_part(session, service, request);
    if (good)
        return session->work->done < request->count || finish_work(session, service, request, out);
    requests_give_up(session, service->registrations);
    return is_update ? requests_reply(request, WIRE_READ_ONLY, is_fed ? UNKNOWN_TEXT : READ_ONLY_TEXT, out)
                     : refuse_lookup(service, request, LOG_FULL_TEXT, out);
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

/* --- numbers of partitions that are not here --- */

/* Numbers follow each other so closely in entries of this type. */
static size_t number_stride(uint8_t type)
{
    return type == WIRE_REGISTER ? WIRE_REGISTER_BYTES : WIRE_NUMBER_BYTES;
}

bool requests_are_elsewhere(const struct service *service, const struct wire_request *request)
{
    const struct registrations *registrations = service->registrations;
    unsigned split = atomic_load_explicit(&registrations->split, memory_order_acquire);
    if (split == 0 || request->type < WIRE_LOOKUP || request->type > WIRE_MOVE)
        return false;
    size_t count = request->type == WIRE_MOVE ? (size_t)request->count * 2 : request->count;
    const uint8_t *entry = request->entries;
    for (size_t i = 0; i < count; i++, entry += number_stride(request->type))
        if (!registrations_have(registrations, split, wire_get_u64(entry)))
            return true;
    return false;
}

bool requests_elsewhere(const struct service *service, const struct wire_request *request, struct buffer *out)
{
    const struct registrations_feed *feed = &service->registrations->feed;
    struct wire_reply reply = reply_to(request, WIRE_ELSEWHERE);
    reply.body_bytes = WIRE_ELSEWHERE_BYTES;
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    wire_put_u64(body, feed->map_version(feed->context));
    counter_add(&service->counters->requests_elsewhere, 1);
    return true;
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

bool requests_map(const struct service *service, const struct wire_request *request, struct buffer *out)
{
    const struct registrations_feed *feed = &service->registrations->feed;
    if (!registrations_are_fed(service->registrations))
        return requests_reply(request, WIRE_OK, "feed 0000000000000000\nversion 0\npartitions 0\n", out);
    char *text = feed->map(feed->context);
    if (text == NULL)
        return requests_reply(request, WIRE_INTERNAL, "out of memory", out);
    bool good = requests_reply(request, WIRE_OK, text, out);
    free(text);
    return good;
}

bool requests_snapshot(const struct service *service, const struct wire_request *request, struct buffer *out)
{
    struct wire_reply reply = reply_to(request, WIRE_OK);
    if (request->type == WIRE_REPLACE_ALL && registrations_are_fed(service->registrations))
        return requests_reply(request, WIRE_READ_ONLY, "registrations that come from a feed are not replaced",
                              out);
    reply.body_bytes = sizeof(uint64_t);
    uint8_t *body = begin_reply(&reply, out);
    if (body == NULL)
        return false;
    const struct service_hooks *hooks = service->hooks;
    wire_put_u64(body, request->type == WIRE_SNAPSHOT ? hooks->request_snapshot(hooks->context)
                                                      : hooks->request_replacement(hooks->context));
    return true;
}
