/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/descriptors.h - room for file descriptors, made before threads and connections are.
 */
#pragma once

/*
 * Lets the process have `wanted` descriptors, as far as the hard limit goes, and has the kernel
 * make its table of them that large at once. While a process has threads, a table that grows waits
 * for all cores (synchronize_rcu in Linux's fs/file.c): each time that the connections of a worker
 * doubled, all others stood still for tens of milliseconds. Call it while there is one thread;
 * later it helps as well, and takes that time. Failing is no error: the table grows when it must.
 */
void descriptors_reserve(unsigned long wanted);
