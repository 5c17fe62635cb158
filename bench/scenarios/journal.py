# SPDX-License-Identifier: Apache-2.0
"""What it costs that an answer waits for the disk: Sluice's journal beside Redis (appendfsync always), a quorum queue of
RabbitMQ with confirms, and a JetStream stream of NATS, with 1, 16, 256 and 4,096 messages under way, 200 bytes each.
Sluice's senders are calls in one process; the others are asked over the loopback, and their CPU is only the server's."""
import os
import re
import statistics
import subprocess
import time

import nats
from common import cpu_seconds, tool
from peers import Peer, Redis, first_line, find
from rabbitmq_bench import check_and_drop, queue_on
from result import Result

COLUMNS = {"per_second": "messages/s", "cpu_us": "CPU µs a message", "per_commit": "messages a sync"}
SENDERS = (1, 16, 256, 4096)
BYTES = 200

NATS_CONF = """\
listen: "127.0.0.1:{port}"
jetstream {{
    store_dir: "{home}/store"
SYNC}}
"""


def sync_ms(folder, count=300):
    """What fdatasync takes after 4 KiB were written over ones that are there."""
    path, times = folder / "sync", []
    with open(path, "wb") as f:
        f.write(bytes(4096 * 64))
        f.flush()
        os.fsync(f.fileno())
        for i in range(count):
            os.pwrite(f.fileno(), os.urandom(4096), i % 64 * 4096)
            begun = time.monotonic()
            os.fdatasync(f.fileno())
            times.append((time.monotonic() - begun) * 1000)
    path.unlink()
    return sorted(times)


def own(args, kind, number):
    """{senders: figures}"""
    folder = args.home / f"{kind}-{number}"
    folder.mkdir()
    run = subprocess.run(["taskset", "-c", str(args.server_cpu), tool("journal_bench"), kind, str(folder), str(args.seconds)],
                         check=True, capture_output=True, text=True)
    assert "FAILED" not in run.stdout, run.stdout
    return {int(n): {"per_second": float(rate), "per_commit": float(each), "cpu_us": float(ns) / 1000}
            for n, rate, each, ns in re.findall(
                r"in flight +(\d+): +(\d+) messages/s, +([\d.]+) a commit, CPU +(\d+) ns a message", run.stdout)}


def redis(args, senders, sync):
    """redis-benchmark is its own client; so many requests as the disk lets through in the time."""
    target = Redis(f"Redis {senders}", args.home, {args.server_cpu}, "--appendonly", "yes", "--appendfsync", "always",
                   "--auto-aof-rewrite-percentage", "0")
    count = max(1000, min(300000, round(args.seconds / sync * 1000 * senders)))
    try:
        cpu = target.cpu()
        run = subprocess.run(["taskset", "-c", str(args.client_cpu), find("redis-benchmark"), "-p", str(target.port), "-c",
                              str(senders), "-n", str(count), "--csv", "XADD", "log", "*", "value", "x" * BYTES],
                             check=True, capture_output=True, text=True)
        rate = float(run.stdout.splitlines()[-1].split(",")[1].strip('"'))
        return {"per_second": rate, "cpu_us": (target.cpu() - cpu) * 1e6 / count}
    finally:
        target.stop()


def pin(pid, cpu):
    subprocess.run(["taskset", "-a", "-p", "-c", str(cpu), str(pid)], check=True, stdout=subprocess.DEVNULL)


def rabbit(args, broker, senders, name):
    count = {1: 200, 16: 2000}.get(senders, 10000) * max(1, round(args.seconds / 3))
    queue_on(broker, name, "quorum")
    cpu = cpu_seconds(broker.process.pid)
    run = subprocess.run(["taskset", "-c", str(args.client_cpu), tool("amqp_bench"), str(broker.port), "sluice", "first secret",
                          name, "ann.air", str(count), str(BYTES), str(senders)], check=True, capture_output=True, text=True)
    cpu = cpu_seconds(broker.process.pid) - cpu
    check_and_drop(broker, name, count)
    return {"per_second": count / float(run.stdout), "cpu_us": cpu * 1e6 / count}


def measure_rabbit(args, r, groups):
    from rabbitmq import RabbitMQ  # whose library is only in Debian's Python
    broker = RabbitMQ()
    try:
        pin(broker.process.pid, args.server_cpu)
        for senders, group in groups.items():
            r.row(group, "RabbitMQ, quorum queue, confirms", [
                rabbit(args, broker, senders, f"s{senders}-{i}") for i in range(args.rounds)])
    finally:
        broker.close()


def jetstream(args, r):
    """Debian's may be too old to sync before it answers; then the report says so."""
    conf = "    sync_interval: always\n"
    try:
        return "NATS JetStream, sync_interval always", Peer(
            "nats", args.home, {args.server_cpu}, ["nats-server", "-c"], NATS_CONF.replace("SYNC", conf))
    except AssertionError:
        version = first_line([find("nats-server"), "-v"])
        r.note(f"{version} has no `sync_interval: always`: it answers before the message is on disk, and its figures are of "
               "something that loses messages with the power.")
        return "NATS JetStream, does not sync", Peer(
            "nats without sync", args.home, {args.server_cpu}, ["nats-server", "-c"], NATS_CONF.replace("SYNC", ""))


def measure_nats(args, r, groups):
    name, server = jetstream(args, r)
    try:
        client = nats.Jetstream(server.port)
        client.make_stream("bench")
        for senders, group in groups.items():
            rounds = []
            for _ in range(args.rounds):
                cpu = server.cpu()
                through, took = client.publish(senders, BYTES, args.seconds / 2)
                rounds.append({"per_second": through / took, "cpu_us": (server.cpu() - cpu) * 1e6 / through})
            r.row(group, name, rounds)
    finally:
        server.stop()


def measure(args):
    r = Result()
    syncs = sync_ms(args.home)
    sync = statistics.median(syncs)
    r.note(f"fdatasync of 4 KiB on this disk: median {sync:.2f} ms, least {syncs[0]:.2f}, p99 {syncs[int(len(syncs) * 0.99)]:.2f}.")
    groups = {n: r.group(f"{n:,} under way", COLUMNS, "per_second") for n in SENDERS}
    for kind, name in (("commit", "Sluice's journal"), ("null", "Sluice's journal, a disk that takes no time")):
        rounds = [own(args, kind, i) for i in range(args.rounds)]
        for senders, group in groups.items():
            r.row(group, name, [found[senders] for found in rounds])
    with r.perhaps("Redis"):
        for senders, group in groups.items():
            r.row(group, "Redis, appendfsync always", [redis(args, senders, sync) for _ in range(args.rounds)])
    with r.perhaps("RabbitMQ"):
        measure_rabbit(args, r, groups)
    with r.perhaps("NATS JetStream"):
        measure_nats(args, r, groups)
    return r.dict
