/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/address.h - network addresses as text and in headers: CIDR lists, the PROXY protocol,
 * Forwarded and X-Forwarded-For. Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* An IP address; IPv4 is kept as its IPv4-mapped IPv6 form. All zero = none (a Unix socket). */
struct address {
    uint8_t bytes[16];
    uint16_t port;
};

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]:80", "192.0.2.1:80". False: no address. */
bool address_parse(struct slice text, struct address *ret);
void address_format(struct buf *out, const struct address *a); /* without port */
bool address_is_v4(const struct address *a);
bool address_is_loopback(const struct address *a);
/* Whether nobody on the internet has it for himself: it is not of IPv6's global unicast or is in
 * one of IANA's special-purpose registries (RFC 6890 and what was added since), as it is or as the
 * IPv4 address that it carries. What the machine can reach only because of where it stands is among
 * them. */
bool address_is_special(const struct address *a);
/* What limits count: a number for the IPv4 /32 or the IPv6 /64. */
uint64_t address_source(const struct address *a);
/* Appends what a source stands for: "192.0.2.7", "2001:db8::/64", nothing for none. */
void address_source_format(struct buf *out, uint64_t source);

struct cidr {
    struct address net;
    uint8_t bits; /* of 128 */
};
bool cidr_parse(struct slice text, struct cidr *ret);
bool cidr_covers(const struct cidr *list, unsigned count, const struct address *a);

enum proxy_outcome { PROXY_MORE, PROXY_DONE, PROXY_BAD };
/* PROXY protocol version 1 or 2 at the start of a connection (haproxy proxy-protocol.txt). DONE:
 * *ret_used bytes belong to it; *ret_has is false for LOCAL and UNKNOWN. MORE is never said for
 * over 536 bytes. */
enum proxy_outcome proxy_header_parse(struct slice in, size_t *ret_used, bool *ret_has,
                                      struct address *ret);

/* What proxies say of whom they speak for. */
struct http1_field; /* codec/http1.h */
struct forwarded {
    const struct http1_field *fields; /* of the request's head */
    unsigned fields_count;
    bool standard; /* Forwarded (RFC 7239) is what they write; else X-Forwarded-For, -Proto. The
                      other one a client could forge, and it is not looked at */
    const struct cidr *trusted; /* who is believed; with none nobody is, else a Unix socket too */
    unsigned trusted_count;
};
/* The client's address: walks the list from the right past the trusted proxies; `peer` when there
 * is none, or what stands there is no address. Several fields are one list. */
struct address forwarded_client(const struct forwarded *f, const struct address *peer);
bool forwarded_trusts(const struct forwarded *f, const struct address *peer);
/* Whether the proxy that is nearest to us, which is trusted, says that it was spoken to by https.
 */
bool forwarded_is_https(const struct forwarded *f);
