/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS between a stream's socket and its owner. OpenSSL reads from the socket itself, into a buffer
 * that it has only while a record is incomplete, and what it writes goes to stream_put, which sends
 * it or keeps it: so it never has to be asked twice, and back-pressure is the stream's as without
 * TLS.
 *
 *   HANDSHAKE --finished--> OPEN --close_notify or end--> (reading is over)
 *       '------- alert -------'---> BROKEN: nothing is read or written any more
 *
 * Invariants: 1. No function of OpenSSL is called while another one of the same connection runs
 * (`busy`): a socket that fails while it writes closes the stream from within. 2. While reading, at
 * most ANSWERS_MAX bytes are written before the client takes them: it cannot make us keep what it
 * provokes (key updates, warnings). 3. A handshake reads at most HANDSHAKE_MAX bytes.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "conn/stream_private.h"
#include "conn/tls_private.h"

#define HANDSHAKE_MAX 65536u
#define ANSWERS_MAX   16384u

struct tls_conn {
    SSL *ssl;
    struct tls_set *set; /* a reference */
    struct stream *stream;
    struct slice alpn;
    struct buf early;
    size_t handshake_bytes; /* read so far, of the handshake */
    size_t answers;         /* written while reading, since all was sent */
    const char *failure;
    char *identity; /* of the client's certificate or key; NULL: none */
    bool open, busy, reading, broken;
    bool gone;    /* the socket failed */
    bool drained; /* the kernel had no more when it was asked last */
    bool more;    /* OpenSSL may have some */
    bool bye;
};

/* ---- OpenSSL's side of the socket ---- */

/* What was read ahead of us comes first. */
static ssize_t take_early(struct tls_conn *t, char *to, size_t room)
{
    size_t n = t->early.len < room ? t->early.len : room;
    memcpy(to, t->early.ptr, n);
    buf_consume(&t->early, n);
    if (!t->early.len)
        buf_fini(&t->early);
    return (ssize_t)n;
}

static int on_bio_read(BIO *bio, char *to, size_t room, size_t *ret)
{
    struct tls_conn *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->stream->closing || (!t->open && t->handshake_bytes >= HANDSHAKE_MAX))
        return 0;
    ssize_t n = -1;
    errno = EAGAIN;
    if (t->early.len)
        n = take_early(t, to, room);
    else if (!t->drained)
        n = recv(t->stream->fd, to, room, MSG_DONTWAIT);
    t->drained = n < (ssize_t)room && !t->early.len;
    if (n > 0) {
        t->handshake_bytes += t->open ? 0 : (size_t)n;
        *ret = (size_t)n;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    else if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    else
        t->gone = true;
    return 0;
}

static int on_bio_write(BIO *bio, const char *ptr, size_t len, size_t *ret)
{
    struct tls_conn *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!stream_unsent(t->stream))
        t->answers = 0;
    t->answers += t->reading ? len : 0;
    if (t->stream->closing || t->answers > ANSWERS_MAX)
        return 0;
    stream_put(t->stream, slice_of(ptr, len));
    if (t->stream->closing)
        return 0;
    *ret = len;
    return 1;
}

static long on_bio_ctrl(BIO *bio, int what, long number, void *ptr)
{
    switch (what) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    CHECK(method && BIO_meth_set_read_ex(method, on_bio_read) == 1 &&
          BIO_meth_set_write_ex(method, on_bio_write) == 1 &&
          BIO_meth_set_ctrl(method, on_bio_ctrl) == 1);
}

/* ---- one connection ---- */

struct tls_conn *tls_conn_new(struct tls_set *set, struct stream *s, struct slice alpn,
                              struct buf *early)
{
    pthread_once(&method_once, make_method);
    struct tls_conn *t = calloc(1, sizeof *t);
    BIO *bio = BIO_new(method);
    if (!t || !bio || !(t->ssl = tls_set_session(set))) {
        BIO_free(bio);
        free(t);
        return NULL;
    }
    t->set = tls_set_ref(set);
    t->stream = s;
    t->alpn = alpn;
    t->early = *early;
    buf_init(early, early->max);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_conn_free(struct tls_conn *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    tls_set_unref(t->set);
    buf_fini(&t->early);
    free(t->identity);
    free(t);
}

struct slice tls_conn_wanted(const SSL *ssl)
{
    const struct tls_conn *t = SSL_get_app_data(ssl);
    return t->alpn;
}

/* Who the client has proven to be: by its key, or what its certificate says, and that it is still
 * good: a resumed session may be older than the certificate's end. False: the connection must not
 * go on. */
static bool take_identity(struct tls_conn *t)
{
    X509 *certificate = SSL_get0_peer_certificate(t->ssl);
    char id[TLS_IDENTITY_MAX + 1];
    time_t now = (time_t)(clock_wall_us() / US_PER_S);
    if (tls_psk_identity(t->ssl, id)) {
        t->identity = strdup(id);
        return t->identity != NULL;
    }
    if (!certificate)
        return true;
    if (SSL_get_verify_result(t->ssl) != X509_V_OK ||
        X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0) {
        t->failure = "the client's certificate is no longer good";
        return false;
    }
    if (!tls_set_identify(t->set, certificate, id)) {
        t->failure = "the client's certificate names no device, or several";
        return false;
    }
    t->identity = strdup(id);
    return t->identity != NULL;
}

enum tls_step tls_conn_handshake(struct tls_conn *t)
{
    ERR_clear_error();
    t->drained = false;
    t->busy = true;
    int rc = SSL_do_handshake(t->ssl);
    t->busy = false;
    if (rc == 1 && take_identity(t)) {
        t->open = t->more = true; /* bytes of the client may have come along */
        return TLS_STEP_DONE;
    }
    if (rc != 1 && SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ)
        return TLS_STEP_MORE;
    t->broken = true;
    if (!t->failure)
        t->failure = t->gone                                      ? "the connection failed"
                     : t->handshake_bytes >= HANDSHAKE_MAX        ? "it is too long"
                     : SSL_get_error(t->ssl, rc) == SSL_ERROR_SSL ? tls_why()
                                                                  : "the client went away";
    return TLS_STEP_FAILED;
}

const char *tls_conn_failure(const struct tls_conn *t)
{
    return t->failure;
}

bool tls_conn_resumed(const struct tls_conn *t)
{
    return SSL_session_reused(t->ssl);
}

struct slice tls_conn_alpn(const struct tls_conn *t)
{
    const unsigned char *name = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(t->ssl, &name, &len);
    return slice_of(name, len);
}

struct slice tls_conn_identity(const struct tls_conn *t)
{
    return slice_str(t->identity);
}

bool tls_conn_believed(struct tls_conn *t, struct tls_set *set)
{
    X509 *certificate = SSL_get0_peer_certificate(t->ssl);
    char id[TLS_IDENTITY_MAX + 1];
    if (certificate && !tls_set_same_policy(t->set, set) &&
        (!tls_set_identify(set, certificate, id) || strcmp(id, t->identity) != 0 ||
         !tls_set_believes(set, certificate, SSL_get_peer_cert_chain(t->ssl))))
        return false;
    return true;
}

/* After a failed read: whether it is for want of bytes, the end, or worse. */
static ssize_t judge(struct tls_conn *t)
{
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        t->more = false;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_READ_END;
    default:
        t->broken = true;
        t->gone |= t->stream->closing;
        ERR_clear_error();
        return t->gone ? TLS_READ_GONE : TLS_READ_BROKEN;
    }
}

ssize_t tls_conn_read(struct tls_conn *t, char *to, size_t room)
{
    size_t len = 0, n;
    ssize_t verdict = 0;
    if (t->broken)
        return t->gone ? TLS_READ_GONE : TLS_READ_BROKEN;
    t->drained = false;
    t->more = true;
    t->busy = t->reading = true;
    while (len < room && t->more) {
        ERR_clear_error();
        if (SSL_read_ex(t->ssl, to + len, room - len, &n) != 1) {
            verdict = judge(t);
            break;
        }
        len += n;
        t->more = !t->drained || SSL_has_pending(t->ssl);
    }
    t->busy = t->reading = false;
    return len ? (ssize_t)len : verdict;
}

bool tls_conn_has_more(const struct tls_conn *t)
{
    return t->more;
}

void tls_conn_write(struct tls_conn *t, struct slice bytes)
{
    size_t n;
    if (t->broken || t->bye || t->busy)
        return;
    ERR_clear_error();
    t->busy = true;
    if (SSL_write_ex(t->ssl, bytes.ptr, bytes.len, &n) != 1) {
        t->broken = true; /* the stream is being closed */
        ERR_clear_error();
    }
    t->busy = false;
}

void tls_conn_bye(struct tls_conn *t)
{
    if (!t->open || t->broken || t->bye || t->busy)
        return;
    t->bye = true;
    ERR_clear_error();
    t->busy = true;
    SSL_shutdown(t->ssl);
    t->busy = false;
    ERR_clear_error();
}
