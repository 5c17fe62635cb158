/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/url.h - where a run sends to, or reads from: SCHEME://HOST[:PORT][/PATH]. Pure; slices
 * borrow from the text.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

enum url_scheme { URL_HTTP, URL_MQTT };

struct url {
    enum url_scheme scheme;
    struct slice authority; /* host:port as written: HTTP's Host field */
    struct slice target;    /* path and query; empty: none was given */
    char host[256];         /* without the brackets of an IPv6 address */
    char port[8];           /* the scheme's, if none was given */
};

/* False: it is no URL of these schemes. */
bool url_parse(const char *text, struct url *ret);
