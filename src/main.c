/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/stat.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    /* Sockets and pipes that the other side closed say so by EPIPE. */
    signal(SIGPIPE, SIG_IGN);
    /* Hashes of secrets and people's data are not for everyone on this machine. */
    umask(077);
    return cli_main(argc, argv);
}
