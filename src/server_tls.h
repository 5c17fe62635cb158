/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_tls.h - the settings tls.*: from files to what TLS listeners use, and where listeners
 * without TLS may be. Main thread, at reloads the admin thread; the command line too.
 */
#pragma once

#include "catalog/catalog.h"
#include "config.h"
#include "conn/tls.h"
#include "gate/psk.h"

struct server_tls {
    struct psk_master psk;
    struct catalog **catalog; /* of the caller: who has such keys; NULL: nobody */
    struct tls_tickets *tickets;
    struct tls_set *set; /* in force; NULL: there are no certificates */
};

/* At the start: listeners are where they may be, and what tls.* names is good. 0 or a negative
 * errno with a sentence. */
int server_tls_open(struct server_tls *t, const struct config *c, struct error *err);
void server_tls_close(struct server_tls *t);
/*
 * Reads and checks everything that tls.* names. *ret is NULL if no certificate is named, which is a
 * mistake if listen.https is. `before` is what is in force, or NULL: a certificate that is not of
 * those, and is out of date, is a mistake too. (At a start it is only warned of: a server that
 * everybody can still reach without TLS is better than none.) 0, or a negative errno with a
 * sentence that names setting and file.
 */
int server_tls_load(struct server_tls *t, const struct config *c, const struct tls_set *before,
                    struct tls_set **ret, struct error *err);
/* tls.psk_key_file. 0, also if none is named, or a negative errno with a sentence. */
int server_tls_read_psk(const struct config *c, struct psk_master *ret, struct error *err);
/* Logs each certificate, warns of those out of date, sets the metric of the first to expire. */
void server_tls_note(const struct tls_set *set);

/*
 * tls.required: refuses listeners in `list`, of that setting, that other machines could send their
 * secrets to in clear. 0 or -EINVAL with a sentence.
 */
int server_tls_check_plain(const struct config *c, const char *setting, const char *list,
                           struct error *err);
