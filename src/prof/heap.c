/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/heap.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "prof/scratch.h"

/* jemalloc(3), of whoever preloads it. */
struct jemalloc {
    int (*control)(const char *name, void *old, size_t *old_len, void *new, size_t new_len);
    void (*print)(void (*put)(void *arg, const char *text), void *arg, const char *opts);
};

static bool find_jemalloc(struct jemalloc *ret)
{
    *(void **)&ret->control = dlsym(RTLD_DEFAULT, "mallctl");
    *(void **)&ret->print = dlsym(RTLD_DEFAULT, "malloc_stats_print");
    return ret->control && ret->print;
}

static bool keeps_book(const struct jemalloc *j)
{
    bool on = false;
    size_t len = sizeof on;
    return j->control("opt.prof", &on, &len, NULL, 0) == 0 && on;
}

enum reason heap_profile(struct buf *out, struct error *err)
{
    struct jemalloc j;
    struct scratch file;
    if (!find_jemalloc(&j) || !keeps_book(&j)) {
        error_set(err, 0,
                  "the allocator in use keeps no book of who allocated; start the server with "
                  "LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=prof:true to have a heap profile; "
                  "?debug=1 shows what the allocator counts now");
        return REASON_not_implemented;
    }
    if (scratch_open(&file, err) < 0)
        return REASON_internal;
    const char *path = file.path;
    int rc = j.control("prof.dump", NULL, NULL, &path, sizeof path);
    struct slice profile = scratch_read(&file);
    buf_put_slice(out, profile);
    scratch_close(&file);
    if (rc != 0 || !profile.len) {
        error_set(err, 0, "jemalloc gave no profile: %s", strerror(rc));
        return REASON_internal;
    }
    return REASON_ok;
}

static void put(void *out, const char *text)
{
    buf_put_str(out, text);
}

void heap_describe(struct buf *out)
{
    struct jemalloc j;
    if (find_jemalloc(&j)) {
        j.print(put, out, "");
        return;
    }
    struct mallinfo2 m = mallinfo2();
    buf_printf(out,
               "malloc of glibc, bytes:\n"
               "%14zu  in use\n"
               "%14zu  of these in mappings of their own (%zu)\n"
               "%14zu  free, kept for the next allocation\n"
               "%14zu  of these at the end of the heap, could be given back\n"
               "%14zu  taken from the kernel in all\n",
               m.uordblks + m.hblkhd, m.hblkhd, m.hblks, m.fordblks, m.keepcost,
               m.arena + m.hblkhd);
}
