/* Giving root up; see privileges.h. */
#include "server/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static bool become(const struct passwd *user, const char *data_dir, struct fault *fault)
{
    if (mkdir(data_dir, 0700) == 0 && chown(data_dir, user->pw_uid, user->pw_gid) != 0)
        return fault_set(fault, EX_CANTCREAT, "cannot give %s to %s: %s", data_dir, user->pw_name,
                         strerror(errno));
    if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
        setuid(user->pw_uid) != 0)
        return fault_set(fault, EX_NOPERM, "cannot become the user %s: %s", user->pw_name, strerror(errno));
    /* Not possible after that; a kernel that lets us is not to be trusted with the rest. */
    if (user->pw_uid != 0 && setuid(0) == 0)
        return fault_set(fault, EX_NOPERM, "the user %s could become root again", user->pw_name);
    return true;
}

bool privileges_drop(const char *user, const char *data_dir, struct fault *fault)
{
    // cppcheck-suppress getpwnamCalled ; there are no other threads yet
    const struct passwd *entry = user == NULL ? NULL : getpwnam(user);
    if (user != NULL && entry == NULL)
        return fault_set(fault, EX_NOUSER, "there is no user %s (--user)", user);
    if (entry != NULL && entry->pw_uid != geteuid() && geteuid() != 0)
        return fault_set(fault, EX_NOPERM, "only root can become %s: start numberd as root or as that user",
                         user);
    if (entry != NULL && entry->pw_uid != geteuid() && !become(entry, data_dir, fault))
        return false;
    /* No core, which would hold numbers, addresses and the hour's key. Changing the user has set it anew. */
    return (prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) ||
           fault_set(fault, EX_OSERR, "cannot lay privileges down: %s", strerror(errno));
}
