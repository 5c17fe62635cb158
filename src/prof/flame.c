/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 1. All addresses of the profile, sorted, each once: so that each is named once.
 * 2. A tree of functions: a node per distinct way to it, with its samples and those below it.
 * 3. The tree as rectangles, the widest child first. A frame is an <svg> of its own, which cuts its
 *    text off at its edge; sizes are in percent of the window.
 */
#include "prof/flame.h"

#include <stdlib.h>

#include "base/check.h"
#include "prof/samples.h"

#define NODES_MAX (1u << 18)
#define SHARE_MIN 0.0005 /* of all samples: frames narrower than this are left out */
#define FRAME_PX  17
#define HEAD_PX   44
#define DEPTH_MAX 512 /* gperftools' own limit is 254 */
#define NONE      0u  /* the root is nobody's child */

struct node {
    const char *name;
    uint64_t count, self;
    uint32_t child, next; /* nodes by number; NONE */
};

struct graph {
    uint64_t *addresses; /* ascending */
    const char **functions;
    size_t addresses_count;
    struct node *nodes; /* the first is the root */
    uint32_t nodes_count;
    unsigned depth;
    struct buf *out;
};

/* ---- addresses and names --------------------------------------------------------------------- */

/* Of a caller the profile has where it goes on, which may be the next function's beginning. */
static uint64_t address_of(const struct sample *s, uint64_t frame)
{
    return frame == 0 ? s->stack[0] : s->stack[frame] - 1;
}

static int by_address(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void name_all(struct graph *g, struct samples all, flame_name name, void *arg)
{
    struct sample s;
    size_t total = 0, count = 0;
    for (struct samples rest = all; samples_next(&rest, &s);)
        total += s.depth;
    g->addresses = calloc(total + 1, sizeof *g->addresses);
    CHECK(g->addresses);
    for (struct samples rest = all; samples_next(&rest, &s);)
        for (uint64_t i = 0; i < s.depth; i++)
            g->addresses[count++] = address_of(&s, i);
    qsort(g->addresses, total, sizeof *g->addresses, by_address);
    for (size_t i = 0; i < total; i++)
        if (!g->addresses_count || g->addresses[g->addresses_count - 1] != g->addresses[i])
            g->addresses[g->addresses_count++] = g->addresses[i];
    g->functions = calloc(g->addresses_count + 1, sizeof *g->functions);
    CHECK(g->functions);
    for (size_t i = 0; i < g->addresses_count; i++)
        g->functions[i] = name(arg, g->addresses[i]);
}

static const char *function_at(const struct graph *g, uint64_t address)
{
    const uint64_t *at =
        bsearch(&address, g->addresses, g->addresses_count, sizeof address, by_address);
    CHECK(at);
    return g->functions[at - g->addresses];
}

/* ---- the tree -------------------------------------------------------------------------------- */

/* The child of that name, made if need be; NONE: there is no room for more. */
static uint32_t child_of(struct graph *g, uint32_t parent, const char *name)
{
    for (uint32_t i = g->nodes[parent].child; i != NONE; i = g->nodes[i].next)
        if (g->nodes[i].name == name || !strcmp(g->nodes[i].name, name))
            return i;
    if (g->nodes_count == NODES_MAX)
        return NONE;
    uint32_t made = g->nodes_count++;
    g->nodes[made] = (struct node){.name = name, .next = g->nodes[parent].child};
    g->nodes[parent].child = made;
    return made;
}

static void add_sample(struct graph *g, const struct sample *s)
{
    uint32_t at = 0, next;
    unsigned depth = 0;
    g->nodes[0].count += s->count;
    for (uint64_t i = s->depth; i > 0 && depth < DEPTH_MAX; i--, depth++) {
        next = child_of(g, at, function_at(g, address_of(s, i - 1)));
        if (next == NONE)
            break;
        at = next;
        g->nodes[at].count += s->count;
    }
    g->nodes[at].self += s->count;
    g->depth = depth > g->depth ? depth : g->depth;
}

static void widest_first(struct graph *g, uint32_t parent)
{
    uint32_t sorted = NONE;
    for (uint32_t i = g->nodes[parent].child, next; i != NONE; i = next) {
        next = g->nodes[i].next;
        uint32_t *at = &sorted;
        while (*at != NONE && g->nodes[*at].count > g->nodes[i].count)
            at = &g->nodes[*at].next;
        g->nodes[i].next = *at;
        *at = i;
    }
    g->nodes[parent].child = sorted;
}

static void build(struct graph *g, struct samples all)
{
    struct sample s;
    g->nodes = calloc(NODES_MAX, sizeof *g->nodes);
    CHECK(g->nodes);
    g->nodes[0].name = "all";
    g->nodes_count = 1;
    while (samples_next(&all, &s))
        add_sample(g, &s);
    for (uint32_t i = 0; i < g->nodes_count; i++)
        widest_first(g, i);
}

/* ---- the document ---------------------------------------------------------------------------- */

static const char head[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100%%\" height=\"%u\" "
    "font-family=\"monospace\" font-size=\"12\">\n"
    "<style>rect{stroke:#fff;stroke-width:.5}text{pointer-events:none}"
    ".f{cursor:pointer}.f:hover rect{fill:#c8d8ff}</style>\n"
    "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
    "<text x=\"6\" y=\"16\" font-weight=\"bold\">CPU of sluice " SLUICE_VERSION
    ": %llu samples in %.1f s, %.2f cores</text>\n"
    "<text x=\"6\" y=\"33\" fill=\"#555\">callers above what they call; click to widen, on top to "
    "go back; narrower than %.2f %% is left out</text>\n";

/* Widens what is clicked: the frames on the way to it take the whole width, others go. */
static const char tail[] =
    "<script><![CDATA[\n"
    "const "
    "frames=[...document.querySelectorAll('.f')].map(e=>({e,x:parseFloat(e.getAttribute('x')),"
    "w:parseFloat(e.getAttribute('width')),y:+e.getAttribute('y')}));\n"
    "for(const on of frames)on.e.addEventListener('click',()=>{for(const f of frames){\n"
    " const over=f.y<=on.y&&f.x<=on.x+1e-4&&f.x+f.w>=on.x+on.w-1e-4;\n"
    " const under=f.y>on.y&&f.x>=on.x-1e-4&&f.x+f.w<=on.x+on.w+1e-4;\n"
    " f.e.style.display=over||under?'':'none';\n"
    " f.e.setAttribute('x',(over?0:(f.x-on.x)/on.w*100)+'%');\n"
    " f.e.setAttribute('width',(over?100:f.w/on.w*100)+'%');}});\n"
    "]]></script>\n</svg>\n";

static void put_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            buf_put_str(out, "&lt;");
        else if (*text == '>')
            buf_put_str(out, "&gt;");
        else if (*text == '&')
            buf_put_str(out, "&amp;");
        else
            buf_put_u8(out, (uint8_t)(*text < ' ' ? '?' : *text));
    }
}

/* The same name has the same colour in every graph; libraries, in brackets, are grey. */
static void put_colour(struct buf *out, const char *name)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *c = name; *c; c++)
        h = (h ^ (uint8_t)*c) * 16777619u;
    if (name[0] == '[')
        buf_put_str(out, "#ccc");
    else
        buf_printf(out, "#%02x%02x%02x", 225 + h % 30, 110 + h / 32 % 110, 60 + h / 4096 % 50);
}

static void draw(const struct graph *g, uint32_t at, uint64_t before, unsigned depth)
{
    const struct node *n = &g->nodes[at];
    double all = (double)g->nodes[0].count, share = (double)n->count / all;
    if (share < SHARE_MIN)
        return;
    buf_printf(g->out,
               "<svg class=\"f\" x=\"%.4f%%\" y=\"%u\" width=\"%.4f%%\" height=\"%u\"><title>",
               100 * (double)before / all, HEAD_PX + depth * FRAME_PX, 100 * share, FRAME_PX);
    put_text(g->out, n->name);
    buf_printf(g->out,
               "\n%llu samples, %.2f %%, itself %.2f %%</title><rect width=\"100%%\" "
               "height=\"100%%\" fill=\"",
               (unsigned long long)n->count, 100 * share, 100 * (double)n->self / all);
    put_colour(g->out, n->name);
    buf_put_str(g->out, "\"/><text x=\"3\" y=\"13\">");
    put_text(g->out, n->name);
    buf_put_str(g->out, "</text></svg>\n");
    for (uint32_t i = n->child; i != NONE; i = g->nodes[i].next) {
        draw(g, i, before, depth + 1);
        before += g->nodes[i].count;
    }
}

bool flame_draw(struct slice profile, double seconds, flame_name name, void *arg, struct buf *out)
{
    struct samples all;
    struct graph g = {.out = out};
    if (!samples_begin(&all, profile))
        return false;
    name_all(&g, all, name, arg);
    build(&g, all);
    uint64_t count = g.nodes[0].count;
    double cores = seconds > 0 ? (double)(count * all.period_us) / 1e6 / seconds : 0;
    buf_printf(out, head, HEAD_PX + (g.depth + 1) * FRAME_PX + 6, (unsigned long long)count,
               seconds, cores, 100 * SHARE_MIN);
    if (count)
        draw(&g, 0, 0, 0);
    buf_put_slice(out, slice_of(tail, sizeof tail - 1));
    free(g.addresses);
    free(g.functions);
    free(g.nodes);
    return true;
}
