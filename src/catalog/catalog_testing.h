/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/catalog_testing.h - what the catalog's tests share: a directory of their own, and a
 * journal that keeps what it is given and fails or blocks when told to. Tests only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "catalog/catalog.h"

#define RECORDS_MAX 300000

struct kept {
    enum record_kind kind;
    uint64_t account, feed, credential;
    char *payload;
};

struct fake_journal {
    pthread_mutex_t lock;
    struct kept *kept;
    unsigned count, calls, biggest;
    _Atomic int fail;     /* negative errno: refuse */
    _Atomic bool blocked; /* while true, emit waits */
    _Atomic unsigned tries;
    _Atomic unsigned die_at; /* _exit(9) at the start of this try; 0: never */
};

struct fixture {
    char dir[64];
    char path[96];
    struct fake_journal journal;
    struct catalog *catalog;
    struct catalog_opts opts;
};

static inline int on_emit(void *arg, const struct record *records, unsigned count)
{
    struct fake_journal *j = arg;
    if (++j->tries == j->die_at)
        _exit(9);
    while (j->blocked)
        clock_sleep_ns(NS_PER_MS);
    if (j->fail)
        return j->fail;
    pthread_mutex_lock(&j->lock);
    j->calls++;
    if (count > j->biggest)
        j->biggest = count;
    for (unsigned i = 0; i < count && j->count < RECORDS_MAX; i++) {
        const struct record *r = &records[i];
        j->kept[j->count++] = (struct kept){
            .kind = r->kind,
            .account = r->account,
            .feed = r->feed,
            .credential = r->credential,
            .payload = strndup(r->payload.ptr, r->payload.len),
        };
    }
    pthread_mutex_unlock(&j->lock);
    return 0;
}

static inline void journal_forget(struct fake_journal *j)
{
    pthread_mutex_lock(&j->lock);
    for (unsigned i = 0; i < j->count; i++)
        free(j->kept[i].payload);
    j->count = j->calls = j->biggest = 0;
    pthread_mutex_unlock(&j->lock);
}

static inline void open_catalog(struct fixture *f)
{
    struct error err = {"?"};
    int rc = catalog_open(&f->opts, &f->catalog, &err);
    if (rc)
        fail_msg("%s", err.text);
}

static inline void reopen(struct fixture *f)
{
    catalog_close(f->catalog);
    open_catalog(f);
}

static inline int set_up(void **state)
{
    log_set_level(LOG_ERROR + 1);
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/sluice-catalog-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/catalog.db", f->dir);
    pthread_mutex_init(&f->journal.lock, NULL);
    f->journal.kept = calloc(RECORDS_MAX, sizeof *f->journal.kept);
    f->opts = (struct catalog_opts){
        .path = f->path, .queue_max = 300000, .emit = on_emit, .emit_arg = &f->journal};
    open_catalog(f);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    char text[128];
    f->journal.blocked = false;
    catalog_close(f->catalog);
    journal_forget(&f->journal);
    free(f->journal.kept);
    unlink(f->path);
    snprintf(text, sizeof text, "%s-journal", f->path);
    unlink(text);
    rmdir(f->dir);
    free(f);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- asks; the references of the last answer are kept in `last` and given back by the next ----
 */

static struct catalog_ask last;

static inline void forget_last(void)
{
    account_unref(last.ret_account);
    credential_unref(last.ret_credential);
    feed_unref(last.ret_feed);
    last = (struct catalog_ask){0};
}

static inline enum reason ask(struct fixture *f, struct catalog_ask a)
{
    forget_last();
    last = a;
    last.actor = SLICE("cli");
    last.actor_credential = 77;
    return catalog_call(f->catalog, &last);
}

#define ASK(f, what, ...) ask((f), (struct catalog_ask){.op = CATALOG_##what, __VA_ARGS__})

static inline void set_digest(struct catalog_ask *a, uint64_t n)
{
    a->has_digest = true;
    memset(a->digest, 0xd1, sizeof a->digest);
    memcpy(a->digest, &n, sizeof n);
}

static inline enum reason add_key(struct fixture *f, const char *account, const char *name,
                                  uint64_t digest)
{
    struct catalog_ask a = {
        .op = CATALOG_KEY_ADD, .account = slice_str(account), .name = slice_str(name)};
    set_digest(&a, digest);
    return ask(f, a);
}

static inline void add_account(struct fixture *f, const char *name)
{
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = slice_str(name)), REASON_ok);
}

static inline uint64_t number_of(struct fixture *f, const char *account)
{
    struct account *a = catalog_account(f->catalog, slice_str(account));
    assert_non_null(a);
    uint64_t n = a->number;
    account_unref(a);
    return n;
}

static inline uint64_t change_id(const struct kept *k)
{
    static const char name[] = "{\"change_id\":";
    assert_memory_equal(k->payload, name, sizeof name - 1);
    return strtoull(k->payload + sizeof name - 1, NULL, 10);
}
