/* The floor: a server that reads the same frames as numberd and answers with as many bytes, and looks nothing up, logs nothing and asks nobody who
 * he is. What numberd's network path costs is judged against it (loadtest/compare.sh), so it does as little as can be done: one thread,
 * epoll, a read, one walk over the frames' heads, a write; no queue, no limit, no patience. */
#ifndef NUMBERD_LOADTEST_LOAD_FLOOR_H
#define NUMBERD_LOADTEST_LOAD_FLOOR_H

/* Listens on ADDRESS, prints the address, and serves until SIGTERM or SIGINT. A sysexits status. */
int load_floor_serve(const char *address);

#endif
