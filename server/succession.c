/* The two ends of a restart that nobody notices; see succession.h. */
#include "server/succession.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define VARIABLE "NUMBERD_SUCCESSION"
#define ASSIGNMENT "NUMBERD_SUCCESSION=3"
#define FD 3
#define LOADED 'l'
#define YOURS 'y'
/* For a program to be started and to say who it is. */
#define START_MS 10000

/* What a successor says first; its pidfd comes with it. */
struct introduction {
    pid_t process;
};

struct succession {
    struct succession_options options;
    pid_t process;
    int pidfd; /* -1: it has not said who it is */
    int fd;
    struct event *readable;
    bool is_loaded;
    bool is_complete;
};

/* --- the old one's end --- */

/* What is said to one process in particular must not reach another: systemd's sockets and its watchdog's process. */
static bool is_of_this_process(const char *entry)
{
    static const char *const names[] = {
        "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "WATCHDOG_PID=", "NUMBERD_SUCCESSION="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* The environment with `own` as well; the texts are not copied. */
static char **make_environment(char *own)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **environment = calloc(count + 2, sizeof *environment);
    if (environment == NULL)
        return NULL;
    environment[0] = own;
    for (size_t i = 0, at = 1; i < count; i++)
        if (!is_of_this_process(environ[i]))
            environment[at++] = environ[i];
    return environment;
}

/* All descriptors but its end of the pair are closed by the exec. */
static int spawn(struct succession *succession, int its_end, pid_t *process)
{
    static char own[] = ASSIGNMENT;
    sigset_t none;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    char **environment = make_environment(own);
    if (environment == NULL)
        return ENOMEM;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&actions);
    int error = posix_spawn_file_actions_adddup2(&actions, its_end, FD);
    if (error == 0)
        error = posix_spawn(process, succession->options.program, &actions, &attributes,
                            succession->options.argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    free(environment);
    return error;
}

/* Room for the descriptors of one message. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(SUCCESSION_SOCKETS_MAX * sizeof(int))];
};

/* One byte for each socket, whether there is one, and those that there are. */
static bool send_listeners(int fd, const int *listeners, unsigned count)
{
    uint8_t has[SUCCESSION_SOCKETS_MAX];
    union control control = {0};
    struct iovec body = {has, count};
    struct msghdr message = {.msg_iov = &body, .msg_iovlen = 1};
    size_t sent = 0;
    for (unsigned i = 0; i < count; i++) {
        has[i] = listeners[i] >= 0;
        if (has[i])
            memcpy(CMSG_DATA(&control.header) + sent++ * sizeof(int), &listeners[i], sizeof(int));
    }
    if (sent > 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sent * sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sent * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)count;
}

/* The sockets of one message; how many are there. */
static size_t take_sockets(struct msghdr *message, int sockets[static SUCCESSION_SOCKETS_MAX])
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return 0;
    size_t bytes = header->cmsg_len - CMSG_LEN(0);
    memcpy(sockets, CMSG_DATA(header), bytes);
    return bytes / sizeof(int);
}

/* Takes the successor's introduction. 0, or an errno. */
static int meet(struct succession *succession)
{
    int sockets[SUCCESSION_SOCKETS_MAX];
    struct introduction introduction;
    union control control;
    struct iovec body = {&introduction, sizeof introduction};
    struct msghdr message = {
        .msg_iov = &body, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (poll(&(struct pollfd){succession->fd, POLLIN, 0}, 1, START_MS) != 1)
        return ETIMEDOUT;
    ssize_t got = recvmsg(succession->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got != sizeof introduction || take_sockets(&message, sockets) != 1)
        return EPROTO;
    succession->process = introduction.process;
    succession->pidfd = sockets[0];
    return 0;
}

/* Starts the program; what is started forks the successor, introduces it and ends. */
static int start(struct succession *succession, int its_end)
{
    pid_t starter;
    int error = spawn(succession, its_end, &starter);
    if (error != 0)
        return error;
    error = meet(succession);
    if (error != 0)
        (void)kill(starter, SIGKILL);
    (void)waitpid(starter, NULL, 0);
    return error;
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct succession *succession = context;
    char word;
    ssize_t got = recv(fd, &word, sizeof word, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    event_del(succession->readable);
    succession->is_loaded = got == 1 && word == LOADED;
    if (succession->is_loaded)
        succession->options.loaded(succession->options.context);
    else
        succession->options.failed(succession->options.context);
}

/* False: errno says why. */
static bool begin(struct succession *succession)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    succession->fd = pair[0];
    succession->readable =
        event_new(succession->options.base, pair[0], EV_READ | EV_PERSIST, on_readable, succession);
    int error = succession->readable == NULL || event_add(succession->readable, NULL) != 0 ? ENOMEM : 0;
    if (error == 0 && !send_listeners(pair[0], succession->options.listeners, succession->options.count))
        error = errno;
    if (error == 0)
        error = start(succession, pair[1]);
    close(pair[1]);
    errno = error;
    return error == 0;
}

struct succession *succession_start(const struct succession_options *options, struct fault *fault)
{
    struct succession *succession = calloc(1, sizeof *succession);
    errno = ENOMEM;
    if (succession != NULL) {
        succession->options = *options;
        succession->fd = succession->pidfd = -1;
        if (begin(succession))
            return succession;
    }
    fault_set(fault, EX_OSERR, "cannot start %s: %s", options->program, strerror(errno));
    succession_stop(succession);
    return NULL;
}

pid_t succession_process(const struct succession *succession)
{
    return succession->process;
}

bool succession_waits(const struct succession *succession)
{
    char word;
    ssize_t got = recv(succession->fd, &word, sizeof word, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

void succession_complete(struct succession *succession)
{
    (void)send(succession->fd, &(char){YOURS}, 1, MSG_NOSIGNAL);
    succession->is_complete = true;
}

void succession_stop(struct succession *succession)
{
    if (succession == NULL)
        return;
    if (succession->pidfd >= 0 && !succession->is_complete) {
        /* It only reads, so it may end anywhere. */
        (void)pidfd_send_signal(succession->pidfd, SIGKILL, NULL, 0);
        (void)poll(&(struct pollfd){succession->pidfd, POLLIN, 0}, 1, START_MS);
    }
    if (succession->pidfd >= 0)
        close(succession->pidfd);
    if (succession->readable != NULL)
        event_free(succession->readable);
    if (succession->fd >= 0)
        close(succession->fd);
    free(succession);
}

/* --- the new one's end --- */

/* Sends what the old one has to know of the child. */
static bool introduce(pid_t child)
{
    struct introduction introduction = {.process = child};
    union control control = {0};
    struct iovec body = {&introduction, sizeof introduction};
    struct msghdr message = {.msg_iov = &body,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(sizeof(int))};
    int pidfd = pidfd_open(child, 0);
    if (pidfd < 0)
        return false;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &pidfd, sizeof pidfd);
    return sendmsg(FD, &message, MSG_NOSIGNAL) == (ssize_t)sizeof introduction;
}

/* From here on in a process that is no child of the old one's: a service manager waits only for children of its own. Only the new one
 * returns, and not before it is introduced: what it says itself must come after that. If it cannot be it ends, and the old one sees that
 * nobody came. */
static void part(void)
{
    int introduced[2];
    char word = 0;
    if (pipe2(introduced, O_CLOEXEC) != 0)
        _exit(EX_OSERR);
    pid_t child = fork();
    if (child != 0) {
        bool done = child > 0 && introduce(child) && write(introduced[1], &word, 1) == 1;
        _exit(done ? EX_OK : EX_OSERR);
    }
    close(introduced[1]);
    ssize_t got;
    do
        got = read(introduced[0], &word, 1);
    while (got < 0 && errno == EINTR);
    if (got != 1)
        _exit(EX_OSERR);
    close(introduced[0]);
}

int succession_inherit(void)
{
    const char *text = getenv(VARIABLE);
    int type = 0;
    socklen_t length = sizeof type;
    if (text == NULL || strcmp(text, "3") != 0 || getsockopt(FD, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
        type != SOCK_SEQPACKET)
        return -1; /* whatever it is, it is not from a numberd */
    (void)fcntl(FD, F_SETFD, FD_CLOEXEC);
    part();
    return FD;
}

bool succession_take(int fd, int *listeners, unsigned count, struct fault *fault)
{
    uint8_t has[SUCCESSION_SOCKETS_MAX];
    int sockets[SUCCESSION_SOCKETS_MAX];
    union control control;
    struct iovec body = {has, sizeof has};
    struct msghdr message = {
        .msg_iov = &body, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    size_t taken = got > 0 ? take_sockets(&message, sockets) : 0;
    size_t used = 0;
    for (unsigned i = 0; i < count; i++)
        listeners[i] = got == (ssize_t)count && has[i] && used < taken ? sockets[used++] : -1;
    if (used == taken && got == (ssize_t)count)
        return true;
    while (used < taken)
        close(sockets[used++]);
    return fault_set(fault, EX_PROTOCOL,
                     "the numberd that started this one has other ports; stop that one and start this one");
}

bool succession_await(int fd, struct fault *fault)
{
    char word = LOADED;
    if (send(fd, &word, sizeof word, MSG_NOSIGNAL) != (ssize_t)sizeof word)
        return fault_set(fault, EX_TEMPFAIL, "the numberd that started this one has ended");
    ssize_t got;
    do
        got = recv(fd, &word, sizeof word, 0);
    while (got < 0 && errno == EINTR);
    return true; /* it has let go, or it has ended: the lock says which is true */
}
