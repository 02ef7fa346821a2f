/* One client's conversation; see session.h. */
#include "server/session.h"

#include <string.h>

#include "server/address.h"
#include "server/requests.h"

void session_init(struct session *session, const uint8_t ip[static 16], const uint8_t *via)
{
    *session = (struct session){0};
    memcpy(session->ip, ip, sizeof session->ip);
    if (via != NULL)
        memcpy(session->via, via, sizeof session->via);
}

void session_deinit(struct session *session, const struct service *service)
{
    requests_give_up(session, service->registrations);
}

bool session_waits(const struct session *session)
{
    return requests_wait(session);
}

size_t session_held_bytes(const struct session *session)
{
    return requests_work_bytes(session);
}

/* Takes the grant, and whom it makes pay. */
static void admit(struct session *session, const struct service *service, const struct grant *grant)
{
    session->grant = *grant;
    session->tokens_version = service->tokens_version;
    if (service->budgets == NULL)
        return;
    const struct asker_name name = {.principal = grant->principal,
                                    .own = grant->has_own_budget ? &session->grant.budget : NULL,
                                    .ip = address_ip_is_nobodys(session->ip) ? NULL : session->ip};
    session->asker = budgets_asker(service->budgets, &name);
}

/* What the hello's token gives, or without one the certificate. */
static bool find_grant(const struct session *session, const struct service *service,
                       const struct wire_request *request, struct grant *grant)
{
    *grant = (struct grant){.roles = ROLES_ALL};
    if (service->tokens == NULL)
        return true;
    if (request->token_bytes == 0 && session->has_fingerprint)
        return tokens_find_certificate(service->tokens, session->fingerprint, grant);
    return tokens_find(service->tokens, request->token, request->token_bytes, grant);
}

static bool greet(struct session *session, struct service *service, const struct wire_request *request,
                  struct buffer *out)
{
    struct wire_hello_reply hello = {WIRE_VERSION, WIRE_COUNT_MAX, WIRE_REQUEST_BYTES_MAX};
    uint8_t body[WIRE_REPLY_HEADER_BYTES + WIRE_HELLO_REPLY_BYTES];
    struct grant grant;
    struct wire_reply reply = {.type = WIRE_HELLO | WIRE_REPLY_BIT,
                               .request_id = request->request_id,
                               .quota_left = WIRE_QUOTA_UNLIMITED,
                               .body_bytes = WIRE_HELLO_REPLY_BYTES};
    if (request->version_min > WIRE_VERSION || request->version_max < WIRE_VERSION) {
        session->closing = true;
        return requests_reply(request, WIRE_VERSION_UNSUPPORTED, "this server speaks version 1", out);
    }
    if (!find_grant(session, service, request, &grant)) {
        session->closing = true;
        return requests_reply(request, WIRE_UNAUTHORIZED, NULL, out);
    }
    if (session->operators_only && (grant.roles & ROLE_OPERATE) == 0) {
        session->closing = true;
        return requests_reply(request, WIRE_UNAVAILABLE, "all connections are taken", out);
    }
    admit(session, service, &grant);
    session->greeted = true;
    wire_encode_reply_header(body, &reply);
    wire_put_hello_reply(body + WIRE_REPLY_HEADER_BYTES, &hello);
    return buffer_append(out, body, sizeof body);
}

/* The roles of which the request wants all. */
static uint32_t roles_for(const struct wire_request *request)
{
    switch (request->type) {
    case WIRE_LOOKUP:
    case WIRE_LOOKUP_RECORDS:
        return (request->flags & WIRE_FLAG_ORIGIN) != 0 ? ROLE_FRONT : ROLE_LOOKUP;
    case WIRE_REGISTER:
    case WIRE_DEREGISTER:
    case WIRE_MOVE:
        return ROLE_REGISTER;
    case WIRE_STATS:
    case WIRE_SNAPSHOT:
    case WIRE_REPLACE_ALL:
        return ROLE_OPERATE;
    default:
        return 0;
    }
}

/* Other tokens may have taken the place of those that the session knew. False: its own is none any more. */
static bool renew(struct session *session, const struct service *service)
{
    struct grant grant = session->grant;
    if (session->tokens_version == service->tokens_version)
        return true;
    if (service->tokens != NULL && !tokens_renew(service->tokens, &grant))
        return false;
    admit(session, service, &grant);
    return true;
}

/* False when memory is short. */
static bool handle(struct session *session, struct service *service, const struct wire_request *request,
                   struct buffer *out)
{
    counter_add(&service->counters->requests[request->type < COUNTERS_REQUEST_TYPES ? request->type : 0], 1);
    if (!session->greeted && request->type != WIRE_HELLO) {
        session->closing = true;
        return requests_reply(request, WIRE_HELLO_EXPECTED, NULL, out);
    }
    if (session->greeted && !renew(session, service)) {
        session->closing = true;
        return requests_reply(request, WIRE_UNAUTHORIZED, "the token was revoked", out);
    }
    if ((roles_for(request) & ~session->grant.roles) != 0)
        return requests_reply(request, WIRE_FORBIDDEN, "the token has not the role for this request", out);
    bool needs_registrations = (request->type >= WIRE_LOOKUP && request->type <= WIRE_MOVE) ||
                               request->type == WIRE_SNAPSHOT || request->type == WIRE_REPLACE_ALL;
    if (needs_registrations && service->directory == NULL)
        return requests_reply(request, WIRE_NOT_READY, "the registrations are being loaded", out);
    if (requests_are_elsewhere(service, request))
        return requests_elsewhere(service, request, out);
    switch (request->type) {
    case WIRE_HELLO:
        return greet(session, service, request, out);
    case WIRE_LOOKUP:
    case WIRE_LOOKUP_RECORDS:
        return requests_lookup(session, service, request, out);
    case WIRE_REGISTER:
    case WIRE_DEREGISTER:
    case WIRE_MOVE:
        return requests_update(session, service, request, out);
    case WIRE_PING:
        return requests_reply(request, WIRE_OK, NULL, out);
    case WIRE_STATS:
        return requests_stats(service, request, out);
    case WIRE_MAP:
        return requests_map(service, request, out);
    case WIRE_SNAPSHOT:
    case WIRE_REPLACE_ALL:
        return requests_snapshot(service, request, out);
    case WIRE_GOODBYE:
        session->closing = true;
        return requests_reply(request, WIRE_OK, NULL, out);
    default:
        return requests_reply(request, WIRE_UNKNOWN_TYPE, NULL, out);
    }
}

/* In lookups of one number: about as much time as they take. */
static uint32_t cost_of(const struct service *service, const struct wire_request *request)
{
    switch (request->type) {
    case WIRE_LOOKUP:
        return 8u + request->count;
    case WIRE_LOOKUP_RECORDS:
        return 8u + 2u * request->count;
    case WIRE_REGISTER:
    case WIRE_DEREGISTER:
    case WIRE_MOVE:
        return 8u + request->count * (service->part_numbers / service->part_changes);
    case WIRE_HELLO:
        return 64;
    case WIRE_STATS:
    case WIRE_MAP:
        return service->part_numbers;
    default:
        return 8;
    }
}

/* A long update is not begun behind others that wait for the journal: when we stop in between, none is half carried out. One that goes to a
 * feed is not begun before the replies ahead of it are on their way. */
static bool is_held_up(const struct session *session, const struct service *service,
                       const struct wire_request *request, const struct buffer *out)
{
    if (session->work != NULL || !wire_is_update(request->type))
        return false;
    if (registrations_are_fed(service->registrations))
        return out->length > 0;
    return service->hold_position > 0 && request->count > service->part_changes;
}

/* Carries the request out, or the next part of it. False: it is not done. */
static bool carry_out(struct session *session, struct service *service, const struct wire_request *request,
                      struct buffer *out)
{
    bool good = session->work != NULL ? requests_go_on(session, service, request, out)
                                      : handle(session, service, request, out);
    if (!good)
        session->closing = true;
    session->cost += session->work != NULL ? service->part_numbers : cost_of(service, request);
    return session->closing || session->work == NULL;
}

void session_gather(const struct session *session, struct service *service, const uint8_t *bytes,
                    size_t length)
{
    if (session->greeted && session->work == NULL && service->directory != NULL)
        ahead_gather(&service->scratch->ahead, service->directory, bytes, length);
}

size_t session_consume(struct session *session, struct service *service, const uint8_t *bytes, size_t length,
                       size_t output_max, struct buffer *out)
{
    size_t taken = 0;
    struct wire_request request;
    session->busy = false;
    session->cost = session->limited = 0;
    service->turn_ns = service->turn_ms = 0;
    /* What has been begun is finished, since a reply is owed that has its memory already. */
    while (!session->closing && (out->length < output_max || session->work != NULL)) {
        enum wire_state state = wire_decode_request(bytes + taken, length - taken, &request);
        if (state == WIRE_INCOMPLETE) {
            /* Nothing but a hello is worth waiting for before the hello. */
            bool has_header = length - taken >= WIRE_REQUEST_HEADER_BYTES;
            if (!has_header || session->greeted || request.type == WIRE_HELLO)
                break;
            taken = length;
            (void)handle(session, service, &request, out); /* it refuses and closes */
            break;
        }
        if (state == WIRE_MALFORMED) {
            counter_add(&service->counters->frames_malformed, 1);
            (void)requests_reply(&request, WIRE_BAD_FRAME, request.reason, out); /* we close either way */
            session->closing = true;
            break;
        }
        if (is_held_up(session, service, &request, out) || !carry_out(session, service, &request, out)) {
            session->busy = true;
            break;
        }
        taken += request.frame_bytes;
        if (session->cost >= service->part_numbers || session->limited > 0) {
            session->busy = !session->closing && taken < length;
            break;
        }
    }
    recorder_flush(service->recorder); /* before an answer leaves */
    return taken;
}

size_t session_frame_bytes(const uint8_t *bytes, size_t length)
{
    return length < sizeof(uint32_t) ? 0 : wire_get_u32(bytes);
}

void session_retract(struct buffer *out, size_t from)
{
    requests_retract(out, from);
}

void session_say_goodbye(struct session *session, const struct service *service, struct buffer *out)
{
    struct wire_request nothing = {.type = WIRE_GOODBYE};
    requests_give_up(session, service->registrations);
    (void)requests_reply(&nothing, WIRE_GOING_AWAY, NULL, out); /* without memory the close itself says it */
    session->closing = true;
}
