/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants:
 *  1. a lane exists while it has flights; its `active` flight is ready or running, all others wait
 *     in it;
 *  2. a ready flight is in its source's queue of its class; a source is in a class's ring while
 * that queue is not empty. A suspect source has only the queue DESK_SUSPECT;
 *  3. a source exists while tickets or flights point to it (`uses`);
 *  4. every ticket is in its flight and in the list by age.
 */
#include "gate/desk.h"

#include <stdlib.h>

#include "base/check.h"

#define TURNS       16u
#define LANE_MAX    256u /* different secrets of one credential that wait */
#define ADMIN_EXTRA 64u  /* checks of administrators that wait beyond the maximum */

/* Whose turn it is, and how many of TURNS each class has (administrators: any). */
static const enum desk_class turns[TURNS] = {
    DESK_SUSPECT, DESK_KNOWN, DESK_KNOWN, DESK_NEW, DESK_KNOWN, DESK_KNOWN, DESK_KNOWN, DESK_NEW,
    DESK_KNOWN,   DESK_KNOWN, DESK_KNOWN, DESK_NEW, DESK_KNOWN, DESK_KNOWN, DESK_KNOWN, DESK_NEW};
static const unsigned shares[DESK_CLASSES] = {
    [DESK_KNOWN] = 11, [DESK_NEW] = 4, [DESK_SUSPECT] = 1};

TAILQ_HEAD(flight_list, flight);

struct lane {
    struct lane *next;
    uint64_t id;
    struct flight *active;
    unsigned length; /* of `waiting` */
    struct flight_list waiting;
};

struct source {
    struct source *next;
    TAILQ_ENTRY(source) ring[DESK_CLASSES];
    uint64_t id;
    unsigned uses;    /* tickets and flights that point here */
    unsigned waiting; /* tickets not answered */
    bool suspect;
    struct flight_list ready[DESK_CLASSES];
    unsigned ready_count[DESK_CLASSES];
};
TAILQ_HEAD(source_ring, source);

struct desk {
    unsigned waiting, waiting_max, per_source_max;
    unsigned flights; /* waiting or ready */
    unsigned turn;
    struct ticket_list by_age;
    struct source_ring rings[DESK_CLASSES];
    unsigned ring_sources[DESK_CLASSES], ready[DESK_CLASSES];
    uint64_t idle_at_ns;
    uint32_t mask;
    struct lane **lanes;
    struct source **sources;
};

struct desk *desk_new(unsigned waiting_max, unsigned per_source_max)
{
    struct desk *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    uint32_t buckets = 64;
    while (buckets < waiting_max && buckets < 65536)
        buckets *= 2;
    d->waiting_max = waiting_max;
    d->per_source_max = per_source_max;
    d->mask = buckets - 1;
    TAILQ_INIT(&d->by_age);
    for (unsigned i = 0; i < DESK_CLASSES; i++)
        TAILQ_INIT(&d->rings[i]);
    d->lanes = calloc(buckets, sizeof(struct lane *));
    d->sources = calloc(buckets, sizeof(struct source *));
    if (!d->lanes || !d->sources) {
        desk_free(d);
        return NULL;
    }
    return d;
}

void desk_free(struct desk *d)
{
    if (!d)
        return;
    CHECK(d->waiting == 0 && d->flights == 0);
    free(d->lanes);
    free(d->sources);
    free(d);
}

struct flight *desk_flight_new(void)
{
    struct flight *f = calloc(1, sizeof *f);
    if (f)
        TAILQ_INIT(&f->tickets);
    return f;
}

void desk_flight_free(struct flight *f)
{
    if (!f)
        return;
    CHECK(f->seats == 0);
    credential_unref(f->credential);
    explicit_bzero(f, sizeof *f);
    free(f);
}

/* ---- the two tables ------------------------------------------------------------------------- */

/* Ids may be small numbers or hashes; their neighbours must not share buckets. */
static uint32_t bucket_of(const struct desk *d, uint64_t id)
{
    return (uint32_t)((id * 0x9e3779b97f4a7c15ull) >> 40) & d->mask;
}

static struct lane *find_lane(struct desk *d, uint64_t id)
{
    struct lane *l = d->lanes[bucket_of(d, id)];
    while (l && l->id != id)
        l = l->next;
    return l;
}

static struct lane *get_lane(struct desk *d, uint64_t id)
{
    struct lane *l = find_lane(d, id);
    if (l)
        return l;
    l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    struct lane **bucket = &d->lanes[bucket_of(d, id)];
    l->id = id;
    l->next = *bucket;
    TAILQ_INIT(&l->waiting);
    *bucket = l;
    return l;
}

static void drop_lane_if_empty(struct desk *d, struct lane *lane)
{
    if (lane->active || !TAILQ_EMPTY(&lane->waiting))
        return;
    struct lane **at = &d->lanes[bucket_of(d, lane->id)];
    while (*at != lane)
        at = &(*at)->next;
    *at = lane->next;
    free(lane);
}

static struct source *find_source(struct desk *d, uint64_t id)
{
    struct source *s = d->sources[bucket_of(d, id)];
    while (s && s->id != id)
        s = s->next;
    return s;
}

static struct source *get_source(struct desk *d, uint64_t id)
{
    struct source *s = find_source(d, id);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return NULL;
        struct source **bucket = &d->sources[bucket_of(d, id)];
        s->id = id;
        s->next = *bucket;
        for (unsigned i = 0; i < DESK_CLASSES; i++)
            TAILQ_INIT(&s->ready[i]);
        *bucket = s;
    }
    s->uses++;
    return s;
}

static void put_source(struct desk *d, struct source *source)
{
    CHECK(source->uses > 0);
    if (--source->uses > 0)
        return;
    struct source **at = &d->sources[bucket_of(d, source->id)];
    while (*at != source)
        at = &(*at)->next;
    *at = source->next;
    free(source);
}

/* ---- turns ---------------------------------------------------------------------------------- */

static enum desk_class class_of(const struct flight *f)
{
    return f->source->suspect ? DESK_SUSPECT : f->class;
}

static void make_ready(struct desk *d, struct flight *f)
{
    struct source *s = f->source;
    enum desk_class c = class_of(f);
    if (TAILQ_EMPTY(&s->ready[c])) {
        TAILQ_INSERT_TAIL(&d->rings[c], s, ring[c]);
        d->ring_sources[c]++;
    }
    TAILQ_INSERT_TAIL(&s->ready[c], f, link);
    s->ready_count[c]++;
    d->ready[c]++;
    f->state = FLIGHT_READY;
    f->lane->active = f;
}

static void leave_ring(struct desk *d, struct source *s, enum desk_class c)
{
    TAILQ_REMOVE(&d->rings[c], s, ring[c]);
    d->ring_sources[c]--;
}

/* Off its source's queue; still the lane's active one. */
static void unqueue(struct desk *d, struct flight *f)
{
    struct source *s = f->source;
    enum desk_class c = class_of(f);
    TAILQ_REMOVE(&s->ready[c], f, link);
    s->ready_count[c]--;
    d->ready[c]--;
    if (TAILQ_EMPTY(&s->ready[c]))
        leave_ring(d, s, c);
}

static void unready(struct desk *d, struct flight *f)
{
    unqueue(d, f);
    f->lane->active = NULL;
}

static void make_waiting(struct flight *f)
{
    f->state = FLIGHT_WAITING;
    TAILQ_INSERT_TAIL(&f->lane->waiting, f, link);
    f->lane->length++;
}

static void unwait(struct flight *f)
{
    TAILQ_REMOVE(&f->lane->waiting, f, link);
    f->lane->length--;
}

/* Its source failed: when it came, or since then. */
static bool is_suspect(const struct flight *f)
{
    return f->suspect || f->source->suspect;
}

/* The first one of an unsuspected source that waits in the lane, or NULL. */
static struct flight *first_good(struct lane *lane)
{
    struct flight *f = TAILQ_FIRST(&lane->waiting);
    while (f && is_suspect(f))
        f = TAILQ_NEXT(f, link);
    return f;
}

/* Lets the lane's next flight have its turn: the first one of an unsuspected source. */
static void advance_lane(struct desk *d, struct lane *lane)
{
    if (lane->active)
        return;
    struct flight *f = first_good(lane);
    if (!f)
        f = TAILQ_FIRST(&lane->waiting);
    if (f) {
        unwait(f);
        make_ready(d, f);
    } else {
        drop_lane_if_empty(d, lane);
    }
}

/* A flight that nobody suspects need not wait behind one of its lane that somebody does. */
static void let_pass(struct desk *d, struct lane *lane)
{
    struct flight *first = lane->active, *f = first_good(lane);
    if (!f || !first || first->state != FLIGHT_READY || !is_suspect(first))
        return;
    unready(d, first);
    make_waiting(first);
    unwait(f);
    make_ready(d, f);
}

/* What waits in the source's queues goes where it belongs from now on. */
static void set_suspect(struct desk *d, struct source *s, bool suspect)
{
    if (s->suspect == suspect)
        return;
    struct flight_list all = TAILQ_HEAD_INITIALIZER(all);
    for (unsigned c = 0; c < DESK_CLASSES; c++) {
        struct flight *f;
        while ((f = TAILQ_FIRST(&s->ready[c]))) {
            unqueue(d, f);
            TAILQ_INSERT_TAIL(&all, f, link);
        }
    }
    s->suspect = suspect;
    struct flight *f;
    while ((f = TAILQ_FIRST(&all))) {
        TAILQ_REMOVE(&all, f, link);
        make_ready(d, f);
        let_pass(d, f->lane);
    }
}

/* The flight gets the better standing of a source that joined it. */
static void move_to_source(struct desk *d, struct flight *f, struct source *s,
                           enum desk_class class)
{
    bool ready = f->state == FLIGHT_READY;
    if (ready)
        unready(d, f);
    put_source(d, f->source);
    s->uses++;
    f->source = s;
    f->suspect = false;
    if (class < f->class)
        f->class = class;
    if (ready)
        make_ready(d, f);
}

/* ---- flights and tickets -------------------------------------------------------------------- */

struct flight *desk_find(struct desk *d, uint64_t lane_id, const uint8_t tag[MAC_TAG_BYTES])
{
    struct lane *lane = find_lane(d, lane_id);
    if (!lane)
        return NULL;
    if (lane->active && memcmp(lane->active->tag, tag, MAC_TAG_BYTES) == 0)
        return lane->active;
    struct flight *f;
    TAILQ_FOREACH(f, &lane->waiting, link)
    {
        if (memcmp(f->tag, tag, MAC_TAG_BYTES) == 0)
            return f;
    }
    return NULL;
}

bool desk_full(struct desk *d, uint64_t lane_id, uint64_t source, enum desk_class class)
{
    struct source *s = find_source(d, source);
    struct lane *lane = find_lane(d, lane_id);
    if (lane && lane->length >= LANE_MAX)
        return true;
    if (class == DESK_ADMIN)
        return d->waiting >= d->waiting_max + ADMIN_EXTRA;
    return d->waiting >= d->waiting_max || (s && s->waiting >= d->per_source_max);
}

unsigned desk_ahead(struct desk *d, uint64_t source, enum desk_class class)
{
    if (class == DESK_ADMIN)
        return d->ready[DESK_ADMIN];
    const struct source *s = find_source(d, source);
    uint64_t own = s ? s->ready_count[class] : 0;
    /* Rounds until this source's turn, with all sources of the class in each; and what the other
     * classes take meanwhile. */
    uint64_t in_class = own * d->ring_sources[class] + d->ring_sources[class];
    if (in_class > d->ready[class])
        in_class = d->ready[class];
    bool known = class == DESK_KNOWN || d->ready[DESK_KNOWN];
    bool new = class == DESK_NEW || d->ready[DESK_NEW];
    bool suspect = class == DESK_SUSPECT || d->ready[DESK_SUSPECT];
    unsigned good = known || new ? shares[DESK_KNOWN] + shares[DESK_NEW] : 0;
    unsigned all_turns = good + (suspect ? shares[DESK_SUSPECT] : 0);
    unsigned turns_of = class == DESK_SUSPECT || (known && new) ? shares[class] : good;
    uint64_t ahead = d->ready[DESK_ADMIN] + (in_class + 1) * all_turns / turns_of;
    uint64_t all =
        d->ready[DESK_ADMIN] + d->ready[DESK_KNOWN] + d->ready[DESK_NEW] + d->ready[DESK_SUSPECT];
    return (unsigned)(ahead < all ? ahead : all);
}

static bool add_flight(struct desk *d, struct flight *f, struct source *s, enum desk_class class,
                       bool suspect)
{
    struct lane *lane = get_lane(d, f->lane_id);
    if (!lane)
        return false;
    s->uses++;
    f->source = s;
    f->class = class;
    f->suspect = suspect;
    f->lane = lane;
    d->flights++;
    if (lane->active)
        make_waiting(f);
    else
        make_ready(d, f);
    let_pass(d, lane);
    return true;
}

bool desk_join(struct desk *d, struct flight *f, struct shield_wait *w, uint64_t source,
               enum desk_class class, bool suspect, uint64_t now_ns)
{
    if (!d->flights)
        d->idle_at_ns = now_ns;
    struct ticket *t = calloc(1, sizeof *t);
    struct source *s = t ? get_source(d, source) : NULL;
    if (!s) {
        free(t);
        return false;
    }
    set_suspect(d, s, suspect);
    if (!f->lane && !add_flight(d, f, s, class, suspect)) {
        put_source(d, s);
        free(t);
        return false;
    }
    if (is_suspect(f) && !suspect && f->state != FLIGHT_RUNNING) {
        move_to_source(d, f, s, class);
        let_pass(d, f->lane);
    }
    t->flight = f;
    t->source = s;
    t->wait = w;
    t->at_ns = now_ns;
    s->waiting++;
    d->waiting++;
    TAILQ_INSERT_TAIL(&f->tickets, t, by_flight);
    TAILQ_INSERT_TAIL(&d->by_age, t, by_age);
    return true;
}

/* The class whose turn it is, or which has it instead. */
static enum desk_class next_class(struct desk *d, bool suspects)
{
    if (d->ready[DESK_ADMIN])
        return DESK_ADMIN;
    suspects = suspects && d->ready[DESK_SUSPECT];
    if (!d->ready[DESK_KNOWN] && !d->ready[DESK_NEW])
        return suspects ? DESK_SUSPECT : DESK_CLASSES;
    enum desk_class c = turns[d->turn++ % TURNS];
    if (c == DESK_SUSPECT && !suspects)
        c = DESK_KNOWN;
    if (c == DESK_SUSPECT || d->ready[c])
        return c;
    return c == DESK_KNOWN ? DESK_NEW : DESK_KNOWN;
}

struct flight *desk_next(struct desk *d, bool suspects)
{
    enum desk_class c = next_class(d, suspects);
    if (c == DESK_CLASSES)
        return NULL;
    struct source *s = TAILQ_FIRST(&d->rings[c]);
    struct flight *f = TAILQ_FIRST(&s->ready[c]);
    unqueue(d, f);
    if (!TAILQ_EMPTY(&s->ready[c])) { /* behind the others */
        TAILQ_REMOVE(&d->rings[c], s, ring[c]);
        TAILQ_INSERT_TAIL(&d->rings[c], s, ring[c]);
    }
    f->state = FLIGHT_RUNNING;
    f->suspect = c == DESK_SUSPECT;
    d->flights--;
    return f;
}

void desk_take(struct desk *d, struct ticket *t)
{
    TAILQ_REMOVE(&t->flight->tickets, t, by_flight);
    TAILQ_REMOVE(&d->by_age, t, by_age);
    t->flight = NULL;
    t->source->waiting--;
    d->waiting--;
}

static void take_off_lane(struct desk *d, struct flight *f)
{
    struct lane *lane = f->lane;
    if (f->state == FLIGHT_WAITING)
        unwait(f);
    else if (f->state == FLIGHT_READY)
        unready(d, f);
    else
        lane->active = NULL;
    if (f->state != FLIGHT_RUNNING)
        d->flights--;
    put_source(d, f->source);
    f->source = NULL;
    f->lane = NULL;
    advance_lane(d, lane);
}

void desk_finish(struct desk *d, struct flight *f, struct ticket_list *ret)
{
    struct ticket *t;
    while ((t = TAILQ_FIRST(&f->tickets))) {
        desk_take(d, t);
        TAILQ_INSERT_TAIL(ret, t, by_flight);
    }
    take_off_lane(d, f);
}

struct ticket *desk_expire(struct desk *d, uint64_t at_ns)
{
    struct ticket *t = TAILQ_FIRST(&d->by_age);
    if (!t || t->at_ns > at_ns)
        return NULL;
    struct flight *f = t->flight;
    desk_take(d, t);
    if (TAILQ_EMPTY(&f->tickets) && f->state != FLIGHT_RUNNING) {
        take_off_lane(d, f);
        desk_flight_free(f);
    }
    return t;
}

uint64_t desk_ticket_source(const struct ticket *t)
{
    return t->source->id;
}

bool desk_ticket_suspect(const struct ticket *t)
{
    return t->source->suspect;
}

void desk_ticket_free(struct desk *d, struct ticket *t)
{
    put_source(d, t->source);
    free(t);
}

unsigned desk_waiting(const struct desk *d)
{
    return d->waiting;
}

unsigned desk_flights(const struct desk *d)
{
    return d->flights;
}

unsigned desk_ready(const struct desk *d, enum desk_class class)
{
    return d->ready[class];
}

uint64_t desk_newest_ns(const struct desk *d)
{
    const struct ticket *t = TAILQ_LAST(&d->by_age, ticket_list);
    return t ? t->at_ns : 0;
}

uint64_t desk_idle_at_ns(const struct desk *d)
{
    return d->idle_at_ns;
}
