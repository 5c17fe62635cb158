/* SPDX-License-Identifier: Apache-2.0 */
/* The opening handshake of RFC 6455, section 4.2. */
#include <openssl/evp.h>

#include "base/check.h"
#include "codec/websocket.h"

/* The next element of a comma-separated list without the blanks around it. False at the end. */
static bool next_element(struct slice *rest, struct slice *ret)
{
    if (!rest->ptr)
        return false;
    const char *comma = rest->len ? memchr(rest->ptr, ',', rest->len) : NULL;
    size_t len = comma ? (size_t)(comma - rest->ptr) : rest->len;
    *ret = slice_trim(slice_of(rest->ptr, len));
    *rest = comma ? slice_from(*rest, len + 1) : (struct slice){0};
    return true;
}

/* Walks the elements of all fields of that name, as if they were one list (RFC 9110, 5.3). */
static bool listed(const struct http1_request *r, struct slice name, struct slice wanted,
                   bool nocase)
{
    for (unsigned i = 0; i < r->fields_count; i++) {
        struct slice rest = r->fields[i].value, element;
        if (!slice_eq_nocase(r->fields[i].name, name))
            continue;
        while (next_element(&rest, &element)) {
            if (nocase ? slice_eq_nocase(element, wanted) : slice_eq(element, wanted))
                return true;
        }
    }
    return false;
}

static unsigned times(const struct http1_request *r, struct slice name)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->fields_count; i++)
        n += slice_eq_nocase(r->fields[i].name, name);
    return n;
}

/* Base64 of 16 bytes: 22 characters, of which the last holds but two bits, and "==". */
static bool key_valid(struct slice key)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (key.len != 24 || memcmp(key.ptr + 22, "==", 2) != 0)
        return false;
    for (unsigned i = 0; i < 22; i++) {
        const char *at = key.ptr[i] ? strchr(base64, key.ptr[i]) : NULL;
        if (!at || (i == 21 && (at - base64) % 16 != 0))
            return false;
    }
    return true;
}

enum websocket_upgrade websocket_upgrade(const struct http1_request *r)
{
    if (!listed(r, SLICE("upgrade"), SLICE("websocket"), true) ||
        !listed(r, SLICE("connection"), SLICE("upgrade"), true))
        return WEBSOCKET_UPGRADE_NONE;
    struct slice version = http1_field(r, SLICE("sec-websocket-version"));
    if (r->method != HTTP1_GET || r->minor == 0 || r->has_body)
        return WEBSOCKET_UPGRADE_BAD;
    if (version.ptr && !slice_eq(version, SLICE("13")))
        return WEBSOCKET_UPGRADE_VERSION;
    if (times(r, SLICE("sec-websocket-version")) != 1 || times(r, SLICE("sec-websocket-key")) != 1)
        return WEBSOCKET_UPGRADE_BAD;
    return key_valid(http1_field(r, SLICE("sec-websocket-key"))) ? WEBSOCKET_UPGRADE_OK
                                                                 : WEBSOCKET_UPGRADE_BAD;
}

void websocket_accept(const struct http1_request *r, char out[WEBSOCKET_ACCEPT_LEN + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct slice key = http1_field(r, SLICE("sec-websocket-key"));
    char text[24 + sizeof guid - 1];
    uint8_t digest[20];
    unsigned len = 0;
    CHECK(key.len == 24); /* websocket_upgrade has looked */
    memcpy(text, key.ptr, 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    CHECK(EVP_Digest(text, sizeof text, digest, &len, EVP_sha1(), NULL) == 1 && len == 20);
    CHECK(EVP_EncodeBlock((unsigned char *)out, digest, 20) == (int)WEBSOCKET_ACCEPT_LEN);
}

bool websocket_offers(const struct http1_request *r, struct slice protocol)
{
    return listed(r, SLICE("sec-websocket-protocol"), protocol, false);
}
