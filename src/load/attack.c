/* SPDX-License-Identifier: Apache-2.0 */
#include "load/attack.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "load/client.h"
#include "load/fleet.h"

#define LONG_NS  (24 * 3600 * NS_PER_S) /* until it is told to end */
#define DRAIN_NS NS_PER_S               /* nobody waits for what it is answered at the end */

/* What the fleet was asked for, with everything off that is the fleet's alone. */
static struct load_opts plain_opts(const struct load_opts *opts)
{
    struct load_opts o = *opts;
    o.json = o.html = o.ack_log = o.verify_key = o.replay = o.shape = NULL;
    o.once = o.sequenced = o.fixed = false;
    o.attacks = 0;
    o.storm_ns = o.think_ns = o.warmup_ns = o.requests = 0;
    o.quiet = o.reconnect = true;
    o.connections = opts->attack_connections;
    o.rate = opts->attack_rate;
    arrival_steady(&o.arrival, o.rate);
    o.run_ns = LONG_NS;
    o.drain_ns = DRAIN_NS;
    o.first_sequence = (uint64_t)clock_wall_us(); /* guesses that nobody made before */
    return o;
}

static int fleet_of(enum attack kind, struct load_opts *o, struct fleet *f)
{
    static char victim[256];
    o->attack = kind;
    switch (kind) {
    case ATTACK_SECRETS: {
        int rc = fleet_init(f, o, NULL);
        if (rc || f->count == 0)
            return -EINVAL;
        snprintf(victim, sizeof victim, "%.*s", SLICE_ARG(fleet_id(f, &f->devices[0])));
        fleet_fini(f);
        o->devices = o->key = NULL;
        o->device = victim;
        o->token = "guess-%seq%";
        o->basic = false;
        return fleet_init(f, o, NULL);
    }
    case ATTACK_DEVICES:
        o->devices = o->key = NULL;
        o->device = "ghost-%seq%";
        o->token = "guess-%seq%";
        o->basic = false;
        return fleet_init(f, o, NULL);
    case ATTACK_FLOOD: {
        int rc = fleet_init(f, o, NULL);
        f->count = f->count ? 1 : 0; /* one device sends all */
        return rc;
    }
    default:
        return fleet_init(f, o, NULL);
    }
}

static void tell(int fd, const struct result *r)
{
    struct attack_counts c = {.sent = r->sent,
                              .answered = r->answered,
                              .closed = r->closed,
                              .failed = r->connect_errors + r->broken + r->timed_out};
    memcpy(c.by_status, r->by_status, sizeof c.by_status);
    if (write(fd, &c, sizeof c) != sizeof c)
        fprintf(stderr, "sluice load: an attack's counts were lost\n");
}

/* The process of one. */
static void run(enum attack kind, const struct load_opts *opts, int fd)
{
    struct load_opts o = plain_opts(opts);
    struct fleet fleet = {0};
    struct proof proof = {.ack_fd = -1};
    struct error err = {0};
    struct result *result = calloc(1, sizeof *result);
    int rc = result ? fleet_of(kind, &o, &fleet) : -ENOMEM;
    if (rc == 0)
        rc = client_run(&o, &fleet, &proof, result, &err);
    if (rc == 0)
        tell(fd, result);
    else
        fprintf(stderr, "sluice load: attack %s: %s\n", load_attack_names[kind],
                err.text[0] ? err.text : strerror(-rc));
    free(result);
    fleet_fini(&fleet);
    close(fd);
}

int attacks_start(struct attacks *a, const struct load_opts *opts, struct error *err)
{
    for (unsigned i = 0; i < ATTACKS; i++) {
        int ends[2], parent = getpid();
        if (!(opts->attacks & 1u << i))
            continue;
        if (pipe(ends) < 0)
            return error_set(err, -errno, "an attack cannot be started: %s", strerror(errno));
        int pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* it must not outlive who asked for it */
            close(ends[0]);
            if (getppid() == parent)
                run((enum attack)i, opts, ends[1]);
            _exit(0);
        }
        close(ends[1]);
        if (pid < 0) {
            close(ends[0]);
            return error_set(err, -errno, "an attack cannot be started: %s", strerror(errno));
        }
        a->list[i].pid = pid;
        a->list[i].fd = ends[0];
    }
    return 0;
}

void attacks_end(struct attacks *a, struct attack_counts counts[ATTACKS])
{
    for (unsigned i = 0; i < ATTACKS; i++)
        if (a->list[i].pid)
            kill(a->list[i].pid, SIGINT);
    for (unsigned i = 0; i < ATTACKS; i++) {
        if (!a->list[i].pid)
            continue;
        size_t got = 0;
        ssize_t n;
        while (got < sizeof counts[i] &&
               ((n = read(a->list[i].fd, (char *)&counts[i] + got, sizeof counts[i] - got)) > 0 ||
                (n < 0 && errno == EINTR)))
            got += n > 0 ? (size_t)n : 0;
        if (got < sizeof counts[i])
            counts[i] = (struct attack_counts){0};
        close(a->list[i].fd);
        waitpid(a->list[i].pid, NULL, 0);
        a->list[i].pid = 0;
    }
}
