/* SPDX-License-Identifier: Apache-2.0 */
#include "load/result.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>
#include <uv.h>

#include "base/clock.h"

void result_start(struct result *r, uint64_t now_ns)
{
    memset(r, 0, sizeof *r);
    r->began_ns = r->ended_ns = now_ns;
}

uint64_t result_errors(const struct result *r)
{
    return r->broken + r->connect_errors + r->timed_out + r->bad_responses;
}

struct series_point result_second(struct result *r)
{
    const struct series_point now = {
        .answers = r->answered, .refused = r->answers_refused, .errors = result_errors(r)};
    const struct series_point p = {
        .answers = now.answers - r->seen.answers,
        .refused = now.refused - r->seen.refused,
        .errors = now.errors - r->seen.errors,
        .p50 = histogram_quantile(&r->second, 0.5),
        .p99 = histogram_quantile(&r->second, 0.99),
        .p999 = histogram_quantile(&r->second, 0.999),
        .max = r->second.max,
    };
    r->seen = now;
    histogram_clear(&r->second);
    series_add(&r->series, &p);
    return p;
}

double result_seconds(const struct result *r)
{
    return (double)(r->ended_ns - r->began_ns) / (double)NS_PER_S;
}

double result_rate(const struct result *r)
{
    double s = result_seconds(r);
    return s > 0 ? (double)r->answered_in_time / s : 0;
}

static double ms(uint64_t ns)
{
    return (double)ns / (double)NS_PER_MS;
}

static double quantile_ms(const struct histogram *h, double q)
{
    return ms(histogram_quantile(h, q));
}

static void print_histogram(const char *name, const struct histogram *h, FILE *out)
{
    fprintf(out, "%s ms: mean %.3f p50 %.3f p90 %.3f p99 %.3f p99.9 %.3f max %.3f\n", name,
            histogram_mean(h) / (double)NS_PER_MS, quantile_ms(h, 0.5), quantile_ms(h, 0.9),
            quantile_ms(h, 0.99), quantile_ms(h, 0.999), ms(h->max));
}

static void print_attack(const char *name, const struct attack_counts *c, FILE *out)
{
    fprintf(out, "attack %s: sent %lu, answered %lu", name, c->sent, c->answered);
    for (unsigned s = 0; s < 600; s++)
        if (c->by_status[s])
            fprintf(out, ", %u: %lu", s, c->by_status[s]);
    fprintf(out, "; connections: %lu closed by the server, %lu failed\n", c->closed, c->failed);
}

static void print_verdict(const struct ledger_verdict *v, FILE *out)
{
    fprintf(out,
            "verified: %lu of %lu acknowledged messages are stored once, %lu refused ones are not; "
            "of %lu without a clear answer %lu are stored\n",
            v->stored, v->acked, v->refused - v->refused_stored, v->unknown, v->unknown_stored);
    if (ledger_sound(v))
        return;
    fprintf(out,
            "NOT AS ACKNOWLEDGED: %lu lost, %lu stored more than once, %lu stored though refused, "
            "%lu never sent, %lu feeds that do not hold what was sent to them\n",
            v->lost, v->doubled, v->refused_stored, v->strangers, v->feeds_wrong);
    for (unsigned i = 0; i < v->named_count; i++)
        fprintf(out, "%s %lu", i ? "," : "the first sequences:", v->named[i]);
    fputs(v->named_count ? "\n" : "", out);
}

void result_print(const struct result *r, FILE *out)
{
    fprintf(out, "%.1f s, %.0f answers/s\n", result_seconds(r), result_rate(r));
    fprintf(out, "sent %lu, answered %lu", r->sent, r->answered);
    for (unsigned s = 0; s < 600; s++) {
        if (r->by_status[s])
            fprintf(out, ", %u: %lu", s, r->by_status[s]);
    }
    fputc('\n', out);
    print_histogram("latency", &r->latency, out);
    if (r->connects.total)
        print_histogram("connecting", &r->connects, out);
    if (r->delivered) {
        fprintf(out, "delivered to subscribers: %lu\n", r->delivered);
        print_histogram("delivery", &r->delivery, out);
    }
    fprintf(out, "bytes: sent %lu, received %lu\n", r->bytes_sent, r->bytes_received);
    if (r->connect_errors || r->broken || r->closed || r->timed_out || r->bad_responses)
        fprintf(out,
                "connections: %lu not opened, %lu broken, %lu closed by the server, "
                "%lu timed out, %lu bad responses\n",
                r->connect_errors, r->broken, r->closed, r->timed_out, r->bad_responses);
    if (r->last_error)
        fprintf(out, "last error: %s\n", r->why[0] ? r->why : uv_strerror(r->last_error));
    if (r->logins_refused)
        fprintf(out, "logins refused: %lu, the last with code %u\n", r->logins_refused,
                r->login_code);
    if (r->unsent)
        fprintf(out, "due but unsent: %lu\n", r->unsent);
    if (r->devices)
        fprintf(out,
                "accepted %lu of %lu devices, the last after %.1f s; refused for good: %lu\n"
                "told to come back: %lu times, in at most %lu s; of those who did, %lu accepted, "
                "%lu told again\n",
                r->accepted, r->devices, (double)r->accepted_ns / (double)NS_PER_S, r->refused,
                r->told, r->told_s_max, r->kept, r->not_kept);
    if (r->acked)
        fprintf(out, "acknowledged messages logged: %lu\n", r->acked);
    for (unsigned i = 0; i < ATTACKS; i++)
        if (r->attacks & 1u << i)
            print_attack(load_attack_names[i], &r->attack[i], out);
    if (r->verified)
        print_verdict(&r->verdict, out);
}

static json_t *latency_json(const struct histogram *h)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "min", ms(h->min), "mean",
                     histogram_mean(h) / (double)NS_PER_MS, "p50", quantile_ms(h, 0.5), "p90",
                     quantile_ms(h, 0.9), "p99", quantile_ms(h, 0.99), "p99.9",
                     quantile_ms(h, 0.999), "max", ms(h->max));
}

static json_t *status_json(const uint64_t *by_status)
{
    json_t *all = json_object();
    for (unsigned s = 0; s < 600; s++) {
        char name[8];
        snprintf(name, sizeof name, "%u", s);
        if (by_status[s])
            json_object_set_new(all, name, json_integer((json_int_t)by_status[s]));
    }
    return all;
}

static json_t *verdict_json(const struct ledger_verdict *v)
{
#define N(name) #name, (json_int_t)v->name
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sound",
                     ledger_sound(v), N(acked), N(refused), N(unknown), N(stored), N(lost),
                     N(doubled), N(refused_stored), N(unknown_stored), N(strangers),
                     N(feeds_wrong));
#undef N
}

static json_t *attacks_json(const struct result *r)
{
    json_t *all = json_object();
    for (unsigned i = 0; i < ATTACKS; i++) {
        const struct attack_counts *c = &r->attack[i];
        if (r->attacks & 1u << i)
            json_object_set_new(all, load_attack_names[i],
                                json_pack("{s:I, s:I, s:I, s:I, s:o}", "sent", (json_int_t)c->sent,
                                          "answered", (json_int_t)c->answered, "closed",
                                          (json_int_t)c->closed, "failed", (json_int_t)c->failed,
                                          "status", status_json(c->by_status)));
    }
    return all;
}

static json_t *series_json(const struct series *s)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < s->count; i++) {
        const struct series_point *p = &s->points[i];
        json_array_append_new(
            all, json_pack("{s:i, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "s",
                           (int)((i + 1) * s->step_s), "answers", (json_int_t)p->answers, "refused",
                           (json_int_t)p->refused, "errors", (json_int_t)p->errors, "p50",
                           ms(p->p50), "p99", ms(p->p99), "p99.9", ms(p->p999), "max", ms(p->max)));
    }
    return all;
}

static json_t *result_json(const struct result *r, const struct load_opts *opts)
{
    json_t *o = json_pack("{s:i, s:f, s:f, s:f, s:o, s:o}", "connections", (int)opts->connections,
                          "rate_wanted", opts->rate, "seconds", result_seconds(r),
                          "answers_per_second", result_rate(r), "status", status_json(r->by_status),
                          "latency_ms", latency_json(&r->latency));
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"sent", r->sent},
        {"answered", r->answered},
        {"bytes_sent", r->bytes_sent},
        {"bytes_received", r->bytes_received},
        {"connect_errors", r->connect_errors},
        {"broken", r->broken},
        {"dropped", r->dropped},
        {"closed", r->closed},
        {"timed_out", r->timed_out},
        {"bad_responses", r->bad_responses},
        {"unsent", r->unsent},
        {"acked", r->acked},
        {"devices", r->devices},
        {"accepted", r->accepted},
        {"told", r->told},
        {"told_s_max", r->told_s_max},
        {"kept", r->kept},
        {"not_kept", r->not_kept},
        {"refused", r->refused},
        {"logins_refused", r->logins_refused},
        {"delivered", r->delivered},
    };
    if (r->delivered)
        json_object_set_new(o, "delivery_ms", latency_json(&r->delivery));
    if (r->connects.total)
        json_object_set_new(o, "connect_ms", latency_json(&r->connects));
    if (r->last_error)
        json_object_set_new(o, "last_error",
                            json_string(r->why[0] ? r->why : uv_strerror(r->last_error)));
    if (r->attacks)
        json_object_set_new(o, "attacks", attacks_json(r));
    json_object_set_new(o, "series", series_json(&r->series));
    if (r->verified)
        json_object_set_new(o, "verified", verdict_json(&r->verdict));
    json_object_set_new(o, "accepted_seconds",
                        json_real((double)r->accepted_ns / (double)NS_PER_S));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(o, counts[i].name, json_integer((json_int_t)counts[i].value));
    return o;
}

int result_write_json(const struct result *r, const struct load_opts *opts, const char *path,
                      struct error *err)
{
    FILE *out = fopen(path, "we");
    if (!out)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    json_t *o = result_json(r, opts);
    int failed = json_dumpf(o, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(o);
    failed |= fputc('\n', out) == EOF;
    if (fclose(out) != 0 || failed)
        return error_set(err, -EIO, "%s: cannot be written", path);
    return 0;
}
