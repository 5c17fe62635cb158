/* SPDX-License-Identifier: Apache-2.0 */
#include "server_emit.h"

#include <errno.h>
#include <pthread.h>

#include "base/metric.h"
#include "flow/limits.h"

struct emission {
    struct journal_append append;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool finished;
};

static void on_emitted(struct journal_append *a)
{
    struct emission *e = a->owner;
    pthread_mutex_lock(&e->lock);
    e->finished = true;
    pthread_cond_signal(&e->done);
    pthread_mutex_unlock(&e->lock);
}

/* One record that the catalog emits, into the append; false: it is full. What is about an account
 * is sealed with its key, and empty when that was destroyed. */
static bool put_emitted(const struct emitter *s, struct journal_append *a, struct record r,
                        struct buf *storage)
{
    if (s->keyring && r.kind != RECORD_DELETED && r.account) {
        enum seal_outcome done = seal_record(s->sealer, &r, storage);
        if (done == SEAL_ERASED)
            r.payload = (struct slice){0};
        else if (done == SEAL_MEMORY)
            return false;
    }
    return journal_put(a, &r);
}

/* The accounts' keys, where they have none yet. Catalog's thread: it may wait for the disk. */
static int make_emitted_keys(const struct emitter *s, const struct record *records, unsigned count)
{
    int rc = 0;
    for (unsigned i = 0; i < count && rc == 0 && s->keyring; i++) {
        if (!records[i].account || keyring_key_of(s->keyring, records[i].account))
            continue;
        rc = keyring_make(s->keyring, records[i].account);
        rc = rc == -EKEYREVOKED ? 0 : rc;
        metric_set(METRIC_keyring_keys, keyring_stats(s->keyring).keys);
    }
    return rc;
}

/* One append of as many records as fit; waits until it is durable. */
static int emit_some(const struct emitter *s, const struct record *records, unsigned count,
                     unsigned *taken)
{
    struct emission e = {.append = {.done = on_emitted, .owner = &e}};
    buf_init(&e.append.body, BATCH_BYTES_MAX);
    struct buf storage;
    buf_init(&storage, BATCH_BYTES_MAX);
    while (*taken < count && put_emitted(s, &e.append, records[*taken], &storage))
        ++*taken;
    buf_fini(&storage);
    if (!e.append.count) {
        buf_fini(&e.append.body);
        return -E2BIG;
    }
    pthread_mutex_init(&e.lock, NULL);
    pthread_cond_init(&e.done, NULL);
    enum reason reason = journal_submit(s->journal, &e.append);
    if (reason == REASON_ok) {
        pthread_mutex_lock(&e.lock);
        while (!e.finished)
            pthread_cond_wait(&e.done, &e.lock);
        pthread_mutex_unlock(&e.lock);
        reason = e.append.reason;
    }
    pthread_mutex_destroy(&e.lock);
    pthread_cond_destroy(&e.done);
    buf_fini(&e.append.body);
    return reason == REASON_ok ? 0 : -EAGAIN;
}

int emitter_emit(const struct emitter *s, const struct record *records, unsigned count)
{
    unsigned taken = 0;
    int rc = make_emitted_keys(s, records, count);
    while (rc == 0 && taken < count)
        rc = emit_some(s, records, count, &taken);
    return rc;
}
