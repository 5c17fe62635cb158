/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline_claims.h"

#include "base/check.h"

void claims_init(struct claims *c)
{
    *c = (struct claims){0};
    CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
}

void claims_fini(struct claims *c)
{
    pthread_mutex_destroy(&c->lock);
}

static uint64_t *find(struct claims *c, uint64_t account)
{
    for (unsigned i = 0; i < OWN_COMMANDS_MAX; i++) {
        if (c->accounts[i] == account)
            return &c->accounts[i];
    }
    return NULL;
}

bool claims_take(struct claims *c, uint64_t account)
{
    pthread_mutex_lock(&c->lock);
    uint64_t *nobody = find(c, account) ? NULL : find(c, 0);
    if (nobody)
        *nobody = account;
    pthread_mutex_unlock(&c->lock);
    return nobody != NULL;
}

void claims_drop(struct claims *c, uint64_t account)
{
    pthread_mutex_lock(&c->lock);
    uint64_t *its = find(c, account);
    CHECK(its);
    *its = 0;
    pthread_mutex_unlock(&c->lock);
}
