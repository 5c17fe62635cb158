/* SPDX-License-Identifier: Apache-2.0 */
#include "load/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "load/client.h"
#include "load/fleet.h"
#include "load/load_opts.h"
#include "load/mqtt_client.h"
#include "load/result.h"

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

static int open_ack_log(const struct load_opts *opts, int *ret, struct error *err)
{
    *ret = -1;
    if (!opts->ack_log)
        return 0;
    *ret = open(opts->ack_log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (*ret < 0)
        return error_set(err, -errno, "%s: %s", opts->ack_log, strerror(errno));
    return 0;
}

static int run(struct load_opts *opts, struct result *result, struct error *err)
{
    struct fleet fleet;
    int ack_fd = -1;
    int rc = fleet_init(&fleet, opts, opts->ack_log != NULL, err);
    if (rc == 0 && opts->once && fleet.count > LOAD_CONNECTIONS_MAX)
        rc = error_set(err, -E2BIG, "--once: more than %u devices", LOAD_CONNECTIONS_MAX);
    if (opts->once)
        opts->connections = fleet.count;
    raise_file_limit(opts->connections + opts->subscribers);
    if (rc == 0)
        rc = open_ack_log(opts, &ack_fd, err);
    if (rc == 0 && opts->mqtt)
        rc = mqtt_run(opts, &fleet, result, err);
    else if (rc == 0)
        rc = client_run(opts, &fleet, ack_fd, result, err);
    if (rc == 0)
        result_print(result, stdout);
    if (rc == 0 && opts->json)
        rc = result_write_json(result, opts, opts->json, err);
    if (ack_fd >= 0)
        close(ack_fd);
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
    int rc = run(&opts, result, &err);
    if (rc < 0)
        fprintf(stderr, "sluice load: %s\n", err.text);
    int status = rc < 0 || result->answered == 0 ? 1 : 0;
    free(result);
    return status;
}
