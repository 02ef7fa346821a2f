/* The record that the directory keeps for one registered number.
 *
 * `number` is a key in the sense of phone.h (1 .. 10^15-1, 0 is never stored), `account` is the opaque
 * 64-bit id of the account, `flags` are eight bits that travel with the number; only bit 0 has a meaning
 * here, the others are the service's own. Plain data: no ownership, no thread rule. */
#ifndef NUMBERD_HASHING_RECORD_H
#define NUMBERD_HASHING_RECORD_H

#include <stdint.h>

/* The account does not want to be found: lookups answer exactly as for an unregistered number. */
#define RECORD_FLAG_HIDDEN UINT8_C(0x01)

struct record {
    uint64_t number;
    uint64_t account;
    uint8_t flags;
};

/* A change to what is registered, in absolute terms: carried out twice, or again from any earlier point on, in the same
 * order, it leaves the same. */
enum change_kind {
    CHANGE_SET = 1,
    CHANGE_REMOVE = 2,
    CHANGE_MARK =
        3 /* changes nothing: a note, in the record's 50, 64 and 8 bits, of whoever makes the changes */
};

struct change {
    enum change_kind kind;
    struct record record; /* CHANGE_REMOVE: the number alone counts */
};

/* What somebody wants changed, if it can be: what comes of it depends on what is registered when its turn comes. The result is an
 * enum directory_result (directory.h). */
enum step_kind {
    STEP_SET = 1,    /* ADDED or REPLACED */
    STEP_REMOVE = 2, /* REMOVED or ABSENT */
    STEP_ADD = 3,    /* ADDED; OCCUPIED if the number is registered, which then stays as it is */
    STEP_RELEASE =
        4 /* REMOVED if the number is registered with just this account and these flags; else ABSENT */
};

struct step {
    enum step_kind kind;
    struct record record; /* STEP_REMOVE: the number alone counts */
};

#endif
