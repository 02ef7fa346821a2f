/* Reports of who seems to walk through the numbers; see suspicions.h. */
#include "server/suspicions.h"

#include <inttypes.h>
#include <stdio.h>

#include "server/access/budgets.h"

#define REPORTS_MAX 10
#define NAMES_BYTES 64

void suspicions_init(struct suspicions *suspicions, bool tightens, notice_fn *notice)
{
    *suspicions = (struct suspicions){.notice = notice, .tightens = tightens};
    pthread_mutex_init(&suspicions->lock, NULL);
}

void suspicions_deinit(struct suspicions *suspicions)
{
    pthread_mutex_destroy(&suspicions->lock);
}

/* True when one more may be reported in this minute; then how many were left out before it. */
static bool may_report(struct suspicions *suspicions, unsigned *left_out)
{
    time_t minute = time(NULL) / 60;
    pthread_mutex_lock(&suspicions->lock);
    if (minute != suspicions->minute)
        suspicions->reported = 0;
    suspicions->minute = minute;
    bool may = suspicions->reported < REPORTS_MAX;
    *left_out = suspicions->left_out;
    suspicions->reported += may;
    suspicions->left_out = may ? 0 : suspicions->left_out + 1;
    pthread_mutex_unlock(&suspicions->lock);
    return may;
}

static void format_names(unsigned detectors, char names[static NAMES_BYTES])
{
    int length = 0;
    names[0] = '\0';
    for (unsigned i = 0; i < DETECTORS; i++)
        if ((detectors >> i & 1) != 0)
            length += snprintf(names + length, NAMES_BYTES - (size_t)length, "%s%s", length == 0 ? "" : ", ",
                               detector_names()[i]);
}

static void format_who(uint64_t principal, uint64_t named, char who[static NAMES_BYTES])
{
    if (named != 0)
        snprintf(who, NAMES_BYTES, "requester %" PRIu64 " of principal %" PRIu64, named, principal);
    else if (principal != 0)
        snprintf(who, NAMES_BYTES, "principal %" PRIu64, principal);
    else
        snprintf(who, NAMES_BYTES, "a network without principal");
}

void suspicions_report(struct suspicions *suspicions, unsigned detectors, uint64_t principal, uint64_t named)
{
    char names[NAMES_BYTES];
    char who[NAMES_BYTES];
    char others[NAMES_BYTES] = "";
    char line[4 * NAMES_BYTES];
    unsigned left_out;
    if (!may_report(suspicions, &left_out))
        return;
    format_names(detectors, names);
    format_who(principal, named, who);
    if (left_out > 0)
        snprintf(others, sizeof others, "; %u more before this one were not reported", left_out);
    snprintf(line, sizeof line, "enumeration is suspected (%s): %s%s%s", names, who,
             suspicions->tightens ? ", a tenth of the budget for a day" : "", others);
    suspicions->notice(NOTICE_WARNING, line);
}
