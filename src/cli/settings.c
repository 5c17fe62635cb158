/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/settings.h"

#include <stdio.h>

int settings_read(const struct settings_opts *opts, struct config **ret, struct error *err)
{
    struct config *c = NULL;
    int rc = config_load(opts->config, &c, err);
    for (unsigned i = 0; !rc && i < opts->set.count; i++)
        rc = config_set(c, "--set", slice_str(opts->set.values[i]), err);
    if (!rc && opts->data)
        rc = config_override(c, "--data", SLICE("server"), SLICE("data"), slice_str(opts->data),
                             err);
    if (rc)
        config_free(c);
    else
        *ret = c;
    return rc;
}

bool settings_load(const struct settings_opts *opts, struct config **ret)
{
    struct error err = {""};
    int rc = settings_read(opts, ret, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc == 0;
}
