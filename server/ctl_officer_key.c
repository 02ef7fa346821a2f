/* numberctl officer-key: makes the key pair that the query log is sealed to. */
#include "server/numberctl.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "persist/querylog/officer.h"

int ctl_officer_key(int argc, char **argv)
{
    struct ctl_common common;
    struct fault fault;
    char folder[PATH_MAX];
    char name[PATH_MAX];
    int status = ctl_parse(&common, "officer-key", "NAME",
                           "Makes a key pair: NAME.public for numberd --officer-key, which seals the query "
                           "log to it, and NAME.private for\n"
                           "whoever may read the log, with numberctl disclose --key. Run it where the "
                           "private key is to stay. Who loses\n"
                           "it loses the log. Nothing is overwritten.",
                           NULL, 0, &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1 || argv[0][0] == '\0' || argv[0][strlen(argv[0]) - 1] == '/')
        return ctl_fail(EX_USAGE, "officer-key: name one key pair, as in /media/stick/officer");
    if (strlen(argv[0]) >= sizeof name)
        return ctl_fail(EX_USAGE, "officer-key: the path is too long");
    snprintf(folder, sizeof folder, "%s", argv[0]);
    snprintf(name, sizeof name, "%s", argv[0]);
    const char *file = basename(name);
    if (!officer_make(dirname(folder), file, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (common.json) {
        char public_path[PATH_MAX + 8];
        char private_path[PATH_MAX + 8];
        snprintf(public_path, sizeof public_path, "%s.public", argv[0]);
        snprintf(private_path, sizeof private_path, "%s.private", argv[0]);
        ctl_print_json(json_pack("{s:s, s:s}", "public", public_path, "private", private_path));
    } else {
        printf("%s.public goes to the servers (numberd --officer-key), %s.private stays with the officer\n",
               argv[0], argv[0]);
    }
    return EX_OK;
}
