/* How far a thread steps back behind those that answer: one that loads, fetches or catches up beside servers that are in use. */
#ifndef NUMBERD_PERSIST_PRIORITY_H
#define NUMBERD_PERSIST_PRIORITY_H

#include <sys/resource.h>
#include <unistd.h>

/* The calling thread and those that it starts, until they end: to rise again takes a privilege. A tenth of a processor that others want, too,
 * remains (at 19 a server beside clients that never pause was not ready within a minute). Where it is refused all is as it was. */
static inline void priority_step_back(void)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
}

#endif
