# SPDX-License-Identifier: Apache-2.0
"""What is true of a sink of any kind, tested against the kind's real server.

A kind's test module has a fixture `target` with what it fills in of Target, and a class of the properties:

    from sink_conformance import Conformance, Target, make_sink, place  # noqa: F401
    class TestKafka(Conformance):
        pass

What a kind has in addition stands beside that, with `make_sink` as here. A property that means something else
for a kind is overridden in its class, never left out in silence.

SLUICE_SINK_SCHEDULES says how many seeded schedules of faults each sink gets, and the consumer groups too (test_consume.py);
SLUICE_SINK_SEED with which seed they begin, to repeat one. Each says at the end, as a warning, what it counted.
"""
import collections
import itertools
import json
import os
import random
import re
import threading
import time
import warnings

import pytest
import requests

from conftest import owner_on
from fault_proxy import FaultProxy
from harness import wait_for
from mqtt_wire import PUBACK, Mqtt

SCHEDULES = int(os.environ.get("SLUICE_SINK_SCHEDULES", 5))
FIRST_SEED = int(os.environ.get("SLUICE_SINK_SEED", 1))
PATIENCE = 60
PERIOD = 100  # requests, at least, between two changes of a target's state, where latencies are compared
_places = itertools.count(1)

# One that is at the target; `offset` is its place in the journal, by which it is known.
Message = collections.namedtuple("Message", "offset value account feed device topic")


class Target:
    """A real server of a kind, made by its test module; ended by process id, and by close() for good."""
    kind = None            # the sink's name, and the section of its settings
    exactly_once = False   # whatever is killed; else at least once, and what comes again has the same offset
    replay_replaces = False  # a replay puts nothing there twice
    away = "connect"       # in what the sink says while the server is stopped
    port = None            # where the server listens; for the proxy
    batch_max = "50"       # messages of a batch, so that there are many
    heals = False          # its client library goes on over a new connection by itself, so the sink sees no failure
    # Two messages that the server refuses for what they are: (topic, value); and in why the first one is dead.
    poison, poison_why = (), ""

    def settings(self, place, port=None):
        """The settings that lead to `place`, a name no other test has; by another port of this machine if given."""
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def stop(self):
        """In good order: what it has confirmed is there after start()."""
        raise NotImplementedError

    def kill(self):
        """kill -9, as the machine would do it; what it has confirmed is there after start() all the same."""
        raise NotImplementedError

    def close(self):
        raise NotImplementedError

    def read(self, place):
        """All Messages that were ever put there, in any order; one that came twice is there twice."""
        raise NotImplementedError

    def accept_poison(self, place):
        """From now on the poison is taken there like any message."""
        raise NotImplementedError

    def proxy(self, seed):
        """A proxy before the server; settings(place, proxy.port) leads through it."""
        return FaultProxy(self.port, seed)


class Sink:
    """A server of ours with a sink to a place of its own on the target."""

    def __init__(self, server, target, place):
        self.server, self.target, self.place = server, target, place

    def status(self):
        return json.loads(self.server.operator("/v1/status"))["sinks"][self.target.kind]

    def drained(self):
        """What the sink says once it has delivered everything."""
        return wait_for("the sink to deliver all", lambda: (s := self.status())["lag"] == 0 and s, PATIENCE, 0.05)

    def messages(self):
        """What is there, in the order of the journal. Where it is at least once, one that came again is the same
        message, and counted; where it is exactly once, there is none."""
        found = self.target.read(self.place)
        first = {m.offset: m for m in found}
        assert set(found) == set(first.values()), "one offset stands for two messages"
        again = len(found) - len(first)
        print(f"{self.target.kind}: {len(first)} messages, {again} of them more than once")
        assert not (again and self.target.exactly_once), f"{again} are there twice"
        return [first[offset] for offset in sorted(first)]

    def values(self):
        return [m.value.decode() for m in self.messages()]

    def listed(self):
        listed, = self.server.cli("sink", "list")["sinks"]
        return listed


@pytest.fixture
def place():
    return f"s{next(_places)}"


@pytest.fixture
def make_sink(make_server, target, place):
    """make_sink(setting=...): a server with a sink of that kind; `port` of a proxy; `rest`: other settings. None: as by
    default."""

    def make(port=None, rest=None, **own):
        quick = {"retry_max": "300ms", "batch_time": "5ms", "batch_max": target.batch_max, **own}
        settings = {**target.settings(place, port), **{f"{target.kind}.{name}": value for name, value in
                                                       quick.items() if value is not None}, **(rest or {})}
        return Sink(make_server(settings), target, place)
    return make


def sender_on(sink, name, *feeds):
    """An account with a device and these feeds."""
    owner = owner_on(sink.server, name)
    for feed in feeds:
        r = requests.post(f"{owner.url}/feeds", json={"name": feed}, headers=owner.key_auth, timeout=20)
        assert r.status_code in (200, 201), r.text
    return owner


def send(owner, feed, *data):
    r = requests.post(f"{owner.url}/feeds/{feed}/data/batch", json=list(data), headers=owner.auth, timeout=30)
    assert r.status_code == 200, r.text
    return r.json()


class Sender(threading.Thread):
    """Sends numbered messages all the time; knows which ones were accepted."""

    def __init__(self, owner):
        super().__init__()
        self.owner, self.accepted, self.sent, self.over = owner, set(), 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            numbers = range(self.sent, self.sent + 20)
            self.sent += 20
            try:
                send(self.owner, "n", *({"value": f"{n}"} for n in numbers))
                self.accepted.update(numbers)
            except (requests.RequestException, AssertionError):
                pass
            self.over.wait(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


class Conformance:
    def test_messages_are_what_was_sent(self, make_sink):
        """The texts byte for byte, the names beside them; and only what was selected."""
        sink = make_sink(accounts="ann,x*", feeds="air,raw/*")
        ann, bob = sender_on(sink, "ann", "air", "other"), sender_on(sink, "bob", "air")
        sink.server.cli("account", "change", "ann", "--topics", "any")
        texts = ["21.50", "-0.0e0", "é \"x\",\t\\N\n", "", "7"]
        send(bob, "air", {"value": "of another account"})
        send(ann, "other", {"value": "of another feed"})
        send(ann, "air", *({"value": text} for text in texts))
        with Mqtt(sink.server.mqtt_port) as c:
            c.login("ann", ann.key)
            c.publish("raw/x/y", b"8", 1, 1)
            c.expect(PUBACK)
        s = sink.drained()
        assert (s["state"], s["breaker"], s["delivered"], s["error"]) == ("running", "closed", 6, "")
        assert [m[1:] for m in sink.messages()] == [
            *((text.encode(), "ann", "air", "ann-dev", None) for text in texts), (b"8", "ann", None, None, "raw/x/y")]
        m, label = sink.server.metrics(), f'{{sink="{sink.target.kind}"}}'
        assert m[f"sluice_sink_delivered_total{label}"] == 6
        assert m[f"sluice_sink_up{label}"] == 1 and m[f"sluice_sink_lag_messages{label}"] == 0

    def test_receipts_tell(self, make_sink):
        sink = make_sink()
        owner = sender_on(sink, "ann", "air")
        r = requests.post(f"{sink.server.url}/v1/telemetry", json={"air": 8}, headers=owner.auth, timeout=20)
        receipt = lambda: requests.get(sink.server.url + r.headers["Location"], headers=owner.key_auth, timeout=20).json()
        wait_for("the receipt to say so", lambda: receipt()["delivered"] == {sink.target.kind: "delivered"}, PATIENCE)
        assert sink.values() == ["8"]

    def test_poison_becomes_a_dead_letter(self, make_sink):
        """What the server refuses for what it is is left out alone, and kept with its bytes. All of it comes in one
        batch."""
        sink = make_sink(batch_time="500ms", feeds="raw/*")
        poison = sink.target.poison
        owner = sender_on(sink, "eve", "t")
        sink.server.cli("account", "change", "eve", "--topics", "any")
        sent = [("raw/x", f"v{i}".encode()) for i in range(40)]
        sent[7], sent[23] = poison
        with Mqtt(sink.server.mqtt_port) as c:
            c.login("eve", owner.key)
            for i, (topic, value) in enumerate(sent):
                c.publish(topic, value, 1, i + 1)
            for _ in sent:
                c.expect(PUBACK)
        wait_for("two dead letters", lambda: sink.status()["dead_letters"] == 2, PATIENCE)
        assert sink.drained()["state"] == "running"
        assert [m[1:] for m in sink.messages()] == [(value, "eve", None, None, topic) for topic, value in sent
                                                    if (topic, value) not in poison]
        listed = sink.server.cli("dlq", "list", sink.target.kind)
        letters = listed["letters"]
        assert listed["total"] == 2 and [(d["topic"], d["account"]) for d in letters] == [
            (topic, "eve") for topic, _ in poison]
        assert sink.target.poison_why in letters[0]["why"] and letters[0]["offset"] < letters[1]["offset"]
        assert sink.server.cli("dlq", "retry", sink.target.kind) == {"sent": 0, "kept": 2}
        sink.target.accept_poison(sink.place)
        one = str(letters[1]["offset"])
        assert sink.server.cli("dlq", "retry", sink.target.kind, "--offset", one) == {"sent": 1, "kept": 0}
        assert sink.server.cli("dlq", "list", sink.target.kind)["total"] == 1
        last, = [m for m in sink.messages() if m.offset == letters[1]["offset"]]
        assert last[1:] == (poison[1][1], "eve", None, None, poison[1][0])

    def test_pause_and_replay(self, make_sink):
        sink = make_sink(batch_max="7")
        server, kind = sink.server, sink.target.kind
        owner = sender_on(sink, "max", "t")
        send(owner, "t", *({"value": f"{i}"} for i in range(60)))
        sink.drained()
        assert sink.values() == [f"{i}" for i in range(60)]
        times = 1 if sink.target.replay_replaces else 2
        found = sink.target.read(sink.place)
        assert len(found) == 60
        assert server.cli("sink", "replay", kind)["sink"] == kind
        wait_for("the replay to end", lambda: "replay_to" not in sink.listed(), PATIENCE)
        assert sorted(sink.target.read(sink.place)) == sorted(found * times)
        assert server.cli("sink", "pause", kind)["state"] == "paused"
        server.kill()
        server.start()
        send(owner, "t", {"value": "60"})
        paused = sink.listed()
        assert paused["state"] == "paused" and paused["lag"] >= 1
        assert len(sink.target.read(sink.place)) == 60 * times
        server.cli("sink", "resume", kind)
        sink.drained()
        found = sink.target.read(sink.place)
        assert {m.value for m in found} == {f"{i}".encode() for i in range(61)}
        assert len(found) == 60 * times + 1 or not sink.target.exactly_once
        changes = [e["op"] for e in server.cli("audit", "list")["entries"]]
        assert [op for op in changes if op.startswith("sink")] == ["sink_resume", "sink_pause", "sink_replay"]

    def test_none_is_lost_whatever_is_killed(self, make_sink):
        sink = make_sink()
        owner = sender_on(sink, "joe", "n")
        count = lambda: len(sink.target.read(sink.place))
        sink.drained()
        with Sender(owner) as sender:
            for victim in (sink.server, sink.target, sink.server, sink.target):
                seen = count()
                wait_for("messages to come", lambda: count() > seen + 100, PATIENCE)
                victim.kill()
                victim.start()
        sink.drained()
        numbers = [int(v) for v in sink.values()]
        assert len(numbers) == len(set(numbers)), "some are there twice"
        assert sender.accepted <= set(numbers), "some are missing"
        assert set(numbers) <= set(range(sender.sent))

    @pytest.mark.parametrize("batches", ("small", "usual"))
    def test_none_is_lost_by_any_schedule(self, make_sink, target, batches):
        """Seeded schedules of five steps each: connections that are refused, cut after some bytes in either direction,
        reset, half closed, slow or hang, and kill -9 of Sluice or of the target at any moment meanwhile. Every fifth
        one with batches as large as they are by default, and so many messages that they get large."""
        small = batches == "small"
        seeds = [seed for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES) if bool(seed % 5) == small]
        if not seeds:
            pytest.skip("no seed of these")
        own = {"batch_max": "10"} if small else {"batch_max": None, "batch_time": None}
        proxy, numbers, kills = target.proxy(seed=0), itertools.count(), collections.Counter()
        try:
            sink = make_sink(port=proxy.port, timeout="2s", **own)
            owner, sent = sender_on(sink, "zoe", "t"), 1
            send(owner, "t", {"value": str(next(numbers))})
            sink.drained()  # RabbitMQ killed before its new quorum queue has an entry leaves it without a leader for good
            for seed in seeds:
                rng, proxy.random = random.Random(seed), random.Random(f"connections of {seed}")
                for _ in range(5):
                    proxy.faults, seen, struck = 5, proxy.connections, proxy.strikes()
                    proxy.break_all()
                    for _ in range(1 if small else 5):
                        send(owner, "t", *({"value": str(next(numbers))} for _ in range(20 if small else 100)))
                        sent += 20 if small else 100
                    victim, = rng.choices((None, sink.server, target), (80, 12, 8))
                    if victim:
                        time.sleep(rng.random() / 20)
                        victim.kill()
                        victim.start()
                        kills[victim is target] += 1
                    delivered = lambda: sink.status()["lag"] == 0
                    wait_for("a fault", lambda: proxy.connections > seen and (proxy.strikes() > struck or delivered()),
                             PATIENCE)
                    if rng.random() < 0.2:  # it is the sink's to notice; else the connection is ended at once
                        seen = proxy.connections
                        wait_for("another connection", lambda: proxy.connections > seen or delivered(), PATIENCE)
                proxy.faults = 0
                proxy.break_all()
                assert sink.drained()["dead_letters"] == 0, (seed, proxy.seen)
                if seed % 10 == 0 or seed == seeds[-1]:
                    found = target.read(sink.place)
                    assert sorted({int(m.value) for m in found}) == list(range(sent)), seed
                    assert len(found) == len(set(found)) or not target.exactly_once, seed
            s = sink.status()
            assert [int(v) for v in sink.values()] == list(range(sent))
            warnings.warn(f"{target.kind}, {batches} batches: {len(seeds)} seeds from {FIRST_SEED} to {seed}: {sent} messages, "
                          f"0 lost, {len(found) - sent} there twice, {len(proxy.seen)} bad connections, {proxy.strikes()} of "
                          f"them in effect {dict(sorted(proxy.struck.items()))}, {kills[False]} kills of Sluice, {kills[True]} "
                          f"of the target, {s['delivered']} messages in {s['batches']} batches since the last", stacklevel=1)
            assert proxy.strikes() >= 3 * len(seeds)
        finally:
            proxy.close()

    def test_an_outage_is_caught_up_with(self, make_sink):
        """While the server is away messages are accepted as ever; then it needs no restart."""
        sink = make_sink()
        owner = sender_on(sink, "lea", "t")
        send(owner, "t", {"value": "before"})
        sink.drained()
        sink.target.stop()
        try:
            for i in range(30):
                send(owner, "t", {"value": f"{i}"})
            s = wait_for("the sink to see it", lambda: (s := sink.status())["breaker"] != "closed" and
                         s["oldest_ms"] > 0 and s, PATIENCE)
            assert s["state"] == "failing" and s["lag"] >= 30
            assert sink.target.away in s["error"]
            assert sink.target.away in sink.server.cli("sink", "resume", sink.target.kind)["error"]
            assert sink.server.metric(f'sink_up{{sink="{sink.target.kind}"}}') == 0
        finally:
            sink.target.start()
        send(owner, "t", {"value": "after"})
        sink.drained()
        assert sink.values() == ["before", *map(str, range(30)), "after"]

    def test_a_long_outage_costs_no_ingest(self, make_sink):
        """The journal holds up to hold_size for it; what was before is given up, counted and named, and nobody is
        refused."""
        sink = make_sink(hold_size="1MiB", rest={"journal.segment_size": "1MiB"})
        kind = sink.target.kind
        owner = sender_on(sink, "una", "t")
        send(owner, "t", {"value": "first"})
        sink.drained()
        sink.target.stop()
        try:
            sent, end = 0, time.monotonic() + PATIENCE
            while sink.status()["given_up"] == 0:
                send(owner, "t", *({"value": f"{sent + i} {'x' * 900}"} for i in range(200)))
                sent += 200
                assert time.monotonic() < end
            send(owner, "t", {"value": "last"})
        finally:
            sink.target.start()
        sink.drained()
        found = [v.split()[0] for v in sink.values()]
        numbers = [int(v) for v in found[1:-1]]
        assert (found[0], found[-1]) == ("first", "last") and numbers == sorted(set(numbers))
        gaps = re.findall(rf"sink.gave_up sink={kind} from=(\d+) to=(\d+)", sink.server.log())
        given_up = sink.status()["given_up"]
        missing = sorted(set(range(sent)) - set(numbers))
        begins = sum(n - 1 not in missing for n in missing)  # a later one may come while it is delivering again
        assert 0 in missing and begins <= len(gaps) and len(missing) <= given_up
        assert sum(int(b) - int(a) for a, b in gaps) == given_up
        assert sink.server.metric(f'sink_given_up_total{{sink="{kind}"}}') == given_up

    @pytest.mark.alone
    def test_a_target_that_hangs_slows_nobody_down(self, make_sink, target):
        """The 99th percentile of a message's latency, with the target well and hanging by turns. What else the
        machine does spoils some of these periods, a target that slows us down would spoil each."""
        proxy = target.proxy(seed=7)
        proxy.kinds = ("hang",)
        try:
            sink = make_sink(port=proxy.port, timeout="1s")
            owner = sender_on(sink, "pat", "t")
            session, best, sent = requests.Session(), {False: 1e9, True: 1e9}, 0
            for hangs in (False, True) * 3:
                hung, latencies = len(proxy.seen), []
                proxy.faults = 10 ** 6 if hangs else 0
                proxy.break_all()
                give_up = time.monotonic() + PATIENCE
                while len(latencies) < PERIOD or (hangs and len(proxy.seen) == hung):
                    begun = time.monotonic()
                    assert begun < give_up, "nothing came to the proxy"
                    r = session.post(f"{sink.server.url}/v1/telemetry", json={"t": sent}, headers=owner.auth, timeout=20)
                    latencies.append(time.monotonic() - begun)
                    assert r.status_code == 202, r.text
                    sent += 1
                best[hangs] = min(best[hangs], sorted(latencies)[len(latencies) * 99 // 100 - 1])
            proxy.faults = 0
            proxy.break_all()
            print(f"p99 {best[False] * 1e3:.1f} ms, while it hangs {best[True] * 1e3:.1f} ms")
            assert best[True] <= 1.2 * best[False] + 0.005
            sink.drained()
            assert len(sink.messages()) == sent
        finally:
            proxy.close()
