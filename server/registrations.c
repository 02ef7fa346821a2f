/* The one door through which registrations change; see registrations.h. */
#include "server/registrations.h"

void registrations_init(struct registrations *registrations, struct directory *directory, uint64_t position)
{
    registrations->directory = directory;
    atomic_init(&registrations->position, position);
    pthread_rwlock_init(&registrations->moves, NULL);
}

void registrations_deinit(struct registrations *registrations)
{
    pthread_rwlock_destroy(&registrations->moves);
}

static enum directory_result count(struct registrations *registrations, enum directory_result result)
{
    if (result == DIRECTORY_ADDED || result == DIRECTORY_REPLACED || result == DIRECTORY_REMOVED ||
        result == DIRECTORY_MOVED)
        atomic_fetch_add(&registrations->position, 1);
    return result;
}

enum directory_result registrations_register(struct registrations *registrations, const struct record *record)
{
    return count(registrations, directory_register(registrations->directory, record));
}

enum directory_result registrations_deregister(struct registrations *registrations, uint64_t number)
{
    return count(registrations, directory_deregister(registrations->directory, number));
}

bool registrations_move(struct registrations *registrations, uint64_t from, uint64_t to,
                        enum directory_result *result)
{
    if (pthread_rwlock_tryrdlock(&registrations->moves) != 0)
        return false;
    *result = count(registrations, directory_move(registrations->directory, from, to));
    pthread_rwlock_unlock(&registrations->moves);
    return true;
}

uint64_t registrations_begin_copy(struct registrations *registrations)
{
    pthread_rwlock_wrlock(&registrations->moves);
    return atomic_load(&registrations->position);
}

void registrations_end_copy(struct registrations *registrations)
{
    pthread_rwlock_unlock(&registrations->moves);
}
