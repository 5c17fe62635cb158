/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sealing and opening cost: records of one account, whose key stays set up, and of ACCOUNTS in
 * turn, whose keys do not. One thread.
 *     build/bench/seal_bench
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "seal/seal.h"

#define ROUNDS   1000000u
#define ACCOUNTS 10000u

static struct record of_account(uint64_t account, struct slice payload)
{
    return (struct record){.kind = RECORD_DATUM,
                           .account = account,
                           .feed = 123456,
                           .credential = 4711,
                           .event_us = 1700000000000000,
                           .receive_us = 1700000000123456,
                           .payload = payload};
}

static void measure(struct keyring *k, unsigned accounts, struct slice payload)
{
    struct sealer *s = sealer_new(k);
    struct buf sealed, opened;
    buf_init(&sealed, 1 << 20);
    buf_init(&opened, 1 << 20);
    uint64_t sealing = 0, both = clock_mono_ns();
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct record r = of_account(1 + i % accounts, payload);
        CHECK(seal_record(s, &r, &sealed) == SEAL_DONE);
    }
    sealing = clock_mono_ns() - both;
    both = clock_mono_ns();
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct record r = of_account(1 + i % accounts, payload);
        CHECK(seal_record(s, &r, &sealed) == SEAL_DONE);
        CHECK(unseal_record(s, &r, &opened) == SEAL_DONE);
    }
    both = clock_mono_ns() - both;
    printf("%6u accounts, %4zu bytes: seal %4.0f ns, seal and open %4.0f ns\n", accounts,
           payload.len, (double)sealing / ROUNDS, (double)both / ROUNDS);
    buf_fini(&sealed);
    buf_fini(&opened);
    sealer_free(s);
}

int main(void)
{
    char path[] = "/tmp/seal_bench.XXXXXX";
    static char value[1000];
    struct master_key master;
    struct keyring *k;
    struct error err = {""};
    int fd = mkstemp(path);
    CHECK(fd >= 0 && master_key_make(SLICE("0123456789abcdef0123456789abcdef"), &master));
    close(fd);
    unlink(path);
    if (keyring_open(disk_posix(), path, &master, &k, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (uint64_t account = 1; account <= ACCOUNTS; account++)
        CHECK(keyring_make(k, account) == 0);
    measure(k, 1, slice_of(value, 6));
    measure(k, 1, slice_of(value, 200));
    measure(k, ACCOUNTS, slice_of(value, 6));
    measure(k, ACCOUNTS, slice_of(value, 200));
    keyring_close(k);
    unlink(path);
    return 0;
}
