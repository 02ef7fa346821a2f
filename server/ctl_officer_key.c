/* numberctl officer-key: makes the key pair that the query log is sealed to. */
#include "server/numberctl.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "persist/querylog/officer.h"

static int print_files(const struct ctl_common *common, const char *name, bool for_two)
{
    const char *const files[] = {"public", "verify", for_two ? "share-1" : "private",
                                 for_two ? "share-2" : NULL};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof files / sizeof files[0] && files[i] != NULL; i++) {
        char path[PATH_MAX + 8];
        snprintf(path, sizeof path, "%s.%s", name, files[i]);
        json_object_set_new(object, files[i], json_string(path));
        if (i < 2)
            (void)chmod(path, 0644); /* the first two are for others */
    }
    if (common->json) {
        ctl_print_json(object);
        return EX_OK;
    }
    json_decref(object);
    printf("%s.public goes to the servers (numberd --officer-key)\n"
           "%s.verify goes to those who receive records (numberctl verify)\n",
           name, name);
    if (for_two)
        printf(
            "%s.share-1 and %s.share-2 go to two persons, and are needed together (numberctl disclose --key, "
            "--second-key)\n",
            name, name);
    else
        printf("%s.private stays with the officer (numberctl disclose --key)\n", name);
    return EX_OK;
}

int ctl_officer_key(int argc, char **argv)
{
    struct ctl_common common;
    bool for_two = false;
    const struct ctl_option options[] = {
        {"for-two", NULL, "two shares instead of NAME.private: it takes two persons to open the log", NULL,
         &for_two},
    };
    struct fault fault;
    char folder[PATH_MAX];
    char name[PATH_MAX];
    int status = ctl_parse(&common, "officer-key", "NAME [--for-two]",
                           "Makes a key pair: NAME.public for numberd --officer-key, which seals the query "
                           "log to it, and NAME.private for\n"
                           "whoever may read the log, with numberctl disclose --key. Run it where the "
                           "private key is to stay. Who loses\n"
                           "it loses the log. Nothing is overwritten.",
                           options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1 || argv[0][0] == '\0' || argv[0][strlen(argv[0]) - 1] == '/')
        return ctl_fail(EX_USAGE, "officer-key: name one key pair, as in /media/stick/officer");
    if (strlen(argv[0]) >= sizeof name)
        return ctl_fail(EX_USAGE, "officer-key: the path is too long");
    snprintf(folder, sizeof folder, "%s", argv[0]);
    snprintf(name, sizeof name, "%s", argv[0]);
    const char *file = basename(name);
    if (!officer_make(dirname(folder), file, for_two, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    return print_files(&common, argv[0], for_two);
}
