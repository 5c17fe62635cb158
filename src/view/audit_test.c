/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log on a disk in memory that is cut, killed, full, and tampered with. */
#include "view/audit.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/rand.h"
#include "journal/disk_sim.h"

#define DIR    "/d/audit"
#define DAY_US (86400 * US_PER_S)
#define MAY_US (1777593600 * US_PER_S) /* 2026-05-01 */

static struct disk_sim *sim;
static struct keyring *ring;
static uint64_t keep_ms, file_bytes, log_low;

static struct audit_opts opts_now(void)
{
    return (struct audit_opts){.disk = disk_sim_disk(sim),
                               .dir = DIR,
                               .keyring = ring,
                               .log_id = {log_low, 2},
                               .keep_ms = keep_ms,
                               .file_bytes = file_bytes};
}

static int setup(void **state)
{
    sim = disk_sim_new(1);
    struct disk *d = disk_sim_disk(sim);
    assert_int_equal(d->mkdir(d, "/d"), 0);
    ring = NULL;
    keep_ms = 0;
    file_bytes = 1u << 20;
    log_low = 1;
    return 0;
}

static int teardown(void **state)
{
    keyring_close(ring);
    disk_sim_free(sim);
    return 0;
}

static struct audit *reopen(uint64_t *ret_cursor)
{
    struct audit_opts opts = opts_now();
    struct audit *a = NULL;
    struct error err = {""};
    uint64_t cursor;
    if (audit_open(&opts, &a, &cursor, &err) != 0)
        fail_msg("%s", err.text);
    if (ret_cursor)
        *ret_cursor = cursor;
    return a;
}

/* The log cannot be opened, and that is said in a sentence with `words`. */
static void refused(int code, const char *words)
{
    struct audit_opts opts = opts_now();
    struct audit *a = NULL;
    struct error err = {""};
    uint64_t cursor;
    assert_int_equal(audit_open(&opts, &a, &cursor, &err), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in: %s", words, err.text);
}

/* ---- a journal of audit records -------------------------------------------------------------- */

/* Every third record is one; its change has the number of the record. */
static bool is_audit(uint64_t offset)
{
    return offset % 3 == 0;
}

static int64_t time_of(uint64_t offset)
{
    return MAY_US + (int64_t)offset * US_PER_S;
}

static void put_change(struct audit *a, uint64_t offset, uint64_t change, int64_t at_us,
                       uint64_t account, uint32_t key_id)
{
    char text[100];
    snprintf(text, sizeof text, "{\"change_id\":%llu,\"op\":\"canary%llu\"}",
             (unsigned long long)change, (unsigned long long)change);
    audit_apply(a,
                &(struct record){.kind = RECORD_AUDIT,
                                 .account = account,
                                 .event_us = at_us,
                                 .key_id = key_id,
                                 .payload = slice_str(text)},
                offset);
}

static void put(struct audit *a, uint64_t offset)
{
    if (is_audit(offset))
        put_change(a, offset, offset + 1, time_of(offset), 0, 0);
}

static void put_all(struct audit *a, uint64_t from, uint64_t to)
{
    for (; from < to; from++)
        put(a, from);
}

/* A log of 20 entries of the records below 60, closed. */
static void make_log(void)
{
    struct audit *a = reopen(NULL);
    put_all(a, 0, 60);
    assert_int_equal(audit_flush(a, 60), 0);
    audit_close(a);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct found {
    uint64_t numbers[200], changes[200], last_offset;
    enum seal_outcome sealed[200];
    unsigned count, damaged, wanted;
    char text[300];
};

static bool on_entry(void *arg, const struct audit_entry *e)
{
    struct found *f = arg;
    assert_true(f->count < 200);
    f->numbers[f->count] = e->number;
    f->sealed[f->count] = e->sealed;
    f->changes[f->count++] = e->change;
    f->damaged += e->damaged;
    if (f->count == 1)
        f->last_offset = e->offset;
    snprintf(f->text, sizeof f->text, "%.*s", SLICE_ARG(e->text));
    return f->count != f->wanted;
}

static struct audit_place place(void)
{
    return (struct audit_place){disk_sim_disk(sim), DIR, ring};
}

static struct found read_from(uint64_t before, unsigned wanted)
{
    struct found f = {.wanted = wanted};
    struct error err = {""};
    struct audit_place p = place();
    if (audit_read(&p, before, INT64_MIN, on_entry, &f, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static char damage_text[4000];

static void on_damage(void *arg, const char *file, uint64_t line, const char *what)
{
    size_t n = strlen(damage_text);
    snprintf(damage_text + n, sizeof damage_text - n, "%s:%llu: %s\n", file,
             (unsigned long long)line, what);
}

static struct audit_verified verify(void)
{
    struct audit_verified v;
    struct error err = {""};
    struct audit_place p = place();
    damage_text[0] = 0;
    if (audit_verify(&p, on_damage, NULL, &v, &err) != 0)
        fail_msg("%s", err.text);
    return v;
}

static void verify_good(uint64_t entries)
{
    struct audit_verified v = verify();
    assert_string_equal(damage_text, "");
    assert_int_equal(v.damaged, 0);
    assert_int_equal(v.entries, entries);
}

/* Verifying finds it, and says so with these words. */
static void verify_bad(const char *words)
{
    struct audit_verified v = verify();
    if (!v.damaged || !strstr(damage_text, words))
        fail_msg("\"%s\" is not in: %s", words, damage_text);
}

/* Every audit record below `end`, each once, in their order. */
static void check_entries(uint64_t end)
{
    struct found f = read_from(0, 0);
    unsigned n = 0;
    for (uint64_t at = end; at-- > 0;) {
        if (!is_audit(at))
            continue;
        assert_int_equal(f.changes[n], at + 1);
        n++;
    }
    assert_int_equal(f.count, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(f.numbers[i], f.numbers[0] - i);
    assert_int_equal(f.damaged, 0);
}

static void path_of(char out[100], uint64_t first)
{
    char name[AUDIT_NAME_BYTES];
    audit_name(name, first);
    snprintf(out, 100, DIR "/%s", name);
}

static size_t files_there(void)
{
    struct audit_names names;
    assert_int_equal(audit_find_files(disk_sim_disk(sim), DIR, &names), 0);
    free(names.first);
    return names.count;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void entries_are_listed(void **state)
{
    struct audit *a = reopen(NULL);
    uint64_t cursor;
    put_all(a, 0, 31);
    assert_int_equal(audit_flush(a, 31), 0);
    check_entries(31);
    verify_good(11);
    assert_int_equal(audit_stats(a).entries, 11);
    audit_close(a);
    a = reopen(&cursor);
    assert_int_equal(cursor, 31);
    put_all(a, 0, 60); /* what was taken is not taken again */
    assert_int_equal(audit_flush(a, 60), 0);
    check_entries(60);
    verify_good(20);
    assert_int_equal(files_there(), 1);
    struct found f = read_from(5, 2);
    assert_int_equal(f.count, 2);
    assert_int_equal(f.numbers[0], 4);
    assert_int_equal(f.numbers[1], 3);
    assert_string_equal(f.text, "{\"change_id\":7,\"op\":\"canary7\"}");
    audit_close(a);
}

static void files_follow(void **state)
{
    file_bytes = 1000;
    for (unsigned i = 0; i < 6; i++) {
        struct audit *a = reopen(NULL);
        put_all(a, i * 10, i * 10 + 10);
        assert_int_equal(audit_flush(a, i * 10 + 10), 0);
        audit_close(a);
    }
    assert_true(files_there() > 3);
    check_entries(60);
    verify_good(20);
    /* And one for every month. */
    size_t before = files_there();
    file_bytes = 1u << 20;
    struct audit *a = reopen(NULL);
    for (unsigned i = 1; i <= 3; i++)
        put_change(a, 60 + i, 60 + i, MAY_US + i * 31 * DAY_US, 0, 0);
    assert_int_equal(audit_flush(a, 64), 0);
    assert_int_equal(files_there(), before + 3);
    verify_good(23);
    audit_close(a);
}

static void a_change_appears_once(void **state)
{
    struct audit *a = reopen(NULL);
    put_change(a, 10, 1, MAY_US + 10, 0, 0);
    put_change(a, 11, 2, MAY_US + 20, 0, 0);
    put_change(a, 12, 3, MAY_US + 15, 0, 0); /* the clock was set back */
    put_change(a, 13, 2, MAY_US + 20, 0, 0); /* the catalog's process had died */
    put_change(a, 14, 3, MAY_US + 15, 0, 0);
    put_change(a, 15, 4, MAY_US + 30, 0, 0);
    assert_int_equal(audit_flush(a, 16), 0);
    assert_int_equal(read_from(0, 0).count, 4);
    audit_close(a);
    uint64_t cursor;
    a = reopen(&cursor);
    assert_int_equal(cursor, 16);
    put_change(a, 16, 4, MAY_US + 30, 0, 0);
    put_change(a, 17, 1, MAY_US + 40, 0, 0); /* another catalog, that begins from 1 */
    put_change(a, 18, 2, MAY_US + 41, 0, 0);
    put_change(a, 19, 1, MAY_US + 40, 0, 0);
    assert_int_equal(audit_flush(a, 20), 0);
    struct found f = read_from(0, 0);
    assert_int_equal(f.count, 6);
    assert_int_equal(f.changes[0], 2);
    assert_int_equal(f.changes[1], 1);
    assert_int_equal(f.changes[2], 4);
    audit_close(a);
}

/* Power cuts and kills at every call that writes; what the journal gives from the cursor on makes
 * it whole. */
static void torn_tails_are_made_again(void **state)
{
    unsigned torn = 0;
    file_bytes = 700;
    log_set_level((enum log_level)(LOG_ERROR + 1)); /* thousands of failures, all meant */
    for (unsigned seed = 0; seed < 400; seed++) {
        disk_sim_free(sim);
        sim = disk_sim_new(seed);
        struct disk *d = disk_sim_disk(sim);
        d->mkdir(d, "/d");
        d->sync_dir(d, "/");
        disk_sim_faults(sim)->early = 30000;
        uint64_t done = 0;
        struct rand r = {seed};
        for (unsigned run = 0; run < 6; run++) {
            struct audit_opts opts = opts_now();
            struct audit *a = NULL;
            struct error err = {""};
            uint64_t cursor = 0;
            disk_sim_die_after(sim, run == 5 ? 0 : 1 + rand_below(&r, 25));
            int code = audit_open(&opts, &a, &cursor, &err);
            if (code == 0) {
                assert_true(cursor >= done); /* what was told to be durable was */
                for (uint64_t at = cursor; at < 60; at += 4) {
                    put_all(a, at, at + 4 < 60 ? at + 4 : 60);
                    uint64_t next = at + 4 < 60 ? at + 4 : 60;
                    uint64_t durable = audit_tick(a, next, at * NS_PER_S);
                    done = durable > done ? durable : done;
                }
                if (audit_flush(a, 60) == 0)
                    done = 60;
                audit_close(a);
            } else if (!disk_sim_dead(sim)) {
                fail_msg("seed %u: %s", seed, err.text);
            }
            torn += disk_sim_dead(sim);
            disk_sim_die_after(sim, 0);
            if (rand_below(&r, 2))
                disk_sim_cut(sim);
            else
                disk_sim_kill(sim);
        }
        check_entries(60);
        verify_good(20);
    }
    log_set_level(LOG_INFO);
    assert_true(torn > 500);
}

static void a_failed_sync_is_made_good(void **state)
{
    struct audit *a = reopen(NULL);
    put_all(a, 0, 9);
    assert_int_equal(audit_flush(a, 9), 0);
    put_all(a, 9, 30);
    disk_sim_faults(sim)->syncs_failing = 1;
    assert_true(audit_flush(a, 30) < 0);
    assert_int_equal(a->saved.cursor, 9);
    put_all(a, 30, 33);
    assert_int_equal(audit_flush(a, 33), 0);
    audit_close(a);
    disk_sim_cut(sim);
    check_entries(33);
    verify_good(11);
    a = reopen(NULL);
    /* A disk that takes nothing: lines wait, up to a bound. */
    disk_sim_faults(sim)->capacity = 1;
    uint64_t offset = 33;
    for (; !audit_stuck(a); offset += 3)
        put(a, offset);
    assert_true(offset > 10000 && a->pending.len < AUDIT_PENDING_MAX / 2);
    assert_int_equal(audit_tick(a, offset, NS_PER_S), 33);
    disk_sim_faults(sim)->capacity = 0;
    assert_int_equal(audit_tick(a, offset, 2 * NS_PER_S), offset);
    assert_false(audit_stuck(a));
    audit_close(a);
    verify_good(offset / 3);
}

/* ---- tampering ------------------------------------------------------------------------------- */

struct lines {
    char *at[100];
    unsigned count;
};

/* The file's lines, without their ends; the caller frees at[0]. */
static struct lines lines_of(const char *path)
{
    const char *ptr;
    size_t len;
    struct lines l = {0};
    assert_int_equal(disk_sim_peek(sim, path, &ptr, &len), 0);
    char *text = strndup(ptr, len);
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = 0;
        l.at[l.count++] = at;
    }
    return l;
}

static void write_lines(const char *path, const struct lines *l)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    for (unsigned i = 0; i < l->count; i++) {
        if (!l->at[i])
            continue;
        buf_put_str(&b, l->at[i]);
        buf_put_u8(&b, '\n');
    }
    assert_int_equal(disk_sim_resize(sim, path, b.len), 0);
    assert_int_equal(disk_sim_poke(sim, path, 0, b.ptr, b.len), 0);
    buf_fini(&b);
}

/* Gives the line the hash that its text would have. */
static void hash_again(const char *before, char *line)
{
    struct audit_hash prev, unused, right;
    struct slice rest;
    assert_true(audit_split(slice_str(before), &prev, &rest));
    assert_true(audit_split(slice_str(line), &unused, &rest));
    audit_hash(&prev, rest, &right);
    memcpy(line + 9, right.text, AUDIT_HASH_TEXT);
}

static void tampering_is_found(void **state)
{
    char path[100], *swap;
    make_log();
    path_of(path, 1);
    static const char *const cases[] = {
        "01.jsonl:8: it was changed",                        /* 0: a text edited */
        "01.jsonl:9: it was changed, or the line before it", /* 1: and its hash, too */
        "01.jsonl:8: entry 7 is missing before it",          /* 2: a line taken out */
        "01.jsonl:9: entry 7 stands where entry 9 must be",  /* 3: two lines swapped */
        "entries 19 to 20 are missing at the end",           /* 4: the last ones cut off */
        "01.jsonl:21: it is not the line that was the last", /* 5: the last made anew */
        "01.jsonl:1: it was changed",                        /* 6: the first line edited */
        "01.jsonl:8: it is no line",                         /* 7: rubbish */
        "01.jsonl:8: entries 7 to 9 are missing before it",  /* 8: three taken out */
        "01.jsonl:21: the file ends within it",              /* 9: cut within the last line */
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lines l = lines_of(path);
        char *mine = l.at[0], *edit = strstr(l.at[7], "canary");
        assert_int_equal(l.count, 21);
        struct lines good = lines_of(path);
        if (i <= 1)
            edit[0] = 'C';
        if (i == 1)
            hash_again(l.at[6], l.at[7]);
        if (i == 2 || i == 8)
            l.at[7] = NULL;
        if (i == 8)
            l.at[8] = l.at[9] = NULL;
        if (i == 3) {
            swap = l.at[7];
            l.at[7] = l.at[8];
            l.at[8] = swap;
        }
        if (i == 4)
            l.count -= 2;
        if (i == 5) {
            strstr(l.at[20], "canary")[0] = 'C';
            hash_again(l.at[19], l.at[20]);
        }
        if (i == 6)
            strstr(l.at[0], "change")[8] = '3';
        if (i == 7)
            l.at[7][3] = 'x';
        write_lines(path, &l);
        if (i == 9) {
            const char *unused;
            size_t len;
            disk_sim_peek(sim, path, &unused, &len);
            disk_sim_resize(sim, path, len - 10);
        }
        verify_bad(cases[i]);
        /* Nor is it taken up again. */
        refused(-EBADMSG, i == 4 ? "entries 19 to 20 are missing" : "01.jsonl:");
        write_lines(path, &good);
        verify_good(20);
        free(good.at[0]);
        free(mine);
    }
    audit_close(reopen(NULL));
}

static void missing_files_are_found(void **state)
{
    struct disk *d = disk_sim_disk(sim);
    char path[100];
    struct audit_names names;
    file_bytes = 700;
    make_log();
    assert_int_equal(audit_find_files(d, DIR, &names), 0);
    assert_true(names.count > 3);
    struct disk_sim *whole = disk_sim_copy(sim, 3);
    for (size_t i = 0; i < names.count; i++) {
        disk_sim_free(sim);
        sim = disk_sim_copy(whole, 4);
        d = disk_sim_disk(sim);
        path_of(path, names.first[i]);
        assert_int_equal(d->unlink(d, path), 0);
        if (i == 0)
            refused(-EBADMSG, "it is missing");
        if (i + 1 == names.count)
            refused(-EBADMSG, "are missing at its end");
        verify_bad("are missing");
        assert_int_equal(verify().damaged, 1);
    }
    disk_sim_free(sim);
    sim = disk_sim_copy(whole, 5);
    d = disk_sim_disk(sim);
    disk_sim_free(whole);
    free(names.first);
    assert_int_equal(d->unlink(d, DIR "/" AUDIT_STATE), 0);
    refused(-EBADMSG, "the file \"state\" is not");
}

static void other_logs_are_refused(void **state)
{
    make_log();
    log_low = 7;
    refused(-ESTALE, "belongs to another journal");
    log_low = 1;
    assert_int_equal(disk_sim_poke(sim, DIR "/" AUDIT_STATE, 100, "x", 1), 0);
    refused(-EBADMSG, "state is damaged");
}

/* ---- retention ------------------------------------------------------------------------------- */

static void old_files_go(void **state)
{
    struct clock_fake clock = {.mono_ns = NS_PER_S, .wall_us = MAY_US};
    struct audit *a;
    uint64_t cursor;
    clock_set_fake(&clock);
    keep_ms = 100 * 86400000ull;
    a = reopen(NULL);
    for (unsigned month = 0; month < 6; month++)
        for (unsigned i = 0; i < 2; i++)
            put_change(a, month * 2 + i, 1 + month * 2 + i, MAY_US + month * 31 * DAY_US + i, 0, 0);
    assert_int_equal(audit_flush(a, 12), 0);
    assert_int_equal(files_there(), 6);
    clock.wall_us = MAY_US + 165 * DAY_US; /* 65 days old is what came after day 0, 31, 62 */
    audit_tick(a, 12, 100 * NS_PER_S);
    assert_int_equal(files_there(), 3);
    verify_good(6);
    assert_int_equal(read_from(0, 0).count, 6);
    assert_int_equal(audit_stats(a).entries, 6);
    audit_close(a);
    /* A removal that a crash cut short is finished. */
    struct disk *d = disk_sim_disk(sim);
    struct disk_file *f;
    char path[100];
    path_of(path, 3);
    assert_int_equal(d->open(d, path, O_RDWR | O_CREAT, &f), 0);
    d->close(d, f);
    verify_good(6);
    a = reopen(&cursor);
    assert_int_equal(files_there(), 3);
    /* A first file that somebody took away is not what retention removed. */
    verify_good(6);
    /* All of it, and on from there. */
    clock.wall_us = MAY_US + 1000 * DAY_US;
    audit_tick(a, 12, 200 * NS_PER_S);
    assert_int_equal(files_there(), 0);
    verify_good(0);
    audit_close(a);
    a = reopen(&cursor);
    assert_int_equal(cursor, 12);
    put_change(a, 12, 13, clock.wall_us, 0, 0);
    assert_int_equal(audit_flush(a, 13), 0);
    verify_good(1);
    assert_int_equal(read_from(0, 0).numbers[0], 13);
    audit_set_keep(a, 0);
    clock.wall_us += 1000 * DAY_US;
    audit_tick(a, 13, 300 * NS_PER_S);
    verify_good(1);
    audit_close(a);
    a = reopen(&cursor);
    audit_close(a);
    clock_set_fake(NULL);
}

/* ---- sealing --------------------------------------------------------------------------------- */

static void sealed_entries(void **state)
{
    struct master_key key;
    struct error err = {""};
    const char *ptr;
    size_t len;
    char path[100];
    assert_true(master_key_make(SLICE("0123456789abcdef0123456789abcdef"), &key));
    assert_int_equal(keyring_open(disk_sim_disk(sim), "/d/keyring", &key, &ring, &err), 0);
    assert_int_equal(keyring_make(ring, 5), 0);
    assert_int_equal(keyring_make(ring, 6), 0);
    struct audit *a = reopen(NULL);
    put_change(a, 0, 1, MAY_US, 5, keyring_key_of(ring, 5));
    put_change(a, 1, 2, MAY_US, 6, keyring_key_of(ring, 6));
    put_change(a, 2, 3, MAY_US, 0, 0);
    assert_int_equal(audit_flush(a, 3), 0);
    path_of(path, 1);
    disk_sim_peek(sim, path, &ptr, &len);
    assert_null(memmem(ptr, len, "canary1", 7));
    assert_null(memmem(ptr, len, "canary2", 7));
    assert_non_null(memmem(ptr, len, "canary3", 7));
    struct found f = read_from(0, 0);
    assert_int_equal(f.sealed[0], SEAL_PLAIN);
    assert_int_equal(f.sealed[1], SEAL_DONE);
    assert_int_equal(f.sealed[2], SEAL_DONE);
    assert_string_equal(f.text, "{\"change_id\":1,\"op\":\"canary1\"}");
    /* The chain is over what is stored: it holds when the key is gone. */
    uint32_t gone = keyring_key_of(ring, 5);
    assert_int_equal(keyring_destroy(ring, 5), 0);
    put_change(a, 3, 4, MAY_US, 5, gone);
    assert_int_equal(audit_flush(a, 4), 0);
    verify_good(4);
    f = read_from(0, 0);
    assert_int_equal(f.count, 4);
    assert_int_equal(f.sealed[0], SEAL_ERASED);
    assert_int_equal(f.sealed[2], SEAL_DONE);
    assert_int_equal(f.sealed[3], SEAL_ERASED);
    /* Nor is a record that could not be opened left out. */
    audit_apply_shut(a, &(struct record){.kind = RECORD_AUDIT, .account = 5, .key_id = gone}, 4);
    audit_apply_shut(a, &(struct record){.kind = RECORD_AUDIT, .account = 7, .key_id = 99}, 5);
    audit_apply_shut(a, &(struct record){.kind = RECORD_DATUM, .account = 7, .key_id = 99}, 6);
    assert_int_equal(audit_flush(a, 7), 0);
    verify_good(6);
    f = read_from(0, 0);
    assert_int_equal(f.count, 6);
    assert_int_equal(f.sealed[0], SEAL_UNKNOWN);
    assert_int_equal(f.sealed[1], SEAL_ERASED);
    assert_int_equal(f.changes[1], 0);
    /* What the catalog tells once more is still known. */
    put_change(a, 7, 4, MAY_US, 6, 0);
    assert_int_equal(audit_flush(a, 8), 0);
    verify_good(6);
    audit_close(a);
    audit_close(reopen(NULL));
    struct keyring *was = ring;
    ring = NULL; /* nobody has the key */
    assert_int_equal(read_from(0, 0).sealed[2], SEAL_UNKNOWN);
    verify_good(6);
    ring = was;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entries_are_listed),
        TEST(files_follow),
        TEST(a_change_appears_once),
        TEST(torn_tails_are_made_again),
        TEST(a_failed_sync_is_made_good),
        TEST(tampering_is_found),
        TEST(missing_files_are_found),
        TEST(other_logs_are_refused),
        TEST(old_files_go),
        TEST(sealed_entries),
    };
    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
