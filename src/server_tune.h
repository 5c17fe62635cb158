/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_tune.h - settings as the stages want them: what each may be given anew by a reload.
 * Pure but for tune_descriptors; what is returned points into `c`, and into what was given.
 */
#pragma once

#include <signal.h>

#include "base/log.h"
#include "config.h"
#include "front/http.h"
#include "front/mqtt.h"
#include "journal/journal.h"
#include "pipeline.h"

struct journal_opts tune_journal(const struct config *c, struct disk *disk, const char *dir);
/* Notes in the object `arg` what a reload changes, and logs what it does not. */
void tune_note_change(void *arg, const struct config_change *change);
enum log_level tune_log_level(const char *name);
struct ack tune_ack(const char *text);
/* How many workers there are. */
unsigned tune_workers(const struct config *c);
struct lane_tune tune_lane(const struct config *c);
struct missed_limits tune_missed(const struct config *c);
struct pipeline_tune tune_pipeline(const struct config *c);
/* What of the pipeline is settings alone. */
void tune_pipeline_opts(const struct config *c, struct pipeline_opts *ret);
/* Fills in the networks of listen.trusted_proxies, at most CONFIG_NETWORKS_MAX; returns how many.
 */
unsigned tune_trusted(const struct config *c, struct cidr *out);
/* Of a request, whatever the surface. */
struct http1_limits tune_http_limits(const struct config *c);
/* `trusted`: the networks of listen.trusted_proxies. Only the public surface believes them. */
struct http_tune tune_http(const struct config *c, enum surface surface, const struct cidr *trusted,
                           unsigned count);
struct mqtt_tune tune_mqtt(const struct config *c);
/* `tls`: NULL for listeners without. */
struct listener_tune tune_listener(const struct config *c, enum surface surface,
                                   const struct cidr *trusted, unsigned count, struct tls_set *tls);
/* Blocks the signals that the main thread waits for: before there are threads. */
void tune_signals(sigset_t *ret);
/* Makes room for the descriptors of all connections and files there may be. At a start, before
 * there are threads. */
void tune_descriptors(const struct config *c);
