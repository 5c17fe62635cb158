/* SPDX-License-Identifier: Apache-2.0 */
#include "seal/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "journal/disk_sim.h"
#include "journal/record.h"

#define PATH "/data/keyring"

struct fixture {
    struct disk_sim *sim;
    struct keyring *keyring;
    struct buf a, b;
};

static struct keyring *open_ring(struct disk_sim *sim)
{
    struct master_key key;
    struct keyring *k = NULL;
    assert_true(master_key_make(SLICE("0123456789abcdef0123456789abcdef"), &key));
    assert_int_equal(keyring_open(disk_sim_disk(sim), PATH, &key, &k, NULL), 0);
    return k;
}

static int begin(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->sim = disk_sim_new(3);
    struct disk *d = disk_sim_disk(f->sim);
    assert_int_equal(d->mkdir(d, "/data"), 0);
    f->keyring = open_ring(f->sim);
    assert_int_equal(keyring_make(f->keyring, 8), 0);
    assert_int_equal(keyring_make(f->keyring, 9), 0);
    buf_init(&f->a, 1 << 20);
    buf_init(&f->b, 1 << 20);
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    keyring_close(f->keyring);
    disk_sim_free(f->sim);
    buf_fini(&f->a);
    buf_fini(&f->b);
    free(f);
    return 0;
}

static struct record some(void)
{
    return (struct record){.kind = RECORD_DATUM,
                           .account = 9,
                           .feed = 77,
                           .credential = 5,
                           .event_us = 1000,
                           .receive_us = 2000,
                           .producer.key = SLICE("name"),
                           .topic = SLICE("a/b"),
                           .payload = SLICE("what nobody is to read")};
}

static void test_there_and_back(void **state)
{
    struct fixture *f = *state;
    struct sealer *s = sealer_new(f->keyring), *other = sealer_new(f->keyring);
    struct record r = some(), read;
    assert_int_equal(seal_record(s, &r, &f->a), SEAL_DONE);
    assert_int_equal(r.key_id, 2);
    assert_int_equal(r.payload.len, strlen("what nobody is to read") + SEAL_BYTES);
    struct buf bytes;
    buf_init(&bytes, 4096);
    assert_true(record_encode(&bytes, &r));
    assert_null(memmem(bytes.ptr, bytes.len, "nobody", 6));
    assert_int_equal(record_decode(buf_slice(&bytes), &read), bytes.len);
    assert_int_equal(unseal_record(other, &read, &f->b), SEAL_DONE);
    assert_true(slice_eq(read.payload, SLICE("what nobody is to read")));
    buf_fini(&bytes);
    /* Nothing to hide, and nobody's. */
    struct record empty = some(), nobody = some();
    empty.payload = (struct slice){0};
    nobody.account = 0;
    assert_int_equal(seal_record(s, &empty, &f->a), SEAL_PLAIN);
    assert_int_equal(seal_record(s, &nobody, &f->a), SEAL_PLAIN);
    assert_int_equal(unseal_record(s, &nobody, &f->a), SEAL_PLAIN);
    nobody = some();
    nobody.account = 10;
    assert_int_equal(seal_record(s, &nobody, &f->a), SEAL_ERASED);
    sealer_free(s);
    sealer_free(other);
}

/* Each bit of the sealed bytes, and each number of the record, is bound. */
static void test_changed_does_not_open(void **state)
{
    struct fixture *f = *state;
    struct sealer *s = sealer_new(f->keyring);
    struct record sealed = some();
    assert_int_equal(seal_record(s, &sealed, &f->a), SEAL_DONE);
    for (size_t i = 0; i < f->a.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct record r = sealed;
            f->a.ptr[i] = (char)(f->a.ptr[i] ^ 1 << bit);
            assert_int_equal(unseal_record(s, &r, &f->b), SEAL_BROKEN);
            f->a.ptr[i] = (char)(f->a.ptr[i] ^ 1 << bit);
        }
    }
    struct record r[] = {sealed, sealed, sealed, sealed, sealed, sealed,
                         sealed, sealed, sealed, sealed, sealed, sealed};
    r[0].kind = RECORD_CHANGED;
    r[1].flags = 1;
    r[2].account = 8;
    r[3].feed = 78;
    r[4].credential = 6;
    r[5].event_us++;
    r[6].receive_us++;
    r[7].key_id = 1; /* another's key */
    r[8].producer.key = SLICE("nama");
    r[9].topic = SLICE("a/c");
    r[10].producer.sequence = 1;
    r[11].payload.len -= 1;
    for (unsigned i = 0; i < sizeof r / sizeof r[0]; i++)
        assert_int_equal(unseal_record(s, &r[i], &f->b), SEAL_BROKEN);
    for (size_t len = 0; len < SEAL_BYTES; len++) {
        struct record cut = sealed;
        cut.payload.len = len;
        assert_int_equal(unseal_record(s, &cut, &f->b), SEAL_BROKEN);
    }
    struct record unknown = sealed;
    unknown.key_id = 99;
    assert_int_equal(unseal_record(s, &unknown, &f->b), SEAL_UNKNOWN);
    assert_int_equal(unseal_record(s, &sealed, &f->b), SEAL_DONE);
    sealer_free(s);
}

static void test_destroyed(void **state)
{
    struct fixture *f = *state;
    struct sealer *s = sealer_new(f->keyring);
    struct record r = some(), again = some(), other = some();
    other.account = 8;
    assert_int_equal(seal_record(s, &r, &f->a), SEAL_DONE);
    assert_int_equal(keyring_destroy(f->keyring, 9), 0);
    assert_int_equal(unseal_record(s, &r, &f->b), SEAL_ERASED); /* also with the key set up */
    assert_int_equal(seal_record(s, &again, &f->b), SEAL_ERASED);
    assert_int_equal(seal_record(s, &other, &f->b), SEAL_DONE);
    sealer_free(s);
}

enum { NONCES = 4000 };

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, AEAD_NONCE_BYTES);
}

/* Over sealers, restarts, and the restore of an older copy of the keyring. */
static void test_no_nonce_twice(void **state)
{
    struct fixture *f = *state;
    static char all[NONCES][AEAD_NONCE_BYTES];
    unsigned n = 0;
    keyring_close(f->keyring);
    const char *ptr;
    char *copy;
    size_t len;
    assert_int_equal(disk_sim_peek(f->sim, PATH, &ptr, &len), 0);
    copy = malloc(len);
    memcpy(copy, ptr, len);
    for (unsigned boot = 0; boot < 10; boot++) {
        if (boot % 4 == 3) { /* a restore takes longer than the milliseconds that this loop ran */
            clock_sleep_ns(50 * NS_PER_MS);
            assert_int_equal(disk_sim_resize(f->sim, PATH, len), 0);
            assert_int_equal(disk_sim_poke(f->sim, PATH, 0, copy, len), 0);
        }
        f->keyring = open_ring(f->sim);
        struct sealer *sealers[4];
        for (unsigned i = 0; i < 4; i++)
            sealers[i] = sealer_new(f->keyring);
        for (unsigned i = 0; i < NONCES / 10; i++) {
            struct record r = some();
            assert_int_equal(seal_record(sealers[i % 4], &r, &f->a), SEAL_DONE);
            memcpy(all[n++], r.payload.ptr, AEAD_NONCE_BYTES);
        }
        for (unsigned i = 0; i < 4; i++)
            sealer_free(sealers[i]);
        if (boot < 9)
            keyring_close(f->keyring);
    }
    free(copy);
    qsort(all, n, sizeof all[0], by_bytes);
    for (unsigned i = 1; i < n; i++)
        assert_int_not_equal(by_bytes(all[i - 1], all[i]), 0);
}

/* AES-256-GCM, test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation". */
static void test_vector(void **state)
{
    static const uint8_t key[] = "\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08"
                                 "\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
    static const uint8_t nonce[] = "\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88";
    static const char plain[] = "\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a"
                                "\x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72"
                                "\x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25"
                                "\xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";
    static const char about[] = "\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef"
                                "\xab\xad\xda\xd2";
    static const uint8_t tag[] = "\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b";
    struct aead a = {0};
    char out[60 + AEAD_TAG_BYTES];
    struct slice fields[] = {slice_of(about, 12), slice_of(about + 12, 8)};
    aead_set_key(&a, key);
    aead_seal(&a, nonce, fields, 2, slice_of(plain, 60), out);
    assert_int_equal((uint8_t)out[0], 0x52);
    assert_int_equal((uint8_t)out[59], 0x62);
    assert_memory_equal(out + 60, tag, sizeof tag - 1);
    aead_fini(&a);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct sealer *s = sealer_new(f->keyring);
    uint8_t a[SEAL_NAME_BYTES], b[SEAL_NAME_BYTES];
    const struct slice ab[] = {SLICE("a"), SLICE("b")}, joined[] = {SLICE("ab"), SLICE("")};
    assert_true(seal_name(s, 9, ab, 2, a));
    assert_true(seal_name(s, 9, ab, 2, b));
    assert_memory_equal(a, b, sizeof a);
    assert_true(seal_name(s, 9, joined, 2, b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_true(seal_name(s, 8, ab, 2, b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_false(seal_name(s, 10, ab, 2, b));
    sealer_free(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back), TEST(test_changed_does_not_open),
        TEST(test_destroyed),      TEST(test_no_nonce_twice),
        TEST(test_vector),         TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
