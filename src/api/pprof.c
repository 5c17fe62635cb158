/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for profiles, to asks of prof/prof.h; and the pages beside them. */
#include <stdio.h>
#include <unistd.h>

#include "api/private.h"
#include "base/clock.h"
#include "flow/limits.h"

/* Nothing on a page may come from elsewhere, or go there. */
#define CLOSED_PAGE                                                                                \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "                     \
    "script-src 'unsafe-inline'\r\n"

static const char index_page[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sluice: "
    "profiles</title>\n"
    "<style>body{font:15px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    "code{background:#f2f2f2;padding:1px "
    "4px}dt{font-weight:bold;margin-top:.8em}</style></head><body>\n"
    "<h1>Profiles of Sluice " SLUICE_VERSION "</h1>\n<dl>\n"
    "<dt><a href=\"/debug/pprof/flame?seconds=10\">flame?seconds=10</a></dt>\n"
    "<dd>Where the CPU time of the next seconds goes, as a flame graph. The page comes when they "
    "are over."
    "</dd>\n"
    "<dt><a href=\"/debug/pprof/profile?seconds=30\">profile?seconds=30</a></dt>\n"
    "<dd>The same as a file for pprof; it fetches it itself: "
    "<code>google-pprof --text http://HOST:PORT/debug/pprof/profile</code></dd>\n"
    "<dt><a href=\"/debug/pprof/heap?debug=1\">heap?debug=1</a></dt>\n"
    "<dd>What the allocator counts.</dd>\n"
    "<dt><a href=\"/debug/pprof/heap\">heap</a></dt>\n"
    "<dd>Who holds memory, as a file for jeprof; for a server started with "
    "<code>LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=prof:true</code>.</dd>\n"
    "<dt>symbol, cmdline</dt>\n<dd>What pprof asks for beside: names for addresses, the "
    "program.</dd>\n"
    "</dl>\n<p>Seconds are 1 to 300. There is one profile at a time; closing the page ends "
    "it.</p>\n"
    "</body></html>\n";

bool api_pprof_page(const struct route_match *m, struct exchange *x)
{
    struct reply *r = &x->reply;
    char program[4096];
    ssize_t len;
    r->content_type = "text/plain; charset=utf-8";
    switch (m->route->op) {
    case OP_PPROF_INDEX:
        r->content_type = "text/html; charset=utf-8";
        buf_put_str(&r->fields, CLOSED_PAGE);
        buf_put_str(&r->body, index_page);
        break;
    case OP_PPROF_SYMBOLS: /* not how many, but that there are some */
        buf_put_str(&r->body, "num_symbols: 1\n");
        break;
    case OP_PPROF_CMDLINE: /* without arguments: a password may be among them */
        len = readlink("/proc/self/exe", program, sizeof program);
        buf_put_slice(&r->body, slice_of(program, len > 0 ? (size_t)len : 0));
        break;
    default:
        return false;
    }
    r->status = 200;
    return true;
}

enum reason api_pprof(const struct route_match *m, const struct request *q, struct prof_ask *ask,
                      struct error *err)
{
    uint64_t number = 0;
    enum reason reason;
    switch (m->route->op) {
    case OP_PPROF_PROFILE:
    case OP_PPROF_FLAME:
        reason = api_number(q, "seconds", 1, PROFILE_SECONDS_MAX, PROFILE_SECONDS, &number, err);
        ask->op = m->route->op == OP_PPROF_FLAME ? PROF_FLAME : PROF_CPU;
        ask->for_ns = number * NS_PER_S;
        return reason;
    case OP_PPROF_HEAP:
        reason = api_number(q, "debug", 0, 1, 0, &number, err);
        ask->op = number ? PROF_ALLOCATOR : PROF_HEAP;
        return reason;
    default:
        ask->op = PROF_SYMBOL;
        ask->text = q->body;
        return REASON_ok;
    }
}

void api_pprof_answered(const struct prof_ask *ask, struct reply *r)
{
    r->status = 200;
    switch (ask->op) {
    case PROF_FLAME:
        r->content_type = "image/svg+xml";
        buf_put_str(&r->fields, CLOSED_PAGE);
        break;
    case PROF_CPU:
    case PROF_HEAP:
        r->content_type = "application/octet-stream";
        buf_printf(&r->fields, "Content-Disposition: attachment; filename=\"sluice.%s\"\r\n",
                   ask->op == PROF_CPU ? "prof" : "heap");
        break;
    case PROF_SYMBOL:
    case PROF_ALLOCATOR:
        r->content_type = "text/plain; charset=utf-8";
        break;
    }
}
