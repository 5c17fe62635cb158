/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice backup DIR, sluice backup verify DIR, sluice restore DIR: a running server is asked to
 * keep its state of one moment still, and this process copies it; without a server it does both,
 * under the data lock.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/backup.h"
#include "backup/offline.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/data_lock.h"
#include "cli/settings.h"
#include "server_proof.h"

#define RATE_DEFAULT     16 /* MB/s */
#define RATE_MAX         100000
#define MB               1000000u
#define ANSWER_BYTES_MAX (1u << 20)
#define LINES_BYTES_MAX  ((size_t)64 << 20)
/* A server that starts or stops has the lock, and no socket yet or any more. */
#define TRIES        100
#define TRY_AGAIN_NS (100 * NS_PER_MS)
#define LOCK_TRIES   10

#define RATE_OPT(ret, fallback)                                                                    \
    {                                                                                              \
        "rate", "MB", "Copy at most so many megabytes a second; 0: no bound; default: " fallback,  \
            (ret), NULL, NULL                                                                      \
    }

static bool number(const char *name, const char *text, uint64_t fallback, uint64_t max,
                   uint64_t *ret)
{
    char *end;
    *ret = fallback;
    if (!text)
        return true;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && !*end && !errno && *ret <= max)
        return true;
    fprintf(stderr, "sluice: --%s must be a number up to %llu, not \"%s\"\n", name,
            (unsigned long long)max, text);
    return false;
}

static uint64_t bytes_of(const struct manifest *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->count; i++)
        sum += m->files[i].digest.bytes;
    return sum;
}

static void print_manifest(const struct manifest *m)
{
    printf("made      %s\nfiles     %zu\nbytes     %llu\nrecords   %llu..%llu\nsealed    %s\n",
           m->made, m->count, (unsigned long long)bytes_of(m), (unsigned long long)m->oldest,
           (unsigned long long)m->position, m->sealed ? "yes: keep the keyring, apart" : "no");
}

/* ---- asking the server ----------------------------------------------------------------------- */

/* -ENOENT, -ECONNREFUSED: no server runs. 0: *ret is its answer, the caller's. */
static int ask(const char *data, const char *verb, const char *name, const char *value,
               json_t **ret, struct error *err)
{
    struct buf body;
    unsigned status = 0;
    json_t *args = json_pack("{s:s}", name, value);
    char *text = args ? json_dumps(args, JSON_COMPACT) : NULL;
    json_decref(args);
    if (!text)
        return error_set(err, -EINVAL, "%s is no UTF-8", value);
    const struct admin_client_request request = {
        .noun = "backup", .verb = verb, .type = "application/json", .body = slice_str(text)};
    buf_init(&body, ANSWER_BYTES_MAX);
    int rc = admin_client_call(data, &request, &status, &body, err);
    free(text);
    json_t *answer = rc == 0 ? json_loadb(body.ptr, body.len, 0, NULL) : NULL;
    const char *error = json_string_value(json_object_get(answer, "error"));
    if (rc == 0 && (status != 200 || !json_is_object(answer)))
        rc = error_set(err, -EREMOTEIO, "%s",
                       error ? error : "the server's answer is not understood");
    buf_fini(&body);
    if (rc)
        json_decref(answer);
    else
        *ret = answer;
    return rc;
}

static bool staged_of(const json_t *answer, struct backup_staged *ret)
{
    const char *token = json_string_value(json_object_get(answer, "token"));
    const char *id = json_string_value(json_object_get(answer, "log_id"));
    const json_t *position = json_object_get(answer, "position");
    if (!token || strlen(token) != BACKUP_TOKEN_SIZE - 1 || !id ||
        strlen(id) != 2 * sizeof ret->log_id || !json_is_integer(position))
        return false;
    for (unsigned i = 0; i < sizeof ret->log_id; i++) {
        char digits[3] = {id[2 * i], id[2 * i + 1], 0};
        ret->log_id[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    snprintf(ret->token, sizeof ret->token, "%s", token);
    ret->position = (uint64_t)json_integer_value(position);
    ret->sealed = json_is_true(json_object_get(answer, "sealed"));
    return true;
}

/* ---- staging --------------------------------------------------------------------------------- */

static int stage_offline(const struct config *config, struct backup_staged *ret, struct error *err)
{
    struct backup_source source = {0};
    struct proof proof;
    struct backup_offline_opts opts = {.disk = disk_posix(),
                                       .data = config->server.data,
                                       .journal = {.segment_bytes = config->journal.segment_size},
                                       .history_open_max = config->history.open_max,
                                       .history_cache_bytes = config->history.cache_size};
    int rc = proof_ask(&proof, config->server.data, &opts.journal, err);
    if (rc == 0)
        rc = backup_offline_open(&opts, &source, err);
    if (rc == 0)
        rc = backup_stage(&source, ret, err);
    backup_offline_close(&source);
    return rc;
}

/* By the server; or here, and then *ret_lock is the data lock. */
static int stage(const struct config *config, const char *to, struct backup_staged *ret,
                 struct disk_file **ret_lock, struct error *err)
{
    const char *data = config->server.data;
    for (unsigned i = 0;; i++) {
        json_t *answer = NULL;
        int rc = ask(data, "stage", "to", to, &answer, err);
        if (rc == 0 && !staged_of(answer, ret))
            rc = error_set(err, -EBADMSG, "the server's answer is not understood");
        json_decref(answer);
        if (rc != -ENOENT && rc != -ECONNREFUSED)
            return rc;
        rc = data_lock_take(data, false, ret_lock, err);
        if (rc == 0)
            return stage_offline(config, ret, err);
        if (rc != -EWOULDBLOCK || i == TRIES)
            return rc;
        clock_sleep_ns(TRY_AGAIN_NS);
    }
}

static void release(const char *data, const struct backup_staged *staged,
                    const struct disk_file *lock)
{
    struct error err = {""};
    json_t *answer = NULL;
    int rc = lock ? backup_unstage(disk_posix(), data, &err)
                  : ask(data, "release", "token", staged->token, &answer, &err);
    json_decref(answer);
    /* A server that has gone takes it away when it starts. */
    if (rc && rc != -ENOENT && rc != -ECONNREFUSED)
        fprintf(stderr, "sluice backup: %s\n", err.text);
}

/* A server that takes away what a dead command left holds the lock for a moment. */
static int lock_backups(const char *data, struct disk_file **ret, struct error *err)
{
    int rc = backup_lock(data, ret, err);
    for (unsigned i = 0; rc == -EWOULDBLOCK && i < LOCK_TRIES; i++) {
        clock_sleep_ns(TRY_AGAIN_NS);
        rc = backup_lock(data, ret, err);
    }
    return rc;
}

static int write_backup(const struct config *config, const char *to, uint64_t rate,
                        struct manifest *ret, struct error *err)
{
    const char *data = config->server.data;
    struct disk_file *lock = NULL, *data_lock = NULL;
    struct backup_staged staged = {{0}};
    int rc = lock_backups(data, &lock, err);
    if (rc == -ENOENT)
        return error_set(err, rc, "there is no data directory %s (name it with --data or --config)",
                         data);
    if (rc)
        return rc;
    rc = stage(config, to, &staged, &data_lock, err);
    if (rc == 0) {
        const struct backup_write_opts opts = {.disk = disk_posix(),
                                               .data = data,
                                               .to = to,
                                               .version = SLUICE_VERSION,
                                               .staged = &staged,
                                               .bytes_per_s = rate * MB};
        rc = backup_write(&opts, ret, err);
        if (backup_is_staged(disk_posix(), data, staged.token))
            release(data, &staged, data_lock);
    }
    data_lock_release(data_lock);
    data_lock_release(lock);
    return rc;
}

/* ---- the commands ---------------------------------------------------------------------------- */

static int cmd_write(int argc, char **argv)
{
    struct settings_opts settings = {0};
    const char *to = NULL, *rate_text = NULL;
    const struct opt opts[] = {RATE_OPT(&rate_text, "16"), SETTINGS_OPTS(&settings), {0}};
    const struct opt_arg args[] = {
        {"DIR", "Where the backup is written: a new directory, or an empty one", &to, true}, {0}};
    const struct opt_syntax syntax = {
        .path = "sluice backup",
        .text = "Write a backup, while the server runs or without one",
        .args = args,
        .opts = opts,
        .more = "The backup holds everything but the keys: save keyring and keyring.erased of the "
                "data\ndirectory apart, always the newest, and only those. Check it by\n"
                "sluice backup verify DIR, bring it back by sluice restore DIR.\n"
                "Other commands: sluice backup verify, stage, release.\n",
        .examples = "  sluice backup /backup/monday --data /var/lib/sluice\n"
                    "  sluice backup /backup/monday --rate 64\n"
                    "  sluice backup verify /backup/monday\n",
    };
    struct config *config;
    struct error err = {""};
    struct manifest m = {.files = NULL};
    uint64_t rate;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!number("rate", rate_text, RATE_DEFAULT, RATE_MAX, &rate))
        return CLI_USAGE;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    log_set_level(LOG_WARN);
    umask(077); /* there are verifiers in it */
    int rc = write_backup(config, to, rate, &m, &err);
    if (rc == 0)
        print_manifest(&m);
    else
        fprintf(stderr, "sluice backup: %s\n", err.text);
    manifest_fini(&m);
    config_free(config);
    return rc ? CLI_FAILED : CLI_OK;
}

static int cmd_verify(int argc, char **argv)
{
    const char *dir = NULL;
    const struct opt opts[] = {{0}};
    const struct opt_arg args[] = {{"DIR", "The backup", &dir, true}, {0}};
    const struct opt_syntax syntax = {
        .path = "sluice backup verify",
        .text = "Read all of a backup and check it against its list; the exit status is 1 when "
                "something is\ndamaged or missing",
        .args = args,
        .opts = opts,
        .examples = "  sluice backup verify /backup/monday\n",
    };
    struct error err = {""};
    struct manifest m = {.files = NULL};
    struct buf lines;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    log_set_level(LOG_WARN);
    buf_init(&lines, LINES_BYTES_MAX);
    int rc = backup_verify(disk_posix(), dir, &m, &lines, &err);
    printf("%.*s", SLICE_ARG(buf_slice(&lines)));
    if (rc == 0)
        print_manifest(&m);
    else
        fprintf(stderr, "sluice backup verify: %s\n", err.text);
    buf_fini(&lines);
    manifest_fini(&m);
    return rc ? CLI_FAILED : CLI_OK;
}

int cmd_backup(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "verify") == 0)
        return cmd_verify(argc - 1, argv + 1);
    if (strcmp(word, "stage") == 0 || strcmp(word, "release") == 0)
        return cmd_admin(argc, argv);
    return cmd_write(argc, argv);
}

static int restore(const struct config *config, const struct backup_restore_opts *opts)
{
    struct error err = {""};
    struct backup_restored restored;
    struct disk_file *lock = NULL;
    int rc = data_lock_take_unfinished(config->server.data, &lock, &err);
    if (rc == 0)
        rc = backup_restore(opts, &restored, &err);
    if (rc == 0)
        printf("restored  into %s\nnth       %u\nposition  %llu\n", opts->to, restored.nth,
               (unsigned long long)restored.position);
    else
        fprintf(stderr, "sluice restore: %s\n", err.text);
    data_lock_release(lock);
    return rc ? CLI_FAILED : CLI_OK;
}

int cmd_restore(int argc, char **argv)
{
    struct settings_opts settings = {0};
    const char *from = NULL, *rate_text = NULL, *nth_text = NULL;
    bool without_keys = false;
    const struct opt opts[] = {
        RATE_OPT(&rate_text, "0"),
        {"nth", "N",
         "Which restore of this backup it is, from 1; default: the backup's file \"restores\" "
         "counts",
         &nth_text, NULL, NULL},
        {"without-keyring", NULL, "Restore sealed data although there is no keyring to read them",
         NULL, &without_keys, NULL},
        SETTINGS_OPTS(&settings),
        {0},
    };
    const struct opt_arg args[] = {{"DIR", "The backup", &from, true}, {0}};
    const struct opt_syntax syntax = {
        .path = "sluice restore",
        .text = "Bring a backup back into a new data directory",
        .args = args,
        .opts = opts,
        .more =
            "The directory is new, or holds nothing but keyring and keyring.erased, which must "
            "be there\nfirst when the data are sealed: what they say is erased is erased again "
            "when a server starts.\nEach file is checked. The journal goes on at a position that "
            "was never used.\n",
        .examples = "  sluice restore /backup/monday --data /var/lib/sluice-new\n",
    };
    struct config *config;
    uint64_t rate, nth;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!number("rate", rate_text, 0, RATE_MAX, &rate) ||
        !number("nth", nth_text, 0, UINT32_MAX, &nth))
        return CLI_USAGE;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    log_set_level(LOG_ERROR + 1); /* that the log has a gap now is no news here */
    umask(077);
    const struct backup_restore_opts restore_opts = {.disk = disk_posix(),
                                                     .from = from,
                                                     .to = config->server.data,
                                                     .nth = (uint32_t)nth,
                                                     .without_keys = without_keys,
                                                     .segment_bytes = config->journal.segment_size,
                                                     .bytes_per_s = rate * MB};
    status = restore(config, &restore_opts);
    config_free(config);
    return status;
}
