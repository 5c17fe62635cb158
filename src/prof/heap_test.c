/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Whatever is preloaded is found through this. */
#define dlsym find_preloaded
static void *find_preloaded(void *handle, const char *name);
#include "prof/heap.c"

static bool preloaded, profiles;
static int dump_rc;

static int control(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
{
    if (!strcmp(name, "opt.prof")) {
        assert_int_equal(*old_len, sizeof profiles);
        memcpy(old, &profiles, sizeof profiles);
        return 0;
    }
    assert_string_equal(name, "prof.dump");
    assert_int_equal(new_len, sizeof(char *));
    if (dump_rc)
        return dump_rc;
    FILE *file = fopen(*(const char **)new, "w");
    assert_non_null(file);
    fputs("heap_v2/524288\n", file);
    fclose(file);
    return 0;
}

static void print(void (*put_text)(void *arg, const char *text), void *arg, const char *opts)
{
    (void)opts;
    put_text(arg, "much ");
    put_text(arg, "is in use\n");
}

static void *find_preloaded(void *handle, const char *name)
{
    (void)handle;
    if (!preloaded)
        return NULL;
    return !strcmp(name, "mallctl") ? (void *)control : (void *)print;
}

static void glibc_only_counts(void **state)
{
    (void)state;
    struct buf out;
    struct error err = {""};
    preloaded = false;
    buf_init(&out, 10000);
    assert_int_equal(heap_profile(&out, &err), REASON_not_implemented);
    assert_non_null(strstr(err.text, "LD_PRELOAD"));
    heap_describe(&out);
    buf_put_u8(&out, 0);
    assert_non_null(strstr(out.ptr, "in use"));
    buf_fini(&out);
}

static void jemalloc_tells_if_it_was_told_to(void **state)
{
    (void)state;
    struct buf out;
    struct error err = {""};
    preloaded = true;
    profiles = false;
    buf_init(&out, 10000);
    assert_int_equal(heap_profile(&out, &err), REASON_not_implemented);
    profiles = true;
    assert_int_equal(heap_profile(&out, &err), REASON_ok);
    assert_true(slice_eq(buf_slice(&out), SLICE("heap_v2/524288\n")));
    buf_clear(&out);
    heap_describe(&out);
    assert_true(slice_eq(buf_slice(&out), SLICE("much is in use\n")));
    dump_rc = 14;
    assert_int_equal(heap_profile(&out, &err), REASON_internal);
    assert_non_null(strstr(err.text, "jemalloc"));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(glibc_only_counts),
        cmocka_unit_test(jemalloc_tells_if_it_was_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
