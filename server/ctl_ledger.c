/* numberctl ledger and numberctl verify: whether the ledger of disclosures, or what was disclosed, is as it was written. */
#include "server/numberctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <sysexits.h>

#include "persist/querylog/ledger.h"
#include "server/ctl_disclosure.h"

int ctl_ledger(int argc, char **argv)
{
    struct ctl_common common;
    struct ledger_state state;
    struct fault fault;
    const char *kept = NULL;
    const struct ctl_option options[] = {
        {"head", "HASH", "a head that was kept elsewhere: it must be one of the ledger's", &kept, NULL},
    };
    int status =
        ctl_parse(&common, "ledger", "[FILE] [--head HASH]",
                  "Checks the ledger of disclosures (default " CTL_DATA_DIR_DEFAULT "/" LEDGER_NAME
                  ") and prints its head, to be kept\n"
                  "elsewhere: whoever has it sees later that nothing before it was changed or removed. Ends "
                  "with 65 when it was.",
                  options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc > 1)
        return ctl_fail(EX_USAGE, "ledger: name one file");
    const char *path = argc == 1 ? argv[0] : CTL_DATA_DIR_DEFAULT "/" LEDGER_NAME;
    if (!ledger_check(path, kept, &state, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (kept != NULL && !state.has_kept)
        return ctl_fail(
            EX_DATAERR,
            "%s: no entry has the head that was kept: entries are missing, or it is another ledger", path);
    if (common.json)
        ctl_print_json(json_pack("{s:I, s:s}", "entries", (json_int_t)state.entries, "head", state.head));
    else
        printf("%" PRIu64 " entries, head %s\n", state.entries, state.head);
    return EX_OK;
}

int ctl_verify(int argc, char **argv)
{
    struct ctl_common common;
    struct fault fault;
    const char *key = NULL;
    const struct ctl_option options[] = {
        {"key", "FILE", "the officer's NAME.verify", &key, NULL},
    };
    int status = ctl_parse(
        &common, "verify", "DIR --key FILE",
        "Checks that the files of a disclosure are those that its officer signed. Ends with 65 when "
        "they are not.",
        options, sizeof options / sizeof options[0], &argc, &argv);
    if (status >= 0)
        return status;
    if (argc != 1 || key == NULL)
        return ctl_fail(EX_USAGE, "verify: name one folder, and the officer's NAME.verify with --key");
    if (!disclosure_verify(argv[0], key, &fault))
        return ctl_fail(fault.status, "%s", fault.text);
    if (common.json)
        ctl_print_json(json_pack("{s:b}", "good", 1));
    else
        puts("as the officer signed it");
    return EX_OK;
}
