# SPDX-License-Identifier: Apache-2.0
"""Publishing and delivering by MQTT: Sluice (each message is permitted, held to limits, and on disk before its
acknowledgement) beside Mosquitto, which checks nobody and writes nothing before it answers, and FlashMQ if it is there.
16 connections, 100,000 feeds in random order, 100 bytes. `under way` is how many messages of a connection are without
an answer; of QoS 0 how many are not known to have been read."""
import shlex
import statistics
from types import SimpleNamespace

import mqtt_qos2
from mqtt_bench import FLASHMQ_CONF, MOSQUITTO_CONF, Client, Sluice
from mqtt_fanout import Fan
from peers import Peer
from result import Result, ratios

COLUMNS = {"cpu_us": "CPU µs a message", "per_second": "messages/s", "p99_ms": "p99 ms", "memory_mib": "memory MiB"}
DELIVERED = {"cpu_us": "CPU µs a message", "per_second": "messages/s", "delivered": "delivered %",
             "p50_ms": "to the subscriber p50 ms", "p99_ms": "p99 ms"}
KEPT = ("persistence true\npersistence_location {home}/\nautosave_interval 1\n", "persistence false\n")
CASES = ((1, 100), (1, 20), (1, 1), (0, 2000))
PUBLISHERS, SUBSCRIBERS, SHARERS = 1000, 1000, 8
CONNECTIONS, PAYLOAD = 16, 100
COMING_S = 5  # until all publishers are in


def start(args, r, running):
    cpu = {args.server_cpu}
    with r.perhaps("Mosquitto"):
        running.append(Peer("Mosquitto", args.home, cpu, ["mosquitto", "-c"], MOSQUITTO_CONF))
        if not args.quick:
            running.append(Peer("Mosquitto with persistence", args.home, cpu, ["mosquitto", "-c"],
                                MOSQUITTO_CONF.replace(KEPT[1], KEPT[0])))
            r.note("Mosquitto with persistence writes what it must keep each second, and never before it answers.")
    if args.flashmq:
        with r.perhaps("FlashMQ"):
            running.append(Peer("FlashMQ", args.home, cpu, [args.flashmq, "--config-file"], FLASHMQ_CONF))
    else:
        r.dict["missing"]["FlashMQ"] = "Debian does not have it; --flashmq names its binary"
    running.append(Sluice(args.home, cpu, args.settings, CONNECTIONS, args.feeds))
    running[-1].name = "Sluice"


def turns(args, targets, run):
    """{target's name: what each round gave}"""
    rounds = {t.name: [] for t in targets}
    for _ in range(args.rounds):
        for t in targets:
            rounds[t.name].append(run(t))
            print(f"{t.name:26} {rounds[t.name][-1]['cpu_us']:8.2f} us {rounds[t.name][-1]['per_second']:9.0f}/s", flush=True)
    return rounds


def put(r, title, columns, rounds):
    group = r.group(title, columns, "cpu_us")
    for name, measured in rounds.items():
        r.row(group, name, measured)


def publishing(args, r, client, targets):
    for t in targets:  # every feed is there, and all secrets are known
        client.run(t, 1, 100, 600, "--requests", str(args.feeds * 10))
    for qos, window in CASES:
        rounds = turns(args, targets, lambda t: client.run(t, qos, window, args.seconds))
        put(r, f"QoS {qos}, {window} under way", COLUMNS, rounds)
        r.command(rounds["Sluice"][0]["command"])
        if qos == 1:
            claim(r, window, rounds)


def claim(r, window, rounds):
    mine, flash, mosquitto = rounds["Sluice"], rounds.get("FlashMQ"), rounds.get("Mosquitto")
    if window == 100:
        r.claim("mqtt.100", [m["cpu_us"] for m in mine],
                aim=sorted(f["cpu_us"] for f in flash)[len(flash) // 2] if flash else None)
    elif flash:
        r.claim(f"mqtt.{window}", ratios(mine, flash, "cpu_us"))
    else:
        r.undecided(f"mqtt.{window}", "FlashMQ is not here")
    if mosquitto:
        r.guard(f"mqtt.{window}", ratios(mine, mosquitto, "cpu_us"))


def users(target):
    if not target.csv:
        return [(None, None)] * CONNECTIONS
    return [line.split(",") for line in target.csv.read_text().splitlines()[1:]]


def exactly_once(args, r, targets):
    put(r, "QoS 2, 100 under way", COLUMNS, turns(args, targets, lambda t: mqtt_qos2.measure(
        t, users(t), 100, args.feeds, PAYLOAD, args.seconds)))


def delivered(m):
    """Mosquitto accepts 100 connections at a time, the others come again after a second or three: the rate is that of
    the second half of the run."""
    late = m["series"][len(m["series"]) // 2:]
    return {**m, "per_second": statistics.median(p["answers"] for p in late), "p50_ms": m["delivery_p50_ms"], "p99_ms": m["delivery_p99_ms"],
            "delivered": min(100, 100 * m["delivered"] / m["sent"])}


def fan_in(args, r, client, targets):
    """Many publishers, each with one message under way, and one subscriber of all; then subscribers that share."""
    for title, words in (
            (f"{PUBLISHERS:,} publishers, one subscriber", ["--subscribe", "bench/feeds/+"]),
            (f"{PUBLISHERS:,} publishers, {SHARERS} subscribers that share",
             ["--mqtt", "5", "--subscribe", "$share/all/bench/feeds/+", "--subscribers", str(SHARERS)])):
        put(r, title, DELIVERED, turns(args, targets, lambda t: delivered(client.run(
            t, 1, 1, args.seconds + COMING_S, "--connections", str(PUBLISHERS), *words))))


def fan_out(args, r, targets):
    key = targets[-1].server.add_key("bench")
    fans = {t.name: Fan(t, SUBSCRIBERS, PAYLOAD, key if t is targets[-1] else None) for t in targets}

    def one(t):
        m = fans[t.name].measure(max(60, round(200 * args.scale)), 1)
        return {"cpu_us": m["us"], "per_second": m["per_second"]}
    rounds = turns(args, targets, one)
    put(r, f"One message to {SUBSCRIBERS:,} subscribers, QoS 0, a delivery", COLUMNS, rounds)
    if "Mosquitto" in rounds:
        of = ratios(rounds["Sluice"], rounds["Mosquitto"], "cpu_us")
        flash = rounds.get("FlashMQ")
        r.claim("fanout", of, aim=min(ratios(flash, rounds["Mosquitto"], "cpu_us")) if flash else None)
        r.guard("fanout", of)


def measure(args):
    r, running = Result(), []
    args.feeds = round(100000 * args.scale)
    options = SimpleNamespace(client_cpu=args.client_cpu, load=None, feeds=args.feeds, payload=PAYLOAD, connections=CONNECTIONS)
    try:
        start(args, r, running)
        client = Client(options, args.home)
        publishing(args, r, client, running)
        fan_out(args, r, running)
        if not args.quick:
            exactly_once(args, r, running)
            fan_in(args, r, client, running)
        for t in running:
            r.command(shlex.join(t.command))
    finally:
        for t in running:
            t.stop()
    return r.dict
