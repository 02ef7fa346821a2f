/* Somebody else's program, which has nothing of numberd but what is installed. Registers a number, looks it and its neighbour up. Then reads
 * lines, and looks them up again at each: the connection may have been lost meanwhile. */
#include <stdio.h>

#include <server/client.h>

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
    return 0;
}
