/* numberctl: everything a person does with numberd, one verb each. */
#include "server/numberctl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

struct verb {
    const char *name;
    const char *about;
    int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
    {"lookup", "ask whether numbers are registered", ctl_lookup},
    {"register", "register a number, or replace its account and flags", ctl_register},
    {"deregister", "remove a number", ctl_deregister},
    {"move", "give an account another number", ctl_move},
    {"import", "register the rows of a CSV file", ctl_import},
    {"export", "write all registrations as CSV", ctl_export},
    {"check", "say whether a data directory's registrations are whole", ctl_check},
    {"cluster", "show the servers that share a feed of registrations", ctl_cluster},
    {"fetch", "copy the registrations of a server that shares a feed", ctl_fetch},
    {"snapshot", "have the server save its registrations now", ctl_snapshot},
    {"stats", "print the server's statistics", ctl_stats},
    {"top", "show what the server does, again and again", ctl_top},
    {"ping", "time one answer of the server", ctl_ping},
    {"disclose", "print the query log's records of a number or a requester", ctl_disclose},
    {"hold", "keep the records that an order names beyond the log's 30 days", ctl_hold},
    {"officer-key", "make the key pair that the query log is sealed to", ctl_officer_key},
    {"ledger", "check the ledger of disclosures and print its head", ctl_ledger},
    {"plan", "say how much room the query log, and how many machines the directory will take", ctl_plan},
    {"token", "make, list and revoke the tokens that clients show", ctl_token},
    {"verify", "check that records are as the officer disclosed them", ctl_verify},
};

#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static void print_help(FILE *out)
{
    fprintf(out, "usage: numberctl VERB [OPTION]... [ARGUMENT]...\n\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        fprintf(out, "  %-12s %s\n", verbs[i].name, verbs[i].about);
    fprintf(out,
            "\nnumberctl VERB --help says more. Numbers are E.164, like +4915112345678.\n"
            "Exit status as in sysexits(3): 0 done, 64 usage, 65 bad data, 66 no input, 69 server away,\n73 "
            "cannot write, 74 disk error, 75 try again, 77 not allowed, 78 bad configuration.\n");
}

/* A closed standard descriptor would be taken by the next file or socket that is opened. */
static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            // cppcheck-suppress leakReturnValNotUsed ; it is the lowest that is free, fd, and stays open
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY); /* so that its use fails, as it should */
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EX_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("numberctl " NUMBERD_VERSION);
        return EX_OK;
    }
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    return ctl_fail(EX_USAGE, "\"%s\" is no verb; numberctl --help lists them", ctl_shown(argv[1]));
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int status = run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EX_OK)
        status = ctl_fail(EX_IOERR, "cannot write to standard output");
    return status;
}
