/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog's thread. What it does with a batch of asks, in this order and never in another:
 *
 *   1. one transaction: the changes and their outbox rows      db, batch, outbox
 *   2. emit: the rows become durable records of the journal    outbox_emit
 *   3. publish: the look-ups see the changes                   batch_publish
 *   4. answer: `done`                                          batch_answer
 *
 * 1. While a batch is owed (2 has not succeeded), no other transaction begins, so that database
 *    and memory differ by at most that batch, and records leave in order. 2 is tried again after a
 *    pause that doubles up to a second.
 * 2. When that takes longer than emit_wait, the batch's askers are told journal_failed: the change
 *    is stored and will take effect. From then on new asks are refused at once, unchanged, until
 *    the journal takes records again.
 * 3. Emitted rows are removed in the next transaction that writes, or when the thread is idle, or
 *    at close: an answer never waits for the removal.
 * 4. Without `emit` 2 is left out and the rows stay for a server that opens the database later.
 */
#include "catalog/catalog.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "catalog/image.h"
#include "catalog/load.h"

#define PAUSE_FIRST_NS (10 * NS_PER_MS)
#define PAUSE_MAX_NS   NS_PER_S
#define EMIT_WAIT_MS   5000u
#define TIDY_AFTER_NS  (50 * NS_PER_MS) /* without a new ask */
#define IMAGE_PAUSE_NS (10 * NS_PER_MS) /* between two pieces of a copy: 25 MB/s at the most */
#define WAIT_FOREVER   UINT64_MAX

static const char text_stored[] = "the change is stored; it takes effect once the journal takes "
                                  "records again";
static const char text_refused[] = "the journal takes no records now; nothing was changed";
static const char text_stopping[] = "the server is stopping; nothing was changed";
static const char text_later[] = "the server is stopping; the change is stored and takes effect "
                                 "when it runs again";

/* A copy that catalog_image waits for. */
struct copy {
    const char *path;
    void (*at)(void *arg);
    void *arg;
    struct error *err;
    bool done; /* under the lock */
    int code;
    /* The thread's: */
    struct image image;
    bool begun;
    uint64_t next_ns; /* when the next piece is due, whoever asks for what */
};

struct catalog {
    struct catalog_opts opts;
    struct memory memory;
    _Atomic uint64_t generation, renamings;
    _Atomic uint64_t transactions, outbox_rows;
    _Atomic uint64_t owed_since_ns; /* what the outbox holds; the thread writes it */

    /* The thread's alone, and catalog_open's and catalog_close's. */
    struct db db;
    struct outbox outbox;
    struct batch batch;
    bool owed; /* the batch waits for the journal */
    bool late; /* and its askers were told so */
    uint64_t pause_ns;
    bool tidy_failed; /* not tried again until a transaction succeeds */

    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread: an ask, or stopping */
    pthread_cond_t told; /* callers of catalog_call, and of catalog_open and catalog_close */
    struct catalog_ask *first, **last;
    _Atomic uint64_t queued;
    unsigned callers; /* inside catalog_call */
    bool scrub;       /* catalog_scrub waits */
    int scrub_code;
    struct copy *_Atomic copy; /* NULL: none is wanted. Who waits sets it, the thread clears it */
    bool stopping, settled;    /* settled: the first attempt to emit what was left is over */

    pthread_t thread;
};

/* ---- the queue ------------------------------------------------------------------------------- */

enum reason catalog_submit(struct catalog *c, struct catalog_ask *ask)
{
    enum reason r = REASON_ok;
    ask->next = NULL;
    ask->ret_account = NULL;
    ask->ret_credential = NULL;
    ask->ret_feed = NULL;
    ask->ret_group = NULL;
    ask->text[0] = 0;
    pthread_mutex_lock(&c->lock);
    if (c->stopping) {
        r = REASON_stopping;
    } else if (c->queued >= c->opts.queue_max) {
        r = REASON_busy;
    } else {
        *c->last = ask;
        c->last = &ask->next;
        if (c->queued++ == 0)
            pthread_cond_signal(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* Waits up to `ns` for an ask (unless `only_stop`) or for the end. True: stopping. */
static bool wait_for_asks(struct catalog *c, uint64_t ns, bool only_stop)
{
    uint64_t until = ns == WAIT_FOREVER ? UINT64_MAX : clock_mono_ns() + ns;
    pthread_mutex_lock(&c->lock);
    while (!c->stopping &&
           (only_stop || (!c->first && !c->scrub && !(c->copy && !c->copy->begun))) &&
           cond_wait_until(&c->wake, &c->lock, until))
        ;
    bool stopping = c->stopping;
    pthread_mutex_unlock(&c->lock);
    return stopping;
}

static struct catalog_ask *take_queue(struct catalog *c)
{
    pthread_mutex_lock(&c->lock);
    struct catalog_ask *asks = c->first;
    c->first = NULL;
    c->last = &c->first;
    c->queued = 0;
    pthread_mutex_unlock(&c->lock);
    return asks;
}

static void refuse_queue(struct catalog *c, enum reason reason, const char *text)
{
    for (struct catalog_ask *ask = take_queue(c), *next; ask; ask = next) {
        next = ask->next;
        ask_refuse(ask, reason, "%s", text);
        ask->done(ask);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void count_transaction(struct catalog *c)
{
    c->transactions++;
    metric_add(METRIC_catalog_transactions, 1);
}

static void note_outbox(struct catalog *c)
{
    c->outbox_rows = c->outbox.waiting;
    metric_set(METRIC_catalog_outbox, c->outbox.waiting);
}

/* Removes emitted rows in a transaction of their own. */
static void tidy(struct catalog *c)
{
    if (c->tidy_failed || !outbox_is_untidy(&c->outbox))
        return;
    int rc = db_begin(&c->db);
    if (rc == SQLITE_DONE)
        rc = outbox_tidy(&c->outbox);
    if (rc == SQLITE_DONE)
        rc = db_commit(&c->db);
    if (rc == SQLITE_OK) {
        outbox_tidied(&c->outbox);
        count_transaction(c);
        return;
    }
    db_rollback(&c->db);
    c->tidy_failed = true;
    log_line(LOG_ERROR, "catalog.tidy_failed", "path=%s code=%d error=\"%s\"", c->db.path, rc,
             c->db.last.text);
}

static void publish(struct catalog *c)
{
    if (batch_publish(&c->batch, &c->memory))
        atomic_fetch_add_explicit(&c->generation, 1, memory_order_release);
    if (c->batch.renamed)
        atomic_fetch_add_explicit(&c->renamings, 1, memory_order_release);
    batch_answer(&c->batch, REASON_ok, "");
    batch_clear(&c->batch);
}

/* One attempt to pay what the journal is owed. */
static void try_emit(struct catalog *c)
{
    int rc = outbox_emit(&c->outbox, c->opts.emit, c->opts.emit_arg);
    note_outbox(c);
    if (rc == 0) {
        if (c->pause_ns)
            log_line(LOG_INFO, "catalog.emit_resumed", "path=%s after_ms=%llu", c->db.path,
                     (unsigned long long)((clock_mono_ns() - c->owed_since_ns) / NS_PER_MS));
        c->owed = false;
        c->pause_ns = 0;
        publish(c);
        return;
    }
    if (c->pause_ns == 0)
        log_line(LOG_WARN, "catalog.emit_failed", "path=%s error=%s rows=%llu", c->db.path,
                 strerrorname_np(-rc), (unsigned long long)c->outbox.waiting);
    c->pause_ns = c->pause_ns ? c->pause_ns * 2 : PAUSE_FIRST_NS;
    if (c->pause_ns > PAUSE_MAX_NS)
        c->pause_ns = PAUSE_MAX_NS;
}

/* The askers have waited long enough. Returns for how long they may wait on. */
static uint64_t refuse_late(struct catalog *c)
{
    uint64_t max = (c->opts.emit_wait_ms ? c->opts.emit_wait_ms : EMIT_WAIT_MS) * NS_PER_MS;
    uint64_t waited = clock_mono_ns() - c->owed_since_ns;
    if (waited < max)
        return max - waited;
    if (!c->late)
        batch_answer(&c->batch, REASON_journal_failed, text_stored);
    c->late = true;
    refuse_queue(c, REASON_journal_failed, text_refused);
    return PAUSE_MAX_NS;
}

static void owe(struct catalog *c)
{
    c->owed = true;
    c->late = false;
    c->pause_ns = 0;
    c->owed_since_ns = clock_mono_ns();
}

/* Tries, and pauses after a failure. True: stopping. */
static bool pay(struct catalog *c)
{
    try_emit(c);
    if (!c->owed)
        return false;
    uint64_t left = refuse_late(c);
    uint64_t until = clock_mono_ns() + (left < c->pause_ns ? left : c->pause_ns);
    /* Once late, an ask ends the wait, to be refused at once; the pause goes on after it. */
    for (uint64_t now = clock_mono_ns(); now < until; now = clock_mono_ns()) {
        if (wait_for_asks(c, until - now, !c->late))
            return true;
        if (c->late)
            refuse_queue(c, REASON_journal_failed, text_refused);
    }
    refuse_late(c);
    return false;
}

static void run_asks(struct catalog *c)
{
    struct catalog_ask *asks = take_queue(c);
    if (!asks)
        return;
    bool wrote = batch_run(&c->batch, asks);
    if (wrote) {
        count_transaction(c);
        c->tidy_failed = false;
    }
    if (wrote && c->opts.emit)
        owe(c);
    note_outbox(c);
    if (!c->owed)
        publish(c);
}

static void settled(struct catalog *c)
{
    if (c->settled)
        return;
    pthread_mutex_lock(&c->lock);
    c->settled = true;
    pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
}

static void scrub(struct catalog *c)
{
    c->tidy_failed = false;
    tidy(c); /* rows that are in the journal by now are to go too */
    int code = c->tidy_failed || db_scrub(&c->db) != SQLITE_OK ? -EIO : 0;
    if (code)
        log_line(LOG_ERROR, "catalog.scrub_failed", "path=%s error=\"%s\"", c->db.path,
                 c->db.last.text);
    pthread_mutex_lock(&c->lock);
    c->scrub = false;
    c->scrub_code = code;
    pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
}

int catalog_scrub(struct catalog *c)
{
    pthread_mutex_lock(&c->lock);
    c->scrub = true;
    pthread_cond_signal(&c->wake);
    while (c->scrub && !c->stopping)
        pthread_cond_wait(&c->told, &c->lock);
    int code = c->scrub ? -ESHUTDOWN : c->scrub_code;
    pthread_mutex_unlock(&c->lock);
    return code;
}

static void copy_ended(struct catalog *c, int code)
{
    struct copy *copy = c->copy;
    image_end(&copy->image);
    pthread_mutex_lock(&c->lock);
    copy->code = code;
    copy->done = true;
    c->copy = NULL;
    pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
}

/* A piece. Rows that are in the journal by now are not to be in the copy. */
static void copy_some(struct catalog *c)
{
    struct copy *copy = c->copy;
    int code = 0;
    if (!copy->begun)
        code = image_begin(&copy->image, &c->db, copy->path, copy->err);
    copy->begun = true;
    copy->next_ns = clock_mono_ns() + IMAGE_PAUSE_NS;
    if (code == 0) {
        tidy(c);
        code = image_step(&copy->image, copy->err);
    }
    if (code == 0)
        copy->at(copy->arg);
    if (code <= 0)
        copy_ended(c, code);
}

int catalog_image(struct catalog *c, const char *path, void (*at)(void *arg), void *arg,
                  struct error *err)
{
    struct copy copy = {.path = path, .at = at, .arg = arg, .err = err};
    pthread_mutex_lock(&c->lock);
    CHECK(!c->copy);
    c->callers++;
    if (c->stopping) {
        copy.code = error_set(err, -ESHUTDOWN, "%s", text_stopping);
    } else {
        c->copy = &copy;
        pthread_cond_signal(&c->wake);
        while (!copy.done)
            pthread_cond_wait(&c->told, &c->lock);
    }
    if (--c->callers == 0)
        pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
    return copy.code;
}

/* For how long there is nothing to do, unless somebody asks. */
static uint64_t idle_ns(const struct catalog *c)
{
    const struct copy *copy = c->copy;
    uint64_t now = copy ? clock_mono_ns() : 0;
    if (copy)
        return copy->next_ns > now ? copy->next_ns - now : 0;
    return outbox_is_untidy(&c->outbox) && !c->tidy_failed ? TIDY_AFTER_NS : WAIT_FOREVER;
}

static void run(void *arg)
{
    struct catalog *c = arg;
    bool stopping = false;
    if (c->owed) {
        try_emit(c);
        settled(c);
        if (c->owed)
            stopping = wait_for_asks(c, c->pause_ns, true);
    }
    settled(c);
    while (!stopping) {
        if (c->owed) {
            stopping = pay(c);
            continue;
        }
        if (c->copy && idle_ns(c) == 0) { /* however much is asked for */
            copy_some(c);
            continue;
        }
        stopping = wait_for_asks(c, idle_ns(c), false);
        if (stopping)
            break;
        if (c->queued)
            run_asks(c);
        else if (c->scrub)
            scrub(c);
        else if (!c->copy)
            tidy(c);
    }
    if (c->copy)
        copy_ended(c, error_set(c->copy->err, -ESHUTDOWN, "%s", text_stopping));
    batch_answer(&c->batch, REASON_stopping, text_later);
    refuse_queue(c, REASON_stopping, text_stopping);
    tidy(c);
}

/* ---- asking and waiting ---------------------------------------------------------------------- */

struct call {
    struct catalog *catalog;
    bool answered; /* under the catalog's lock */
};

static void on_called(struct catalog_ask *ask)
{
    struct call *call = ask->owner;
    struct catalog *c = call->catalog;
    pthread_mutex_lock(&c->lock);
    call->answered = true;
    pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
}

enum reason catalog_call(struct catalog *c, struct catalog_ask *ask)
{
    struct call call = {.catalog = c};
    ask->done = on_called;
    ask->owner = &call;
    pthread_mutex_lock(&c->lock);
    c->callers++;
    pthread_mutex_unlock(&c->lock);
    enum reason r = catalog_submit(c, ask);
    pthread_mutex_lock(&c->lock);
    while (r == REASON_ok && !call.answered)
        pthread_cond_wait(&c->told, &c->lock);
    if (--c->callers == 0)
        pthread_cond_broadcast(&c->told);
    pthread_mutex_unlock(&c->lock);
    if (r != REASON_ok)
        return ask_refuse(ask, r, "%s", reason_info(r)->text);
    return ask->reason;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static struct catalog *catalog_new(const struct catalog_opts *opts)
{
    struct catalog *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    cond_init(&c->wake);
    cond_init(&c->told);
    c->opts = *opts;
    c->opts.path = NULL; /* the caller's; db.path is ours */
    c->last = &c->first;
    c->generation = 1;
    memory_init(&c->memory);
    c->memory.loaded = opts->loaded;
    c->memory.loaded_arg = opts->loaded_arg;
    c->batch = (struct batch){.db = &c->db, .outbox = &c->outbox, .ack = {.level = ACK_DURABLE}};
    if (opts->has_ack)
        c->batch.ack = opts->ack;
    return c;
}

static void catalog_free(struct catalog *c)
{
    batch_fini(&c->batch);
    outbox_fini(&c->outbox);
    memory_fini(&c->memory);
    db_close(&c->db);
    pthread_cond_destroy(&c->told);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int catalog_open(const struct catalog_opts *opts, struct catalog **ret, struct error *err)
{
    uint64_t begin_ns = clock_mono_ns();
    struct catalog *c = catalog_new(opts);
    if (!c)
        return error_set(err, -ENOMEM, "%s: no memory", opts->path);
    int rc = opts->must_exist ? db_require(opts->path, err) : 0;
    if (!rc)
        rc = db_open(&c->db, opts->path, err);
    if (!rc)
        rc = db_check_told(&c->db, opts->told, opts->skip_told, err);
    if (!rc)
        rc = outbox_init(&c->outbox, &c->db, err);
    if (!rc)
        rc = load_all(&c->memory, &c->batch, opts->emit != NULL, err);
    if (rc) {
        catalog_free(c);
        return rc;
    }
    if (opts->emit && c->outbox.waiting)
        owe(c);
    note_outbox(c);
    log_line(LOG_INFO, "catalog.opened",
             "path=%s accounts=%llu credentials=%llu feeds=%llu outbox=%llu ms=%llu", c->db.path,
             (unsigned long long)c->memory.accounts_count,
             (unsigned long long)c->memory.credentials_count,
             (unsigned long long)c->memory.feeds_count, (unsigned long long)c->outbox.waiting,
             (unsigned long long)((clock_mono_ns() - begin_ns) / NS_PER_MS));
    c->thread = thread_start("catalog", run, c);
    pthread_mutex_lock(&c->lock);
    while (!c->settled)
        pthread_cond_wait(&c->told, &c->lock);
    pthread_mutex_unlock(&c->lock);
    *ret = c;
    return 0;
}

void catalog_close(struct catalog *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_mutex_lock(&c->lock);
    while (c->callers) /* answered, but not out yet */
        pthread_cond_wait(&c->told, &c->lock);
    pthread_mutex_unlock(&c->lock);
    catalog_free(c);
}

/* ---- looking up ------------------------------------------------------------------------------ */

uint64_t catalog_generation(struct catalog *c)
{
    return atomic_load_explicit(&c->generation, memory_order_acquire);
}

uint64_t catalog_renamings(struct catalog *c)
{
    return atomic_load_explicit(&c->renamings, memory_order_acquire);
}

struct account *catalog_account(struct catalog *c, struct slice name)
{
    return memory_account(&c->memory, name);
}

struct account *catalog_account_by_number(struct catalog *c, uint64_t number)
{
    return memory_account_by_number(&c->memory, number);
}

struct credential *catalog_device(struct catalog *c, struct slice device_id)
{
    return memory_device(&c->memory, device_id);
}

uint64_t catalog_device_hash(const struct catalog *c, struct slice device_id)
{
    return memory_device_hash(&c->memory, device_id);
}

uint64_t catalog_feed_hash(const struct catalog *c, uint64_t account, struct slice key)
{
    return memory_feed_hash(&c->memory, account, key);
}

void catalog_fetch_device(struct catalog *c, uint64_t hash, bool place_is_here)
{
    table_fetch(&c->memory.devices, hash, sizeof(struct credential), sizeof(struct credential),
                place_is_here);
}

void catalog_fetch_feed(struct catalog *c, uint64_t hash, bool place_is_here)
{
    /* A message looks at the first line and at the key, which stands first behind the struct. */
    table_fetch(&c->memory.feeds_by_key, hash, 64, sizeof(struct feed), place_is_here);
}

struct credential *catalog_key(struct catalog *c, const uint8_t digest[32])
{
    return memory_key(&c->memory, digest);
}

struct credential *catalog_credential(struct catalog *c, uint64_t number)
{
    return memory_credential(&c->memory, number);
}

struct feed *catalog_feed(struct catalog *c, uint64_t account, struct slice key)
{
    return memory_feed(&c->memory, account, key);
}

struct feed *catalog_feed_by_number(struct catalog *c, uint64_t number)
{
    return memory_feed_by_number(&c->memory, number);
}

struct group *catalog_group(struct catalog *c, uint64_t account, struct slice key)
{
    return memory_group(&c->memory, account, key);
}

struct feed *catalog_feed_in_group(struct catalog *c, const struct group *g, struct slice key)
{
    char own[FEED_KEY_MAX + 1];
    bool grouped = !slice_eq(g->key, SLICE("default"));
    size_t before = grouped ? g->key.len + 1 : 0;
    struct feed *f = NULL;
    if (before + key.len <= FEED_KEY_MAX && !(key.len && memchr(key.ptr, '.', key.len))) {
        if (grouped) {
            memcpy(own, g->key.ptr, g->key.len);
            own[g->key.len] = '.';
        }
        memcpy(own + before, key.ptr, key.len);
        f = memory_feed(&c->memory, g->account, slice_of(own, before + key.len));
    }
    if (f)
        return f;
    f = memory_feed(&c->memory, g->account, key);
    return f && feed_in_group(f, g) ? f : feed_unref(f);
}

unsigned catalog_groups(struct catalog *c, uint64_t account, struct buf *ret)
{
    return memory_groups(&c->memory, account, ret);
}

unsigned catalog_feeds(struct catalog *c, uint64_t account, struct buf *ret)
{
    return memory_feeds(&c->memory, account, ret);
}

unsigned catalog_accounts(struct catalog *c, struct buf *ret)
{
    return memory_accounts(&c->memory, ret);
}

unsigned catalog_credentials(struct catalog *c, uint64_t account, enum credential_kind kind,
                             struct buf *ret)
{
    return memory_credentials(&c->memory, account, kind, ret);
}

struct catalog_stats catalog_stats(struct catalog *c)
{
    uint64_t rows = c->outbox_rows, since = c->owed_since_ns;
    return (struct catalog_stats){.accounts = c->memory.accounts_count,
                                  .credentials = c->memory.credentials_count,
                                  .feeds = c->memory.feeds_count,
                                  .queue_length = c->queued,
                                  .transactions = c->transactions,
                                  .outbox = rows,
                                  .outbox_ns = rows && since ? clock_mono_ns() - since : 0};
}
