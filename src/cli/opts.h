/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/opts.h - the options and arguments of one command: a table that is parsed, and that --help is
 * written from. `--name value`, `--name=value`, `--` ends options; options and arguments mix.
 * Values are borrowed from argv. Main thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#define OPT_LIST_MAX 64

/* Values of an option that may be there several times. */
struct opt_list {
    const char *values[OPT_LIST_MAX];
    unsigned count;
};

/* One option. What it sets decides its kind; exactly one of the three is not NULL. */
struct opt {
    const char *name;        /* without the dashes */
    const char *placeholder; /* of its value, in help; NULL for a switch */
    const char *text;
    const char **ret;      /* its value; given twice it is refused */
    bool *ret_on;          /* a switch */
    struct opt_list *list; /* its values */
};

/* One argument by position. */
struct opt_arg {
    const char *placeholder;
    const char *text;
    const char **ret;
    bool needed;
};

struct opt_syntax {
    const char *path;           /* "sluice config check" */
    const char *text;           /* what it does */
    const char *more;           /* further lines of help, or NULL */
    const struct opt_arg *args; /* end with a row without placeholder; NULL: none */
    const struct opt *opts;     /* end with a row without name */
    const char *examples;       /* lines, or NULL */
};

/*
 * Parses argv[1] and on. True: go on. False: the command ends with *ret_status (help was asked for,
 * or a sentence about the mistake is on stderr).
 */
bool opts_parse(const struct opt_syntax *syntax, int argc, char **argv, int *ret_status);
/* The help itself. */
void opts_help(const struct opt_syntax *syntax, FILE *out);
