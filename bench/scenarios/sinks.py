# SPDX-License-Identifier: Apache-2.0
"""How fast a backlog goes on to other systems, beside the fastest plain client of each, with the same values: COPY from a file for
PostgreSQL, librdkafka's producer with the same headers for Kafka, a confirm loop of librabbitmq for RabbitMQ, loops of libcurl and
wrk for webhooks. All run on the same cores, by turns. Then a spike of 20 times the rate with the PostgreSQL sink on: what whoever
sends notices, how far the sink falls behind, and how old the oldest message is that is not there yet."""
import json
import os
import statistics
import threading
import time

from common import load
from http_bench import Sluice
from result import Result
from scenarios.gate import script
from scenarios.latency import CONNECTIONS, SPIKE

COLUMNS = {"rate": "messages/s", "cpu_us": "CPU µs a message", "target_cpu_us": "the target's CPU µs a message"}
# Its script, messages of the backlog, which row is compared with which; how each is called.
SINKS = {
    "PostgreSQL": ("postgres_bench.py", 300000, {"drain.postgresql": ("sink", "copy")}),
    "Kafka": ("kafka_bench.py", 300000, {"drain.kafka": ("sink", "plain"), "drain.kafka.bare": ("sink, no headers", "plain, no headers")}),
    "RabbitMQ": ("rabbitmq_bench.py", 30000, {"drain.rabbitmq": ("sink", "plain")}),
    "Webhooks": ("webhook_bench.py", 40000, {"drain.webhooks": ("sink", "libcurl, poll"), "drain.webhooks.wrk": ("sink", "wrk")}),
}
NAMES = {"sink": "Sluice's sink", "copy": "COPY from a file, in the server", "psql": "COPY from a file, by psql",
         "plain": "its own client", "plain, no headers": "its own client, no headers", "sink, no headers": "Sluice's sink, kafka.headers: none",
         "wrk": "wrk, the same request", "libcurl, poll": "libcurl's own loop (curl_multi_poll), the same request",
         "libcurl, socket": "libcurl told by epoll (curl_multi_socket_action), the same request",
         "sink, batches": "Sluice's sink, 100 messages a request"}
LEAD_S, SPIKE_S, AFTER_S = 10, 60, 300
SPIKE_SHARE = 0.5  # of the highest rate of messages by HTTP


def drained(args, r, sink):
    name, count, claims = SINKS[sink]
    count = max(1000, round(count * args.scale / 1000) * 1000)
    found = script(args, r, name, "--count", count, "--rounds", args.rounds)["found"]
    group = r.group(f"{sink}, a backlog of {count:,} messages", COLUMNS, "rate")
    for who, rounds in found.items():
        r.row(group, NAMES.get(who, who), rounds)
    for line, (own, peer) in claims.items():
        r.claim(line, [100 * mine["rate"] / other["rate"] for mine, other in zip(found[own], found[peer])])


class Watch(threading.Thread):
    """How far the sink is behind, all the time: [seconds, messages, seconds of age]."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.samples, self.over, self.begun = server, [], threading.Event(), time.monotonic()
        self.start()

    def run(self):
        while not self.over.wait(0.5):
            s = json.loads(self.server.operator("/v1/status"))["sinks"]["postgres"]
            self.samples.append((time.monotonic() - self.begun, s["lag"], s["oldest_ms"] / 1000))

    def until_drained(self, since):
        while not any(at > since and lag == 0 for at, lag, _ in self.samples):
            assert self.is_alive() and time.monotonic() - self.begun < since + AFTER_S, f"not drained: {self.samples[-1:]}"
            time.sleep(0.5)
        return next(at for at, lag, _ in self.samples if at > since and lag == 0)


def spiked(args, r, postgres):
    lead, spike = LEAD_S, max(5, round(SPIKE_S * args.scale))
    sluice = Sluice(args.home, {args.server_cpu}, "Sluice with a sink", [(f"gateway-{i:03d}", None) for i in range(CONNECTIONS)],
                    {**postgres.settings("spike"), **args.settings})
    try:
        csv = args.home / "devices.csv"
        csv.write_text("".join(f"{a['X-Device-Id']},{a['X-Device-Token']}\n" for a in sluice.auths))
        words = [sluice.url, "--devices", csv, "--feed", "%device%.temperature", "--connections", CONNECTIONS * 4]
        full = load(args, *words, "--seconds", args.seconds)["answers_per_second"]
        base, end = round(full * SPIKE_SHARE / SPIKE), lead + spike
        watch = Watch(sluice.server)
        watch.until_drained(0)
        begun = time.monotonic() - watch.begun
        found = load(args, *words, "--seconds", end + lead, "--shape",
                     f"0:{base},{lead}:{base},{lead}:{SPIKE * base},{end}:{SPIKE * base},{end}:{base},{end + lead}:{base}")
        over = watch.until_drained(begun + end)
        time.sleep(1)
        watch.over.set()
    finally:
        sluice.stop()
    put_spike(r, found, [(at - begun, lag, age) for at, lag, age in watch.samples], over - begun, (lead, end, base))


def put_spike(r, found, samples, over, shape):
    lead, end, base = shape
    before, during = ([p for p in found["series"] if a < p["s"] <= b] for a, b in ((1, lead), (lead + 1, end)))
    group = r.group(f"A spike of {end - lead} s to {SPIKE} times the rate", {
        "rate": "messages/s", "p50": "p50 ms", "p99": "p99 ms, median of the seconds", "refused": "refused", "lag": "sink behind at most, messages",
        "age": "oldest undelivered at most, s"})
    refused = sum(n for status, n in found["status"].items() if status != "202") + found["broken"] + found["timed_out"]
    for name, some, (a, b) in (("before", before, (0, lead)), ("in the spike", during, (lead, end)), ("after it", [], (end, over + 1))):
        seen = [s for s in samples if a <= s[0] <= b] or [(0, 0, 0)]
        r.row(group, name, [{"rate": statistics.median(p["answers"] for p in some) if some else None,
                             "p50": statistics.median(p["p50"] for p in some) if some else None,
                             "p99": statistics.median(p["p99"] for p in some) if some else None,
                             "refused": refused if some is during else None, "lag": max(s[1] for s in seen), "age": max(s[2] for s in seen)}])
    r.note(f"The sink had all {max(0, over - end):.1f} s after the spike's end; the rate before was {base:,}/s.")
    r.plot("A spike, and the PostgreSQL sink behind it", "seconds", "messages",
           {"accepted a second": [[p["s"], p["answers"]] for p in found["series"]], "not yet in PostgreSQL": [[s[0], s[1]] for s in samples if s[0] >= 0]})
    r.plot("Answers and delivery in that spike", "seconds", "ms", {
        "answer p50": [[p["s"], p["p50"]] for p in found["series"]], "answer p99": [[p["s"], p["p99"]] for p in found["series"]],
        "age of the oldest that is not in PostgreSQL": [[s[0], s[2] * 1000] for s in samples if s[0] >= 0]})


def measure(args):
    from postgres_bench import Server  # whose library is only in Debian's Python
    r = Result()
    for sink in SINKS:
        with r.perhaps(sink):
            drained(args, r, sink)
    with r.perhaps("the spike with PostgreSQL"):
        os.sched_setaffinity(0, range(os.cpu_count()))  # the database takes what the others leave
        postgres = Server()
        os.sched_setaffinity(0, {args.client_cpu})
        try:
            spiked(args, r, postgres)
        finally:
            postgres.close()
    return r.dict
