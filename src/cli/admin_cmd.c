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
#include "base/clock.h"
#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/offline.h"
#include "cli/print.h"
#include "cli/settings.h"

#define ADMIN_VERBS_MAX  15
#define ANSWER_BYTES_MAX ((size_t)256 << 20)
/* A server that starts or stops has the lock, and no socket yet or any more. */
#define TRIES        50
#define TRY_AGAIN_NS (100 * NS_PER_MS)

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
        if (a->kind == ADMIN_NEEDED) {
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

/* Asks the server if there is one, else does it here. */
static int call(const struct config *config, const struct admin_command *command, json_t *args,
                unsigned *ret_status, struct buf *ret_body, struct error *err)
{
    int rc = -ENOMEM;
    char *body = json_dumps(args, JSON_COMPACT);
    for (unsigned i = 0; body && i < TRIES; i++) {
        if (i)
            clock_sleep_ns(TRY_AGAIN_NS);
        rc = admin_client_call(config->server.data, command->noun, command->verb, slice_str(body),
                               ret_status, ret_body, err);
        if (rc == -ENOENT || rc == -ECONNREFUSED)
            rc = offline_call(config, command, args, ret_status, ret_body, err);
        if (rc != -EWOULDBLOCK)
            break;
    }
    if (rc == -EWOULDBLOCK)
        error_set(err, rc, "%s: a process has the data directory but does not answer on admin.sock",
                  config->server.data);
    if (body)
        explicit_bzero(body, strlen(body));
    free(body);
    return body ? rc : error_set(err, rc, "no memory");
}

/* Prints the answer; how the command ends. */
static int answer(const struct said *said, unsigned status, struct slice body)
{
    json_t *result = json_loadb(body.ptr, body.len, 0, NULL);
    const char *error = json_string_value(json_object_get(result, "error"));
    bool unconfirmed = json_is_false(json_object_get(result, "workers_confirmed"));
    bool bad = status != 200 || !json_is_object(result) || error;
    if (said->json && result) {
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    if (bad) {
        fprintf(stderr, "sluice %s %s: %s\n", said->command->noun, said->command->verb,
                error ? error : "the server's answer is not understood");
    } else if (!said->json) {
        json_object_del(result, "workers_confirmed");
        print_result(stdout, result);
        if (json_object_get(result, "secret") || json_object_get(result, "key"))
            puts("\nThis secret is shown once: only a hash of it is kept.");
    }
    if (!bad && unconfirmed)
        fputs("It is stored, but not every worker of the server has confirmed yet that it is in "
              "force.\n",
              stderr);
    json_decref(result);
    return bad || unconfirmed ? CLI_FAILED : CLI_OK;
}

static int run_command(const struct admin_command *command, int argc, char **argv)
{
    struct said said = {.command = command};
    struct config *config;
    struct buf body;
    struct error err = {""};
    unsigned http_status = 0;
    int status;
    if (!parse(&said, argc, argv, &status))
        return status;
    if (!settings_load(&said.settings, &config))
        return CLI_FAILED;
    buf_init(&body, ANSWER_BYTES_MAX);
    json_t *args = args_of(&said);
    int rc = args ? call(config, command, args, &http_status, &body, &err) : 0;
    if (!args)
        status = CLI_USAGE;
    else if (rc)
        status = CLI_FAILED;
    else
        status = answer(&said, http_status, buf_slice(&body));
    if (rc)
        fprintf(stderr, "sluice %s %s: %s\n", command->noun, command->verb, err.text);
    json_decref(args);
    if (body.ptr)
        explicit_bzero(body.ptr, body.len);
    buf_fini(&body);
    config_free(config);
    return status;
}

/* argv begins with the verb; the noun stands before it (cli_dispatch steps through one array). */
static int run_verb(int argc, char **argv)
{
    return run_command(admin_find(slice_str(argv[-1]), slice_str(argv[0])), argc, argv);
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
