/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/load.h - `sluice load`: a fleet of simulated devices that sends HTTP/1.1 requests or
 * MQTT messages and measures the answers. A client only: it shares nothing with a running server
 * but the wire, so it loads any server of these protocols alike. Runs on the calling thread, with
 * an event loop of its own.
 */
#pragma once

/*
 * Runs the command; argv[0] is its name. Results go to stdout, progress and errors to stderr.
 * 0: it ran to its end, whatever the server answered (also when the server died on the way);
 * 1: no request was answered, a file could not be written, or with --verify nothing could be read
 * back; 2: wrong usage; 3: with --verify, what is stored is not what was acknowledged; with
 * --compare, the scenario lacks something.
 */
int load_command(int argc, char **argv);
