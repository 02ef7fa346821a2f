/* The log: standard error, one line each, as --log-format says.
 *   plain  2026-11-25T20:01:10Z numberd: ready: 5 numbers       warnings and errors are called so; journald gets their priority
 *   keys   time=2026-11-25T20:01:10Z level=notice process=4711 message="ready: 5 numbers"
 *   json   {"time":"2026-11-25T20:01:10Z","level":"notice","process":4711,"message":"ready: 5 numbers"}
 * At most LOG_BURST lines at once and LOG_PER_SECOND thereafter, errors and warnings alike; how many were left out the next line says.
 *
 * Threads: log_configure before there are others; log_line from any. */
#ifndef NUMBERD_SERVER_LOG_H
#define NUMBERD_SERVER_LOG_H

#include "persist/notice.h"

enum log_format { LOG_PLAIN, LOG_KEYS, LOG_JSON };

#define LOG_BURST 200
#define LOG_PER_SECOND 10

/* Lines that matter less than `least` are left out. */
void log_configure(enum log_format format, enum notice_level least);

/* A notice_fn. Bytes that are no text are written as question marks. */
void log_line(enum notice_level level, const char *line);

/* Why the program ends: never left out; in the plain format without a time. */
void log_end(const char *line);

#endif
