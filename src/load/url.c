/* SPDX-License-Identifier: Apache-2.0 */
#include "load/url.h"

#include <stddef.h>
#include <stdlib.h>

static const struct {
    struct slice prefix, port;
} schemes[] = {
    [URL_HTTP] = {{"http://", 7}, {"80", 2}},   [URL_HTTPS] = {{"https://", 8}, {"443", 3}},
    [URL_MQTT] = {{"mqtt://", 7}, {"1883", 4}}, [URL_MQTTS] = {{"mqtts://", 8}, {"8883", 4}},
    [URL_WS] = {{"ws://", 5}, {"80", 2}},       [URL_WSS] = {{"wss://", 6}, {"443", 3}},
};
#define SCHEMES (sizeof schemes / sizeof schemes[0])

static bool port_valid(struct slice port)
{
    unsigned n = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (port.ptr[i] < '0' || port.ptr[i] > '9' || i == 5)
            return false;
        n = n * 10 + (unsigned)(port.ptr[i] - '0');
    }
    return n > 0 && n <= 65535;
}

/* HOST, HOST:PORT, [V6] or [V6]:PORT; *port stays when none is there. */
static bool split_authority(struct slice all, struct slice *ret_host, struct slice *port)
{
    struct slice after;
    if (all.len && all.ptr[0] == '[') {
        const char *close = memchr(all.ptr, ']', all.len);
        if (!close)
            return false;
        *ret_host = slice_of(all.ptr + 1, (size_t)(close - all.ptr) - 1);
        after = slice_from(all, (size_t)(close - all.ptr) + 1);
    } else {
        const char *colon = memchr(all.ptr, ':', all.len);
        *ret_host = slice_of(all.ptr, colon ? (size_t)(colon - all.ptr) : all.len);
        after = slice_from(all, ret_host->len);
    }
    if (after.len == 0)
        return true;
    *port = slice_from(after, 1);
    return after.ptr[0] == ':';
}

bool url_parse(const char *text, struct url *ret)
{
    struct slice rest = slice_str(text), host, port;
    struct url u = {0};
    size_t scheme = 0;
    while (scheme < SCHEMES && !slice_starts(rest, schemes[scheme].prefix))
        scheme++;
    if (scheme == SCHEMES)
        return false;
    u.scheme = (enum url_scheme)scheme;
    rest = slice_from(rest, schemes[scheme].prefix.len);
    u.authority = slice_of(rest.ptr, strcspn(rest.ptr, "/?"));
    u.target = slice_from(rest, u.authority.len);
    if (u.target.len && (u.target.ptr[0] != '/' || memchr(u.target.ptr, ' ', u.target.len)))
        return false;
    port = schemes[scheme].port;
    if (!split_authority(u.authority, &host, &port) || host.len == 0 || host.len >= sizeof u.host ||
        !port_valid(port))
        return false;
    memcpy(u.host, host.ptr, host.len);
    memcpy(u.port, port.ptr, port.len);
    *ret = u;
    return true;
}
