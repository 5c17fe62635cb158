/* SPDX-License-Identifier: Apache-2.0 */
#include "load/recording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/sluice_recording_XXXXXX";

static int make(void **state)
{
    close(mkstemp(path));
    return 0;
}

static int drop(void **state)
{
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static int take(void *arg, const struct recorded *r)
{
    *(uint64_t *)arg += r->us + r->body + r->fields_count;
    return r->us == 99 ? 7 : 0;
}

#define GOOD                                                                                       \
    "{\"us\":5,\"method\":\"POST\",\"target\":\"/v1?a\",\"fields\":[[\"A\",\"b\"],[\"C\",\"\"]],"  \
    "\"body\":10}\n"

static void lines_are_requests(void **state)
{
    uint64_t sum = 0;
    write_file(GOOD GOOD);
    assert_int_equal(recording_read(path, take, &sum, NULL), 0);
    assert_int_equal(sum, 34);
    write_file("{\"us\":99,\"method\":\"GET\",\"target\":\"/\",\"fields\":[],\"body\":0}\n" GOOD);
    assert_int_equal(recording_read(path, take, &sum, NULL), 7);
}

static void others_are_refused_with_their_line(void **state)
{
    static const char *const bad[] = {
        "x\n",
        "{}\n",
        "{\"us\":-1,\"method\":\"GET\",\"target\":\"/\",\"fields\":[],\"body\":0}\n",
        "{\"us\":1,\"method\":\"G T\",\"target\":\"/\",\"fields\":[],\"body\":0}\n",
        "{\"us\":1,\"method\":\"GET\",\"target\":\"x\",\"fields\":[],\"body\":0}\n",
        "{\"us\":1,\"method\":\"GET\",\"target\":\"/\\r\\nA: b\",\"fields\":[],\"body\":0}\n",
        "{\"us\":1,\"method\":\"GET\",\"target\":\"/\",\"fields\":[[\"a:\",\"b\"]],\"body\":0}\n",
        "{\"us\":1,\"method\":\"GET\",\"target\":\"/\",\"fields\":[[\"a\",\"b\\n\"]],\"body\":0}\n",
        "{\"us\":1,\"method\":\"GET\",\"target\":\"/\",\"fields\":[[\"a\"]],\"body\":0}\n",
    };
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        char text[1024];
        snprintf(text, sizeof text, "%s%s", GOOD, bad[i]);
        write_file(text);
        assert_int_equal(recording_read(path, take, &sum, &err), -EINVAL);
        assert_non_null(strstr(err.text, ":2: no request"));
    }
    struct error err = {0};
    write_file("");
    assert_int_equal(recording_read(path, take, &sum, &err), -EINVAL);
    assert_int_equal(recording_read("/nonexistent/x", take, &sum, &err), -ENOENT);
}

static void paths_of_a_kind_are_equal(void **state)
{
    static const struct {
        const char *target, *path;
    } cases[] = {
        {"/v1/telemetry?ack=x", "/v1/telemetry"},
        {"/api/v2/alice/feeds/door/data", "/api/v2/*/feeds/*/data"},
        {"/api/v2/alice/feeds/door/data/last?x", "/api/v2/*/feeds/*/data/last"},
        {"/api/v2/alice/feeds/door/data/01ABC", "/api/v2/*/feeds/*/data/*"},
        {"/api/v2/data/groups/feeds/feeds/data/data/chart",
         "/api/v2/*/groups/*/feeds/*/data/chart"},
        {"/api/v2/user", "/api/v2/user"},
        {"/", "/"},
        {"/a//b/", "/a//b/"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = recorded_path(slice_str(cases[i].target), out, sizeof out);
        assert_true(slice_eq(slice_of(out, n), slice_str(cases[i].path)));
    }
    assert_int_equal(recorded_path(SLICE("/abcdef/gh"), out, 4), 4);
    assert_true(recorded_hidden(SLICE("***")) && !recorded_hidden(SLICE("**x")));
    assert_false(recorded_hidden(SLICE("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_requests),
        cmocka_unit_test(others_are_refused_with_their_line),
        cmocka_unit_test(paths_of_a_kind_are_equal),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
