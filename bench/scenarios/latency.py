# SPDX-License-Identifier: Apache-2.0
"""How long one waits at half of the highest rate, open loop, each latency counted from when the message was due: for the answer
to a POST (on disk), for the newest value, and for a message to reach a subscriber. Then the same POST in a spike: the rate jumps to 20
times as much, which is 80 % of the highest rate, and back. nginx answers 204 to nothing stored, at half of its own highest rate."""
import statistics

from common import load
from http_bench import Client, Sluice, nginx, write_csv
from mqtt_bench import Client as MqttClient
from mqtt_bench import Sluice as MqttSluice
from result import Result
from scenarios.journal import sync_ms
from scenarios.read import ask

COLUMNS = {"per_second": "messages/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms", "cpu_us": "CPU µs a message"}
CONNECTIONS, WINDOW = 64, 20
SPIKE, LEAD_S, SPIKE_S, TAIL_S, SHARE = 20, 10, 10, 10, 0.8


def claims(r, what, rounds, aim=None):
    r.claim(f"latency.{what}.p50", [m["p50_ms"] for m in rounds], aim=aim)
    r.claim(f"latency.{what}.p99", [m["p99_ms"] for m in rounds])


def posting(args, r, client, targets, sync):
    """Each at half of what it can; Sluice's highest rate, which the spike needs."""
    group = r.group(f"POST, {CONNECTIONS} connections, half load", COLUMNS, "p99_ms")
    for t in targets:
        client.run(t, CONNECTIONS, args.seconds)
        full = statistics.median(client.run(t, CONNECTIONS, args.seconds)["per_second"] for _ in range(args.rounds))
        rounds = [client.run(t, CONNECTIONS, args.seconds * 2, full / 2) for _ in range(args.rounds)]
        r.row(group, t.name, rounds)
    claims(r, "post", rounds, sync + 0.3)
    r.command(rounds[0]["command"])
    return full


def newest(args, r, sluice, key):
    path = "/api/v2/bench/feeds/device-00000.temperature/data/last"
    full = statistics.median(ask(args, sluice, key, path, connections=CONNECTIONS)["per_second"] for _ in range(args.rounds))
    rounds = [ask(args, sluice, key, path, connections=CONNECTIONS, rate=full / 2) for _ in range(args.rounds)]
    r.row(r.group(f"GET data/last, {CONNECTIONS} connections, half load", COLUMNS, "p99_ms"), "Sluice", rounds)
    claims(r, "last", rounds)


def subscribing(args, r, sync):
    """One subscriber of all; half of the rate at which it still gets everything."""
    args.connections, args.feeds, args.payload = 16, 1000, 100
    target, client, to = MqttSluice(args.home, {args.server_cpu}, args.settings, 16, 1000), MqttClient(args, args.home), \
        ("--subscribe", "bench/feeds/+")
    try:
        client.run(target, 1, WINDOW, args.seconds, *to)
        full = statistics.median(min(m["per_second"], m["delivered"] / args.seconds) for m in (
            client.run(target, 1, WINDOW, args.seconds, *to) for _ in range(args.rounds)))
        found = [client.run(target, 1, WINDOW, args.seconds * 2, *to, "--rate", f"{full / 2:.0f}") for _ in range(args.rounds)]
        for m in found:
            assert m["delivered"] >= 0.99 * m["sent"], f"of {m['sent']} messages {m['delivered']} were delivered"
        rounds = [{**m, "p50_ms": m["delivery_p50_ms"], "p99_ms": m["delivery_p99_ms"], "p999_ms": m["delivery_p999_ms"]}
                  for m in found]
    finally:
        target.stop()
    r.row(r.group("Published by MQTT until it is at a subscriber, QoS 1, half load", COLUMNS, "p99_ms"), "Sluice", rounds)
    claims(r, "subscriber", rounds, sync + 0.5)


def one_spike(args, sluice, csv, base):
    at, end = LEAD_S, LEAD_S + SPIKE_S
    shape = f"0:{base},{at}:{base},{at}:{SPIKE * base},{end}:{SPIKE * base},{end}:{base},{end + TAIL_S}:{base}"
    return load(args, sluice.url, "--devices", csv, "--feed", "%device%.temperature", "--connections", CONNECTIONS * 4, "--shape", shape,
                "--seconds", end + TAIL_S)


def spiking(args, r, sluice, csv, full):
    """The worst second of the spike beside the worst second of as many before it."""
    base, ratios, refused, rounds = round(full * SHARE / SPIKE), [], [], []
    for _ in range(max(1, args.rounds - 1)):
        found = one_spike(args, sluice, csv, base)
        before, during = ([p for p in found["series"] if first < p["s"] <= last] for first, last in (
            (1, LEAD_S - 1), (LEAD_S + 1, LEAD_S + SPIKE_S)))
        worst = [max(p["p99"] for p in some) for some in (before, during)]
        ratios.append(worst[1] / worst[0])
        refused.append(sum(n for status, n in found["status"].items() if status != "202") + found["broken"] + found["timed_out"]
                       + found["unsent"])
        rounds.append({"base": base, "rate": statistics.median(p["answers"] for p in during), "before": worst[0], "during": worst[1]})
    group = r.group(f"A spike of {SPIKE_S} s", {"base": "messages/s before", "rate": "messages/s in the spike", "before": "worst p99 of a "
                                                "second before, ms", "during": "worst p99 of a second in it, ms"})
    r.row(group, "Sluice", rounds)
    r.plot("A spike to 20 times the rate", "seconds", "messages/s", {"answered": [[p["s"], p["answers"]] for p in found["series"]]})
    r.plot("Latency in that spike", "seconds", "ms", {name: [[p["s"], p[name]] for p in found["series"]] for name in ("p50", "p99")})
    r.claim("spike.p99", ratios)
    r.claim("spike.refused", refused)


def measure(args):
    r, running = Result(), []
    syncs = sync_ms(args.home)
    sync = statistics.median(syncs)
    r.note(f"fdatasync of 4 KiB on this disk: median {sync:.2f} ms, p99 {syncs[int(len(syncs) * 0.99)]:.2f}.")
    try:
        with r.perhaps("nginx"):
            running.append(nginx(args.home, {args.server_cpu}))
        devices = [(f"device-{i:05d}", None) for i in range(round(10000 * args.scale))]
        sluice = Sluice(args.home, {args.server_cpu}, "Sluice durable", devices, args.settings)
        running.append(sluice)
        csv = args.home / "devices.csv"
        write_csv(csv, sluice.auths, 0)
        full = posting(args, r, Client(args, args.home, csv), running, sync)
        newest(args, r, sluice, sluice.server.add_key("bench"))
        spiking(args, r, sluice, csv, full)
    finally:
        for t in running:
            t.stop()
    subscribing(args, r, sync)
    return r.dict
