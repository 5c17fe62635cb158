/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/overload.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

#define UP_NS       (200 * NS_PER_MS)
#define DOWN_NS     NS_PER_S
#define SLOW_NS     (20e6) /* below this no commit counts as slow */
#define TOLERANCE   2.0    /* times as long as usual before the limit shrinks */
#define SHORT_TICKS 5.0    /* of the moving averages */
#define LONG_TICKS  600.0  /* a minute: after it a slow disk is the usual one */
#define FILL_BACK   20u    /* permille below disk_percent at which L5 ends */

struct rung {
    unsigned up, down; /* permille */
};

static const struct rung rungs[OVERLOAD_LEVELS] = {
    [OVERLOAD_TRIM] = {500, 350},
    [OVERLOAD_STALE_READS] = {700, 500},
    [OVERLOAD_NO_FIRST_LOGINS] = {850, 600},
    [OVERLOAD_APPEND_ONLY] = {1000, 750},
};

void overload_init(struct overload *o, const struct overload_opts *opts)
{
    *o = (struct overload){.opts = *opts, .limit = opts->limit_max};
    atomic_store(&o->limit_now, opts->limit_max);
}

void overload_tune(struct overload *o, const struct overload_opts *opts)
{
    o->opts = *opts;
    if (o->limit > opts->limit_max)
        o->limit = opts->limit_max;
    if (o->limit < opts->limit_min)
        o->limit = opts->limit_min;
}

void overload_end(struct overload *o)
{
    o->since_up_ns = o->since_down_ns = 0;
    atomic_store(&o->state, 0);
}

bool overload_due(struct overload *o, uint64_t now_ns)
{
    uint64_t due = atomic_load_explicit(&o->due_ns, memory_order_relaxed);
    return now_ns >= due &&
           atomic_compare_exchange_strong(&o->due_ns, &due, now_ns + OVERLOAD_TICK_NS);
}

/* ---- the limit ---- */

static double averaged(double average, double sample, double ticks)
{
    return average == 0 ? sample : average + (sample - average) / ticks;
}

static void limit_follow(struct overload *o, const struct overload_sample *s)
{
    if (!s->commit_ns)
        return;
    double sample = (double)s->commit_ns;
    o->short_ns = averaged(o->short_ns, sample, SHORT_TICKS);
    o->long_ns = averaged(o->long_ns, sample, LONG_TICKS);
    if (o->long_ns > o->short_ns * 2) /* the bad time is over: forget it sooner */
        o->long_ns *= 0.95;
    double usual = o->long_ns * TOLERANCE > SLOW_NS ? o->long_ns * TOLERANCE : SLOW_NS;
    double gradient = o->short_ns > usual ? usual / o->short_ns : 1.0;
    if (gradient < 0.5)
        gradient = 0.5;
    if (gradient == 1.0 && (double)s->waiting * 2 < o->limit && o->limit >= o->opts.limit_max)
        return;
    double wanted = o->limit * gradient;
    if (gradient == 1.0)
        wanted += o->limit / 8; /* grows back within seconds */
    o->limit += (wanted - o->limit) / 2;
    if (o->limit < o->opts.limit_min)
        o->limit = o->opts.limit_min;
    if (o->limit > o->opts.limit_max)
        o->limit = o->opts.limit_max;
}

/* ---- the ladder ---- */

/* Whether the condition has held for that long; *since remembers since when. */
static bool held(bool condition, uint64_t *since, uint64_t now_ns, uint64_t how_long)
{
    if (!condition) {
        *since = 0;
        return false;
    }
    if (!*since)
        *since = now_ns ? now_ns : 1;
    return now_ns - *since >= how_long;
}

static enum overload_level next_level(struct overload *o, enum overload_level now,
                                      const struct overload_sample *s)
{
    unsigned disk = o->opts.disk_percent * 10;
    if (s->fill_permille >= disk) {
        o->since_down_ns = 0;
        return OVERLOAD_DISK;
    }
    bool down = now == OVERLOAD_DISK ? s->fill_permille + FILL_BACK < disk
                                     : now > OVERLOAD_NONE && o->pressure < rungs[now].down;
    bool up = now < OVERLOAD_APPEND_ONLY && o->pressure >= rungs[now + 1].up;
    if (held(up, &o->since_up_ns, s->now_ns, UP_NS)) {
        o->since_up_ns = 0;
        return now + 1;
    }
    if (held(down, &o->since_down_ns, s->now_ns, DOWN_NS)) {
        o->since_down_ns = 0;
        return now - 1;
    }
    return now;
}

/* Cohorts shed at L5: none for the first third between disk_percent and refuse_percent, then ever
 * more, all at the end. */
static uint32_t cohorts(const struct overload *o, unsigned fill_permille)
{
    unsigned from = o->opts.disk_percent * 10, to = o->opts.refuse_percent * 10;
    if (to <= from)
        return 0;
    from += (to - from) / 3;
    if (fill_permille <= from)
        return 0;
    unsigned share = (fill_permille - from) * OVERLOAD_COHORTS / (to - from);
    return share < OVERLOAD_COHORTS ? share : OVERLOAD_COHORTS;
}

static void show(struct overload *o, enum overload_level was, enum overload_level now,
                 const struct overload_sample *s, uint32_t shed)
{
    metric_set(METRIC_overload_level, now);
    metric_set(METRIC_overload_trim, now >= OVERLOAD_TRIM);
    metric_set(METRIC_overload_stale_reads, now >= OVERLOAD_STALE_READS);
    metric_set(METRIC_overload_no_first_logins, now >= OVERLOAD_NO_FIRST_LOGINS);
    metric_set(METRIC_overload_append_only, now >= OVERLOAD_APPEND_ONLY);
    metric_set(METRIC_overload_disk, now >= OVERLOAD_DISK);
    metric_set(METRIC_overload_cohorts_shed, shed);
    metric_set(METRIC_overload_limit, (uint64_t)o->limit);
    metric_set(METRIC_overload_waiting, s->waiting);
    if (now == was)
        return;
    metric_add(METRIC_overload_changes, 1);
    log_line(now > was ? LOG_WARN : LOG_INFO, "overload.level",
             "level=%d was=%d pressure=%u waiting=%llu limit=%llu commit_us=%llu usual_us=%llu "
             "fill_permille=%u",
             (int)now, (int)was, o->pressure, (unsigned long long)s->waiting,
             (unsigned long long)o->limit, (unsigned long long)(o->short_ns / 1000),
             (unsigned long long)(o->long_ns / 1000), s->fill_permille);
}

void overload_tick(struct overload *o, const struct overload_sample *s)
{
    limit_follow(o, s);
    uint64_t load = s->waiting * 1000 / (uint64_t)o->limit;
    o->pressure = load < 100000 ? (unsigned)load : 100000;
    if (s->bytes_permille > o->pressure)
        o->pressure = s->bytes_permille;
    enum overload_level was = overload_level(overload_now(o)), now = next_level(o, was, s);
    uint32_t shed = now == OVERLOAD_DISK ? cohorts(o, s->fill_permille) : 0;
    atomic_store_explicit(&o->state, (uint32_t)now | shed << 8, memory_order_relaxed);
    atomic_store_explicit(&o->limit_now, (uint32_t)o->limit, memory_order_relaxed);
    atomic_store_explicit(&o->waiting_now, (uint32_t)s->waiting, memory_order_relaxed);
    show(o, was, now, s, shed);
}

/* ---- what it means for one request ---- */

static uint64_t mixed(uint64_t n)
{
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u; /* the finisher of splitmix64, as in base/rand.c */
    n = (n ^ n >> 27) * 0x94d049bb133111ebu;
    return n ^ n >> 31;
}

bool overload_sheds(uint32_t state, uint64_t account)
{
    return mixed(account) % OVERLOAD_COHORTS < state >> 8;
}

#define MINUTE_BITS  24
#define GOOD_MINUTES 60

static uint64_t minute_of(uint64_t now_ns)
{
    return now_ns / (60 * NS_PER_S) & ((1u << MINUTE_BITS) - 1);
}

void overload_note_good(struct overload *o, uint64_t source, uint64_t now_ns)
{
    uint64_t h = mixed(source), entry = (h >> MINUTE_BITS << MINUTE_BITS) | minute_of(now_ns);
    _Atomic uint64_t *slot = &o->sources[h % OVERLOAD_SOURCES];
    if (atomic_load_explicit(slot, memory_order_relaxed) != entry)
        atomic_store_explicit(slot, entry, memory_order_relaxed);
}

bool overload_allows_hash(const struct overload *o, uint32_t state, uint64_t source,
                          uint64_t now_ns)
{
    enum overload_level level = overload_level(state);
    if (level != OVERLOAD_NO_FIRST_LOGINS)
        return level < OVERLOAD_NO_FIRST_LOGINS;
    uint64_t h = mixed(source), mask = (1u << MINUTE_BITS) - 1;
    uint64_t entry = atomic_load_explicit(&o->sources[h % OVERLOAD_SOURCES], memory_order_relaxed);
    return entry >> MINUTE_BITS == h >> MINUTE_BITS && entry &&
           ((minute_of(now_ns) - (entry & mask)) & mask) <= GOOD_MINUTES;
}

uint64_t overload_retry_ns(uint32_t state, uint64_t salt)
{
    uint64_t least = overload_level(state) == OVERLOAD_DISK ? 15 * NS_PER_S : NS_PER_S;
    return least + mixed(salt) % (3 * least);
}
