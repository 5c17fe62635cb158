/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice NOUN VERB (account, key, device, ...): options and help from the table of api/admin.h. A
 * running server is asked over its socket; without one the command opens the catalog itself, under
 * the lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/admin.h"
#include "base/check.h"
#include "cli/admin_ask.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "cli/settings.h"

#define ADMIN_VERBS_MAX  15
#define ANSWER_BYTES_MAX ((size_t)256 << 20)
#define FILE_BYTES_MAX   ((size_t)4 << 30)

/* What was said on the command line. */
struct said {
    const struct admin_command *command;
    struct settings_opts settings;
    bool json;
    const char *values[ADMIN_ARGS_MAX];
    bool on[ADMIN_ARGS_MAX];
};

static bool parse(struct said *said, int argc, char **argv, int *ret_status)
{
    const struct admin_command *command = said->command;
    struct opt opts[ADMIN_ARGS_MAX + 5] = {{0}};
    struct opt_arg args[ADMIN_ARGS_MAX + 1] = {{0}};
    char names[ADMIN_ARGS_MAX][32], path[100], examples[200];
    unsigned opts_count = 0, args_count = 0;
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && command->args[i].name; i++) {
        const struct admin_arg *a = &command->args[i];
        if (a->kind == ADMIN_NEEDED || a->kind == ADMIN_FILE) {
            args[args_count++] = (struct opt_arg){a->placeholder, a->text, &said->values[i], true};
            continue;
        }
        snprintf(names[i], sizeof names[i], "%s", a->name);
        for (char *at = names[i]; *at; at++)
            *at = *at == '_' ? '-' : *at;
        opts[opts_count++] = (struct opt){names[i],
                                          a->placeholder,
                                          a->text,
                                          a->kind == ADMIN_OPTION ? &said->values[i] : NULL,
                                          a->kind == ADMIN_SWITCH ? &said->on[i] : NULL,
                                          NULL};
    }
    const struct opt common[] = {
        {"json", NULL, "Print the answer as JSON", NULL, &said->json, NULL},
        SETTINGS_OPTS(&said->settings),
    };
    memcpy(&opts[opts_count], common, sizeof common);
    snprintf(path, sizeof path, "sluice %s %s", command->noun, command->verb);
    snprintf(examples, sizeof examples, "  %s\n", command->example);
    const struct opt_syntax syntax = {
        .path = path, .text = command->text, .args = args, .opts = opts, .examples = examples};
    return opts_parse(&syntax, argc, argv, ret_status);
}

/* The value as it is meant: "-" for a secret is a line of standard input. `line` is freed by the
 * caller. NULL: there is none. */
static const char *value_of(const struct admin_arg *arg, const char *value, char **line)
{
    if (!arg->secret || strcmp(value, "-") != 0)
        return value;
    size_t cap = 0;
    ssize_t n = getline(line, &cap, stdin);
    if (n <= 0)
        return NULL;
    (*line)[strcspn(*line, "\r\n")] = 0;
    return *line;
}

/* The arguments as an object; NULL: what is wrong is on stderr. */
static json_t *args_of(const struct said *said)
{
    json_t *args = json_object();
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && said->command->args[i].name; i++) {
        const struct admin_arg *a = &said->command->args[i];
        char *line = NULL;
        if (a->kind == ADMIN_FILE)
            continue;
        const char *value = said->values[i] ? value_of(a, said->values[i], &line) : NULL;
        json_t *text = value ? json_string(value) : NULL;
        free(line);
        if (said->on[i])
            json_object_set_new(args, a->name, json_true());
        else if (text)
            json_object_set_new(args, a->name, text);
        else if (said->values[i]) {
            fprintf(stderr, "sluice: the value of %s is %s\n", a->name,
                    value ? "no UTF-8" : "missing on standard input");
            json_decref(args);
            return NULL;
        }
    }
    return args;
}

/* The path of the command's file; NULL: it takes none. */
static const char *file_of(const struct said *said)
{
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && said->command->args[i].name; i++)
        if (said->command->args[i].kind == ADMIN_FILE)
            return said->values[i];
    return NULL;
}

/* What was wrong with lines of a file, as compilers say it. True: something was. */
static bool print_errors(const struct said *said, json_t *result)
{
    json_t *errors = json_object_get(result, "errors"), *e;
    const char *path = file_of(said);
    size_t i;
    json_array_foreach(errors, i, e)
    {
        const char *name = json_string_value(json_object_get(e, "name"));
        const char *file = json_string_value(json_object_get(e, "file"));
        json_int_t line = json_integer_value(json_object_get(e, "line"));
        json_t *column = json_object_get(e, "column");
        fputs(file ? file : path ? path : "", stderr);
        if (line)
            fprintf(stderr, ":%lld", (long long)line);
        if (column)
            fprintf(stderr, ": column %lld", (long long)json_integer_value(column));
        fprintf(stderr, "%s%s%s: %s\n", name ? " (" : "", name ? name : "", name ? ")" : "",
                json_string_value(json_object_get(e, "error")));
    }
    json_int_t count = json_integer_value(json_object_get(result, "refused")) +
                       json_integer_value(json_object_get(result, "damaged"));
    if (count > (json_int_t)json_array_size(errors))
        fprintf(stderr, "and %lld more\n",
                (long long)(count - (json_int_t)json_array_size(errors)));
    return count > 0;
}

/* Prints the answer; how the command ends. */
static int answer(const struct said *said, unsigned status, struct slice body)
{
    json_t *result = json_loadb(body.ptr, body.len, 0, NULL);
    const char *error = json_string_value(json_object_get(result, "error"));
    bool unconfirmed = json_is_false(json_object_get(result, "workers_confirmed"));
    bool bad = status != 200 || !json_is_object(result); /* a sink may have an error of its own */
    bool partly = !bad && print_errors(said, result);
    if (said->json && result) {
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    if (bad) {
        fprintf(stderr, "sluice %s %s: %s\n", said->command->noun, said->command->verb,
                error ? error : "the server's answer is not understood");
    } else if (!said->json) {
        json_object_del(result, "workers_confirmed");
        json_object_del(result, "errors");
        print_result(stdout, result);
        if (json_object_get(result, "secret") || json_object_get(result, "key"))
            puts("\nThis secret is shown once: only a hash of it is kept.");
    }
    if (!bad && unconfirmed)
        fputs("It is stored, but not every worker of the server has confirmed yet that it is in "
              "force.\n",
              stderr);
    json_decref(result);
    return bad || partly || unconfirmed ? CLI_FAILED : CLI_OK;
}

/* One line for each record. *ret_next: a copy of where the next part begins, or NULL. */
static int answer_lines(unsigned status, struct slice body, char **ret_next)
{
    json_t *result = json_loadb(body.ptr, body.len, 0, NULL), *record;
    json_t *records = json_object_get(result, "records");
    const char *error = json_string_value(json_object_get(result, "error"));
    const char *next = json_string_value(json_object_get(result, "next"));
    size_t i;
    bool bad = status != 200 || !json_is_array(records);
    if (bad)
        fprintf(stderr, "sluice account export: %s\n",
                error ? error : "the server's answer is not understood");
    json_array_foreach(records, i, record)
    {
        json_dumpf(record, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
        putchar('\n');
    }
    *ret_next = !bad && next ? strdup(next) : NULL;
    json_decref(result);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("sluice account export: standard output");
        bad = true;
    }
    return bad ? CLI_FAILED : CLI_OK;
}

/* Asks for part after part, up to the last. */
static int export_all(const struct said *said, const struct config *config, json_t *args)
{
    bool more;
    int status;
    do {
        char *next = NULL;
        struct error err = {""};
        struct admin_reply reply = {0};
        struct admin_question q = {.config = config, .command = said->command, .args = args};
        buf_init(&reply.body, ANSWER_BYTES_MAX);
        if (admin_ask(&q, &reply, &err) == 0) {
            status = answer_lines(reply.status, buf_slice(&reply.body), &next);
        } else {
            fprintf(stderr, "sluice account export: %s\n", err.text);
            status = CLI_FAILED;
        }
        buf_fini(&reply.body);
        if (next)
            json_object_set_new(args, "from", json_string(next));
        more = next != NULL;
        free(next);
    } while (more && status == CLI_OK);
    return status;
}

/* Has it done and says how it went. */
static int ask_and_answer(const struct said *said, const struct config *config, json_t *args)
{
    struct buf file;
    struct error err = {""};
    struct admin_reply reply = {0};
    struct admin_question q = {.config = config, .command = said->command, .args = args};
    const char *path = file_of(said);
    unsigned stopped_at = 0;
    buf_init(&file, FILE_BYTES_MAX);
    buf_init(&reply.body, ANSWER_BYTES_MAX);
    int rc = path ? admin_read_file(path, &file, &err) : 0;
    q.file = path ? slice_of(file.ptr ? file.ptr : "", file.len) : (struct slice){0};
    if (!rc)
        rc = path ? admin_ask_in_parts(&q, &reply, &stopped_at, &err) : admin_ask(&q, &reply, &err);
    int status = rc ? CLI_FAILED : answer(said, reply.status, buf_slice(&reply.body));
    if (rc)
        fprintf(stderr, "sluice %s %s: %s\n", said->command->noun, said->command->verb, err.text);
    if (stopped_at)
        fprintf(stderr, "Lines before line %u were done; the file may be sent again.\n",
                stopped_at);
    if (reply.body.ptr)
        explicit_bzero(reply.body.ptr, reply.body.len);
    buf_fini(&reply.body);
    buf_fini(&file);
    return status;
}

static int run_command(const struct admin_command *command, int argc, char **argv)
{
    struct said said = {.command = command};
    struct config *config;
    int status;
    if (!parse(&said, argc, argv, &status))
        return status;
    if (!settings_load(&said.settings, &config))
        return CLI_FAILED;
    json_t *args = args_of(&said);
    if (!args)
        status = CLI_USAGE;
    else if (slice_eq(slice_str(command->result), SLICE("Export")))
        status = export_all(&said, config, args);
    else
        status = ask_and_answer(&said, config, args);
    json_decref(args);
    config_free(config);
    return status;
}

/* argv begins with the verb; the noun stands before it (cli_dispatch steps through one array). */
static int run_verb(int argc, char **argv)
{
    return run_command(admin_find(slice_str(argv[-1]), slice_str(argv[0])), argc, argv);
}

int cmd_reload(int argc, char **argv)
{
    return run_command(admin_find(SLICE("config"), SLICE("reload")), argc, argv);
}

int cmd_admin(int argc, char **argv)
{
    const char *noun = argv[0];
    struct command verbs[ADMIN_VERBS_MAX + 1] = {{0}};
    char path[50], examples[ADMIN_VERBS_MAX * 100] = "";
    unsigned n = 0, at = 0;
    for (const struct admin_command *c = admin_commands; c->noun; c++) {
        if (strcmp(c->noun, noun) != 0)
            continue;
        CHECK(n < ADMIN_VERBS_MAX);
        verbs[n++] = (struct command){c->verb, c->text, run_verb};
        at += (unsigned)snprintf(examples + at, sizeof examples - at, "  %s\n", c->example);
        CHECK(at < sizeof examples);
    }
    snprintf(path, sizeof path, "sluice %s", noun);
    const struct command_group group = {
        .path = path,
        .text = "A running server is asked over its socket in the data directory; while none runs, "
                "the\n"
                "command works on the data directory itself.",
        .commands = verbs,
        .examples = examples,
    };
    return cli_dispatch(&group, argc, argv);
}
