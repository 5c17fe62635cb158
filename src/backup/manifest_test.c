/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "backup/manifest.c"

static struct file_digest digest(uint64_t bytes)
{
    struct file_digest d = {.bytes = bytes};
    for (unsigned i = 0; i < sizeof d.sha256; i++)
        d.sha256[i] = (uint8_t)(bytes * 31 + i * 7);
    return d;
}

static void make(struct manifest *m, unsigned files)
{
    *m = (struct manifest){.version = "0.1.0",
                           .made = "2026-01-02T03:04:05Z",
                           .oldest = 7,
                           .position = UINT64_MAX - 1,
                           .sealed = files % 2};
    for (unsigned i = 0; i < sizeof m->log_id; i++)
        m->log_id[i] = (uint8_t)(i * 17);
    for (unsigned i = 0; i < files; i++) {
        char path[64];
        struct file_digest d = digest(i);
        snprintf(path, sizeof path, i % 2 ? "history/%06u.sst" : "journal/%020u.slg", i);
        assert_true(manifest_add(m, path, &d));
    }
}

static struct buf format(const struct manifest *m)
{
    struct buf text;
    buf_init(&text, MANIFEST_BYTES_MAX);
    manifest_format(m, &text);
    assert_false(text.failed);
    return text;
}

static void reads_what_it_writes(void **state)
{
    for (unsigned files = 0; files < 300; files = files * 2 + 1) {
        struct manifest m, back = {.files = NULL};
        struct error err = {""};
        make(&m, files);
        struct buf text = format(&m);
        assert_int_equal(manifest_parse(buf_slice(&text), &back, &err), 0);
        assert_string_equal(back.version, m.version);
        assert_string_equal(back.made, m.made);
        assert_memory_equal(back.log_id, m.log_id, sizeof m.log_id);
        assert_true(back.oldest == 7 && back.position == UINT64_MAX - 1);
        assert_int_equal(back.sealed, files % 2);
        assert_int_equal(back.count, files);
        if (files)
            assert_memory_equal(back.files, m.files, files * sizeof *m.files);
        assert_null(manifest_find(&back, "catalog.db"));
        assert_ptr_equal(manifest_find(&back, "journal/00000000000000000000.slg"), back.files);
        buf_fini(&text);
        manifest_fini(&m);
        manifest_fini(&back);
    }
}

/* Every flip of a bit, every cut and every byte too many is found. */
static void finds_damage(void **state)
{
    struct manifest m, back = {.files = NULL};
    make(&m, 5);
    struct buf text = format(&m);
    for (size_t at = 0; at < text.len; at++) {
        struct error err = {""};
        char *copy = malloc(text.len); /* so that the address sanitizer sees reads beyond a cut */
        memcpy(copy, text.ptr, text.len);
        for (unsigned bit = 0; bit < 8; bit++) {
            copy[at] = (char)(copy[at] ^ 1 << bit);
            int rc = manifest_parse(slice_of(copy, text.len), &back, &err);
            assert_true(rc == -EBADMSG || (rc == -EPROTONOSUPPORT && at == 14));
            assert_true(err.text[0] && !back.files && !back.count);
            copy[at] = (char)(copy[at] ^ 1 << bit);
        }
        free(copy);
        copy = malloc(at + 1);
        memcpy(copy, text.ptr, at);
        assert_int_equal(manifest_parse(slice_of(copy, at), &back, &err), -EBADMSG);
        free(copy);
    }
    buf_put_str(&text, "\n");
    assert_int_equal(manifest_parse(buf_slice(&text), &back, &(struct error){""}), -EBADMSG);
    buf_fini(&text);
    manifest_fini(&m);
}

/* Of a list whose last line is right, whatever stands before. */
static int parse_with_sum(const char *head)
{
    struct manifest back = {.files = NULL};
    struct buf text;
    struct error err = {""};
    buf_init(&text, 4096);
    buf_put_str(&text, head);
    put_end(&text, 0);
    int rc = manifest_parse(buf_slice(&text), &back, &err);
    manifest_fini(&back);
    buf_fini(&text);
    return rc;
}

#define HEAD                                                                                       \
    "sluice-backup 1\nversion 1\nmade x\nlog 00112233445566778899aabbccddeeff\noldest 0\n"         \
    "position 1\nsealed no\n"
#define OLDEST_TOO_HIGH                                                                            \
    "sluice-backup 1\nversion 1\nmade x\nlog 00112233445566778899aabbccddeeff\noldest 2\n"         \
    "position 1\nsealed no\n"
#define SUM "0000000000000000000000000000000000000000000000000000000000000000"

/* A list whose sum is right, but which would have a restore write where it must not. */
static void refuses_what_no_backup_says(void **state)
{
    assert_int_equal(parse_with_sum(HEAD), 0);
    assert_int_equal(parse_with_sum(HEAD "file 1 " SUM " catalog.db\n"), 0);
    static const char *const bad[] = {
        HEAD "file 1 " SUM " keyring\n",
        HEAD "file 1 " SUM " keyring.erased\n",
        HEAD "file 1 " SUM " /etc/passwd\n",
        HEAD "file 1 " SUM " journal/../keyring\n",
        HEAD "file 1 " SUM " journal/..\n",
        HEAD "file 1 " SUM " journal/\n",
        HEAD "file 1 " SUM " journal/a/b\n",
        HEAD "file 1 " SUM " history/a b\n",
        HEAD "file 1 " SUM " history/.x\n",
        HEAD "file 1 " SUM "\n",
        HEAD "file 1 00 catalog.db\n",
        HEAD "file 18446744073709551616 " SUM " catalog.db\n",
        HEAD "file x " SUM " catalog.db\n",
        HEAD "folder 1\n",
        "sluice-backup 1\nversion 1\nmade x\nlog 00\noldest 0\nposition 1\nsealed no\n",
        OLDEST_TOO_HIGH,
        "sluice-backup 1\n",
        "sluice-backup 0\n",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse_with_sum(bad[i]) != -EBADMSG)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(parse_with_sum("sluice-backup 2\nanything\n"), -EPROTONOSUPPORT);
    struct manifest m = {.files = NULL};
    struct file_digest d = digest(1);
    assert_false(manifest_add(&m, "verified.snap", &d));
    assert_false(manifest_add(&m, "history/a/b", &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(finds_damage),
        cmocka_unit_test(refuses_what_no_backup_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
