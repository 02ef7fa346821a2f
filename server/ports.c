/* The ports of numberd; see ports.h. */
#include "server/ports.h"

#include <assert.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/connections.h"
#include "server/succession.h"
#include "server/supervisor.h"
#include "server/wire.h"

#define STATS_PORT_DEFAULT 4165
/* For files, Redis and the stats port. */
#define DESCRIPTORS_RESERVED 112

static_assert(PORTS <= SUCCESSION_SOCKETS_MAX, "they go in one message");

static const char *const socket_names[PORTS] = {[PORT_LOOKUP] = "lookup",
                                                [PORT_LOOKUP_TLS] = "lookup-tls",
                                                [PORT_PROXY] = "proxy",
                                                [PORT_STATS] = "stats"};

void ports_init(struct ports *ports)
{
    *ports = (struct ports){0};
    for (int i = 0; i < PORTS; i++)
        ports->listeners[i] = ports->sockets[i] = -1;
}

/* --- what fits together --- */

/* What is asked for, and for the messages by which flags. */
struct wish {
    const char *flag;
    const char *text; /* NULL: there is no such port */
    bool is_encrypted;
    const char *encrypt_by;
    uint16_t default_port; /* 0: it must be named */
    int socket;            /* that systemd has passed, which counts; -1: none */
};

static bool is_wanted(const struct wish *wish)
{
    return wish->text != NULL || wish->socket >= 0;
}

static void list_wishes(const struct ports *ports, const struct config *config, struct wish wishes[PORTS])
{
    wishes[PORT_LOOKUP] =
        (struct wish){"--listen", config->listen, false, "use --tls-listen instead", WIRE_PORT_DEFAULT, -1};
    wishes[PORT_LOOKUP_TLS] = (struct wish){"--tls-listen", config->tls_listen, true, "", 0, -1};
    wishes[PORT_PROXY] = (struct wish){
        "--proxy-listen", config->proxy_listen, config->proxy_tls, "say --proxy-tls yes", 0, -1};
    wishes[PORT_STATS] = (struct wish){"--stats-listen",      config->stats_listen, config->stats_tls,
                                       "say --stats-tls yes", STATS_PORT_DEFAULT,   -1};
    for (int i = 0; i < PORTS; i++)
        wishes[i].socket = ports->listeners[i];
}

/* Beyond loopback whoever hears a plain connection has the token and the numbers, and without tokens anybody may ask. */
static bool may_listen(const struct config *config, const struct wish *wish, const struct address *address,
                       struct fault *fault)
{
    uint8_t ip[16];
    address_ip(&address->storage, ip);
    if (config->insecure || address_ip_is_loopback(ip) || (wish->is_encrypted && config->token_file != NULL))
        return true;
    if (wish->is_encrypted)
        return fault_set(
            fault, EX_CONFIG,
            "%s is beyond loopback, and anybody there may ask: name a --token-file, or say --insecure yes",
            wish->flag);
    return fault_set(
        fault, EX_CONFIG,
        "%s is beyond loopback, where connections are not encrypted%s: %s (with --tls-certificate%s), listen "
        "on loopback behind something that encrypts, or say --insecure yes",
        wish->flag, config->token_file == NULL ? " and anybody may ask" : "", wish->encrypt_by,
        config->token_file == NULL ? " and --token-file" : "");
}

static bool parse_networks(const char *flag, const char *text, struct address_network *networks,
                           size_t *count, struct fault *fault)
{
    for (*count = 0; *count < PORTS_NETWORKS_MAX;) {
        if (!address_network_parse(text, &networks[*count], &text))
            break;
        (*count)++;
        if (*text == '\0')
            return true;
        text++;
    }
    return fault_set(fault, EX_CONFIG,
                     "%s: network %zu is none: write up to %d of IP or IP/BITS, joined by commas", flag,
                     *count + 1, PORTS_NETWORKS_MAX);
}

static bool check(struct ports *ports, const struct config *config, const struct wish wishes[PORTS],
                  struct fault *fault)
{
    bool has_proxy = is_wanted(&wishes[PORT_PROXY]);
    if (config->buffer_bytes_max < config->threads * CONNECTIONS_BUFFER_BYTES_MIN)
        return fault_set(fault, EX_CONFIG, "--buffer-bytes-max is less than 16M for each of %u threads",
                         (unsigned)config->threads);
    bool needs_tls = is_wanted(&wishes[PORT_LOOKUP_TLS]) || config->proxy_tls || config->stats_tls;
    if (needs_tls && config->tls_certificate == NULL)
        return fault_set(fault, EX_CONFIG, "TLS is asked for, but without --tls-certificate");
    if (!needs_tls && config->tls_certificate != NULL)
        return fault_set(
            fault, EX_CONFIG,
            "--tls-certificate is given, but no port uses it: name --tls-listen, or say --proxy-tls yes or "
            "--stats-tls yes");
    if (config->tls_certificate == NULL && (config->tls_key != NULL || config->tls_client_ca != NULL))
        return fault_set(fault, EX_CONFIG, "--tls-key and --tls-client-ca want a --tls-certificate");
    if (config->token_file == NULL && (config->tls_client_ca != NULL || config->operators_from != NULL))
        return fault_set(
            fault, EX_CONFIG,
            "--tls-client-ca and --operators-from want a --token-file, in which certificates and "
            "operators are listed");
    if (has_proxy && config->proxy_from == NULL)
        return fault_set(fault, EX_CONFIG,
                         "--proxy-listen wants --proxy-from, the proxies that are believed");
    if (!has_proxy && (config->proxy_from != NULL || config->proxy_tls))
        return fault_set(fault, EX_CONFIG, "--proxy-from and --proxy-tls want a --proxy-listen");
    if (config->proxy_from != NULL &&
        !parse_networks("--proxy-from", config->proxy_from, ports->proxies, &ports->proxy_count, fault))
        return false;
    return config->operators_from == NULL || parse_networks("--operators-from", config->operators_from,
                                                            ports->operators, &ports->operator_count, fault);
}

/* --- opening --- */

bool ports_reload_tls(struct ports *ports, const struct config *config, struct fault *fault)
{
    const struct tls_files files = {config->tls_certificate, config->tls_key, config->tls_client_ca};
    char error[512];
    if (config->tls_certificate == NULL)
        return true;
    struct tls_context *tls = tls_context_server(&files, error, sizeof error);
    if (tls == NULL)
        return fault_set(fault, EX_CONFIG, "%s", error);
    tls_context_release(ports->tls);
    ports->tls = tls;
    return true;
}

static bool find_address(const struct config *config, const struct wish *wish, struct address *address,
                         struct fault *fault)
{
    char error[256];
    address->length = sizeof address->storage;
    if (wish->socket >= 0)
        return getsockname(wish->socket, (struct sockaddr *)&address->storage, &address->length) == 0 &&
               may_listen(config, wish, address, fault);
    if (!address_parse(wish->text, wish->default_port, address, error, sizeof error))
        return fault_set(fault, EX_CONFIG, "%s: %s", wish->flag, error);
    if (wish->default_port == 0 && !address_has_port(wish->text))
        return fault_set(fault, EX_CONFIG, "%s: which port? write HOST:PORT", wish->flag);
    return may_listen(config, wish, address, fault);
}

static bool listen_on(struct ports *ports, const struct config *config, enum port port,
                      const struct wish *wish, struct fault *fault)
{
    struct address address;
    char error[256];
    if (!is_wanted(wish))
        return true;
    if (!find_address(config, wish, &address, fault))
        return false;
    if (wish->socket < 0)
        ports->listeners[port] = address_listen(&address, error, sizeof error);
    if (ports->listeners[port] < 0)
        return fault_set(fault, EX_UNAVAILABLE, "%s", error);
    address_format(&address, ports->addresses[port]);
    ports->sockets[port] = ports->listeners[port];
    return true;
}

bool ports_check(struct ports *ports, const struct config *config, struct fault *fault)
{
    struct wish wishes[PORTS];
    struct address address;
    list_wishes(ports, config, wishes);
    if (!check(ports, config, wishes, fault) || !ports_reload_tls(ports, config, fault))
        return false;
    for (enum port port = 0; port < PORTS; port++)
        if (is_wanted(&wishes[port]) && !find_address(config, &wishes[port], &address, fault))
            return false;
    return true;
}

/* A connection is a descriptor. Some are left for all else. */
static void limit_connections(struct ports *ports, const struct config *config)
{
    struct rlimit files;
    ports->connections_max = config->connections_max;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    uint64_t reserve = DESCRIPTORS_RESERVED + 4 * config->threads;
    uint64_t most = files.rlim_cur > 2 * reserve ? files.rlim_cur - reserve : files.rlim_cur / 2;
    if (ports->connections_max > most)
        ports->connections_max = most;
}

/* From systemd, or from the numberd that is to be succeeded. */
static bool take_sockets(struct ports *ports, int predecessor, struct fault *fault)
{
    if (predecessor >= 0)
        return succession_take(predecessor, ports->listeners, PORTS, fault);
    if (!supervisor_check_sockets(socket_names, PORTS, fault))
        return false;
    for (int i = 0; i < PORTS; i++)
        ports->listeners[i] = supervisor_socket(socket_names[i]);
    return true;
}

bool ports_open(struct ports *ports, const struct config *config, int predecessor, struct fault *fault)
{
    struct wish wishes[PORTS];
    if (!take_sockets(ports, predecessor, fault))
        return false;
    list_wishes(ports, config, wishes);
    if (!ports_check(ports, config, fault))
        return false;
    limit_connections(ports, config);
    for (enum port port = 0; port < PORTS; port++)
        if (!listen_on(ports, config, port, &wishes[port], fault))
            return false;
    return true;
}

int ports_take(struct ports *ports, enum port port)
{
    int listener = ports->listeners[port];
    ports->listeners[port] = -1;
    return listener;
}

void ports_close(struct ports *ports)
{
    for (int i = 0; i < PORTS; i++)
        if (ports->listeners[i] >= 0)
            close(ports->listeners[i]);
    tls_context_release(ports->tls);
    ports_init(ports);
}
