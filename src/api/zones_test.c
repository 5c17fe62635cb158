/* SPDX-License-Identifier: Apache-2.0 */
#include "api/zones.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"

/* A version 1 file: one kind of local time, hours east of Greenwich, and nothing else. */
static void write_zone(const char *dir, const char *name, uint8_t hours)
{
    uint8_t file[44 + 6 + 4] = "TZif";
    uint32_t offset = hours * 3600u;
    file[39] = 1; /* kinds */
    file[43] = 4; /* bytes of abbreviations */
    for (unsigned i = 0; i < 4; i++)
        file[44 + i] = (uint8_t)(offset >> (24 - 8 * i));
    memcpy(file + 50, "ABC", 4);
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, sizeof file, f), sizeof file);
    fclose(f);
}

static int offset_at(struct zones *z, const char *name, uint64_t now_ns, bool may_block)
{
    struct zone_time t;
    struct error why;
    enum zones_found found = zones_at(z, slice_str(name), 0, now_ns, may_block, &t, &why);
    return found == ZONES_FOUND ? t.offset_s / 3600 : -(int)found;
}

static void keeps_what_it_has_read(void **state)
{
    (void)state;
    char dir[] = "/tmp/zones-XXXXXX", path[300], name[32];
    assert_non_null(mkdtemp(dir));
    struct zones *z = zones_new(disk_posix(), dir);
    write_zone(dir, "A", 1);
    assert_int_equal(offset_at(z, "UTC", 0, false), 0); /* without a file */
    assert_int_equal(offset_at(z, "A", 1, false), -(int)ZONES_INCOMPLETE);
    assert_int_equal(offset_at(z, "A", 1, true), 1);
    assert_int_equal(offset_at(z, "A", 1, false), 1);
    /* An hour later it is read again; meanwhile it is not. */
    write_zone(dir, "A", 2);
    assert_int_equal(offset_at(z, "A", 3599 * NS_PER_S, false), 1);
    assert_int_equal(offset_at(z, "A", 3601 * NS_PER_S, false), -(int)ZONES_INCOMPLETE);
    assert_int_equal(offset_at(z, "A", 3601 * NS_PER_S, true), 2);
    assert_int_equal(offset_at(z, "A", 3601 * NS_PER_S, false), 2);
    /* More than are kept are all answered, and the first ones stay. */
    for (unsigned i = 0; i < 1100; i++) {
        snprintf(name, sizeof name, "Z%u", i);
        write_zone(dir, name, (uint8_t)(i % 12));
        assert_int_equal(offset_at(z, name, 3602 * NS_PER_S, true), i % 12);
    }
    assert_int_equal(offset_at(z, "Z1000", 3602 * NS_PER_S, false), 1000 % 12);
    assert_int_equal(offset_at(z, "Z1099", 3602 * NS_PER_S, false), -(int)ZONES_INCOMPLETE);
    for (unsigned i = 0; i < 1100; i++) {
        snprintf(path, sizeof path, "%s/Z%u", dir, i);
        unlink(path);
    }
    zones_free(z);
    snprintf(path, sizeof path, "%s/A", dir);
    unlink(path);
    rmdir(dir);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    char dir[] = "/tmp/zones-XXXXXX", path[300];
    struct zone_time t;
    struct error why;
    assert_non_null(mkdtemp(dir));
    struct zones *z = zones_new(disk_posix(), dir);
    snprintf(path, sizeof path, "%s/text", dir);
    FILE *f = fopen(path, "wb");
    fputs("no zone", f);
    fclose(f);
    assert_int_equal(zones_at(z, SLICE("text"), 0, 1, true, &t, &why), ZONES_NONE);
    assert_string_equal(why.text, "not found - there is no time zone \"text\"");
    f = fopen(path, "wb");
    fputs("TZif", f);
    fclose(f);
    assert_int_equal(zones_at(z, SLICE("text"), 0, 1, true, &t, &why), ZONES_FAILED);
    assert_string_equal(why.text, "the time zone \"text\" cannot be used: it is no TZif file");
    assert_int_equal(truncate(path, 1 << 20), 0); /* as large as no zone is */
    assert_int_equal(zones_at(z, SLICE("text"), 0, 1, true, &t, &why), ZONES_NONE);
    /* What the database has twice is not there twice. */
    char posix[300], copy[310];
    snprintf(posix, sizeof posix, "%s/posix", dir);
    snprintf(copy, sizeof copy, "%s/A", posix);
    assert_int_equal(mkdir(posix, 0700), 0);
    write_zone(posix, "A", 1);
    assert_int_equal(zones_at(z, SLICE("posix/A"), 0, 1, true, &t, &why), ZONES_NONE);
    unlink(copy);
    rmdir(posix);
    assert_int_equal(zones_at(z, SLICE("None"), 0, 1, true, &t, &why), ZONES_NONE);
    assert_string_equal(why.text, "not found - there is no time zone \"None\"");
    unlink(path);
    rmdir(dir);
    assert_int_equal(zones_at(z, SLICE("None"), 0, 1, true, &t, &why), ZONES_NONE);
    assert_non_null(strstr(why.text, "this server has no time zones"));
    zones_free(z);
    zones_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_it_has_read),
        cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
