/* What is told to the operator: one line without a line feed, in words, without phone numbers and addresses of clients; and how much it
 * matters. Who tells does not know where it goes (server/log.h). From any thread. */
#ifndef NUMBERD_PERSIST_NOTICE_H
#define NUMBERD_PERSIST_NOTICE_H

/* The numbers of syslog(3). */
enum notice_level {
    NOTICE_ERROR = 3,   /* something that was promised is not kept, until somebody acts */
    NOTICE_WARNING = 4, /* it may come to that, or something was lost */
    NOTICE_NORMAL = 5,  /* what happens, and what is well again */
};

typedef void notice_fn(enum notice_level level, const char *line);

#endif
