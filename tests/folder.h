/* A temporary folder for one cmocka test: made by the setup, removed with all in it by the teardown. */
#ifndef NUMBERD_TESTS_FOLDER_H
#define NUMBERD_TESTS_FOLDER_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static char folder[PATH_MAX];

static inline int make_folder(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/numberd-test-XXXXXX", parent == NULL ? "/tmp" : parent);
    return mkdtemp(folder) == NULL;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

#endif
