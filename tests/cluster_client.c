/* A client of several servers (client_cluster.h) that does what the lines of its input say, and answers each with one line: "ok" and what came
 * of it, or "error" and why. SERVERS PATIENCE_MS
 *     L NUMBER...            statuses          A NUMBER...   status:account of each
 *     R NUMBER:ACCOUNT...    statuses          D NUMBER...   statuses          M FROM TO   status
 *     V                      version, partitions, 1 if it is split
 * L and A ask on behalf of requester 7. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/client_cluster.h"

#define COUNT_MAX 100000

static struct client_registration entries[COUNT_MAX];
static uint64_t numbers[COUNT_MAX];
static uint8_t statuses[COUNT_MAX];

static size_t parse(char *text)
{
    size_t count = 0;
    for (char *word = strtok(text, " \n"); word != NULL && count < COUNT_MAX; word = strtok(NULL, " \n")) {
        char *rest;
        numbers[count] = strtoull(word, &rest, 10);
        entries[count] =
            (struct client_registration){numbers[count], *rest == ':' ? strtoull(rest + 1, NULL, 10) : 0, 0};
        count++;
    }
    return count;
}

static bool carry_out(struct client_cluster *cluster, char verb, size_t count)
{
    const struct wire_origin origin = {.requester = 7};
    switch (verb) {
    case 'L':
        return client_cluster_lookup(cluster, &origin, numbers, count, statuses);
    case 'A':
        return client_cluster_lookup_records(cluster, &origin, numbers, count, statuses, entries);
    case 'R':
        return client_cluster_register(cluster, entries, count, statuses);
    case 'D':
        return client_cluster_deregister(cluster, numbers, count, statuses);
    default:
        return client_cluster_move(cluster, numbers[0], numbers[1], statuses);
    }
}

static void answer(struct client_cluster *cluster, char *line)
{
    char verb = line[0];
    size_t count = parse(line + 1);
    if (verb == 'V') {
        printf("ok %" PRIu64 " %u %d\n", client_cluster_version(cluster), client_cluster_partitions(cluster),
               client_cluster_is_split(cluster));
        return;
    }
    if (!carry_out(cluster, verb, count)) {
        printf("error %s\n", client_cluster_error(cluster));
        return;
    }
    printf("ok");
    for (size_t i = 0; i < (verb == 'M' ? 1 : count); i++) {
        printf(" %u", statuses[i]);
        if (verb == 'A')
            printf(":%" PRIu64, entries[i].account);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    char error[512];
    char *line = NULL;
    size_t capacity = 0;
    if (argc != 3)
        return 64;
    const struct client_options options = {
        .server = argv[1], .timeout_ms = 3000, .patience_ms = (unsigned)atoi(argv[2])};
    struct client_cluster *cluster = client_cluster_connect(&options, error, sizeof error);
    printf(cluster == NULL ? "error %s\n" : "ok\n", error);
    fflush(stdout);
    while (cluster != NULL && getline(&line, &capacity, stdin) > 0) {
        answer(cluster, line);
        fflush(stdout);
    }
    free(line);
    client_cluster_close(cluster);
    return cluster == NULL;
}
