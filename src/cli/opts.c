/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opts.h"

#include <string.h>

#include "cli/cli.h"

#define HELP_COLUMN 26
#define HELP_WIDTH  96

/* `text` in lines that begin at HELP_COLUMN; the cursor is at `column`. */
static void put_text(FILE *out, int column, const char *text)
{
    if (column >= HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += fprintf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", word, text);
        text += word;
        text += *text == ' ';
    }
    fputc('\n', out);
}

static void put_opt(FILE *out, const struct opt *o)
{
    int column = fprintf(out, "  --%s%s%s%s", o->name, o->placeholder ? " " : "",
                         o->placeholder ? o->placeholder : "", o->list ? " ..." : "");
    put_text(out, column, o->text);
}

void opts_help(const struct opt_syntax *s, FILE *out)
{
    fprintf(out, "%s.\n\nUsage: %s", s->text, s->path);
    for (const struct opt_arg *a = s->args; a && a->placeholder; a++)
        fprintf(out, a->needed ? " %s" : " [%s]", a->placeholder);
    fputs(" [options]\n", out);
    if (s->args && s->args->placeholder)
        fputc('\n', out);
    for (const struct opt_arg *a = s->args; a && a->placeholder; a++)
        put_text(out, fprintf(out, "  %s", a->placeholder), a->text);
    fputs("\nOptions:\n", out);
    for (const struct opt *o = s->opts; o->name; o++)
        put_opt(out, o);
    put_text(out, fprintf(out, "  --help"), "Show this help");
    if (s->more)
        fprintf(out, "\n%s", s->more);
    if (s->examples)
        fprintf(out, "\nExamples:\n%s", s->examples);
}

static bool mistake(const struct opt_syntax *s, int *ret_status, const char *what, const char *word)
{
    fprintf(stderr, "%s: %s%s\nTry: %s --help\n", s->path, what, word, s->path);
    *ret_status = CLI_USAGE;
    return false;
}

static const struct opt *find(const struct opt_syntax *s, const char *name, size_t len)
{
    for (const struct opt *o = s->opts; o->name; o++)
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

/* argv[*at] is "--name" or "--name=value". */
static bool take_opt(const struct opt_syntax *s, int argc, char **argv, int *at, int *ret_status)
{
    const char *word = argv[*at], *name = word + 2;
    size_t len = strcspn(name, "=");
    const struct opt *o = find(s, name, len);
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    if (!o)
        return mistake(s, ret_status, "there is no option ", word);
    if (o->ret_on) {
        *o->ret_on = true;
        return !value || mistake(s, ret_status, "takes no value: ", word);
    }
    if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value)
        return mistake(s, ret_status, "a value is missing behind ", word);
    if (o->list) {
        if (o->list->count == OPT_LIST_MAX)
            return mistake(s, ret_status, "too many of ", word);
        o->list->values[o->list->count++] = value;
        return true;
    }
    if (*o->ret)
        return mistake(s, ret_status, "given twice: --", o->name);
    *o->ret = value;
    return true;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

bool opts_parse(const struct opt_syntax *s, int argc, char **argv, int *ret_status)
{
    const struct opt_arg *arg = s->args;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options && is_help(word)) {
            opts_help(s, stdout);
            *ret_status = CLI_OK;
            return false;
        }
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && word[0] == '-' && word[1] == '-') {
            if (!take_opt(s, argc, argv, &i, ret_status))
                return false;
        } else if (options && word[0] == '-' && word[1]) {
            return mistake(s, ret_status, "there is no option ", word);
        } else if (arg && arg->placeholder) {
            *arg++->ret = word;
        } else {
            return mistake(s, ret_status, "too many arguments: ", word);
        }
    }
    if (arg && arg->placeholder && arg->needed)
        return mistake(s, ret_status, "missing: ", arg->placeholder);
    return true;
}
