/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of the link in one process: a journal, one that follows it, and a sink between. */
#include "journal/fixture.h"

#include <stdatomic.h>
#include <unistd.h>

#include "conn/packet.h"
#include "link/guest.h"
#include "link/host.h"
#include "link/wire.h"
#include "sink/remote.h"

#define PATIENCE_NS (20 * NS_PER_S)

struct both {
    struct fixture *f;
    char dir[64], path[100];
    /* The gateway's: */
    struct sink *remote[1];
    struct link_host *host;
    _Atomic uint64_t names_changed, keys_changed;
    _Atomic unsigned names_asked, notes, moved;
    const char *_Atomic account;
    uint64_t hold_bytes;
    /* The sinks': */
    struct journal *follower;
    struct link_guest *guest;
    struct sink *sink[1];
    _Atomic unsigned keys_read, keys_tried;
    _Atomic bool keys_fail, target_away;
};

/* ---- the gateway ----------------------------------------------------------------------------- */

static void name_of(void *arg, enum link_of of, uint64_t number, struct buf *out)
{
    struct both *b = arg;
    b->names_asked++;
    if (of == LINK_OF_ACCOUNT)
        buf_put_str(out, atomic_load(&b->account));
    else if (of == LINK_OF_FEED)
        buf_printf(out, "feed-%llu", (unsigned long long)number);
}

static uint64_t names_changed(void *arg)
{
    return ((struct both *)arg)->names_changed;
}

static uint64_t keys_changed(void *arg)
{
    return ((struct both *)arg)->keys_changed;
}

static enum reason take_note(void *arg, const struct link_note_text *n, char text[256])
{
    struct both *b = arg;
    b->notes++;
    assert_int_equal(n->account, 3);
    assert_true(slice_eq(n->what, SLICE("sink_pause")) && slice_eq(n->subject, SLICE("test")));
    assert_true(slice_eq(n->more, SLICE("")) && slice_eq(n->actor, SLICE("admin")));
    bool good = slice_eq(n->from, SLICE("here"));
    snprintf(text, 256, "%s", good ? "" : "from where?");
    return good ? REASON_ok : REASON_bad_request;
}

static void on_moved(void *arg)
{
    ((struct both *)arg)->moved++;
}

static void open_host(struct both *b)
{
    struct error err = {""};
    struct link_host_opts o = {.path = b->path,
                               .journal = b->f->j,
                               .sinks = b->remote,
                               .sinks_count = 1,
                               .cursors = {{"sink:test", b->hold_bytes}},
                               .cursors_count = 1,
                               .name = name_of,
                               .names_changed = names_changed,
                               .keys_changed = keys_changed,
                               .note = take_note,
                               .moved = on_moved,
                               .arg = b};
    if (!b->remote[0])
        b->remote[0] = sink_remote_new("test", b->f->j, journal_position(b->f->j).oldest);
    assert_int_equal(link_host_open(&o, &b->host, &err), 0);
}

static void close_host(struct both *b)
{
    link_host_close(b->host);
    b->host = NULL;
}

/* ---- the sinks ------------------------------------------------------------------------------- */

static int on_keys(void *arg)
{
    struct both *b = arg;
    b->keys_tried++;
    if (b->keys_fail)
        return -EIO;
    b->keys_read++;
    return 0;
}

static void give_names(void *arg, const struct record *r, struct sink_names *ret)
{
    static _Thread_local char account[LINK_GUEST_NAME_MAX];
    struct both *b = arg;
    ret->unknown = !link_guest_name(b->guest, LINK_OF_ACCOUNT, r->account, account);
    ret->account = slice_str(account);
}

static void sink_moved(void *arg)
{
    link_guest_moved(((struct both *)arg)->guest);
}

static enum sink_outcome target_open(void *of, uint64_t *position, struct error *err)
{
    (void)position;
    (void)err;
    return ((struct both *)of)->target_away ? SINK_AWAY : SINK_DONE;
}

/* It takes everything but each tenth message. */
static enum sink_outcome target_send(void *of, const struct sink_batch *batch, struct error *err)
{
    (void)err;
    if (((struct both *)of)->target_away)
        return SINK_AWAY;
    for (unsigned i = 0; i < batch->count; i++) {
        bool good = batch->messages[i].offset % 10 != 0;
        assert_int_not_equal(batch->messages[i].names.account.len, 0);
        batch->messages[i].verdict = good ? SINK_TAKEN : SINK_REFUSED;
        batch->messages[i].why = "a tenth";
    }
    return SINK_DONE;
}

static void target_close(void *of)
{
    (void)of;
}

static const struct sink_ops ops = {
    .kind = "test", .open = target_open, .send = target_send, .close = target_close};

static void open_guest(struct both *b)
{
    struct disk *d = disk_sim_disk(b->f->sim);
    struct error err = {""};
    assert_int_equal(d->mkdir(d, "own"), 0);
    const struct journal_follow_opts follow = {
        .disk = d, .dir = "log", .cursors_path = "own/cursors", .prefix = "sink:"};
    assert_int_equal(journal_follow(&follow, &b->follower, &err), 0);
    const struct link_guest_opts o = {
        .path = b->path, .journal = b->follower, .keys = on_keys, .arg = b};
    assert_int_equal(link_guest_open(&o, &b->guest, &err), 0);
    const struct sink_opts sink = {.name = "test",
                                   .ops = &ops,
                                   .of = b,
                                   .journal = b->follower,
                                   .disk = d,
                                   .dir = "own",
                                   .names = give_names,
                                   .arg = b,
                                   .accounts = "",
                                   .feeds = "",
                                   .batch_count = 1000,
                                   .batch_bytes = 1 << 20,
                                   .linger_ns = 200 * NS_PER_MS,
                                   .retry_ns = NS_PER_MS,
                                   .retry_max_ns = 10 * NS_PER_MS,
                                   .breaker = {.volume_min = 5,
                                               .fail_percent = 50,
                                               .window_ns = NS_PER_S,
                                               .open_ns = NS_PER_MS,
                                               .open_max_ns = 10 * NS_PER_MS},
                                   .hold_bytes = UINT64_MAX,
                                   .dead_bytes = 1 << 20,
                                   .moved = sink_moved,
                                   .moved_arg = b};
    assert_int_equal(sink_start(&sink, &b->sink[0], &err), 0);
    link_guest_attach(b->guest, b->sink, 1);
}

static void close_guest(struct both *b)
{
    if (!b->guest)
        return;
    link_guest_attach(b->guest, NULL, 0);
    sink_stop(b->sink[0]);
    link_guest_close(b->guest);
    journal_close(b->follower);
    b->guest = NULL;
}

static struct both *both_new(void)
{
    struct both *b = calloc(1, sizeof *b);
    b->f = fixture_new(65536);
    b->account = "acme";
    b->hold_bytes = UINT64_MAX;
    snprintf(b->dir, sizeof b->dir, "/tmp/sluice-link-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof b->path, "%s/link.sock", b->dir);
    assert_int_equal(fixture_open(b->f), 0);
    return b;
}

static void both_free(struct both *b)
{
    close_guest(b);
    close_host(b);
    sink_remote_free(b->remote[0]);
    fixture_free(b->f);
    assert_int_not_equal(access(b->path, F_OK), 0); /* the host has removed it */
    rmdir(b->dir);
    free(b);
}

#define wait_until(what)                                                                           \
    do {                                                                                           \
        uint64_t until_ = clock_mono_ns() + PATIENCE_NS;                                           \
        bool is_ = false; /* asked once more it might be something else */                         \
        while (!(is_ = (what)) && clock_mono_ns() < until_)                                        \
            clock_sleep_ns(NS_PER_MS);                                                             \
        assert_true(is_);                                                                          \
    } while (0)

static uint64_t cursor(struct both *b);

/* ---- tests ----------------------------------------------------------------------------------- */

static void a_delivery_is_told(void **state)
{
    struct both *b = both_new();
    uint32_t delivered;
    for (uint64_t n = 0; n < 100; n += 5)
        fixture_append(b->f, n, 5, 50);
    open_host(b);
    assert_int_equal(sink_stats(b->remote[0]).state, SINK_ABSENT);
    open_guest(b);
    wait_until(sink_position(b->remote[0]) == 100);
    assert_int_equal(sink_fate(b->remote[0], 1, 9, &delivered), FATE_DELIVERED);
    assert_int_equal(delivered, 9);
    assert_int_equal(sink_fate(b->remote[0], 10, 5, &delivered), FATE_FAILED);
    assert_string_equal(sink_tells(b->remote[0], 20), "failed");
    assert_string_equal(sink_tells(b->remote[0], 100), "pending");
    wait_until(sink_stats(b->remote[0]).dead_letters == 10);
    assert_int_equal(sink_stats(b->remote[0]).state, SINK_RUNNING);
    assert_int_equal(sink_stats(b->remote[0]).lag, 0);
    wait_until(cursor(b) == 100); /* retention may go on */
    both_free(b);
}

/* Who waits is heard at the other end: no batch waits for more, and he is woken. */
static void somebody_waits(void **state)
{
    struct both *b = both_new();
    open_host(b);
    open_guest(b);
    wait_until(link_guest_is_connected(b->guest));
    sink_waiters(b->remote[0], 1);
    wait_until(sink_waiting(b->sink[0]) == 1);
    uint64_t begun = clock_mono_ns();
    fixture_append(b->f, 0, 5, 50);
    wait_until(sink_position(b->remote[0]) == 5);
    assert_true(b->moved > 0);
    assert_true(clock_mono_ns() - begun < 15 * NS_PER_S);
    sink_waiters(b->remote[0], -1);
    wait_until(sink_waiting(b->sink[0]) == 0);
    both_free(b);
}

/* Who waits since before the sinks were there, too. */
static void somebody_has_waited(void **state)
{
    struct both *b = both_new();
    open_host(b);
    open_guest(b);
    link_guest_attach(b->guest, NULL, 0);
    sink_waiters(b->remote[0], 1);
    fixture_append(b->f, 0, 5, 50);
    wait_until(journal_durable(b->follower) == 5); /* the mark that says so has come */
    assert_int_equal(sink_waiting(b->sink[0]), 0);
    link_guest_attach(b->guest, b->sink, 1);
    assert_int_equal(sink_waiting(b->sink[0]), 1);
    sink_waiters(b->remote[0], -1);
    wait_until(sink_waiting(b->sink[0]) == 0);
    both_free(b);
}

static void names_are_asked_once(void **state)
{
    struct both *b = both_new();
    char name[LINK_GUEST_NAME_MAX];
    open_host(b);
    open_guest(b);
    assert_true(link_guest_wait(b->guest, PATIENCE_NS));
    for (int i = 0; i < 5; i++) {
        assert_true(link_guest_name(b->guest, LINK_OF_ACCOUNT, 3, name));
        assert_string_equal(name, "acme");
        assert_true(link_guest_name(b->guest, LINK_OF_DEVICE, 3, name));
        assert_string_equal(name, "");
    }
    assert_int_equal(b->names_asked, 2);
    b->account = "acme2";
    b->names_changed++;
    fixture_append(b->f, 0, 1, 50); /* at the latest with what comes next */
    wait_until(link_guest_name(b->guest, LINK_OF_ACCOUNT, 3, name) && !strcmp(name, "acme2"));
    close_host(b);
    wait_until(!link_guest_is_connected(b->guest));
    assert_true(link_guest_name(b->guest, LINK_OF_ACCOUNT, 3, name)); /* as it was */
    assert_false(link_guest_name(b->guest, LINK_OF_ACCOUNT, 4000, name));
    both_free(b);
}

static void notes_for_the_audit_log(void **state)
{
    struct both *b = both_new();
    char text[256];
    struct link_note_text n = {.account = 3,
                               .what = SLICE("sink_pause"),
                               .subject = SLICE("test"),
                               .actor = SLICE("admin"),
                               .from = SLICE("here")};
    open_host(b);
    open_guest(b);
    assert_true(link_guest_wait(b->guest, PATIENCE_NS));
    assert_int_equal(link_guest_note(b->guest, &n, text), REASON_ok);
    n.from = SLICE("there");
    assert_int_equal(link_guest_note(b->guest, &n, text), REASON_bad_request);
    assert_string_equal(text, "from where?");
    assert_int_equal(b->notes, 2);
    close_host(b);
    wait_until(!link_guest_is_connected(b->guest));
    assert_int_equal(link_guest_note(b->guest, &n, text), REASON_journal_failed);
    both_free(b);
}

/* What a record is sealed with is known before it can be read. */
static void keys_come_before_records(void **state)
{
    struct both *b = both_new();
    open_host(b);
    open_guest(b);
    assert_true(link_guest_wait(b->guest, PATIENCE_NS));
    unsigned before = b->keys_read;
    assert_false(link_guest_is_behind(b->guest));
    b->keys_fail = true;
    b->keys_changed++;
    fixture_append(b->f, 0, 5, 50);
    clock_sleep_ns(300 * NS_PER_MS);
    assert_int_equal(journal_durable(b->follower), 0);
    assert_true(link_guest_is_behind(b->guest) && link_guest_is_connected(b->guest));
    /* However much is told: it is not tried with each word. */
    unsigned tried = b->keys_tried;
    for (uint64_t n = 5; n < 505; n += 5) {
        fixture_append(b->f, n, 5, 50);
        clock_sleep_ns(2 * NS_PER_MS);
    }
    assert_true(b->keys_tried - tried < 5);
    b->keys_fail = false;
    wait_until(journal_durable(b->follower) == 505);
    wait_until(!link_guest_is_behind(b->guest));
    assert_true(b->keys_read > before);
    both_free(b);
}

/* Either may go and come back; nothing is lost, and the sink goes on where it was. */
static void both_come_back(void **state)
{
    struct both *b = both_new();
    uint64_t n = 0;
    open_host(b);
    open_guest(b);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++, n += 5)
            fixture_append(b->f, n, 5, 50);
        wait_until(sink_position(b->remote[0]) == n);
        close_host(b);
        wait_until(!link_guest_is_connected(b->guest));
        for (int i = 0; i < 20; i++, n += 5)
            fixture_append(b->f, n, 5, 50);
        open_host(b);
        wait_until(sink_position(b->remote[0]) == n);
        close_guest(b);
        wait_until(sink_stats(b->remote[0]).state == SINK_ABSENT);
        for (int i = 0; i < 20; i++, n += 5)
            fixture_append(b->f, n, 5, 50);
        open_guest(b);
    }
    wait_until(sink_position(b->remote[0]) == n);
    assert_int_equal(sink_stats(b->sink[0]).delivered, 90);
    assert_int_equal(sink_stats(b->sink[0]).gaps, 0);
    both_free(b);
}

/* The host's peers: none of these is listened to, and none does any harm. */
static void strangers(void **state)
{
    struct both *b = both_new();
    char got[PACKET_MAX];
    open_host(b);
    const char *const words[] = {"", "x", "\1\0\0\0", "GET / HTTP/1.1\r\n\r\n"};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        int fd = packet_connect(b->path);
        assert_true(fd >= 0);
        struct iovec v = {(void *)(uintptr_t)words[i], i == 2 ? 4 : strlen(words[i])};
        packet_send(fd, &v, 1, 0);
        ssize_t length;
        wait_until((length = packet_receive(fd, got, sizeof got)) != -EAGAIN);
        packet_close(fd, NULL);
    }
    /* One of another version is told so. */
    int fd = packet_connect(b->path);
    struct link_hello hello = {.build = "0.0.0-other"};
    struct slice rest = {0};
    uint8_t nothing;
    ssize_t length = 0;
    assert_int_equal(link_send(fd, LINK_HELLO, &hello, sizeof hello, (struct slice){0}), 0);
    wait_until((length = packet_receive(fd, got, sizeof got)) != -EAGAIN);
    assert_true(length > 0 && link_parse(slice_of(got, (size_t)length), LINK_REFUSED, &nothing,
                                         sizeof nothing, &rest));
    assert_non_null(memmem(rest.ptr, rest.len, "one version", 11));
    packet_close(fd, NULL);
    /* A guest that says what it cannot know. */
    fd = packet_connect(b->path);
    snprintf(hello.build, sizeof hello.build, "%s", LINK_BUILD);
    assert_int_equal(link_send(fd, LINK_HELLO, &hello, sizeof hello, (struct slice){0}), 0);
    wait_until(link_host_has_guest(b->host));
    struct link_fates fates = {.offset = UINT64_MAX - 1, .count = 4};
    assert_int_equal(link_send(fd, LINK_FATES, &fates, sizeof fates, SLICE("\1\1\1\1")), 0);
    wait_until(!link_host_has_guest(b->host));
    packet_close(fd, NULL);
    open_guest(b);
    assert_true(link_guest_wait(b->guest, PATIENCE_NS));
    /* There is one already; maybe it is refused before it says a word. */
    fd = packet_connect(b->path);
    int rc = link_send(fd, LINK_HELLO, &hello, sizeof hello, (struct slice){0});
    assert_true(rc == 0 || rc == -EPIPE);
    wait_until((length = packet_receive(fd, got, sizeof got)) != -EAGAIN);
    assert_true(length > 0 && link_kind_of(slice_of(got, (size_t)length)) == LINK_REFUSED);
    packet_close(fd, NULL);
    assert_true(link_guest_is_connected(b->guest));
    both_free(b);
}

static void see(void *arg, const char *name, uint64_t offset)
{
    if (strcmp(name, "sink:test") == 0)
        *(uint64_t *)arg = offset;
}

static uint64_t cursor(struct both *b)
{
    uint64_t at = UINT64_MAX;
    journal_cursors(b->f->j, see, &at);
    return at;
}

/* A sink whose process is not there holds the journal, but only so much of it. */
static void who_is_absent_holds_a_part(void **state)
{
    struct both *b = both_new();
    uint64_t n = 0;
    b->hold_bytes = 3 * 65536;
    open_host(b);
    for (; n < 500; n += 5)
        fixture_append(b->f, n, 5, 50);
    assert_int_equal(cursor(b), 0);
    for (; n < 20000; n += 5)
        fixture_append(b->f, n, 5, 50);
    wait_until(cursor(b) > 0);
    assert_true(cursor(b) <= journal_hold_from(b->f->j, b->hold_bytes));
    open_guest(b); /* nothing was removed yet: it misses nothing */
    wait_until(sink_position(b->remote[0]) == n);
    assert_int_equal(sink_stats(b->sink[0]).gaps, 0);
    both_free(b);
}

/* What the writer's disk had only said it had. */
static void lose_behind(struct both *b, uint64_t segment, uint64_t position)
{
    static const char zeros[4096];
    char name[SEGMENT_NAME_BYTES], path[SEGMENT_NAME_BYTES + 8];
    const char *ptr;
    size_t len;
    segment_name_format(name, segment);
    snprintf(path, sizeof path, "log/%s", name);
    assert_int_equal(disk_sim_peek(b->f->sim, path, &ptr, &len), 0);
    for (size_t at = position; at < len; at += sizeof zeros)
        disk_sim_poke(b->f->sim, path, at, zeros,
                      len - at < sizeof zeros ? len - at : sizeof zeros);
}

/* The writer has lost what was delivered, and written something else there: nothing of that is
 * delivered, nothing is said of it, and it is told. */
static void a_log_that_went_back(void **state)
{
    struct both *b = both_new();
    struct disk *d = disk_sim_disk(b->f->sim);
    uint64_t n = 0;
    open_host(b);
    open_guest(b);
    for (; n < 100; n += 5)
        fixture_append(b->f, n, 5, 50);
    wait_until(sink_position(b->remote[0]) == 100);
    uint64_t segment = b->f->j->tail.segment_base, position = b->f->j->tail.position;
    for (; n < 150; n += 5)
        fixture_append(b->f, n, 5, 50);
    wait_until(sink_position(b->remote[0]) == 150);
    close_host(b);
    sink_remote_free(b->remote[0]);
    b->remote[0] = NULL;
    wait_until(!link_guest_is_connected(b->guest));
    journal_abandon(b->f->j);
    lose_behind(b, segment, position);
    (void)d->unlink(d, "log/cursors"); /* where it was told already: then it would not open */
    assert_int_equal(fixture_open(b->f), 0);
    assert_int_equal(journal_durable(b->f->j), 100);
    for (n = 100; n < 200; n += 5) /* by numbers alone nothing is amiss */
        fixture_append(b->f, n, 5, 50);
    open_host(b);
    /* Though it has reason to tell where the sink is as soon as it is connected. */
    wait_until((link_guest_moved(b->guest), journal_went_back(b->follower)));
    wait_until(sink_stats(b->sink[0]).state == SINK_FAILING);
    assert_non_null(strstr(sink_stats(b->sink[0]).error, "the journal went back"));
    clock_sleep_ns(500 * NS_PER_MS);
    assert_false(link_guest_is_connected(b->guest));
    assert_true(link_guest_is_behind(b->guest));
    assert_int_equal(sink_stats(b->sink[0]).delivered, 135);
    assert_int_equal(sink_position(b->remote[0]), 0);
    assert_int_equal(sink_stats(b->remote[0]).state, SINK_ABSENT);
    assert_int_equal(cursor(b), 0);
    both_free(b);
}

int main(void)
{
    log_set_level(getenv("LINK_LOG") ? LOG_INFO : LOG_ERROR + 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_delivery_is_told),
                                       cmocka_unit_test(somebody_waits),
                                       cmocka_unit_test(somebody_has_waited),
                                       cmocka_unit_test(names_are_asked_once),
                                       cmocka_unit_test(notes_for_the_audit_log),
                                       cmocka_unit_test(keys_come_before_records),
                                       cmocka_unit_test(both_come_back),
                                       cmocka_unit_test(strangers),
                                       cmocka_unit_test(who_is_absent_holds_a_part),
                                       cmocka_unit_test(a_log_that_went_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
