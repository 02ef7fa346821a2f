/* Loading while the ports answer already; see loader.h. */
#include "server/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/priority.h"

struct loader {
    struct loader_options options;
    struct snapshot_progress progress;
    pthread_t thread;
    int wake_fd;
    struct event *wake;
    bool joined;
    /* The thread's until it is joined. */
    struct directory *directory;
    struct store_found found;
    struct fault fault;
};

static void *run(void *context)
{
    struct loader *loader = context;
    (void)pthread_setname_np(pthread_self(), "loader");
    if (loader->options.is_low)
        priority_step_back();
    if (store_make_folders(loader->options.store.data_dir, &loader->fault))
        loader->directory =
            store_load(&loader->options.store, &loader->progress, &loader->found, &loader->fault);
    if (loader->directory != NULL &&
        !store_settle(loader->options.store.data_dir, &loader->found, &loader->fault)) {
        directory_destroy(loader->directory);
        loader->directory = NULL;
    }
    (void)!write(loader->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    return NULL;
}

static void join(struct loader *loader)
{
    if (!loader->joined)
        pthread_join(loader->thread, NULL);
    loader->joined = true;
}

static void on_wake(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct loader *loader = context;
    join(loader);
    loader->options.done(loader->options.context);
}

struct loader *loader_start(const struct loader_options *options, struct fault *fault)
{
    struct loader *loader = calloc(1, sizeof *loader);
    if (loader != NULL) {
        loader->options = *options;
        loader->joined = true;
        loader->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        loader->wake = event_new(options->base, loader->wake_fd, EV_READ, on_wake, loader);
        if (loader->wake_fd >= 0 && loader->wake != NULL && event_add(loader->wake, NULL) == 0 &&
            pthread_create(&loader->thread, NULL, run, loader) == 0) {
            loader->joined = false;
            return loader;
        }
        loader_stop(loader);
    }
    fault_set(fault, EX_OSERR, "cannot start loading: out of memory, descriptors or threads");
    return NULL;
}

struct directory *loader_take(struct loader *loader, struct store_found *found, struct fault *fault)
{
    struct directory *directory = loader->directory;
    loader->directory = NULL;
    if (directory == NULL)
        *fault = loader->fault;
    *found = loader->found;
    return directory;
}

void loader_stop(struct loader *loader)
{
    if (loader == NULL)
        return;
    atomic_store(&loader->progress.cancel, true);
    join(loader);
    directory_destroy(loader->directory);
    if (loader->wake != NULL)
        event_free(loader->wake);
    if (loader->wake_fd >= 0)
        close(loader->wake_fd);
    free(loader);
}

unsigned loader_progress(struct loader *loader)
{
    uint64_t total = atomic_load(&loader->progress.bytes_total);
    uint64_t done = atomic_load(&loader->progress.bytes_done);
    return total == 0 ? 0 : (unsigned)(done * 100 / total);
}
