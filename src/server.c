/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>

int server_run(const struct config *config, struct error *err)
{
    return error_set(err, -ENOSYS, "this build has no server");
}
