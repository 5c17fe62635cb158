/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "config_table.h"

static struct config *parsed(const char *yaml)
{
    struct config *c = NULL;
    struct error err = {""};
    if (config_parse("f.yaml", slice_str(yaml), &c, &err))
        fail_msg("refused: %s", err.text);
    return c;
}

/* The text must be refused with a message that begins and goes on as said. */
static void refused(const char *yaml, const char *place, const char *why)
{
    struct config *c = (struct config *)&c;
    struct error err = {""};
    if (config_parse("f.yaml", slice_str(yaml), &c, &err) != -EINVAL)
        fail_msg("not refused: %s", yaml);
    assert_ptr_equal(c, &c);
    if (strncmp(err.text, place, strlen(place)) != 0 || !strstr(err.text, why))
        fail_msg("for %s\nthe message is   %s\nand should begin %s and say %s", yaml, err.text,
                 place, why);
}

static void nothing_is_all_defaults(void **state)
{
    static const char *const empty[] = {"",
                                        "\n\n",
                                        "# only a comment\n",
                                        "---\n",
                                        "---\n...\n",
                                        "~\n",
                                        "{}",
                                        "server:\n# data: x\n",
                                        "server: {}\nhttp:\n"};
    struct buf want, got;
    struct config *c = NULL;
    struct error err;
    assert_int_equal(config_load(NULL, &c, &err), 0);
    assert_string_equal(c->server.data, "data");
    assert_int_equal(c->http.body_max, 1048576);
    assert_int_equal(c->auth.failures_credential.windows[0].count, 10);
    assert_int_equal(c->throttle.address.windows_count, 0);
    buf_init(&want, 1 << 20);
    buf_init(&got, 1 << 20);
    config_format(c, &want);
    config_free(c);
    for (unsigned i = 0; i < sizeof empty / sizeof *empty; i++) {
        c = parsed(empty[i]);
        buf_clear(&got);
        config_format(c, &got);
        assert_true(slice_eq(buf_slice(&got), buf_slice(&want)));
        config_free(c);
    }
    buf_fini(&want);
    buf_fini(&got);
}

static void reads_every_kind(void **state)
{
    struct config *c = parsed(
        "server:\n"
        "  data: /var/lib/sl\xc3\xbcice  # blank and comment end it\n"
        "  workers: 64\n"
        "  stop_deadline: 5m\n"
        "  log_level: 'warn'\n"
        "http: {head_max: 64KiB, body_max: \"3 MiB\", body_rate_min: 1GB, cors_origin: \"\"}\n"
        "listen:\n"
        "  proxy_protocol: true\n"
        "auth:\n"
        "  negative_ttl: 0\n"
        "throttle:\n"
        "  address: 600/60s, 50/1s, accepted, distance=200ms\n"
        "journal:\n"
        "  retain_size: 1125899906842624\n");
    assert_string_equal(c->server.data, "/var/lib/sl\xc3\xbcice");
    assert_int_equal(c->server.workers, 64);
    assert_int_equal(c->server.stop_deadline, 300000);
    assert_string_equal(c->server.log_level, "warn");
    assert_int_equal(c->http.head_max, 65536);
    assert_int_equal(c->http.body_max, 3 << 20);
    assert_int_equal(c->http.body_rate_min, 1000000000);
    assert_string_equal(c->http.cors_origin, "");
    assert_true(c->listen.proxy_protocol);
    assert_int_equal(c->auth.negative_ttl, 0);
    assert_int_equal(c->throttle.address.windows_count, 2);
    assert_int_equal(c->throttle.address.windows[1].count, 50);
    assert_true(c->throttle.address.count_accepted);
    assert_int_equal(c->throttle.address.min_distance_ms, 200);
    assert_true(c->journal.retain_size == 1125899906842624);
    config_free(c);
}

static void refuses_bad_values(void **state)
{
    refused("server:\n  workers: 65\n", "f.yaml:2: server.workers: ", "must be 0 to 64, not 65");
    refused("server:\n\n  workers: four\n",
            "f.yaml:3: server.workers: ", "whole number, not \"four\"");
    refused("server:\n  workers: -1\n", "f.yaml:2: server.workers: ", "whole number");
    refused("server:\n  workers: 0x10\n", "f.yaml:2: server.workers: ", "whole number");
    refused("server:\n  workers: 99999999999999999999\n",
            "f.yaml:2: server.workers: ", "whole number");
    refused("server:\n  workers: 4KiB\n", "f.yaml:2: server.workers: ", "whole number");
    refused("listen: {backlog: 0}\n", "f.yaml:1: listen.backlog: ", "must be 1 to 65535, not 0");
    refused("http:\n  head_max: 1023\n",
            "f.yaml:2: http.head_max: ", "must be 1KiB to 64KiB, not 1023");
    refused("http:\n  head_max: 65KiB\n", "f.yaml:2: http.head_max: ", "must be 1KiB to 64KiB");
    refused("http:\n  head_max: 1.5KiB\n", "f.yaml:2: http.head_max: ", "a size such as 64MiB");
    refused("http:\n  head_max: 10 apples\n", "f.yaml:2: http.head_max: ", "not \"10 apples\"");
    refused("http:\n  head_max: 18014398509481984KiB\n", "f.yaml:2: http.head_max: ", "a size");
    refused("http:\n  idle_timeout: 99ms\n",
            "f.yaml:2: http.idle_timeout: ", "must be 100ms to 1d");
    refused("http:\n  idle_timeout: 0\n", "f.yaml:2: http.idle_timeout: ", "must be 100ms to 1d");
    refused("http:\n  idle_timeout: 30\n", "f.yaml:2: http.idle_timeout: ", "a length such as 30s");
    refused("http:\n  idle_timeout: 30 s\n",
            "f.yaml:2: http.idle_timeout: ", "a length such as 30s");
    refused("listen:\n  proxy_protocol: yes\n",
            "f.yaml:2: listen.proxy_protocol: ", "must be true or false, not \"yes\"");
    refused("ack:\n  level: durably\n", "f.yaml:2: ack.level: ",
            "must be one of received, durable, applied, delivered:kafka, ");
    refused("ack:\n  level: delivered\n", "f.yaml:2: ack.level: ", "not \"delivered\"");
    refused("ack:\n  level: \"\"\n", "f.yaml:2: ack.level: ", "must be one of");
    refused("ack:\n  level: received|durable\n", "f.yaml:2: ack.level: ", "must be one of");
    refused("throttle:\n  address: 60\n", "f.yaml:2: throttle.address: ", "write COUNT/LENGTH");
    refused("throttle:\n  address: 60/5ms\n",
            "f.yaml:2: throttle.address: ", "the window at least 10ms");
    refused("throttle:\n  address: \"1/1s,\\n1/2s\"\n", "f.yaml:2: throttle.address: ", "control");
    refused("server:\n  data: \"a\\0b\"\n", "f.yaml:2: server.data: ", "control characters");
    refused("server:\n  data: \"a\\nb\"\n", "f.yaml:2: server.data: ", "control characters");
}

static void refuses_wrong_forms(void **state)
{
    refused("server:\n  data: [a, b]\n", "f.yaml:2: server.data: ", "a single value, not a list");
    refused("server:\n  data:\n    x: y\n",
            "f.yaml:3: server.data: ", "a single value, not a mapping");
    refused("server:\n  data: &a x\nlisten:\n  http: *a\n",
            "f.yaml:4: listen.http: ", "not an alias");
    refused("server:\n  data: !!str x\n", "f.yaml:2: server.data: ", "without a YAML tag");
    refused("server:\n  data:\n", "f.yaml:2: server.data: ", "has no value");
    refused("server:\n  data: ~\n", "f.yaml:2: server.data: ", "has no value");
    refused("server:\n  data: null\n", "f.yaml:2: server.data: ", "has no value");
    refused("server:\n  workers: 1\n  workrs: 2\n", "f.yaml:3: server.workrs: ", "no such setting");
    refused("server:\n  log_level: info\nsever:\n  data: x\n",
            "f.yaml:3: sever: ", "no such section");
    refused("server:\n  http: x\n", "f.yaml:2: server.http: ", "no such setting");
    refused("server:\n  data: a\n  workers: 1\n  data: b\n", "f.yaml:4: server.data: ", "twice");
    refused("server:\n  data: a\nhttp:\nserver:\n  workers: 1\n", "f.yaml:5: server: ", "twice");
    refused("server: 5\n", "f.yaml:1: server: ", "must hold settings, not a single value");
    refused("server:\n - data\n", "f.yaml:2: server: ", "must hold settings, not a list");
    refused("- server\n", "f.yaml:1: ", "must hold sections such as \"server:\", not a list");
    refused("server\n", "f.yaml:1: ", "not a single value");
    refused("? [a]\n: b\n", "f.yaml:1: ", "name of a section");
    refused("server:\n  ? {a: b}\n  : b\n", "f.yaml:2: server: ", "name of a setting");
    refused("server:\n  data: x\n---\nserver:\n", "f.yaml:3: ", "only one YAML document");
    refused("server:\n  data: 'x\n", "f.yaml:3: ", "this is not YAML");
    refused("server:\n\tdata: x\n", "f.yaml:2: ", "this is not YAML");
    refused("server:\n  data: x\n data: y\n", "f.yaml:3: ", "this is not YAML");
    refused("server:\n  data: \xff\xfe\n", "f.yaml:2: ", "UTF-8");
    refused("server:\n  \"da\\eta\": x\n", "f.yaml:2: server.da?ta: ", "no such setting");
}

static void refuses_files(void **state)
{
    struct config *c;
    struct error err;
    assert_int_equal(config_load("/nowhere/sluice.yaml", &c, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/sluice.yaml: cannot be read: No such file"));
    assert_int_equal(config_load("/", &c, &err), -EISDIR);

    size_t len = (1 << 20) + 1;
    char *big = malloc(len);
    memset(big, '\n', len);
    assert_int_equal(config_parse("big", slice_of(big, len), &c, &err), -EINVAL);
    assert_string_equal(err.text, "big: the file is over 1048576 bytes long");
    assert_int_equal(config_parse("big", slice_of(big, len - 1), &c, &err), 0);
    config_free(c);

    char path[] = "/tmp/sluice-config-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, big, len), len);
    assert_int_equal(config_load(path, &c, &err), -EINVAL);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, "ack:\n  level: applied\n", 22, 0), 22);
    assert_int_equal(config_load(path, &c, &err), 0);
    assert_string_equal(c->ack.level, "applied");
    config_free(c);
    close(fd);
    unlink(path);
    free(big);
}

static void a_flag_overrides(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } bad[] = {
        {"server.workers", "--set \"server.workers\": write section.name=value"},
        {"workers=1.5", "--set \"workers=1.5\": write section.name=value"},
        {"=", "--set \"=\": write section.name=value"},
        {"", "--set \"\": write section.name=value"},
        {"server.wrkers=1", "--set server.wrkers: there is no such setting"},
        {".=", "--set .: there is no such setting"},
        {"server.workers=", "--set server.workers: must be a whole number, not \"\""},
        {"server.workers=65", "--set server.workers: must be 0 to 64, not 65"},
        {"server.data=\xff", "--set server.data: must be UTF-8"},
    };
    struct config *c = parsed("server:\n  workers: 1\n  data: x\n");
    struct error err = {""};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(config_set(c, "--set", slice_str(bad[i].text), &err), -EINVAL);
        assert_string_equal(err.text, bad[i].message);
    }
    assert_int_equal(c->server.workers, 1);
    assert_int_equal(config_set(c, "--set", SLICE("server.workers=2"), &err), 0);
    assert_int_equal(config_set(c, "--set", SLICE("server.data=a=b.c"), &err), 0);
    assert_int_equal(config_set(c, "--set", SLICE("listen.operator="), &err), 0);
    assert_int_equal(c->server.workers, 2);
    assert_string_equal(c->server.data, "a=b.c");
    assert_string_equal(c->listen.operator, "");
    config_free(c);
}

/* Each setting at its bounds and just outside, from the table itself. */
static void bounds_hold_for_every_number(void **state)
{
    struct config *c = parsed("");
    unsigned seen = 0;
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &config_settings[i];
        char text[300];
        struct error err;
        if (s->kind != SETTING_NUMBER && s->kind != SETTING_SIZE && s->kind != SETTING_DURATION)
            continue;
        seen++;
        const char *unit = s->kind == SETTING_DURATION ? "ms" : "";
        const uint64_t good[] = {s->min, s->max, s->number}, bad[] = {s->max + 1, s->min - 1};
        for (unsigned k = 0; k < 3; k++) {
            snprintf(text, sizeof text, "%s.%s=%llu%s", s->section, s->name,
                     (unsigned long long)good[k], unit);
            assert_int_equal(config_set(c, "--set", slice_str(text), &err), 0);
            assert_true(*(uint64_t *)((char *)c + s->offset) == good[k]);
        }
        for (unsigned k = 0; k < (s->min ? 2 : 1); k++) {
            snprintf(text, sizeof text, "%s.%s=%llu%s", s->section, s->name,
                     (unsigned long long)bad[k], unit);
            assert_int_equal(config_set(c, "--set", slice_str(text), &err), -EINVAL);
        }
    }
    assert_true(seen > 30);
    config_free(c);
}

struct told {
    char text[400];
    size_t len;
};

static void on_told(void *arg, const struct config_change *c)
{
    struct told *t = arg;
    t->len += (size_t)snprintf(t->text + t->len, sizeof t->text - t->len, "%s.%s%c%.*s>%.*s\n",
                               c->section, c->name, c->live ? '=' : '!', SLICE_ARG(c->before),
                               SLICE_ARG(c->after));
}

/* What is live is taken over, the rest stays, and both are told. */
static void a_config_succeeds_another(void **state)
{
    struct config *now = parsed("http: {cors_origin: a, body_max: 2KiB}\n");
    struct config *next = parsed("http: {cors_origin: b, body_max: 3KiB}\nserver: {data: x}\n"
                                 "throttle: {address: 5/1s}\n");
    struct told told = {0};
    assert_int_equal(config_succeed(now, next, on_told, &told), 0);
    assert_string_equal(told.text, "server.data!data>x\nhttp.body_max!2KiB>3KiB\n"
                                   "http.cors_origin=a>b\nthrottle.address=>5/1s\n");
    config_free(now); /* nothing borrows from it */
    assert_string_equal(next->server.data, "data");
    assert_int_equal(next->http.body_max, 2048);
    assert_string_equal(next->http.cors_origin, "b");
    assert_int_equal(next->throttle.address.windows_count, 1);
    config_free(next);
}

static void lists_are_checked(void **state)
{
    refused("listen:\n  trusted_proxies: 10.0.0.0/8, 10.0.0.0/99\n",
            "f.yaml:2: listen.trusted_proxies: ", "\"10.0.0.0/99\" is no network");
    refused("listen:\n  http: 127.0.0.1:80,here\n",
            "f.yaml:2: listen.http: ", "\"here\" is no address");
    struct buf many;
    buf_init(&many, 4096);
    buf_put_str(&many, "listen:\n  trusted_proxies: \"");
    for (unsigned i = 0; i <= CONFIG_NETWORKS_MAX; i++)
        buf_put_str(&many, "10.0.0.0/8,");
    buf_put_str(&many, "\"\n");
    buf_put_u8(&many, 0);
    refused(many.ptr, "f.yaml:2: listen.trusted_proxies: ", "there are over 64");
    buf_fini(&many);
    struct config *c = parsed("listen: {trusted_proxies: \"\", http: \", ::1,\"}\n");
    config_free(c);
}

/* Sets every setting away from its default and reads back what is written. */
static void writes_what_it_reads(void **state)
{
    struct config *c = parsed("");
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &config_settings[i];
        char text[300];
        struct error err = {""};
        const char *choice = s->choices ? strrchr(s->choices, '|') : NULL;
        snprintf(text, sizeof text, "%s.%s=", s->section, s->name);
        size_t at = strlen(text);
        if (s->kind == SETTING_STRING)
            snprintf(text + at, sizeof text - at, "%s",
                     "null: \"x\" 'y' #\\ \xe2\x80\xa8 \xef\xbb\xbf \xf0\x9f\x98\x80 ");
        else if (s->kind == SETTING_CHOICE)
            snprintf(text + at, sizeof text - at, "%s", choice + 1);
        else if (s->kind == SETTING_LIST)
            snprintf(text + at, sizeof text - at, "%s",
                     strcmp(s->choices, "networks") ? "[::1]:80, /run/x" : "10.0.0.0/8, ::/0");
        else if (s->kind == SETTING_FLAG)
            snprintf(text + at, sizeof text - at, "%s", s->number ? "false" : "true");
        else if (s->kind == SETTING_LIMITS)
            snprintf(text + at, sizeof text - at, "%d/90s, accepted, distance=1m", i + 1);
        else
            snprintf(text + at, sizeof text - at, "%llu%s",
                     (unsigned long long)(s->min + (s->max - s->min) / 3 * 2),
                     s->kind == SETTING_DURATION ? "ms" : "");
        if (config_set(c, "--set", slice_str(text), &err))
            fail_msg("%s: %s", text, err.text);
    }
    struct buf first, second;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    config_format(c, &first);
    assert_false(first.failed);
    struct config *d;
    struct error err = {""};
    if (config_parse("again", buf_slice(&first), &d, &err))
        fail_msg("%s in\n%.*s", err.text, SLICE_ARG(buf_slice(&first)));
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        struct buf a, b;
        buf_init(&a, 8192);
        buf_init(&b, 8192);
        setting_format(&a, &config_settings[i], c);
        setting_format(&b, &config_settings[i], d);
        assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
        setting_format_default(&b, &config_settings[i]);
        assert_false(slice_eq(buf_slice(&a), slice_from(buf_slice(&b), a.len)));
        buf_fini(&a);
        buf_fini(&b);
    }
    config_format(d, &second);
    assert_true(slice_eq(buf_slice(&first), buf_slice(&second)));
    config_free(c);
    config_free(d);
    buf_fini(&first);
    buf_fini(&second);
}

/* docs/options.md is written by the program; here it must not have fallen behind. */
static void docs_are_fresh(void **state)
{
    char path[1000], text[65536];
    struct buf want;
    snprintf(path, sizeof path, "%.*s../docs/options.md",
             (int)(sizeof __FILE__ - sizeof "config_test.c"), __FILE__);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    buf_init(&want, 1 << 20);
    config_format_docs(&want);
    assert_false(want.failed);
    if (!slice_eq(slice_of(text, n), buf_slice(&want)))
        fail_msg("run: sluice config docs > docs/options.md");
    buf_fini(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_all_defaults),
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(refuses_wrong_forms),
        cmocka_unit_test(refuses_files),
        cmocka_unit_test(a_flag_overrides),
        cmocka_unit_test(bounds_hold_for_every_number),
        cmocka_unit_test(a_config_succeeds_another),
        cmocka_unit_test(lists_are_checked),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(docs_are_fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
