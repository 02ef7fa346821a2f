/* A blocking client of several servers; see client_cluster.h. */
#include "server/client_cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hashing/partition.h"
#include "server/clock.h"

/* Entries of one request. While one is answered there is no other to the same server. */
#define CHUNK 8192u
/* A server that could not be reached, or did not serve, is left alone for so long. */
#define DOWN_MS 1000u
#define DOWN_SHORT_MS 100u
#define PAUSE_MS_FIRST 10u
#define PAUSE_MS_MAX 500u
#define NODES_MAX 1024u
#define SERVER_BYTES 256
#define NOBODY UINT16_MAX
#define LINE_BYTES_MAX 2048

struct node {
    char server[SERVER_BYTES];
    uint64_t score; /* the lower the better */
    bool is_ready;  /* by the map */
    struct partition_set holds;
    struct client *client;  /* NULL: not connected */
    uint64_t down_until_ms; /* 0: it is up, as far as is known */
    /* In a round. */
    size_t next;  /* place in `order` of the first that was not sent */
    size_t end;   /* ... and behind the last */
    size_t under; /* sent and not answered */
};

struct client_cluster {
    struct client_options options; /* all texts are copies */
    char *seeds;
    char *token;
    char *tls_name;
    uint64_t version;
    unsigned partitions;
    struct node *nodes;
    size_t count;
    uint64_t fetched_ms;
    bool wants_map;
    uint64_t taste; /* which server of several this client likes best */
    uint16_t choice[PARTITIONS_MAX];
    char error[512];
};

/* What is asked. */
struct request {
    enum wire_type type;
    const uint64_t *numbers;
    const struct client_registration *registrations; /* instead */
    const struct wire_origin *origin;                /* of a lookup; or NULL */
    struct client_registration *records;             /* of a lookup of records: where they go, by index */
};

struct task {
    struct request what;
    size_t count;
    uint8_t *statuses; /* where the answers go, by index */
    bool *is_done;
    uint32_t *order; /* those that are not, by node */
    size_t left;
    union {
        uint64_t numbers[CHUNK];
        struct client_registration registrations[CHUNK];
    } chunk;
};

static bool fail(struct client_cluster *cluster, const char *what)
{
    snprintf(cluster->error, sizeof cluster->error, "%s", what);
    return false;
}

/* --- servers --- */

static void leave_alone(struct client_cluster *cluster, struct node *node, const char *why, unsigned ms)
{
    bool is_named = strncmp(why, node->server, strlen(node->server)) == 0;
    snprintf(cluster->error, sizeof cluster->error, "%.200s%s%.300s", is_named ? "" : node->server,
             is_named ? "" : ": ", why);
    node->down_until_ms = clock_precise_ms() + ms;
}

static void disconnect(struct node *node)
{
    client_close(node->client);
    node->client = NULL;
}

/* It failed. False: so would each other. */
static bool take_failure(struct client_cluster *cluster, struct node *node)
{
    bool is_passing = client_is_passing(node->client);
    leave_alone(cluster, node, client_error(node->client), DOWN_MS);
    disconnect(node);
    return is_passing;
}

/* False: it cannot be reached now, which is `*is_passing`, or never. */
static bool connect_node(struct client_cluster *cluster, struct node *node, bool *is_passing)
{
    struct client_options options = cluster->options;
    *is_passing = true;
    if (node->client != NULL)
        return true;
    options.server = node->server;
    options.patience_ms = 0;
    node->client = client_create(&options);
    if (node->client == NULL) {
        *is_passing = false;
        return fail(cluster, "out of memory");
    }
    if (client_reconnect(node->client))
        return true;
    *is_passing = take_failure(cluster, node);
    return false;
}

/* --- the map --- */

static void release_nodes(struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        client_close(nodes[i].client);
    free(nodes);
}

/* By FNV-1a of its name: the order among servers stays when others come and go. */
static void judge_node(const struct client_cluster *cluster, struct node *node)
{
    node->score = UINT64_C(0xCBF29CE484222325) ^ cluster->taste;
    for (const char *at = node->server; *at != '\0'; at++)
        node->score = (node->score ^ (uint8_t)*at) * UINT64_C(0x100000001B3);
}

static int compare_nodes(const void *a, const void *b)
{
    const struct node *left = a;
    const struct node *right = b;
    return (left->score > right->score) - (left->score < right->score);
}

/* Connections to servers that are in the new map, too, go on. */
static void keep_connections(struct client_cluster *cluster, struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < cluster->count; j++)
            if (nodes[i].client == NULL && strcmp(nodes[i].server, cluster->nodes[j].server) == 0) {
                nodes[i].client = cluster->nodes[j].client;
                nodes[i].down_until_ms = cluster->nodes[j].down_until_ms;
                cluster->nodes[j].client = NULL;
            }
}

/* "node ID ADDRESS STATE HOLDS" */
static bool parse_node(const char *line, struct node *node)
{
    char state[16];
    char holds[PARTITION_SET_TEXT_BYTES];
    *node = (struct node){0};
    if (sscanf(line, "node %*63s %255s %15s %767s", node->server, state, holds) != 3)
        return false;
    node->is_ready = strcmp(state, "ready") == 0;
    return partition_set_parse(holds, &node->holds);
}

/* Lines that are not understood are passed over: a later version may have more to say. */
static size_t parse_map(const char *text, size_t length, struct client_cluster *found)
{
    const char *end = text + length;
    while (text < end && found->count < NODES_MAX) {
        char line[LINE_BYTES_MAX];
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t bytes = (size_t)((stop == NULL ? end : stop) - text);
        snprintf(line, sizeof line, "%.*s", (int)(bytes < sizeof line ? bytes : sizeof line - 1), text);
        text += bytes + 1;
        if (sscanf(line, "version %" SCNu64, &found->version) == 1 ||
            sscanf(line, "partitions %u", &found->partitions) == 1)
            continue;
        found->count += parse_node(line, &found->nodes[found->count]);
    }
    return found->count;
}

/* Without a feed the server is the only one. */
static void be_alone(struct client_cluster *found, const struct node *teller)
{
    found->partitions = 0;
    found->count = 1;
    found->nodes[0] = (struct node){.is_ready = true};
    memset(&found->nodes[0].holds, true, sizeof found->nodes[0].holds);
    memcpy(found->nodes[0].server, teller->server, sizeof teller->server);
}

/* False: memory is short. */
static bool take_map(struct client_cluster *cluster, struct node *teller, const struct wire_reply *reply)
{
    struct client_cluster found = {.nodes = calloc(NODES_MAX, sizeof *found.nodes)};
    if (found.nodes == NULL)
        return fail(cluster, "out of memory");
    size_t count =
        reply->code == WIRE_OK ? parse_map((const char *)reply->body, reply->body_bytes, &found) : 0;
    if (count == 0 || found.partitions == 0 || found.partitions > PARTITIONS_MAX)
        be_alone(&found, teller);
    for (size_t i = 0; i < found.count; i++)
        judge_node(cluster, &found.nodes[i]);
    qsort(found.nodes, found.count, sizeof *found.nodes, compare_nodes);
    keep_connections(cluster, found.nodes, found.count);
    struct node *fitting = realloc(found.nodes, found.count * sizeof *fitting);
    release_nodes(cluster->nodes, cluster->count);
    cluster->nodes = fitting == NULL ? found.nodes : fitting;
    cluster->count = found.count;
    cluster->version = found.version;
    cluster->partitions = found.partitions;
    cluster->fetched_ms = clock_precise_ms();
    cluster->wants_map = false;
    return true;
}

/* What a server has refused another one may do. */
static bool is_for_another(enum wire_code code)
{
    return code == WIRE_ELSEWHERE || code == WIRE_NOT_READY || code == WIRE_UNAVAILABLE ||
           code == WIRE_GOING_AWAY;
}

/* False: this one has none, which is `*is_passing`, or there is none to be had. */
static bool ask_for_map(struct client_cluster *cluster, struct node *node, bool *is_passing)
{
    struct wire_reply reply;
    if (!connect_node(cluster, node, is_passing))
        return false;
    if (!client_send_plain(node->client, WIRE_MAP) || !client_flush(node->client) ||
        !client_receive(node->client, &reply)) {
        *is_passing = take_failure(cluster, node);
        return false;
    }
    if (reply.code == WIRE_OK || reply.code == WIRE_UNKNOWN_TYPE)
        return take_map(cluster, node, &reply);
    *is_passing = is_for_another(reply.code);
    leave_alone(cluster, node, wire_code_text(reply.code), DOWN_SHORT_MS);
    return false;
}

/* Those that the program was given, as nodes; they take the place of what is known. */
static bool begin_anew(struct client_cluster *cluster)
{
    struct node *nodes = calloc(NODES_MAX, sizeof *nodes);
    size_t count = 0;
    if (nodes == NULL)
        return fail(cluster, "out of memory");
    for (const char *at = cluster->seeds; *at != '\0' && count < NODES_MAX;) {
        size_t length = strcspn(at, ",");
        if (length > 0 && length < SERVER_BYTES)
            memcpy(nodes[count++].server, at, length);
        at += length + (at[length] == ',');
    }
    release_nodes(cluster->nodes, cluster->count);
    cluster->nodes = nodes;
    cluster->count = count;
    return count > 0 || fail(cluster, "no server is named");
}

/* From whoever has one: first those that are up. */
static bool ask_all_for_map(struct client_cluster *cluster, bool *is_passing)
{
    for (int want_down = 0; want_down < 2; want_down++)
        for (size_t i = 0; i < cluster->count; i++) {
            struct node *node = &cluster->nodes[i];
            if ((node->down_until_ms > clock_precise_ms()) != (want_down == 1))
                continue;
            if (ask_for_map(cluster, node, is_passing))
                return true;
            if (!*is_passing)
                return false;
        }
    return false;
}

static bool fetch_map(struct client_cluster *cluster, bool *is_passing)
{
    *is_passing = true;
    if (cluster->count > 0 && ask_all_for_map(cluster, is_passing))
        return true;
    if (!*is_passing)
        return false;
    return begin_anew(cluster) && ask_all_for_map(cluster, is_passing);
}

/* --- who is asked --- */

static unsigned partition_in(const struct client_cluster *cluster, uint64_t number)
{
    return cluster->partitions == 0 ? 0 : partition_of(number, cluster->partitions);
}

/* The first one that is up and, if there is one, ready. */
static uint16_t choose(const struct client_cluster *cluster, unsigned a, unsigned b, uint64_t now)
{
    uint16_t best = NOBODY;
    for (size_t at = 0; at < cluster->count; at++) {
        const struct node *node = &cluster->nodes[at];
        if (!node->holds.has[a] || !node->holds.has[b] || node->down_until_ms > now)
            continue;
        if (node->is_ready)
            return (uint16_t)at;
        if (best == NOBODY)
            best = (uint16_t)at;
    }
    return best;
}

static void choose_all(struct client_cluster *cluster)
{
    uint64_t now = clock_precise_ms();
    for (unsigned i = 0; i < (cluster->partitions == 0 ? 1 : cluster->partitions); i++)
        cluster->choice[i] = choose(cluster, i, i, now);
}

/* All servers are worth a try again. */
static void forgive(struct client_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        cluster->nodes[i].down_until_ms = 0;
}

/* --- a round --- */

static uint64_t number_of(const struct task *task, size_t index)
{
    return task->what.registrations != NULL ? task->what.registrations[index].number
                                            : task->what.numbers[index];
}

/* Sorts what is not done by who is asked. Returns how many somebody can be asked about. */
static size_t assign(struct client_cluster *cluster, struct task *task)
{
    size_t placed = 0;
    choose_all(cluster);
    for (size_t i = 0; i < cluster->count; i++)
        cluster->nodes[i].end = cluster->nodes[i].under = 0;
    for (size_t i = 0; i < task->count; i++) {
        uint16_t choice = cluster->choice[partition_in(cluster, number_of(task, i))];
        if (!task->is_done[i] && choice != NOBODY)
            cluster->nodes[choice].end++;
    }
    for (size_t i = 0; i < cluster->count; i++) {
        struct node *node = &cluster->nodes[i];
        node->next = placed;
        placed += node->end;
        node->end = node->next;
    }
    for (size_t i = 0; i < task->count; i++) {
        uint16_t choice = cluster->choice[partition_in(cluster, number_of(task, i))];
        if (!task->is_done[i] && choice != NOBODY)
            task->order[cluster->nodes[choice].end++] = (uint32_t)i;
    }
    return placed;
}

static bool send_chunk(struct node *node, struct task *task)
{
    size_t count = node->end - node->next < CHUNK ? node->end - node->next : CHUNK;
    const uint32_t *order = task->order + node->next;
    node->under = count;
    if (task->what.registrations != NULL) {
        for (size_t i = 0; i < count; i++)
            task->chunk.registrations[i] = task->what.registrations[order[i]];
        return client_send_register(node->client, task->chunk.registrations, (uint16_t)count) &&
               client_flush(node->client);
    }
    for (size_t i = 0; i < count; i++)
        task->chunk.numbers[i] = task->what.numbers[order[i]];
    return client_send_numbers(node->client, task->what.type, task->what.origin, task->chunk.numbers,
                               (uint16_t)count) &&
           client_flush(node->client);
}

static size_t answer_bytes(const struct task *task)
{
    return task->what.records != NULL ? WIRE_RECORD_BYTES : 1;
}

static void take_answers(struct node *node, struct task *task, const uint8_t *answer)
{
    for (size_t i = 0; i < node->under; i++, answer += answer_bytes(task)) {
        uint32_t index = task->order[node->next + i];
        task->statuses[index] = answer[0];
        if (task->what.records != NULL)
            task->what.records[index] =
                (struct client_registration){number_of(task, index), wire_get_u64(answer + 8), answer[1]};
        task->is_done[index] = true;
    }
    task->left -= node->under;
    node->next += node->under;
    node->under = 0;
}

/* What it has answered in place of statuses. False: so would each other. */
static bool take_refusal(struct client_cluster *cluster, struct node *node, const struct wire_reply *reply)
{
    unsigned ms = reply->retry_after_ms > DOWN_SHORT_MS ? reply->retry_after_ms : DOWN_SHORT_MS;
    node->end = node->next;
    node->under = 0;
    leave_alone(
        cluster, node,
        reply->code == WIRE_ELSEWHERE ? "does not hold what the map says" : wire_code_text(reply->code), ms);
    cluster->wants_map = cluster->wants_map || reply->code == WIRE_ELSEWHERE;
    return is_for_another(reply->code);
}

/* The connection is lost: what was under way and what was to come are for another, unless it is a change that may still take effect. */
static bool give_up_node(struct client_cluster *cluster, struct node *node, const struct task *task)
{
    bool may_come_late = wire_is_update((uint8_t)task->what.type) && client_has_timed_out(node->client);
    node->end = node->next;
    node->under = 0;
    return take_failure(cluster, node) && !may_come_late;
}

static bool receive_chunk(struct client_cluster *cluster, struct node *node, struct task *task)
{
    struct wire_reply reply;
    if (!client_receive(node->client, &reply))
        return give_up_node(cluster, node, task);
    if (reply.code != WIRE_OK)
        return take_refusal(cluster, node, &reply);
    if (reply.count != node->under || reply.body_bytes < node->under * answer_bytes(task))
        return fail(cluster, "a server answered another number of numbers than asked");
    take_answers(node, task, reply.body);
    return true;
}

/* One request to each, then one reply from each. `*is_over`: nobody has anything left. False: no server would do. */
static bool exchange_once(struct client_cluster *cluster, struct task *task, bool *is_over)
{
    bool is_passing;
    *is_over = true;
    for (size_t i = 0; i < cluster->count; i++) {
        struct node *node = &cluster->nodes[i];
        if (node->next == node->end)
            continue;
        *is_over = false;
        if (!connect_node(cluster, node, &is_passing)) {
            node->end = node->next;
            if (!is_passing)
                return false;
        } else if (!send_chunk(node, task) && !give_up_node(cluster, node, task)) {
            return false;
        }
    }
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].under > 0 && !receive_chunk(cluster, &cluster->nodes[i], task))
            return false;
    return true;
}

static bool exchange(struct client_cluster *cluster, struct task *task)
{
    bool is_over = false;
    while (!is_over)
        if (!exchange_once(cluster, task, &is_over)) {
            /* Replies may be under way that nobody waits for. */
            for (size_t i = 0; i < cluster->count; i++)
                if (cluster->nodes[i].under > 0)
                    disconnect(&cluster->nodes[i]);
            return false;
        }
    return true;
}

/* --- until it is done --- */

struct patience {
    uint64_t end_ms;
    unsigned pause_ms;
};

static struct patience patience_of(const struct client_cluster *cluster)
{
    return (struct patience){clock_precise_ms() + cluster->options.patience_ms, PAUSE_MS_FIRST};
}

/* Nobody can be asked now. False: it has taken too long. */
static bool wait_some(struct client_cluster *cluster, struct patience *patience)
{
    if (clock_precise_ms() >= patience->end_ms)
        return false;
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)patience->pause_ms * 1000000}, NULL);
    patience->pause_ms = 2 * patience->pause_ms < PAUSE_MS_MAX ? 2 * patience->pause_ms : PAUSE_MS_MAX;
    forgive(cluster);
    cluster->wants_map = true;
    return true;
}

/* Has a map. False: there is none to be had, by now or ever. */
static bool have_map(struct client_cluster *cluster, struct patience *patience)
{
    bool is_passing;
    if (!cluster->wants_map && clock_precise_ms() - cluster->fetched_ms < CLIENT_CLUSTER_MAP_MS)
        return true;
    while (!fetch_map(cluster, &is_passing))
        if (!is_passing || !wait_some(cluster, patience))
            return false;
    return true;
}

static bool run_task(struct client_cluster *cluster, struct task *task)
{
    struct patience patience = patience_of(cluster);
    while (task->left > 0) {
        if (!have_map(cluster, &patience))
            return false;
        size_t before = task->left;
        if (assign(cluster, task) == 0) {
            if (cluster->error[0] == '\0')
                fail(cluster, "no server holds some of the numbers' partitions");
            if (!wait_some(cluster, &patience))
                return false;
            continue;
        }
        if (!exchange(cluster, task))
            return false;
        if (task->left < before)
            patience.pause_ms = PAUSE_MS_FIRST;
    }
    cluster->error[0] = '\0';
    return true;
}

/* Of `what` the kind of request and where its entries and answers are. */
static bool run(struct client_cluster *cluster, const struct request *what, size_t count, uint8_t *statuses)
{
    struct task *task = malloc(sizeof *task);
    bool *is_done = calloc(count > 0 ? count : 1, sizeof *is_done);
    uint32_t *order = calloc(count > 0 ? count : 1, sizeof *order);
    bool good = false;
    cluster->error[0] = '\0';
    if (task == NULL || is_done == NULL || order == NULL || count > UINT32_MAX) {
        fail(cluster, "out of memory");
    } else {
        task->what = *what;
        task->statuses = statuses;
        task->count = task->left = count;
        task->is_done = is_done;
        task->order = order;
        good = run_task(cluster, task);
    }
    free(task);
    free(is_done);
    free(order);
    return good;
}

bool client_cluster_lookup(struct client_cluster *cluster, const struct wire_origin *origin,
                           const uint64_t *numbers, size_t count, uint8_t *statuses)
{
    const struct request what = {.type = WIRE_LOOKUP, .numbers = numbers, .origin = origin};
    return run(cluster, &what, count, statuses);
}

bool client_cluster_lookup_records(struct client_cluster *cluster, const struct wire_origin *origin,
                                   const uint64_t *numbers, size_t count, uint8_t *statuses,
                                   struct client_registration *records)
{
    const struct request what = {
        .type = WIRE_LOOKUP_RECORDS, .numbers = numbers, .origin = origin, .records = records};
    return run(cluster, &what, count, statuses);
}

bool client_cluster_register(struct client_cluster *cluster, const struct client_registration *registrations,
                             size_t count, uint8_t *statuses)
{
    const struct request what = {.type = WIRE_REGISTER, .registrations = registrations};
    return run(cluster, &what, count, statuses);
}

bool client_cluster_deregister(struct client_cluster *cluster, const uint64_t *numbers, size_t count,
                               uint8_t *statuses)
{
    const struct request what = {.type = WIRE_DEREGISTER, .numbers = numbers};
    return run(cluster, &what, count, statuses);
}

/* False: it may be tried elsewhere if `*is_passing`. */
static bool move_at(struct client_cluster *cluster, struct node *node, uint64_t from, uint64_t to,
                    uint8_t *status, bool *is_passing)
{
    struct wire_reply reply;
    if (!connect_node(cluster, node, is_passing))
        return false;
    *is_passing = false;
    if (!client_send_move(node->client, from, to) || !client_flush(node->client) ||
        !client_receive(node->client, &reply)) {
        (void)take_failure(cluster, node);
        return false;
    }
    if (reply.code == WIRE_OK && reply.count == 1) {
        *status = reply.body[0];
        return true;
    }
    *is_passing = take_refusal(cluster, node, &reply);
    return false;
}

bool client_cluster_move(struct client_cluster *cluster, uint64_t from, uint64_t to, uint8_t *status)
{
    struct patience patience = patience_of(cluster);
    bool is_passing = true;
    cluster->error[0] = '\0';
    while (is_passing) {
        if (!have_map(cluster, &patience))
            return false;
        uint16_t choice =
            choose(cluster, partition_in(cluster, from), partition_in(cluster, to), clock_precise_ms());
        if (choice != NOBODY && move_at(cluster, &cluster->nodes[choice], from, to, status, &is_passing))
            return true;
        if (choice == NOBODY && cluster->error[0] == '\0')
            fail(cluster, "no server holds the partitions of both numbers");
        if (choice == NOBODY && !wait_some(cluster, &patience))
            return false;
    }
    return false;
}

/* --- life --- */

struct client_cluster *client_cluster_connect(const struct client_options *options, char *error,
                                              size_t error_bytes)
{
    struct timespec now;
    struct client_cluster *cluster = calloc(1, sizeof *cluster);
    bool good = false;
    if (cluster == NULL) {
        snprintf(error, error_bytes, "out of memory");
        return NULL;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    cluster->taste = (uint64_t)now.tv_nsec * UINT64_C(0x9E3779B97F4A7C15);
    cluster->options = *options;
    cluster->options.tls = options->tls == NULL ? NULL : tls_context_acquire(options->tls);
    cluster->seeds = strdup(options->server);
    cluster->token = options->token == NULL ? NULL : strdup(options->token);
    cluster->tls_name = options->tls_name == NULL ? NULL : strdup(options->tls_name);
    cluster->options.token = cluster->token;
    cluster->options.tls_name = cluster->tls_name;
    cluster->wants_map = true;
    if (cluster->seeds == NULL || (options->token != NULL && cluster->token == NULL) ||
        (options->tls_name != NULL && cluster->tls_name == NULL)) {
        fail(cluster, "out of memory");
    } else {
        struct patience patience = patience_of(cluster);
        good = have_map(cluster, &patience);
    }
    if (good)
        return cluster;
    snprintf(error, error_bytes, "%s", cluster->error);
    client_cluster_close(cluster);
    return NULL;
}

void client_cluster_close(struct client_cluster *cluster)
{
    if (cluster == NULL)
        return;
    release_nodes(cluster->nodes, cluster->count);
    tls_context_release(cluster->options.tls);
    free(cluster->seeds);
    free(cluster->token);
    free(cluster->tls_name);
    free(cluster);
}

uint64_t client_cluster_version(const struct client_cluster *cluster)
{
    return cluster->version;
}

unsigned client_cluster_partitions(const struct client_cluster *cluster)
{
    return cluster->partitions;
}

bool client_cluster_is_split(const struct client_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (partition_set_count(&cluster->nodes[i].holds, cluster->partitions) < cluster->partitions)
            return true;
    return false;
}

const char *client_cluster_error(const struct client_cluster *cluster)
{
    return cluster->error;
}
