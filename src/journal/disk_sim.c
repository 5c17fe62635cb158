/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/disk_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define SECTOR      512u
#define FILES_MAX   256
#define CHANGES_MAX 512

struct inode {
    unsigned refs; /* names, pending names and handles */
    unsigned handles;
    bool locked;
    char *cache, *platter;
    uint8_t *dirty; /* one byte per sector */
    size_t cap, size, platter_size;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name at[FILES_MAX];
    unsigned count;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

/* A change of names that no sync_dir has made durable. */
struct change {
    enum change_kind kind;
    char *path, *from;
    struct inode *inode;
};

struct disk_file {
    struct inode *inode;
};

struct disk_sim {
    struct disk disk;
    pthread_mutex_t lock;
    struct rand rand;
    struct disk_sim_faults faults;
    struct names live, durable;
    struct change changes[CHANGES_MAX];
    unsigned changes_count;
    uint64_t calls, die_at;
    bool dead;
};

static struct disk_sim *of(struct disk *d)
{
    return (struct disk_sim *)d; /* first member */
}

static bool chance(struct disk_sim *s, unsigned of_65536)
{
    return of_65536 && rand_below(&s->rand, 65536) < of_65536;
}

static void inode_unref(struct inode *i)
{
    if (--i->refs)
        return;
    free(i->cache);
    free(i->platter);
    free(i->dirty);
    free(i);
}

static struct inode *names_find(struct names *n, const char *path)
{
    for (unsigned i = 0; i < n->count; i++)
        if (strcmp(n->at[i].path, path) == 0)
            return n->at[i].inode;
    return NULL;
}

static void names_remove(struct names *n, const char *path)
{
    for (unsigned i = 0; i < n->count; i++) {
        if (strcmp(n->at[i].path, path) == 0) {
            free(n->at[i].path);
            inode_unref(n->at[i].inode);
            n->at[i] = n->at[--n->count];
            return;
        }
    }
}

static void names_set(struct names *n, const char *path, struct inode *inode)
{
    inode->refs++;
    names_remove(n, path);
    CHECK(n->count < FILES_MAX);
    n->at[n->count++] = (struct name){.path = strdup(path), .inode = inode};
}

static void names_clear(struct names *n)
{
    while (n->count)
        names_remove(n, n->at[0].path);
}

static void change_free(struct change *c)
{
    free(c->path);
    free(c->from);
    if (c->inode)
        inode_unref(c->inode);
}

static void change_add(struct disk_sim *s, enum change_kind kind, const char *path,
                       const char *from, struct inode *inode)
{
    CHECK(s->changes_count < CHANGES_MAX);
    if (inode)
        inode->refs++;
    s->changes[s->changes_count++] = (struct change){
        .kind = kind, .path = strdup(path), .from = from ? strdup(from) : NULL, .inode = inode};
}

/* Takes the chosen pending changes to the platter; `all` or a coin for each. */
static void changes_settle(struct disk_sim *s, bool all)
{
    for (unsigned i = 0; i < s->changes_count; i++) {
        struct change *c = &s->changes[i];
        if (all || rand_below(&s->rand, 2)) {
            if (c->kind == CHANGE_UNLINK)
                names_remove(&s->durable, c->path);
            else
                names_set(&s->durable, c->path, c->inode);
            if (c->kind == CHANGE_RENAME)
                names_remove(&s->durable, c->from);
        }
        change_free(c);
    }
    s->changes_count = 0;
}

/* Counts a call that changes something. False: the process is dead; *ret_partly: it dies in this
 * very call. */
static bool alive(struct disk_sim *s, bool *ret_partly)
{
    *ret_partly = false;
    if (s->dead)
        return false;
    s->calls++;
    if (s->die_at && s->calls >= s->die_at) {
        s->dead = true;
        *ret_partly = true;
    }
    return true;
}

static void grow(struct inode *i, size_t size)
{
    if (size <= i->cap)
        return;
    size_t cap = i->cap ? i->cap : 4096;
    while (cap < size)
        cap *= 2;
    i->cache = realloc(i->cache, cap);
    i->platter = realloc(i->platter, cap);
    i->dirty = realloc(i->dirty, cap / SECTOR);
    CHECK(i->cache && i->platter && i->dirty);
    memset(i->cache + i->cap, 0, cap - i->cap);
    memset(i->platter + i->cap, 0, cap - i->cap);
    memset(i->dirty + i->cap / SECTOR, 0, (cap - i->cap) / SECTOR);
    i->cap = cap;
}

static void sector_persist(struct inode *i, size_t sector)
{
    memcpy(i->platter + sector * SECTOR, i->cache + sector * SECTOR, SECTOR);
    i->dirty[sector] = 0;
    size_t end = (sector + 1) * SECTOR < i->size ? (sector + 1) * SECTOR : i->size;
    if (end > i->platter_size)
        i->platter_size = end;
}

/* A random subset of the dirty sectors gets to the platter; how large, is random too. */
static void some_persist(struct disk_sim *s, struct inode *i)
{
    uint64_t share = rand_below(&s->rand, 5); /* none, quarters, all */
    for (size_t n = 0; n * SECTOR < i->size; n++)
        if (i->dirty[n] && rand_below(&s->rand, 4) < share)
            sector_persist(i, n);
}

static int sim_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    struct disk_sim *s = of(d);
    int rc = 0;
    bool partly;
    pthread_mutex_lock(&s->lock);
    struct inode *i = names_find(&s->live, path);
    if (s->dead) {
        rc = -EIO;
    } else if (!i && !(flags & O_CREAT)) {
        rc = -ENOENT;
    } else if (!i || (flags & O_TRUNC && i->size)) {
        /* Truncation as a new file of the same name: the old bytes may come back after a cut. */
        alive(s, &partly);
        i = calloc(1, sizeof *i);
        CHECK(i);
        names_set(&s->live, path, i);
        change_add(s, CHANGE_LINK, path, NULL, i);
        rc = partly ? -EIO : 0;
    }
    if (!rc) {
        struct disk_file *f = malloc(sizeof *f);
        CHECK(f);
        f->inode = i;
        i->refs++;
        i->handles++;
        *ret = f;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_close(struct disk *d, struct disk_file *f)
{
    struct disk_sim *s = of(d);
    pthread_mutex_lock(&s->lock);
    if (--f->inode->handles == 0)
        f->inode->locked = false;
    inode_unref(f->inode);
    free(f);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static ssize_t sim_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    struct disk_sim *s = of(d);
    pthread_mutex_lock(&s->lock);
    ssize_t rc;
    struct inode *i = f->inode;
    if (s->dead) {
        rc = -EIO;
    } else if (chance(s, s->faults.eintr)) {
        rc = -EINTR;
    } else {
        if (at >= i->size)
            len = 0;
        else if (len > i->size - at)
            len = (size_t)(i->size - at);
        if (len > 1 && chance(s, s->faults.short_io))
            len = 1 + (size_t)rand_below(&s->rand, len - 1);
        if (len)
            memcpy(to, i->cache + at, len);
        if (len && chance(s, s->faults.flip_read))
            ((char *)to)[rand_below(&s->rand, len)] ^= (char)(1 << rand_below(&s->rand, 8));
        rc = (ssize_t)len;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static uint64_t bytes_used(struct disk_sim *s)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < s->live.count; i++)
        sum += s->live.at[i].inode->size;
    return sum;
}

static void put_bytes(struct inode *i, const struct iovec *v, int n, uint64_t at, size_t len)
{
    grow(i, (size_t)at + len);
    if (at + len > i->size)
        i->size = (size_t)at + len;
    memset(i->dirty + at / SECTOR, 1, (at + len - 1) / SECTOR - at / SECTOR + 1);
    for (int k = 0; k < n && len; k++) {
        size_t part = v[k].iov_len < len ? v[k].iov_len : len;
        memcpy(i->cache + at, v[k].iov_base, part);
        at += part;
        len -= part;
    }
}

static ssize_t sim_pwritev(struct disk *d, struct disk_file *f, const struct iovec *v, int n,
                           uint64_t at)
{
    struct disk_sim *s = of(d);
    struct inode *i = f->inode;
    size_t len = 0;
    bool partly;
    for (int k = 0; k < n; k++)
        len += v[k].iov_len;
    pthread_mutex_lock(&s->lock);
    ssize_t rc = -EIO;
    if (alive(s, &partly)) {
        uint64_t more = at + len > i->size ? at + len - i->size : 0;
        uint64_t used = s->faults.capacity ? bytes_used(s) : 0;
        if (chance(s, s->faults.eintr)) {
            rc = -EINTR;
        } else if (s->faults.capacity && used + more > s->faults.capacity) {
            rc = -ENOSPC;
        } else if (len == 0) {
            rc = 0;
        } else {
            if (len > 1 && (partly || chance(s, s->faults.short_io)))
                len = 1 + (size_t)rand_below(&s->rand, len - 1);
            put_bytes(i, v, n, at, len);
            if (chance(s, s->faults.early))
                some_persist(s, i);
            rc = partly ? -EIO : (ssize_t)len;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_fdatasync(struct disk *d, struct disk_file *f)
{
    struct disk_sim *s = of(d);
    struct inode *i = f->inode;
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = -EIO;
    if (alive(s, &partly)) {
        bool fails = s->faults.syncs_failing || chance(s, s->faults.sync_fails);
        s->faults.syncs_failing -= s->faults.syncs_failing != 0;
        if (s->faults.ignore_fdatasync && !partly) {
            rc = 0;
        } else if (partly || fails) {
            some_persist(s, i);
            if (fails && i->cap) /* the rest is dropped, yet the cache goes on showing it */
                memset(i->dirty, 0, i->cap / SECTOR);
        } else {
            for (size_t n = 0; n * SECTOR < i->size; n++)
                if (i->dirty[n])
                    sector_persist(i, n);
            i->platter_size = i->size;
            rc = 0;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_truncate(struct disk *d, struct disk_file *f, uint64_t size)
{
    struct disk_sim *s = of(d);
    struct inode *i = f->inode;
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = alive(s, &partly) && !partly ? 0 : -EIO;
    if (!rc) {
        grow(i, (size_t)size);
        if (size < i->size)
            memset(i->cache + size, 0, i->size - (size_t)size);
        i->size = (size_t)size;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_size(struct disk *d, struct disk_file *f, uint64_t *ret)
{
    struct disk_sim *s = of(d);
    pthread_mutex_lock(&s->lock);
    int rc = s->dead ? -EIO : 0;
    *ret = f->inode->size;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_lock(struct disk *d, struct disk_file *f)
{
    struct disk_sim *s = of(d);
    pthread_mutex_lock(&s->lock);
    int rc = s->dead ? -EIO : f->inode->locked ? -EWOULDBLOCK : 0;
    if (!rc)
        f->inode->locked = true;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_rename(struct disk *d, const char *from, const char *to)
{
    struct disk_sim *s = of(d);
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = -EIO;
    if (alive(s, &partly)) {
        struct inode *i = names_find(&s->live, from);
        rc = i ? 0 : -ENOENT;
        if (i) {
            change_add(s, CHANGE_RENAME, to, from, i);
            names_set(&s->live, to, i);
            names_remove(&s->live, from);
        }
        if (partly)
            rc = -EIO;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_unlink(struct disk *d, const char *path)
{
    struct disk_sim *s = of(d);
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = -EIO;
    if (alive(s, &partly)) {
        rc = names_find(&s->live, path) ? 0 : -ENOENT;
        if (!rc) {
            change_add(s, CHANGE_UNLINK, path, NULL, NULL);
            names_remove(&s->live, path);
        }
        if (partly)
            rc = -EIO;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_link(struct disk *d, const char *from, const char *to)
{
    struct disk_sim *s = of(d);
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = -EIO;
    if (alive(s, &partly)) {
        struct inode *i = names_find(&s->live, from);
        rc = !i ? -ENOENT : names_find(&s->live, to) ? -EEXIST : 0;
        if (!rc) {
            change_add(s, CHANGE_LINK, to, NULL, i);
            names_set(&s->live, to, i);
        }
        if (partly)
            rc = -EIO;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_mkdir(struct disk *d, const char *path)
{
    return of(d)->dead ? -EIO : 0; /* all directories are there */
}

static int sim_sync_dir(struct disk *d, const char *path)
{
    struct disk_sim *s = of(d);
    bool partly;
    pthread_mutex_lock(&s->lock);
    int rc = alive(s, &partly) && !partly ? 0 : -EIO;
    if (!rc && chance(s, s->faults.sync_fails))
        rc = -EIO;
    if (!rc)
        changes_settle(s, true);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int sim_list(struct disk *d, const char *path, int (*each)(void *arg, const char *name),
                    void *arg)
{
    struct disk_sim *s = of(d);
    size_t len = strlen(path);
    char *copies[FILES_MAX];
    unsigned count = 0;
    pthread_mutex_lock(&s->lock);
    int rc = s->dead ? -EIO : 0;
    for (unsigned i = 0; !rc && i < s->live.count; i++) {
        const char *p = s->live.at[i].path;
        if (strncmp(p, path, len) == 0 && p[len] == '/' && !strchr(p + len + 1, '/'))
            copies[count++] = strdup(p + len + 1);
    }
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < count; i++) {
        if (!rc)
            rc = each(arg, copies[i]);
        free(copies[i]);
    }
    return rc;
}

static int sim_space(struct disk *d, const char *path, uint64_t *ret_total, uint64_t *ret_free)
{
    struct disk_sim *s = of(d);
    pthread_mutex_lock(&s->lock);
    uint64_t used = bytes_used(s), cap = s->faults.capacity ? s->faults.capacity : 1ull << 40;
    *ret_total = cap;
    *ret_free = used < cap ? cap - used : 0;
    pthread_mutex_unlock(&s->lock);
    return s->dead ? -EIO : 0;
}

struct disk_sim *disk_sim_new(uint64_t seed)
{
    struct disk_sim *s = calloc(1, sizeof *s);
    CHECK(s);
    pthread_mutex_init(&s->lock, NULL);
    s->rand.state = seed;
    s->disk = (struct disk){
        .open = sim_open,
        .close = sim_close,
        .pread = sim_pread,
        .pwritev = sim_pwritev,
        .fdatasync = sim_fdatasync,
        .truncate = sim_truncate,
        .size = sim_size,
        .lock = sim_lock,
        .rename = sim_rename,
        .unlink = sim_unlink,
        .link = sim_link,
        .mkdir = sim_mkdir,
        .sync_dir = sim_sync_dir,
        .list = sim_list,
        .space = sim_space,
    };
    return s;
}

void disk_sim_free(struct disk_sim *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->changes_count; i++)
        change_free(&s->changes[i]);
    names_clear(&s->live);
    names_clear(&s->durable);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct disk *disk_sim_disk(struct disk_sim *s)
{
    return &s->disk;
}

struct disk_sim_faults *disk_sim_faults(struct disk_sim *s)
{
    return &s->faults;
}

uint64_t disk_sim_calls(struct disk_sim *s)
{
    return s->calls;
}

void disk_sim_die_after(struct disk_sim *s, uint64_t calls)
{
    s->die_at = calls ? s->calls + calls : 0;
}

bool disk_sim_dead(struct disk_sim *s)
{
    return s->dead;
}

static void revive(struct disk_sim *s)
{
    s->dead = false;
    s->die_at = 0;
    for (unsigned i = 0; i < s->live.count; i++)
        CHECK(s->live.at[i].inode->handles == 0);
}

void disk_sim_kill(struct disk_sim *s)
{
    revive(s);
}

void disk_sim_cut(struct disk_sim *s)
{
    revive(s);
    /* First the sectors of every file that may still be found, then the names. */
    for (unsigned i = 0; i < s->live.count; i++)
        some_persist(s, s->live.at[i].inode);
    changes_settle(s, false);
    names_clear(&s->live);
    for (unsigned i = 0; i < s->durable.count; i++) {
        struct inode *n = s->durable.at[i].inode;
        if (n->cap) {
            memcpy(n->cache, n->platter, n->cap);
            memset(n->dirty, 0, n->cap / SECTOR);
        }
        n->size = n->platter_size;
        names_set(&s->live, s->durable.at[i].path, n);
    }
}

int disk_sim_peek(struct disk_sim *s, const char *path, const char **ret_ptr, size_t *ret_len)
{
    struct inode *i = names_find(&s->live, path);
    if (!i)
        return -ENOENT;
    *ret_ptr = i->cache;
    *ret_len = i->size;
    return 0;
}

int disk_sim_poke(struct disk_sim *s, const char *path, uint64_t at, const void *ptr, size_t len)
{
    struct inode *i = names_find(&s->live, path);
    if (!i) {
        i = calloc(1, sizeof *i);
        CHECK(i);
        names_set(&s->live, path, i);
        names_set(&s->durable, path, i);
    }
    grow(i, (size_t)at + len);
    if (at + len > i->size)
        i->size = (size_t)at + len;
    if (i->size > i->platter_size)
        i->platter_size = i->size;
    if (len) {
        memcpy(i->cache + at, ptr, len);
        memcpy(i->platter + at, ptr, len);
    }
    return 0;
}

int disk_sim_resize(struct disk_sim *s, const char *path, size_t len)
{
    struct inode *i = names_find(&s->live, path);
    if (!i)
        return -ENOENT;
    grow(i, len);
    if (len < i->cap) {
        memset(i->cache + len, 0, i->cap - len);
        memset(i->platter + len, 0, i->cap - len);
    }
    i->size = i->platter_size = len;
    return 0;
}

struct disk_sim *disk_sim_copy(struct disk_sim *s, uint64_t seed)
{
    struct disk_sim *copy = disk_sim_new(seed);
    for (unsigned i = 0; i < s->live.count; i++) {
        struct inode *n = s->live.at[i].inode;
        CHECK(n->handles == 0);
        disk_sim_poke(copy, s->live.at[i].path, 0, n->cache, n->size);
    }
    return copy;
}
