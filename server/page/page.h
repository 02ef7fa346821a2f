/* The files of the stats port's page, built into the program: what lies in this folder, and Debian's Chart.js. Made by embed.cmake. */
#ifndef NUMBERD_SERVER_PAGE_PAGE_H
#define NUMBERD_SERVER_PAGE_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct page_file {
    const char *path; /* as asked for */
    const char *type;
    const uint8_t *bytes;
    size_t length;
};

extern const struct page_file page_files[];
extern const size_t page_file_count;

#endif
