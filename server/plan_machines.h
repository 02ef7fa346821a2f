/* How many machines a directory wants: the arithmetic of `numberctl plan`, with constants that were measured. No I/O; any thread.
 *
 * One copy of the directory is what answers; it lies on one machine, or in equal parts on several. Each machine of a copy sees its share of
 * that copy's lookups; each copy its share of all of them. */
#ifndef NUMBERD_SERVER_PLAN_MACHINES_H
#define NUMBERD_SERVER_PLAN_MACHINES_H

#include <stdbool.h>

/* Measured with this repository's benchmarks, on a virtual machine with 2 processors at 2 to 3 GHz and 24 GiB:
 * bytes of memory a number at its most while growing (bench_table, memory_peak), with account ids and without; */
#define PLAN_NUMBER_BYTES 18.5
#define PLAN_NUMBER_BYTES_BARE 9.5
/* what a server has besides (rings, buffers, 1,000 connections), and the system; */
#define PLAN_OTHER_BYTES 1.5e9
/* of the memory of a machine, what is given to all that; */
#define PLAN_MEMORY_SHARE 0.85
/* of what a worker can do, what it is given to do, so that one copy may be away and answers stay quick; */
#define PLAN_LOAD_SHARE 0.5
/* bytes of a change in the feed: a step of 16, and its share of an entry (test_feed, 10 steps an entry); changes that one server takes a
 * second from the feed (import through one of two servers on one machine: 340,000). */
#define PLAN_CHANGE_BYTES 21.0
#define PLAN_CHANGES_PER_SECOND 300e3
/* As many as numberd takes by itself. */
#define PLAN_PARTITIONS_LEAST 16.0
/* Snapshots on the disk beside one that is written, and the journal. */
#define PLAN_DISK_COPIES 3.0

struct plan_wish {
    double numbers;
    double lookups; /* a second */
    double batch;   /* numbers in a request */
    double changes; /* a second */
    bool accounts;
    double copies; /* at least */
    double memory; /* of a machine, bytes */
    double processors;
    double trim_hours; /* between two snapshots of a server */
    double log_bytes;  /* of the query log in Redis, all that is kept; 0: it is on the servers' disks */
};

struct plan_machines {
    double worker_lookups;  /* a second, that one worker can do */
    double machine_lookups; /* ... that a machine is given */
    double directory_bytes;
    double usable_bytes; /* of a machine, for the directory */
    double machines_a_copy;
    double copies;
    double servers;
    double disk_bytes;  /* of a server, for registrations */
    double feed_bytes;  /* in Redis */
    double redis_bytes; /* with the query log, if that is there */
    double masters;
    double replicas;
    double machine_batch;  /* numbers of a request that one machine gets */
    double partitions;     /* of the feed, so that each machine of a copy holds as many */
    bool has_parts;        /* a copy does not fit on one machine */
    bool has_many_changes; /* more than a server takes */
};

void plan_machines(const struct plan_wish *wish, struct plan_machines *plan);

#endif
