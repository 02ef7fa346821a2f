/* What a token lets its bearer do. There is no role for disclosure: the server has no way to do it.
 *
 * A bit mask. A server without tokens gives every client all of them (and listens on loopback alone, see server/numberd.c). */
#ifndef NUMBERD_SERVER_ACCESS_ROLES_H
#define NUMBERD_SERVER_ACCESS_ROLES_H

#include <stdint.h>

enum role {
    ROLE_LOOKUP = 1,     /* look numbers up for itself */
    ROLE_REGISTER = 2,   /* change registrations */
    ROLE_FRONT = 4,      /* look numbers up for others, whom it names by requester and IP */
    ROLE_OPERATE = 8,    /* statistics, snapshots, replacing all registrations */
    ROLE_REPLICATE = 16, /* copy all registrations, to another server */
};

#define ROLES_ALL ((uint32_t)ROLE_LOOKUP | ROLE_REGISTER | ROLE_FRONT | ROLE_OPERATE | ROLE_REPLICATE)

#endif
