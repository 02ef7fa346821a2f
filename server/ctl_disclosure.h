/* What a disclosure leaves: a folder with the records, what they are of, and a signed manifest. For numberctl alone.
 *
 *   records.csv       recordNumber 1.. in the last column; one line of names
 *   records.jsonl     the same, one object a line
 *   disclosure.json   the order, the window, counts, the known gaps, warnings, the notice
 *   manifest.json     size and SHA-256 of the three
 *   manifest.sig      the officer's Ed25519 signature of manifest.json's bytes, in hexadecimal digits
 * The folder must not be there before. Until disclosure_end it has another name, DIR.part, so that an unfinished one is never
 * taken for whole. One thread. */
#ifndef NUMBERD_SERVER_CTL_DISCLOSURE_H
#define NUMBERD_SERVER_CTL_DISCLOSURE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "persist/fault.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/officer.h"

#define DISCLOSURE_TIME_BYTES 32
#define DISCLOSURE_NOTICE                                                                                    \
    "A record shows that somebody asked whether a number has an account. It does not show that any "         \
    "communication took place."

struct disclosure_files;

/* ISO 8601, UTC, with milliseconds. */
void disclosure_time(uint64_t time_ms, char text[static DISCLOSURE_TIME_BYTES]);

struct disclosure_files *disclosure_begin(const char *folder, struct fault *fault);
void disclosure_record(struct disclosure_files *files, const struct disclose_record *record);
void disclosure_gap(struct disclosure_files *files, uint64_t server_id, const struct query_gap *gap);
void disclosure_warning(struct disclosure_files *files, const char *line);

uint64_t disclosure_records(const struct disclosure_files *files);
uint64_t disclosure_gaps(const struct disclosure_files *files);
uint64_t disclosure_warnings(const struct disclosure_files *files);

/* Writes what is left, with these members added to disclosure.json (taken over), signs, names the folder, frees. On failure
 * nothing is left. */
bool disclosure_end(struct disclosure_files *files, json_t *about, const struct officer_pair *officer,
                    struct fault *fault);
/* Removes what there is, frees. */
void disclosure_abandon(struct disclosure_files *files);

/* Checks a folder against its manifest, and that against the signature, with the officer's NAME.verify. */
bool disclosure_verify(const char *folder, const char *verify_key, struct fault *fault);

#endif
