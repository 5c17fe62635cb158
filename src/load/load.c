/* SPDX-License-Identifier: Apache-2.0 */
#include "load/load.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "load/attack.h"
#include "load/client.h"
#include "load/compare.h"
#include "load/create.h"
#include "load/fleet.h"
#include "load/load_opts.h"
#include "load/mqtt_client.h"
#include "load/proof.h"
#include "load/report.h"
#include "load/result.h"
#include "load/verify.h"

/* Each connection takes a descriptor; the usual soft limit is 1024. */
static void raise_file_limit(unsigned connections)
{
    struct rlimit limit;
    rlim_t wanted = connections + 64;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Sends, and with --verify reads back what was sent. */
static int send_all(const struct load_opts *opts, const struct fleet *fleet, struct result *result,
                    struct error *err)
{
    struct proof proof = {.ack_fd = -1};
    struct verify verify = {0};
    struct attacks attacks = {0};
    int rc = proof_init(&proof, opts, fleet, err);
    if (rc == 0 && opts->verify_key)
        rc = verify_begin(&verify, opts, err);
    if (rc == 0)
        rc = attacks_start(&attacks, opts, err);
    if (rc == 0 && opts->mqtt)
        rc = mqtt_run(opts, fleet, &proof, result, err);
    else if (rc == 0)
        rc = client_run(opts, fleet, &proof, result, err);
    attacks_end(&attacks, result->attack);
    result->attacks = opts->attacks;
    result->acked = proof.logged;
    if (rc == 0 && opts->verify_key && result->answered && !proof.ledger.count)
        rc =
            error_set(err, -EINVAL, "--verify: nothing that was sent holds a number to know it by");
    if (rc == 0 && opts->verify_key) {
        rc = verify_read(&verify, &proof.feeds, &proof.ledger, err);
        ledger_judge(&proof.ledger, &result->verdict);
        result->verified = rc == 0;
    }
    verify_fini(&verify);
    proof_fini(&proof);
    return rc;
}

/* A replay is an open loop that ends with the recording. */
static void follow_recording(struct load_opts *opts, const struct fleet *fleet)
{
    uint64_t last_ns = fleet->devices[fleet->count - 1].due_ns;
    opts->requests = fleet->count;
    opts->rate = (double)fleet->count * (double)NS_PER_S / (double)(last_ns + NS_PER_MS);
    opts->run_ns = last_ns + opts->timeout_ns;
}

/* 1: --compare, and something is lacking. */
static int run(struct load_opts *opts, struct result *result, struct error *err)
{
    struct fleet fleet;
    int rc = opts->create ? create_devices(opts, err) : 0;
    if (rc)
        return rc;
    rc = fleet_init(&fleet, opts, err);
    if (rc == 0 && opts->once && fleet.count > LOAD_CONNECTIONS_MAX)
        rc = error_set(err, -E2BIG, "--once: more than %u devices", LOAD_CONNECTIONS_MAX);
    if (opts->once)
        opts->connections = fleet.count;
    if (rc == 0 && opts->compare) {
        rc = compare_run(&fleet, opts->compare, stdout, err);
        fleet_fini(&fleet);
        return rc;
    }
    if (rc == 0 && opts->replay)
        follow_recording(opts, &fleet);
    raise_file_limit(opts->connections + opts->subscribers);
    if (rc == 0)
        rc = send_all(opts, &fleet, result, err);
    if (rc == 0 || result->answered)
        result_print(result, stdout);
    if (rc == 0 && opts->json)
        rc = result_write_json(result, opts, opts->json, err);
    if (rc == 0 && opts->html)
        rc = report_write(result, opts, opts->html, err);
    fleet_fini(&fleet);
    return rc;
}

int load_command(int argc, char **argv)
{
    struct load_opts opts;
    struct error err = {0};
    switch (load_opts_parse(argc, argv, &opts, &err)) {
    case LOAD_OPTS_HELP:
        fputs(load_opts_help, stdout);
        return 0;
    case LOAD_OPTS_WRONG:
        fprintf(stderr, "sluice load: %s\n(--help tells how to use it)\n", err.text);
        return 2;
    case LOAD_OPTS_RUN:
        break;
    }
    struct result *result = calloc(1, sizeof *result); /* large: the histogram is in it */
    if (!result) {
        fprintf(stderr, "sluice load: no memory\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = run(&opts, result, &err);
    if (rc < 0)
        fprintf(stderr, "sluice load: %s\n", err.text);
    bool differs = rc > 0 || (result->verified && !ledger_sound(&result->verdict));
    bool failed = rc < 0 || (!opts.compare && result->answered == 0);
    int status = failed ? 1 : differs ? 3 : 0;
    free(result);
    return status;
}
