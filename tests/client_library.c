/* Somebody else's program, which has nothing of numberd but what is installed. Registers a number, looks it and its neighbour up. Then reads
 * lines, and looks them up again at each: the connection may have been lost meanwhile. */
#include <stdio.h>
#include <string.h>

#include <server/client.h>
#include <server/client_cluster.h>

/* The same by way of the library's other half, for which one server is a cluster. */
static int ask_cluster(const struct client_options *options, const uint64_t numbers[2],
                       const uint8_t wanted[2])
{
    char error[256];
    uint8_t statuses[2];
    struct client_cluster *cluster = client_cluster_connect(options, error, sizeof error);
    int good = cluster != NULL && client_cluster_lookup(cluster, NULL, numbers, 2, statuses) &&
               memcmp(statuses, wanted, 2) == 0;
    if (!good)
        fprintf(stderr, "cluster: %s\n", cluster == NULL ? error : client_cluster_error(cluster));
    client_cluster_close(cluster);
    return good;
}

int main(int argc, char **argv)
{
    char error[256];
    const struct client_options options = {.server = argc > 1 ? argv[1] : NULL,
                                           .patience_ms = argc > 2 ? 10000 : 0};
    const struct client_registration registration = {4915112345678, 42, 0};
    const uint64_t numbers[] = {4915112345678, 4915112345679};
    uint8_t statuses[2];
    struct client *client = client_connect(&options, error, sizeof error);
    if (client == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    do {
        if (!client_register(client, &registration, 1, statuses) ||
            !client_lookup(client, numbers, 2, statuses)) {
            fprintf(stderr, "%s\n", client_error(client));
            client_close(client);
            return 1;
        }
        printf("%s, %s\n", wire_status_text(statuses[0]), wire_status_text(statuses[1]));
        fflush(stdout);
    } while (getchar() == '\n');
    (void)client_goodbye(client);
    client_close(client);
    return ask_cluster(&options, numbers, statuses) ? 0 : 1;
}
