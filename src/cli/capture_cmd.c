/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice capture FILE: takes a sample of the requests that reach a running server, twice a second,
 * until the time is over or the file has enough. When this process ends, however, so does the
 * recording (flow/capture.h).
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/admin_ask.h"
#include "cli/cli.h"
#include "cli/settings.h"

#define SECONDS_DEFAULT  10
#define EVERY_DEFAULT    1
#define MAX_DEFAULT      100000
#define ANSWER_BYTES_MAX ((size_t)32 << 20)
#define TAKE_NS          (500 * NS_PER_MS)

struct capture_run {
    const struct config *config;
    FILE *out;
    uint64_t every, most;
    uint64_t kept, dropped;
};

static bool number(const char *name, const char *text, uint64_t fallback, uint64_t *ret)
{
    char *end;
    *ret = fallback;
    if (!text)
        return true;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && !*end && !errno && *ret >= 1 && *ret <= UINT32_MAX)
        return true;
    fprintf(stderr, "sluice capture: --%s must be a number from 1, not \"%s\"\n", name, text);
    return false;
}

/* Lines into the file, at most as many as it may still have. */
static int put_lines(struct capture_run *run, const char *lines, size_t len)
{
    while (len && run->kept < run->most) {
        const char *end = memchr(lines, '\n', len);
        size_t n = end ? (size_t)(end - lines) + 1 : len;
        if (fwrite(lines, 1, n, run->out) != n)
            return -EIO;
        run->kept++;
        lines += n;
        len -= n;
    }
    return 0;
}

/* What was recorded since the last time; 0 for `every` ends it. */
static int take(struct capture_run *run, uint64_t every, struct error *err)
{
    struct admin_reply reply = {0};
    const struct admin_question question = {
        .config = run->config,
        .command = admin_find(SLICE("capture"), SLICE("take")),
        .args = json_pack("{s:I}", "every", (json_int_t)every),
    };
    buf_init(&reply.body, ANSWER_BYTES_MAX);
    int rc = question.args ? admin_ask(&question, &reply, err) : -ENOMEM;
    json_decref(question.args);
    if (rc) {
        buf_fini(&reply.body);
        return rc;
    }
    json_t *answer = json_loadb(reply.body.ptr, reply.body.len, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    const json_t *lines = json_object_get(answer, "lines");
    if (reply.status != 200 || !json_is_string(lines))
        rc = error_set(err, -EREMOTEIO, "%s",
                       error ? error : "the server's answer is not understood");
    else if (put_lines(run, json_string_value(lines), json_string_length(lines)) ||
             fflush(run->out))
        rc = error_set(err, -EIO, "the file cannot be written");
    if (rc == 0)
        run->dropped += (uint64_t)json_integer_value(json_object_get(answer, "dropped"));
    json_decref(answer);
    buf_fini(&reply.body);
    return rc;
}

static int record(struct capture_run *run, uint64_t seconds, struct error *err)
{
    uint64_t end = clock_mono_ns() + seconds * NS_PER_S, most = run->most;
    run->most = 0; /* what was left from before is not of this recording */
    int rc = take(run, run->every, err);
    run->most = most;
    run->dropped = 0;
    while (rc == 0 && run->kept < run->most && clock_mono_ns() < end) {
        uint64_t left = end - clock_mono_ns();
        clock_sleep_ns(left < TAKE_NS ? left : TAKE_NS);
        rc = take(run, clock_mono_ns() < end ? run->every : 0, err);
    }
    if (rc == 0)
        rc = take(run, 0, err);
    return rc;
}

int cmd_capture(int argc, char **argv)
{
    struct settings_opts settings = {0};
    const char *path = NULL, *seconds_text = NULL, *every_text = NULL, *most_text = NULL;
    const struct opt_arg args[] = {{"FILE", "Where it is written", &path, true}, {0}};
    const struct opt opts[] = {
        {"seconds", "N", "How long; default: 10", &seconds_text, NULL, NULL},
        {"every", "N", "Record one request of N; default: all", &every_text, NULL, NULL},
        {"max", "N", "At most so many requests; default: 100000", &most_text, NULL, NULL},
        SETTINGS_OPTS(&settings),
        {0},
    };
    const struct opt_syntax syntax = {
        .path = "sluice capture",
        .text = "Record a sample of the requests that reach the running server",
        .more =
            "Method, target, header fields, the body's size and the time, a line each. Secrets, "
            "ids and addresses\nare replaced by '*', bodies are not recorded. `sluice load "
            "--replay` and `--compare` read it.\n",
        .args = args,
        .opts = opts,
        .examples = "  sluice capture monday.jsonl --seconds 60 --every 100\n",
    };
    struct capture_run run = {0};
    struct error err = {0};
    struct config *config;
    uint64_t seconds;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!number("seconds", seconds_text, SECONDS_DEFAULT, &seconds) ||
        !number("every", every_text, EVERY_DEFAULT, &run.every) ||
        !number("max", most_text, MAX_DEFAULT, &run.most))
        return CLI_USAGE;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    run.config = config;
    run.out = fopen(path, "we");
    int rc = run.out ? record(&run, seconds, &err)
                     : error_set(&err, -errno, "%s: %s", path, strerror(errno));
    if (run.out && fclose(run.out) != 0 && rc == 0)
        rc = error_set(&err, -EIO, "%s: cannot be written", path);
    config_free(config);
    if (rc)
        fprintf(stderr, "sluice capture: %s\n", err.text[0] ? err.text : strerror(-rc));
    else
        printf("%llu requests recorded, %llu more had no room\n", (unsigned long long)run.kept,
               (unsigned long long)run.dropped);
    return rc ? CLI_FAILED : CLI_OK;
}
