/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice consume: runs a command for each message of a consumer group. So many processes of its own
 * as are wanted, each a consumer: it fetches, runs the command for one message after the other, and
 * says of each that it is done, or gives it back. The first process waits for them and passes a
 * SIGTERM on; then each ends behind the message in hand.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/opts.h"
#include "codec/text.h"
#include "flow/limits.h"
#include "load/ask.h"
#include "load/load_opts.h"

#define PARALLEL_MAX 256
#define WAIT_S       20
#define TRY_S        60 /* beyond the wait, for one request with all its attempts */
#define AGAIN_NS     (2 * NS_PER_S)
#define FORWARD_MS   200 /* the signal may come just before a wait begins: it is sent again */
#define DELAY_S_MAX  300
#define KEY_MAX      256

static volatile sig_atomic_t stop;

struct consumer {
    struct load_opts server;
    struct url url;
    const char *group, *command, *dead, *feeds, *from;
    uint64_t parallel, max, lease_s, delay_s, tries;
    bool drain;
    char key[KEY_MAX + 1];
    /* Of each process: */
    struct ask ask;
    struct buf answer; /* what the messages point into */
    struct json messages[CONSUME_MESSAGES_MAX];
    size_t count, at;                          /* how many; the one in hand */
    struct slice failed[CONSUME_MESSAGES_MAX]; /* feeds and topics that are given back */
    size_t failed_count;
    uint64_t extended_ns;
};

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* As it is written: of a string what is between the quotes. */
static struct slice raw_of(struct json message, const char *name)
{
    struct json value;
    return ask_member(message, slice_str(name), &value) ? value.raw : (struct slice){0};
}

/* What the order of messages is about. */
static struct slice place_of(struct json message)
{
    struct slice feed = raw_of(message, "feed");
    return feed.len ? feed : raw_of(message, "topic");
}

static uint64_t delivery_of(struct json message)
{
    struct slice digits = raw_of(message, "delivery");
    uint64_t v = 0;
    for (size_t i = 0; i < digits.len && i < 18; i++)
        v = v * 10 + (uint64_t)(digits.ptr[i] - '0');
    return v;
}

/* ---- talking to the server ------------------------------------------------------------------- */

static void complain(const struct consumer *c, const char *text)
{
    fprintf(stderr, "sluice consume %s: %s\n", c->group, text);
}

/* Says what the server refused with. */
static void complain_of(const struct consumer *c, const struct response *r)
{
    struct buf text;
    buf_init(&text, 4096);
    if (!ask_text(r, SLICE("error"), &text))
        buf_printf(&text, "the server answers %u", r->status);
    buf_put_u8(&text, 0);
    complain(c, text.failed ? "refused" : text.ptr);
    buf_fini(&text);
}

/* One token, or all from the one in hand on. */
static bool tell(struct consumer *c, const char *what, bool all, const char *more)
{
    struct buf target, body;
    struct response r;
    struct error err = {""};
    buf_init(&target, 1024);
    buf_init(&body, 1u << 20);
    buf_printf(&target, "/v1/consume/%s/%s", c->group, what);
    buf_put_str(&body, "{\"tokens\":[");
    for (size_t i = c->at; i < (all ? c->count : c->at + 1); i++)
        buf_printf(&body, "%s\"%.*s\"", i > c->at ? "," : "",
                   SLICE_ARG(raw_of(c->messages[i], "token")));
    buf_printf(&body, "]%s}", more);
    c->ask.stop = NULL; /* what was worked on is told, also when we are to stop */
    int rc = body.failed ? -ENOMEM : ask(&c->ask, buf_slice(&target), buf_slice(&body), &r, &err);
    /* Said twice is no harm: a connection may just have been closed. */
    if (rc && !body.failed)
        rc = ask(&c->ask, buf_slice(&target), buf_slice(&body), &r, &err);
    c->ask.stop = &stop;
    buf_fini(&target);
    buf_fini(&body);
    if (rc)
        complain(c, err.text[0] ? err.text : strerror(-rc));
    else if (r.status != 200)
        complain_of(c, &r);
    return rc == 0 && r.status == 200;
}

/* While a command runs, all that is not done yet is kept. */
static void keep(struct consumer *c)
{
    char more[64];
    if (clock_mono_ns() - c->extended_ns < c->lease_s * NS_PER_S / 3)
        return;
    snprintf(more, sizeof more, ",\"lease\":%llu", (unsigned long long)c->lease_s);
    c->extended_ns = clock_mono_ns();
    tell(c, "extend", true, more);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Members of a message, and what the command has them as. */
static const char *const variables[][2] = {{"kind", "SLUICE_KIND"},
                                           {"feed", "SLUICE_FEED"},
                                           {"topic", "SLUICE_TOPIC"},
                                           {"id", "SLUICE_ID"},
                                           {"device", "SLUICE_DEVICE"},
                                           {"offset", "SLUICE_OFFSET"},
                                           {"lat", "SLUICE_LAT"},
                                           {"delivery", "SLUICE_DELIVERY"},
                                           {"lon", "SLUICE_LON"},
                                           {"ele", "SLUICE_ELE"},
                                           {"created_at", "SLUICE_CREATED_AT"}};
#define VARIABLES (sizeof variables / sizeof *variables)

/* Commands have of these only what their message says; and they need no key. */
static void forget_variables(void)
{
    unsetenv("SLUICE_KEY");
    unsetenv("SLUICE_GROUP");
    for (size_t i = 0; i < VARIABLES; i++)
        unsetenv(variables[i][1]);
}

static void put_variable(struct buf *out, const char *name, const char *value)
{
    buf_put_str(out, name);
    buf_put_u8(out, '=');
    buf_put(out, value, strlen(value) + 1);
}

/* Each ends with a NUL. */
static void put_variables(const struct consumer *c, struct json message, struct buf *out)
{
    struct buf text;
    struct json value;
    buf_init(&text, 1u << 20);
    put_variable(out, "SLUICE_GROUP", c->group);
    for (size_t i = 0; i < VARIABLES; i++) {
        buf_clear(&text);
        if (!ask_member(message, slice_str(variables[i][0]), &value))
            continue;
        if (value.type == JSON_STRING)
            json_unescape(value, &text);
        else
            buf_put_slice(&text, value.raw);
        buf_put_u8(&text, 0);
        if (!text.failed)
            put_variable(out, variables[i][1], text.ptr);
    }
    buf_fini(&text);
}

/* What we were given, and the message's on top of that. To be freed; NULL: no memory. */
static char **list_environment(const struct buf *own)
{
    size_t given = 0, count = 0;
    while (environ[given])
        given++;
    for (size_t i = 0; i < own->len; i++)
        count += own->ptr[i] == 0;
    char **list = own->failed ? NULL : calloc(given + count + 1, sizeof *list);
    if (!list)
        return NULL;
    memcpy(list, environ, given * sizeof *list);
    char *at = own->ptr;
    for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
        list[given + i] = at;
    return list;
}

/* The value as it was sent. */
static void put_value(struct json message, struct buf *out)
{
    struct json value;
    if (ask_member(message, SLICE("value"), &value)) {
        json_unescape(value, out);
        return;
    }
    struct slice coded = raw_of(message, "value_base64");
    char *to = buf_reserve(out, coded.len + 1);
    int n = to && coded.len ? EVP_DecodeBlock((unsigned char *)to, (const unsigned char *)coded.ptr,
                                              (int)coded.len)
                            : 0;
    for (size_t i = coded.len; n > 0 && i > 0 && coded.ptr[i - 1] == '='; i--)
        n--;
    out->len += n > 0 ? (size_t)n : 0;
}

/* It in a file that the command reads: it need not read it. Negative: errno. */
static int value_file(struct json message)
{
    struct buf value;
    buf_init(&value, RESPONSE_BYTES_MAX);
    put_value(message, &value);
    int fd = value.failed ? -1 : memfd_create("message", MFD_CLOEXEC);
    for (size_t at = 0; fd >= 0 && at < value.len;) {
        ssize_t n = write(fd, value.ptr + at, value.len - at);
        if (n > 0) {
            at += (size_t)n;
        } else if (errno != EINTR) {
            close(fd);
            fd = -1;
        }
    }
    buf_fini(&value);
    return fd < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -errno : fd;
}

/* Not by fork: to copy what this process has mapped takes longer than to start a shell. 0, or
 * negative errno. */
static int start_command(const char *command, char **environment, int fd, pid_t *ret_pid)
{
    char shell[] = "sh", option[] = "-c";
    char *argv[] = {shell, option, (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, pipe;
    sigemptyset(&none);
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &pipe);
    /* An interrupt from the terminal is for us: we wait for what is begun. */
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int rc = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
    if (!rc)
        rc = posix_spawn(ret_pid, "/bin/sh", &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* The same with what belongs to the message in hand. */
static int start_for_message(const struct consumer *c, const char *command, pid_t *ret_pid)
{
    struct json message = c->messages[c->at];
    struct buf own;
    int fd = value_file(message), rc = -ENOMEM;
    if (fd < 0)
        return fd;
    buf_init(&own, 2u << 20);
    put_variables(c, message, &own);
    char **environment = list_environment(&own);
    if (environment)
        rc = start_command(command, environment, fd, ret_pid);
    free(environment);
    buf_fini(&own);
    close(fd);
    return rc;
}

/* Whether it ended with status 0. */
static bool run(struct consumer *c, const char *command)
{
    pid_t pid = 0;
    int status = -1, rc = start_for_message(c, command, &pid);
    if (rc) {
        complain(c, strerror(-rc));
        return false;
    }
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD); /* blocked, so that none is lost */
    const struct timespec tick = {.tv_sec = 1};
    while (waitpid(pid, &status, WNOHANG) == 0) {
        sigtimedwait(&child, NULL, &tick);
        keep(c);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- one consumer ---------------------------------------------------------------------------- */

static bool has_failed(const struct consumer *c, struct slice place)
{
    for (size_t i = 0; i < c->failed_count; i++)
        if (slice_eq(c->failed[i], place))
            return true;
    return false;
}

static void give_back(struct consumer *c, struct json message)
{
    char more[64];
    uint64_t delay_s = c->delay_s, times = delivery_of(message);
    while (--times > 0 && times < 64 && delay_s < DELAY_S_MAX)
        delay_s *= 2;
    if (delay_s > DELAY_S_MAX && delay_s > c->delay_s)
        delay_s = DELAY_S_MAX;
    snprintf(more, sizeof more, ",\"delay\":%llu", (unsigned long long)delay_s);
    c->failed[c->failed_count++] = place_of(message);
    tell(c, "nack", false, more);
}

static void work(struct consumer *c)
{
    struct json message = c->messages[c->at];
    if (has_failed(c, place_of(message)))
        return; /* it went back with the one before it */
    keep(c);
    bool done = run(c, c->command);
    if (!done && c->dead && delivery_of(message) >= c->tries)
        done = run(c, c->dead);
    if (done)
        tell(c, "ack", false, "");
    else
        give_back(c, message);
}

/* What is not begun is given back at once when we are told to stop. */
static void work_on_all(struct consumer *c)
{
    c->failed_count = 0;
    c->extended_ns = clock_mono_ns();
    for (c->at = 0; c->at < c->count && !stop; c->at++)
        work(c);
    if (c->at < c->count)
        tell(c, "nack", true, "");
}

static void put_target(const struct consumer *c, struct buf *target)
{
    buf_printf(target, "/v1/consume/%s?max=%llu&wait=%u&lease=%llu", c->group,
               (unsigned long long)c->max, c->drain ? 0 : WAIT_S, (unsigned long long)c->lease_s);
    if (c->feeds) {
        buf_put_str(target, "&feeds=");
        percent_encode(slice_str(c->feeds), target);
    }
    if (c->from) {
        buf_put_str(target, "&from=");
        percent_encode(slice_str(c->from), target);
    }
}

/* Copies the answer: it is gone with the next question. */
static bool take_messages(struct consumer *c, const struct response *r)
{
    struct json whole, list;
    size_t at;
    const char *why;
    buf_clear(&c->answer);
    buf_put_slice(&c->answer, r->body);
    c->count = 0;
    if (c->answer.failed || !json_parse(buf_slice(&c->answer), &whole, &at, &why) ||
        !ask_member(whole, SLICE("messages"), &list) || list.type != JSON_ARRAY)
        return false;
    struct slice rest = json_members(list);
    while (c->count < CONSUME_MESSAGES_MAX && rest.len &&
           json_next_element(&rest, &c->messages[c->count]))
        c->count++;
    return true;
}

enum fetched { FETCHED, FETCHED_NOTHING, FETCHED_LATER, FETCHED_REFUSED };

static enum fetched fetch_and_work(struct consumer *c, struct slice target)
{
    struct response r;
    struct error err = {""};
    int rc = ask(&c->ask, target, (struct slice){0}, &r, &err);
    if (rc) {
        if (!stop)
            complain(c, err.text[0] ? err.text : strerror(-rc));
        return FETCHED_LATER;
    }
    if (r.status != 200) {
        complain_of(c, &r);
        return r.status >= 500 ? FETCHED_LATER : FETCHED_REFUSED;
    }
    struct slice gap = response_field(&r, SLICE("X-Sluice-Gap"));
    if (gap.len)
        fprintf(stderr, "sluice consume %s: messages were gone: offsets %.*s\n", c->group,
                SLICE_ARG(gap));
    if (!take_messages(c, &r)) {
        complain(c, "the server's answer is not understood");
        return FETCHED_REFUSED;
    }
    work_on_all(c);
    return c->count ? FETCHED : FETCHED_NOTHING;
}

/* Of a process of its own: its exit status. */
static int consume(struct consumer *c)
{
    struct error err = {""};
    struct buf target;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    buf_init(&target, 8192);
    buf_init(&c->answer, RESPONSE_BYTES_MAX);
    put_target(c, &target);
    int rc = ask_init(&c->ask, &c->server, &c->url, c->key, &err);
    c->ask.stop = &stop;
    if (rc)
        complain(c, err.text);
    enum fetched got = rc ? FETCHED_REFUSED : FETCHED;
    while (!stop && got != FETCHED_REFUSED) {
        got = fetch_and_work(c, buf_slice(&target));
        if (c->drain && got != FETCHED)
            break;
        if (got == FETCHED_LATER)
            clock_sleep_ns(AGAIN_NS);
    }
    ask_fini(&c->ask);
    buf_fini(&target);
    buf_fini(&c->answer);
    return got == FETCHED_REFUSED || (c->drain && got == FETCHED_LATER) ? CLI_FAILED : CLI_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void handle_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal}; /* no SA_RESTART: it ends waits */
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
}

/* Returns in each process but the first with true. */
static bool start(struct consumer *c, pid_t *pids, size_t *ret_count)
{
    for (*ret_count = 0; *ret_count < c->parallel; ++*ret_count) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            return true;
        }
        if (pid < 0) {
            complain(c, strerror(errno));
            stop = 1;
            return false;
        }
        pids[*ret_count] = pid;
    }
    return false;
}

static int wait_for_all(const pid_t *pids, size_t count)
{
    bool ended[PARALLEL_MAX] = {false};
    int worst = CLI_OK, status;
    for (size_t left = count; left > 0;) {
        for (size_t i = 0; i < count; i++) {
            if (ended[i] || waitpid(pids[i], &status, WNOHANG) != pids[i])
                continue;
            ended[i] = true;
            left--;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != CLI_OK)
                worst = CLI_FAILED;
        }
        for (size_t i = 0; stop && i < count; i++)
            if (!ended[i])
                kill(pids[i], SIGTERM);
        if (left)
            clock_sleep_ns(FORWARD_MS * NS_PER_MS);
    }
    return worst;
}

/* ---- what was asked for ---------------------------------------------------------------------- */

static bool number(const char *name, const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
    char *end;
    if (!text)
        return true;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && !*end && !errno && v >= least && v <= most) {
        *ret = v;
        return true;
    }
    fprintf(stderr, "sluice consume: --%s must be a number from %llu to %llu, not \"%s\"\n", name,
            (unsigned long long)least, (unsigned long long)most, text);
    return false;
}

/* From a file, or the environment: arguments are seen by everybody. */
static bool read_key(struct consumer *c, const char *path)
{
    const char *text = getenv("SLUICE_KEY");
    char line[KEY_MAX + 2] = "";
    if (path) {
        FILE *f = fopen(path, "re");
        text = f && fgets(line, sizeof line, f) ? line : NULL;
        if (f)
            fclose(f);
    }
    size_t len = text ? strcspn(text, "\r\n") : 0;
    if (len == 0 || len > KEY_MAX) {
        fprintf(stderr, "sluice consume: %s\n",
                path ? "there is no key in the file"
                     : "give the account's key: in SLUICE_KEY or with --key-file");
        return false;
    }
    memcpy(c->key, text, len);
    return true;
}

static bool is_name(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return n > 0 && !text[n];
}

struct texts {
    const char *url, *key_file, *parallel, *max, *lease, *delay, *tries;
};

static bool settle(struct consumer *c, const struct texts *t)
{
    c->parallel = c->max = c->delay_s = 1;
    c->lease_s = 30;
    c->tries = 5;
    if (!number("parallel", t->parallel, 1, PARALLEL_MAX, &c->parallel) ||
        !number("max", t->max, 1, CONSUME_MESSAGES_MAX, &c->max) ||
        !number("lease", t->lease, 3, CONSUME_LEASE_S_MAX, &c->lease_s) ||
        !number("delay", t->delay, 0, CONSUME_DELAY_S_MAX, &c->delay_s) ||
        !number("tries", t->tries, 1, UINT32_MAX, &c->tries))
        return false;
    if (!c->group || !c->command || !is_name(c->group)) {
        fputs("sluice consume: give --group NAME and --exec COMMAND\n", stderr);
        return false;
    }
    if (!url_parse(t->url ? t->url : "http://127.0.0.1:8080", &c->url) || !url_is_http(&c->url)) {
        fprintf(stderr, "sluice consume: \"%s\" is no URL of HTTP\n", t->url);
        return false;
    }
    c->server.timeout_ns = (WAIT_S + TRY_S) * NS_PER_S;
    if (!read_key(c, t->key_file))
        return false;
    forget_variables();
    return true;
}

int cmd_consume(int argc, char **argv)
{
    static struct consumer c;
    struct texts t = {0};
    const struct opt opts[] = {
        {"group", "NAME", "The consumer group; made if there is none", &c.group, NULL, NULL},
        {"exec", "COMMAND", "For each message, by sh -c; status 0: it is done", &c.command, NULL,
         NULL},
        {"parallel", "N", "Consumers side by side; default: 1", &t.parallel, NULL, NULL},
        {"max", "N", "Messages that each fetches at once; default: 1", &t.max, NULL, NULL},
        {"lease", "SECONDS",
         "After so long what a consumer has is another's, if it is not heard of; "
         "default: 30",
         &t.lease, NULL, NULL},
        {"delay", "SECONDS", "Pause behind a failure, doubled with each up to 300; default: 1",
         &t.delay, NULL, NULL},
        {"dead", "COMMAND", "Takes messages that failed --tries times; status 0: they are done",
         &c.dead, NULL, NULL},
        {"tries", "N", "Default: 5", &t.tries, NULL, NULL},
        {"feeds", "LIST", "Of a new group: feed keys with commas, * at an end matches", &c.feeds,
         NULL, NULL},
        {"from", "PLACE", "Of a new group: now or oldest; default: now", &c.from, NULL, NULL},
        {"drain", NULL, "End when there is nothing more to do", NULL, &c.drain, NULL},
        {"url", "URL", "The server; default: http://127.0.0.1:8080", &t.url, NULL, NULL},
        {"key-file", "FILE", "Its first line is the account's key; default: SLUICE_KEY",
         &t.key_file, NULL, NULL},
        {"ca", "FILE", "Certificates to believe the server by", &c.server.ca, NULL, NULL},
        {"insecure", NULL, "Believe any certificate", NULL, &c.server.insecure, NULL},
        {0}};
    const struct opt_syntax syntax = {
        .path = "sluice consume",
        .text = "Run a command for each message of a consumer group",
        .more =
            "The value comes on standard input; the environment has SLUICE_FEED (or SLUICE_TOPIC), "
            "SLUICE_OFFSET,\nSLUICE_DELIVERY, SLUICE_KIND, SLUICE_ID, SLUICE_DEVICE, "
            "SLUICE_CREATED_AT, SLUICE_LAT, _LON, _ELE. A message\nwhose command fails comes "
            "again. "
            "SIGTERM ends it behind the messages in hand.\n",
        .opts = opts,
        .examples =
            "  sluice consume --group mail --feeds 'alarm.*' --exec 'mail -s \"$SLUICE_FEED\" "
            "ops@example.org'\n"};
    int status;
    pid_t pids[PARALLEL_MAX];
    size_t count;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!settle(&c, &t))
        return CLI_USAGE;
    handle_signals();
    if (start(&c, pids, &count)) {
        fflush(NULL);
        _exit(consume(&c));
    }
    return wait_for_all(pids, count);
}
