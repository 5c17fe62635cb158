/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/url.h - where a run sends to, or reads from: SCHEME://HOST[:PORT][/PATH]. Pure; slices
 * borrow from the text.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

enum url_scheme { URL_HTTP, URL_HTTPS, URL_MQTT, URL_MQTTS, URL_WS, URL_WSS };

struct url {
    enum url_scheme scheme;
    struct slice authority; /* host:port as written: HTTP's Host field */
    struct slice target;    /* path and query; empty: none was given */
    char host[256];         /* without the brackets of an IPv6 address */
    char port[8];           /* the scheme's, if none was given */
};

/* False: it is no URL of these schemes. */
bool url_parse(const char *text, struct url *ret);

static inline bool url_is_http(const struct url *u)
{
    return u->scheme <= URL_HTTPS;
}

/* By TLS. */
static inline bool url_is_secure(const struct url *u)
{
    return u->scheme == URL_HTTPS || u->scheme == URL_MQTTS || u->scheme == URL_WSS;
}

static inline bool url_is_websocket(const struct url *u)
{
    return u->scheme >= URL_WS;
}
