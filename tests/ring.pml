/* The ring's algorithm (ring/ring.c), for the model checker Spin: run by tests/test_ring_model.sh.
 *
 * Small numbers, all orders of steps: CAP units of memory, records of one or two units with their length, cursors that wrap at
 * MOD as the real ones do at 2^64. What the processors may do with acquire and release is in the two queues: a cursor that was
 * stored arrives at the other side some time later, in order, and everything stored before it has arrived with it. A load takes
 * what has arrived, which may be old.
 *
 * Checked: nothing is written where an unreleased record lies; every record is read whole, once, in order, in one piece; all
 * arrive. MISTAKE plants one error each, which the checker has to find. */
#ifndef MISTAKE
#define MISTAKE 0
#endif
#define CAP 4
#ifndef MOD
#define MOD 16
#endif
#ifndef RECORDS
#define RECORDS 12
#endif
#define FIRST (MOD - 2 * CAP) /* the cursors wrap while the model runs */
#define FILLER 128
#define DISTANCE(from, to) ((to + MOD - from) % MOD)

#if MISTAKE == 1
#define ROOM (CAP + 1) /* "full" comes too late */
#else
#define ROOM CAP
#endif

/* Shared. A unit holds the record's number; `length` counts where a record or a filler begins. */
byte memory[CAP];
byte length[CAP];
chan heads = [RECORDS] of { byte }; /* stored, not yet arrived at the consumer */
chan tails = [2 * RECORDS] of { byte };

/* For the proof alone: units that an unreleased record or filler takes. */
bool used[CAP];
byte read_count;

inline write_unit(position, value)
{
    assert(!used[(position) % CAP]);
    used[(position) % CAP] = true;
    memory[(position) % CAP] = value
}

active proctype producer()
{
    byte head = FIRST;
    byte tail_seen = FIRST;
    byte record = 0;
    byte units;
    byte filler;
    byte start;
    byte i;
    do
    :: record == RECORDS -> break
    :: record < RECORDS ->
        if
        :: units = 1
        :: units = 2
        fi;
reserve:
        filler = CAP - head % CAP;
        if
        :: filler < units && MISTAKE != 2 -> skip
        :: else -> filler = 0 /* MISTAKE 2: a record crosses the end */
        fi;
        if
        :: DISTANCE(tail_seen, head) + filler + units <= ROOM -> skip
        :: else ->
            do
            :: tails ? tail_seen /* any number of those that were stored */
            :: break
            od;
            if
            :: DISTANCE(tail_seen, head) + filler + units <= ROOM -> skip
            :: else -> goto reserve
            fi
        fi;
        start = (head + filler) % MOD;
        if
        :: filler > 0 ->
            for (i : 0 .. filler - 1) {
                write_unit(head + i, FILLER)
            }
            length[head % CAP] = FILLER + filler
        :: else
        fi;
#if MISTAKE == 3 /* committed before it was filled */
        heads ! (start + units) % MOD;
#endif
        assert(start % CAP + units <= CAP);
        length[start % CAP] = units;
        for (i : 0 .. units - 1) {
            write_unit(start + i, record)
        }
        head = (start + units) % MOD;
#if MISTAKE != 3
        heads ! head;
#endif
        record++
    od
}

active proctype consumer()
{
    byte next = FIRST;
    byte tail = FIRST;
    byte head_seen = FIRST;
    byte i;
    do
    :: read_count == RECORDS -> break
    :: read_count < RECORDS ->
        if
        :: next == head_seen ->
            do
            :: heads ? head_seen
            :: break
            od
        :: else
        fi;
        if
        :: next == head_seen -> skip
        :: next != head_seen && length[next % CAP] >= FILLER ->
            next = (next + length[next % CAP] - FILLER) % MOD
        :: else ->
            for (i : 0 .. length[next % CAP] - 1) {
                assert(memory[(next + i) % CAP] == read_count)
            }
            read_count++;
            next = (next + length[next % CAP]) % MOD
        fi;
        if
        :: skip /* reads on, and releases later */
        :: next != tail ->
#if MISTAKE == 4 /* the room is given back while it is still being read */
            tails ! next;
#endif
            do
            :: tail != next ->
                used[tail % CAP] = false;
                tail = (tail + 1) % MOD
            :: else -> break
            od;
#if MISTAKE != 4
            tails ! next
#endif
        fi
    od
}
