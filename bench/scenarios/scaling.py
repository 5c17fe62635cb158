# SPDX-License-Identifier: Apache-2.0
"""Whether a message costs more when there is more of everything: accounts, feeds and stored points, each ten and a hundred times
as many. And what a second worker brings, where the client has to live on the same two cores."""
import os
import time

import harness
from common import load
from http_bench import Client, Sluice
from result import Result

COLUMNS = {"cpu_us": "CPU µs a message", "per_second": "messages/s", "p99_ms": "p99 ms", "memory_mib": "memory MiB"}
CONNECTIONS = 64


def accounts(args, sluice, count):
    """More accounts, until there are so many, each with a device; the CSV of all devices."""
    admin = harness.AdminConnection(sluice.server.data / "admin.sock")
    for i in range(len(sluice.devices), count):
        admin.call("account", "add", account=f"account-{i}", limits=harness.WIDE, device_limits=harness.WIDE)
        made = admin.call("device", "add", account=f"account-{i}", device=f"device-{i:06d}")
        sluice.devices.append(f"device-{i:06d},{made['secret']}\n")
    admin.close()
    path = args.home / f"accounts-{count}.csv"
    path.write_text("".join(sluice.devices))
    return path


def started(args, name, workers=1, cpus=None):
    sluice = Sluice(args.home, cpus or {args.server_cpu}, name, [(f"gateway-{i:02d}", None) for i in range(CONNECTIONS)],
                    {"server.workers": str(workers), **args.settings})
    sluice.devices, sluice.csv = [], args.home / f"{name}.csv"
    sluice.csv.write_text("".join(f"{a['X-Device-Id']},{a['X-Device-Token']}\n" for a in sluice.auths))
    return sluice


def rounds_of(args, client, sluice, *more):
    client.run(sluice, CONNECTIONS, args.seconds, None, *more)
    return [client.run(sluice, CONNECTIONS, args.seconds, None, *more) for _ in range(args.rounds)]


def growing_accounts(args, r, client):
    group = r.group("Accounts, a device each, in random order", COLUMNS, "cpu_us")
    sluice = started(args, "accounts")
    try:
        for count in (100, 1000, 10000):
            count = max(10, round(count * args.scale))
            sluice.csv = accounts(args, sluice, count)
            r.row(group, f"Sluice, {count:,} accounts", rounds_of(args, client, sluice))
    finally:
        sluice.stop()


def publish(args, sluice, feeds, *more):
    cpu = sluice.cpu()
    found = load(args, f"mqtt://127.0.0.1:{sluice.server.mqtt_port}", "--devices", sluice.csv, "--topic", "bench/feeds/f%feed%",
                 "--feeds", feeds, "--connections", 16, "--window", 100, *(more or ["--seconds", args.seconds]))
    assert set(found["status"]) == {"0"} and not found["broken"] and not found["timed_out"], found["status"]
    return {"cpu_us": (sluice.cpu() - cpu) * 1e6 / found["answered"], "per_second": found["answers_per_second"],
            "p99_ms": found["latency_ms"]["p99"], "memory_mib": sluice.memory() / 2**20}


def growing_feeds(args, r):
    """By MQTT, where a message is cheapest and a miss of the processor's caches shows most."""
    group = r.group("Feeds, in random order, MQTT QoS 1", COLUMNS, "cpu_us")
    sluice = started(args, "feeds")
    try:
        for feeds in (10000, 100000, 1000000):
            feeds = max(100, round(feeds * args.scale))
            publish(args, sluice, feeds, "--requests", feeds * 4, "--seconds", 120)
            r.row(group, f"Sluice, {feeds:,} feeds", [publish(args, sluice, feeds) for _ in range(args.rounds)])
    finally:
        sluice.stop()


def growing_points(args, r):
    group = r.group("Stored points of 1,000 feeds, MQTT QoS 1", COLUMNS, "cpu_us")
    sluice, stored = started(args, "points"), 0
    try:
        for points in (100000, 1000000, 10000000):
            points = max(1000, round(points * args.scale))
            publish(args, sluice, 1000, "--requests", max(1, points - stored), "--seconds", 120)
            stored = points
            time.sleep(1)  # the views catch up
            some = max(1000, round(100000 * args.scale))  # few, so that the number stays about what the row says
            r.row(group, f"Sluice, from {points:,} points on", [
                publish(args, sluice, 1000, "--requests", some, "--seconds", 60) for _ in range(args.rounds)])
    finally:
        sluice.stop()


def workers(args, r):
    """The client's core is one of them: who has both cores shares one with the client."""
    group = r.group("Workers, MQTT QoS 1, 1,000 feeds", COLUMNS, "per_second")
    both = set(os.sched_getaffinity(0)) | {args.server_cpu, args.client_cpu}
    for count, cpus in ((1, {args.server_cpu}), (1, both), (2, both)):
        sluice = started(args, f"workers-{count}-{len(cpus)}", count, cpus)
        try:
            publish(args, sluice, 1000)
            r.row(group, f"Sluice, {count} worker{'s' * (count > 1)} on {len(cpus)} core{'s' * (len(cpus) > 1)}",
                  [publish(args, sluice, 1000) for _ in range(args.rounds)])
        finally:
            sluice.stop()
    r.note(f"The machine has {os.cpu_count()} cores and the client needs one, so two workers cannot show twice the rate here; CPU a message is what a "
           "larger machine would pay.")


def measure(args):
    r, client = Result(), Client(args, args.home, None)
    growing_accounts(args, r, client)
    growing_feeds(args, r)
    growing_points(args, r)
    workers(args, r)
    return r.dict
