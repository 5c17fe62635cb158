/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cli.h - the command line: `sluice COMMAND ...`. One table of commands, one small parser of
 * options; every --help is written from the tables that are also parsed. Main thread only.
 */
#pragma once

/* How a command ends. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1, /* refused, or it did not work out */
    CLI_USAGE = 2,  /* it was not said right */
};

/* One command, or a group of them. */
struct command {
    const char *name;
    const char *text; /* one line of help */
    /* argv[0] is the command's own name. Returns how it ended. */
    int (*run)(int argc, char **argv);
};

/* A group of commands and the help above them. */
struct command_group {
    const char *path;               /* what has been said so far: "sluice config" */
    const char *text;               /* opens the help */
    const struct command *commands; /* ends with a row without name */
    const char *examples;           /* lines */
};

/* Runs what argv says; the process's exit status. */
int cli_main(int argc, char **argv);

/* Runs the command of the group that argv[1] names, or shows the group's help. */
int cli_dispatch(const struct command_group *group, int argc, char **argv);

int cmd_serve(int argc, char **argv);
int cmd_admin(int argc, char **argv); /* a noun of api/admin.h: argv[0] */
int cmd_config(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_journal(int argc, char **argv);
int cmd_keyring(int argc, char **argv);
int cmd_cert(int argc, char **argv);
int cmd_backup(int argc, char **argv); /* and its verify, stage, release */
int cmd_restore(int argc, char **argv);
int cmd_capture(int argc, char **argv);
int cmd_consume(int argc, char **argv);
