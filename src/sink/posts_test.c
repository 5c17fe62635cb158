/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/posts.c"

#include "sink/receiver_testing.h"

#define TIMEOUT_NS (500 * NS_PER_MS)

static struct cidr network(const char *text)
{
    struct cidr c;
    assert_true(cidr_parse(slice_str(text), &c));
    return c;
}

static uint64_t timeout_ns = 20 * NS_PER_S;

static struct posts *posts_for(const struct cidr *allowed, const char *resolve)
{
    return posts_new(&(struct posts_opts){.at_once = 4,
                                          .timeout_ns = timeout_ns,
                                          .allowed = allowed,
                                          .allowed_count = allowed != NULL,
                                          .ca_file = "",
                                          .resolve = resolve});
}

static struct receiver *receiver; /* of the test */

static struct post run(struct posts *p, const char *url)
{
    struct post post = {.url = url, .headers = {"webhook-id: x1"}, .body = SLICE("{\"a\":1}")};
    posts_start(p, &post);
    struct post *over;
    while (!(over = posts_next(p)))
        posts_wait(p, NS_PER_S);
    assert_ptr_equal(over, &post);
    receiver_meet(receiver);
    assert_int_equal(posts_room(p), 4);
    return post;
}

static const char *at(const struct receiver *r, const char *host, const char *path)
{
    static char url[300];
    snprintf(url, sizeof url, "http://%s:%u%s", host, r->port, path);
    return url;
}

/* ---- a server whose paths say what it does -----------------------------------------------------
 */

static const char *long_answer(const char *head, size_t len)
{
    static char text[1 << 20];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", head);
    memset(text + n, 'x', len);
    text[n + len] = 0;
    return text;
}

static const char *by_path(struct receiver *r, const struct receiver_request *q, bool *end)
{
    static char text[600];
    const char *path = q->head + 5; /* "POST " */
    if (!strncmp(path, "/hang", 5))
        return NULL;
    if (!strncmp(path, "/long", 5))
        return long_answer("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", 900000);
    if (!strncmp(path, "/head", 5))
        return long_answer("HTTP/1.1 200 OK\r\nX: ", 500000);
    if (!strncmp(path, "/cut", 4)) {
        *end = true;
        return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    }
    if (!strncmp(path, "/retry/", 7)) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 503 No\r\nRetry-After: %.*s\r\nContent-Length: 0\r\n\r\n",
                 (int)strcspn(path + 7, " "), path + 7);
        for (char *p = text; (p = strchr(p, '_')) != NULL;)
            *p = ' ';
        return text;
    }
    if (!strncmp(path, "/elsewhere", 10)) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:%u/ok\r\nContent-Length: 0\r\n\r\n",
                 r->port);
        return text;
    }
    if (!strncmp(path, "/leave", 6))
        *end = true;
    if (!strncmp(path, "/bad", 4))
        return "HTTP/1.1 422 No\r\nContent-Length: 13\r\n\r\nno\n\x01\xff such t.";
    return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void answers_are_told(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    struct post post = run(p, at(r, "127.0.0.1", "/ok?a=b"));
    assert_int_equal(post.end, POST_ANSWERED);
    assert_int_equal(post.status, 200);
    assert_string_equal(post.why, "HTTP 200");
    post = run(p, at(r, "127.0.0.1", "/bad"));
    assert_int_equal(post.status, 422);
    assert_string_equal(post.why, "HTTP 422: no ?? such t.");
    assert_int_equal(r->connected, 1); /* the same connection */
    assert_int_equal(r->count, 2);
    assert_int_equal(strncmp(r->seen[0].head, "POST /ok?a=b HTTP/1.1\r\n", 23), 0);
    assert_string_equal(r->seen[0].body, "{\"a\":1}");
    assert_string_equal(receiver_header(&r->seen[0], "content-type"), "application/json");
    assert_string_equal(receiver_header(&r->seen[0], "webhook-id"), "x1");
    assert_null(receiver_header(&r->seen[0], "expect"));
    posts_free(p);
    receiver_stop(r);
}

/* A handle has the URL of its request, whatever it had before. */
static void one_handle_goes_everywhere(void **state)
{
    static const char *const paths[] = {"/one", "/one", "/two?x=%20y", "/one", "/"};
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    char wanted[64];
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
        assert_int_equal(run(p, at(r, "127.0.0.1", paths[i])).end, POST_ANSWERED);
        snprintf(wanted, sizeof wanted, "POST %s HTTP/1.1\r\n", paths[i]);
        assert_int_equal(strncmp(r->seen[i].head, wanted, strlen(wanted)), 0);
    }
    assert_int_equal(run(p, at(r, "user@127.0.0.1", "/one")).end, POST_FAILED);
    assert_int_equal(run(p, "ftp://127.0.0.1/").end, POST_FAILED);
    assert_int_equal(run(p, "http://").end, POST_FAILED);
    assert_int_equal(run(p, at(r, "127.0.0.1", "/one")).end, POST_ANSWERED);
    assert_int_equal(r->connected, 1);
    assert_int_equal(r->count, 6);
    posts_free(p);
    receiver_stop(r);
}

/* libcurl would ask first, and wait. */
static void no_body_is_announced(void **state)
{
    static char body[3 << 19];
    static const size_t sizes[] = {EXPECT_FROM - 1, EXPECT_FROM, sizeof body};
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    memset(body, 'x', sizeof body);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct post post = {.url = at(r, "127.0.0.1", "/ok"), .body = slice_of(body, sizes[i])};
        posts_start(p, &post);
        while (!posts_next(p))
            posts_wait(p, NS_PER_S);
        receiver_meet(r);
        assert_int_equal(post.end, POST_ANSWERED);
        assert_null(receiver_header(&r->seen[i], "expect"));
    }
    posts_free(p);
    receiver_stop(r);
}

/* However it is written, and whatever it resolves to. */
static void special_addresses_are_not_connected_to(void **state)
{
    static const char *const hosts[] = {"127.0.0.1",
                                        "localhost",
                                        "2130706433",
                                        "0x7f.1",
                                        "0177.0.0.1",
                                        "127.1",
                                        "0",
                                        "[::1]",
                                        "[::]",
                                        "[::ffff:127.0.0.1]",
                                        "[::ffff:7f00:1]",
                                        "[::127.0.0.1]",
                                        "[64:ff9b::127.0.0.1]",
                                        "[2002:7f00:1::]",
                                        "169.254.169.254",
                                        "10.1.2.3",
                                        "[fd00:ec2::254]"};
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct posts *p = posts_for(NULL, NULL);
    for (unsigned i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct post post = run(p, at(r, hosts[i], "/ok"));
        if (post.end != POST_FORBIDDEN)
            fail_msg("%s: %d, %s", hosts[i], post.end, post.why);
        assert_non_null(strstr(post.why, "webhook.allow"));
        assert_int_equal(post.status, 0);
    }
    assert_int_equal(r->connected, 0);
    posts_free(p);
    receiver_stop(r);
}

/* The name was good when somebody looked; now it is that of this machine, or has one good and one
 * bad address. What is connected to is decided then. */
static void a_name_may_mean_something_else_now(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr other = network("127.0.0.2/32");
    char resolve[100];
    snprintf(resolve, sizeof resolve, "rebound.example:%u:127.0.0.1", r->port);
    struct posts *p = posts_for(&other, resolve);
    assert_int_equal(run(p, at(r, "rebound.example", "/ok")).end, POST_FORBIDDEN);
    assert_int_equal(r->connected, 0);
    posts_free(p);
    snprintf(resolve, sizeof resolve, "rebound.example:%u:127.0.0.1,127.0.0.2", r->port);
    p = posts_for(&other, resolve);
    assert_int_equal(run(p, at(r, "rebound.example", "/ok")).end, POST_ANSWERED);
    struct post post = {.posts = p};
    struct post_handle h = {.post = &post};
    assert_false(post.connected);
    char good[] = "127.0.0.2", bad[] = "127.0.0.1", none[] = "/run/x.sock";
    assert_int_equal(on_connected(&h, good, good, 80, 1), CURL_PREREQFUNC_OK);
    assert_int_equal(on_connected(&h, bad, good, 80, 1), CURL_PREREQFUNC_ABORT);
    assert_int_equal(on_connected(&h, none, good, 80, 1), CURL_PREREQFUNC_ABORT);
    posts_free(p);
    receiver_stop(r);
}

/* Where one of a name's addresses may be connected to, what becomes of that is told. */
static void one_address_of_several_will_do(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr good = network("127.0.0.2/32");
    char resolve[100];
    snprintf(resolve, sizeof resolve, "two.example:%u:127.0.0.1,127.0.0.2", r->port);
    timeout_ns = TIMEOUT_NS;
    struct posts *p = posts_for(&good, resolve);
    struct post post = run(p, at(r, "two.example", "/hang"));
    assert_int_equal(post.end, POST_TIMED_OUT);
    posts_free(p);
    p = posts_for(&good, "two.example:1:127.0.0.1,127.0.0.2"); /* where nobody listens */
    post = run(p, "http://two.example:1/ok");
    assert_int_equal(post.end, POST_FAILED);
    assert_null(strstr(post.why, "webhook.allow"));
    posts_free(p);
    timeout_ns = 20 * NS_PER_S;
    receiver_stop(r);
}

/* Whatever the environment says. */
static void no_proxy_is_used(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    struct post post = run(p, at(r, "127.0.0.1", "/ok"));
    unsetenv("http_proxy");
    assert_int_equal(post.end, POST_ANSWERED);
    assert_int_equal(r->count, 1);
    posts_free(p);
    receiver_stop(r);
}

static void redirects_are_not_followed(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    struct post post = run(p, at(r, "127.0.0.1", "/elsewhere"));
    assert_int_equal(post.end, POST_ANSWERED);
    assert_int_equal(post.status, 307);
    assert_int_equal(r->count, 1);
    posts_free(p);
    receiver_stop(r);
}

/* Who is slow, endless or broken costs a time and some kilobytes. */
static void bad_servers_are_survived(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    timeout_ns = TIMEOUT_NS;
    struct posts *p = posts_for(&loopback, NULL);
    timeout_ns = 20 * NS_PER_S;
    struct post post = run(p, at(r, "127.0.0.1", "/hang"));
    assert_int_equal(post.end, POST_TIMED_OUT);
    assert_in_range(post.took_ns, TIMEOUT_NS - 50 * NS_PER_MS, 20 * TIMEOUT_NS);
    posts_free(p);
    p = posts_for(&loopback, NULL);
    post = run(p, at(r, "127.0.0.1", "/long"));
    assert_int_equal(post.end, POST_ANSWERED);
    assert_int_equal(post.status, 200);
    assert_in_range(post.body_bytes, POST_ANSWER_MAX, 3 * POST_ANSWER_MAX);
    post = run(p, at(r, "127.0.0.1", "/head"));
    assert_int_equal(post.end, POST_FAILED);
    post = run(p, at(r, "127.0.0.1", "/cut"));
    assert_int_equal(post.end, POST_FAILED);
    assert_true(post.why[0]);
    assert_int_equal(run(p, at(r, "127.0.0.1", "/ok")).status, 200);
    struct receiver gone = {.port = r->port, .lock = PTHREAD_MUTEX_INITIALIZER};
    receiver_stop(r);
    receiver = &gone;
    post = run(p, at(&gone, "127.0.0.1", "/ok"));
    assert_int_equal(post.end, POST_FAILED);
    posts_free(p);
}

/* A connection whose socket the kernel still looks at, though no request waits for it. */
static void idle_connections_may_end(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(run(p, at(r, "127.0.0.1", "/leave")).status, 200);
        int fd = -1;
        for (unsigned n = 0; n < p->watch_count; n++)
            if (p->watches[n].told)
                fd = (int)n;
        assert_true(fd >= 0);
        for (unsigned n = 0; n < 1000 && p->watches[fd].told; n++)
            posts_wait(p, 10 * NS_PER_MS);
        assert_int_equal(p->watches[fd].told, 0);
        uint64_t begun = clock_mono_ns(); /* it is not told again and again */
        posts_wait(p, 100 * NS_PER_MS);
        assert_true(clock_mono_ns() - begun >= 90 * NS_PER_MS);
        receiver_meet(r);
        assert_int_equal(r->connected, i);
    }
    assert_int_equal(run(p, at(r, "127.0.0.1", "/ok")).status, 200);
    assert_int_equal(run(p, at(r, "127.0.0.1", "/ok")).status, 200);
    assert_int_equal(r->connected, 4);
    posts_free(p);
    receiver_stop(r);
}

/* Requests that overlap, over connections that are used again. */
static void connections_are_shared(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    struct post all[4];
    unsigned begun = 0, over = 0;
    const char *url = at(r, "127.0.0.1", "/ok");
    for (; begun < 4; begun++) {
        all[begun] = (struct post){.url = url, .body = SLICE("{}")};
        posts_start(p, &all[begun]);
    }
    assert_int_equal(posts_room(p), 0);
    while (over < 200) {
        struct post *post = posts_next(p);
        if (!post) {
            posts_wait(p, NS_PER_S);
            continue;
        }
        assert_int_equal(post->end, POST_ANSWERED);
        over++;
        if (begun < 200) {
            begun++;
            posts_start(p, post);
        }
    }
    receiver_meet(r);
    assert_int_equal(r->count, 200);
    assert_int_equal(r->connected, 4);
    assert_int_equal(posts_room(p), 4);
    posts_free(p);
    receiver_stop(r);
}

static void retry_after_is_read(void **state)
{
    static const struct {
        const char *value;
        uint64_t least_s, most_s;
    } cases[] = {{"/retry/0", 0, 0},
                 {"/retry/120", 120, 120},
                 {"/retry/99999999", POST_RETRY_MAX_S, POST_RETRY_MAX_S},
                 {"/retry/Fri,_31_Dec_2027_23:59:59_GMT", POST_RETRY_MAX_S, POST_RETRY_MAX_S},
                 {"/retry/Wed,_21_Oct_2015_07:28:00_GMT", 0, 0},
                 {"/retry/-5", 0, 0},
                 {"/retry/soon", 0, 0},
                 {"/retry/", 0, 0}};
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct post post = run(p, at(r, "127.0.0.1", cases[i].value));
        assert_int_equal(post.status, 503);
        uint64_t s = post.retry_after_ns / NS_PER_S;
        if (s < cases[i].least_s || s > cases[i].most_s)
            fail_msg("%s: %llu s", cases[i].value, (unsigned long long)s);
    }
    posts_free(p);
    receiver_stop(r);
}

static void urls_are_checked(void **state)
{
    static const char *const good[] = {"https://example.com", "http://example.com:8080/a?b=c",
                                       "https://[2001:db8::1]/x", "HTTPS://EXAMPLE.COM/"};
    static const char *const bad[] = {"",
                                      "example.com",
                                      "/x",
                                      "ftp://example.com/",
                                      "file:///etc/passwd",
                                      "gopher://example.com/",
                                      "dict://127.0.0.1:11211/",
                                      "http://",
                                      "https://user@example.com/",
                                      "https://user:secret@example.com/",
                                      "https://example.com/#x",
                                      "http://exa mple.com/",
                                      "https://example.com:99999/",
                                      "unix:/run/x"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        if (post_check_url(good[i], NULL) != 0)
            fail_msg("refused: %s", good[i]);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {""};
        if (post_check_url(bad[i], &err) != -EINVAL || !err.text[0] || strstr(err.text, "secret"))
            fail_msg("taken: %s (%s)", bad[i], err.text);
    }
}

static void what_is_under_way_can_be_given_up(void **state)
{
    struct receiver *r = receiver = receiver_start(by_path, NULL);
    struct cidr loopback = network("127.0.0.0/8");
    struct posts *p = posts_for(&loopback, NULL);
    struct post post = {.url = at(r, "127.0.0.1", "/hang"), .body = SLICE("{}")};
    posts_start(p, &post);
    for (unsigned i = 0; i < 1000 && receiver_count(r) == 0; i++) {
        assert_null(posts_next(p));
        posts_wait(p, NS_PER_MS);
    }
    posts_abandon(p, &post);
    assert_int_equal(posts_room(p), 4);
    uint64_t begun = clock_mono_ns();
    posts_wake(p);
    assert_null(posts_next(p)); /* for which it is not lost */
    posts_wait(p, 20 * NS_PER_S);
    assert_true(clock_mono_ns() - begun < 10 * NS_PER_S);
    posts_free(p);
    posts_free(NULL);
    receiver_stop(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_told),
        cmocka_unit_test(one_handle_goes_everywhere),
        cmocka_unit_test(no_body_is_announced),
        cmocka_unit_test(special_addresses_are_not_connected_to),
        cmocka_unit_test(a_name_may_mean_something_else_now),
        cmocka_unit_test(one_address_of_several_will_do),
        cmocka_unit_test(no_proxy_is_used),
        cmocka_unit_test(redirects_are_not_followed),
        cmocka_unit_test(bad_servers_are_survived),
        cmocka_unit_test(idle_connections_may_end),
        cmocka_unit_test(connections_are_shared),
        cmocka_unit_test(retry_after_is_read),
        cmocka_unit_test(urls_are_checked),
        cmocka_unit_test(what_is_under_way_can_be_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
