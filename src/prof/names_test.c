/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/names.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <crypt.h>

static __attribute__((noinline)) int hidden(int n)
{
    return n + 1;
}

static void static_functions_have_names(void **state)
{
    (void)state;
    struct error err = {""};
    struct names *n = names_open(&err);
    assert_non_null(n);
    assert_string_equal(names_symbol(n, (uint64_t)(uintptr_t)hidden), "hidden");
    const char *first = names_function(n, (uint64_t)(uintptr_t)hidden);
    assert_string_equal(first, "hidden");
    assert_ptr_equal(names_function(n, (uint64_t)(uintptr_t)hidden + 1), first);
    assert_null(names_symbol(n, 16));
    /* What a stripped library keeps to itself: its first byte is no function. */
    Dl_info info;
    assert_int_not_equal(dladdr((void *)(uintptr_t)crypt_rn, &info), 0);
    assert_memory_equal(names_symbol(n, (uint64_t)(uintptr_t)info.dli_fbase), "[libcrypt.so", 12);
    assert_string_equal(names_function(n, 16), "[unknown]");
    names_close(n);
    assert_int_equal(hidden(1), 2);
}

static void names_are_for_people(void **state)
{
    (void)state;
    struct error err = {""};
    struct names *n = names_open(&err);
    assert_string_equal(show(n, "write_run.lto_priv.0"), "write_run");
    assert_string_equal(show(n, "step.constprop.0.isra.0"), "step");
    assert_string_equal(show(n, "malloc@@GLIBC_2.2.5"), "malloc");
    assert_string_equal(show(n, ".plt"), ".plt");
    if (n->demangle) {
        assert_string_equal(show(n, "_ZN7rocksdb6DBImpl5WriteEv"), "rocksdb::DBImpl::Write()");
        assert_string_equal(show(n, "_Znonsense"), "_Znonsense");
    }
    char *longer = malloc(2000);
    memset(longer, 'a', 1999);
    longer[1999] = 0;
    assert_int_equal(strlen(show(n, longer)), NAME_BYTES_MAX);
    for (unsigned i = 0; i <= SHOWN_BYTES_MAX / NAME_BYTES_MAX; i++)
        show(n, longer);
    assert_string_equal(show(n, longer), "[too many names]");
    free(longer);
    names_close(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_functions_have_names),
        cmocka_unit_test(names_are_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
