# SPDX-License-Identifier: Apache-2.0
"""The sinks in a process of their own, and targets that keep the cursor: whichever process is killed, and when, each message
is there exactly once. Against a real PostgreSQL and a real Kafka; where that cannot be had, the test says so."""
import os
import random
import re
import time

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from pair import PATIENCE, Pair
from sink_conformance import FIRST_SEED, SCHEDULES, Sender, place  # noqa: F401

BACKLOG = 6000
QUICK = {"batch_time": "5ms", "retry_max": "300ms", "batch_max": "100"}


@pytest.fixture(scope="module", params=["postgres", "kafka"])
def target(request):
    if request.param == "postgres":
        from postgres import Postgres as Kind
    else:
        from kafka import Kafka as Kind
    target = Kind()
    yield target
    target.close()


@pytest.fixture
def pair(target, tmp_path, place):  # noqa: F811
    pair = Pair(tmp_path, target, place, {f"{target.kind}.{name}": value for name, value in QUICK.items()})
    yield pair.start()
    pair.close()


def send_many(pair, owner, first):
    """So many messages that a drain of them takes its time."""
    for at in range(first, first + BACKLOG, 500):
        r = requests.post(f"{pair.gateway.url}/v1/telemetry", json=[{"many": n} for n in range(at, at + 500)],
                          headers=owner.auth, timeout=30)
        assert r.status_code == 202, r.text
    return first + BACKLOG


def wait_for_the_middle(pair):
    """Of a drain of what send_many sent: the lag that was left."""
    def middle():
        lag = pair.status(pair.sinks)["lag"]
        return lag if lag < BACKLOG * 3 / 4 else None
    return wait_for("the sink to be under way", middle, PATIENCE, 0.002)


def where_it_began(pair):
    """The sink, in the order of its starts."""
    return [int(at) for at in re.findall(rf"sink.start sink={pair.receiver.kind} .*position=(\d+)", pair.sinks.log())]


def check(pair, many, accepted):
    """Everything is there, nothing twice: neither a place of the journal nor a message."""
    found = pair.receiver.read(pair.place)
    assert len({m.offset for m in found}) == len(found), "a place of the journal is there twice"
    values = {feed: [int(m.value) for m in sorted(found) if m.feed == feed] for feed in ("many", "n")}
    assert values["many"] == list(range(many)), "one is missing, twice there, or in another order"
    assert len(set(values["n"])) == len(values["n"]) and accepted <= set(values["n"])
    # What was not answered may have been stored, or not.
    print(f"{pair.receiver.kind}: {len(found)} messages, {len(values['n']) - len(accepted)} of them were not answered")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + max(1, SCHEDULES // 3)))
def test_exactly_once_whoever_is_killed(pair, seed):
    """Each round a backlog is drained, while more comes, and in the middle of that one of the two is killed, or both."""
    rand, many, left = random.Random(seed), 0, []
    kind, sinks, gateway = pair.receiver.kind, pair.sinks, pair.gateway
    owner = owner_on(gateway, "ann")
    made = requests.post(f"{owner.url}/feeds", json={"name": "n"}, headers=owner.key_auth, timeout=20)
    assert made.status_code in (200, 201), made.text
    with Sender(owner) as sender:
        wait_for("it to begin", lambda: pair.status(sinks)["delivered"] > 0, PATIENCE)
        for victims in ([sinks], [gateway], [sinks, gateway], [gateway, sinks]):
            gateway.cli("sink", "pause", kind)
            many = send_many(pair, owner, many)
            gateway.cli("sink", "resume", kind)
            left.append(wait_for_the_middle(pair))
            for server in victims:
                time.sleep(rand.random() * 0.05)
                server.kill()
            for server in sorted(victims, key=lambda s: rand.random()):
                time.sleep(rand.random() * 0.5)
                server.spawn()
            wait_for("both to be ready", lambda: gateway.ready() and sinks.ready(), PATIENCE)
    pair.drained()
    pair.drained(sinks)
    check(pair, many, sender.accepted)
    begun = where_it_began(pair)
    print(f"lags when it was killed: {left}; it began at {begun}")
    assert len(begun) == 4 and begun == sorted(begun) and all(lag > 0 for lag in left)


def test_the_gateway_is_away_during_the_drain(pair):
    """It is killed first; the sinks deliver what was accepted, are killed in the middle of that, and go on without it."""
    sinks, gateway, kind = pair.sinks, pair.gateway, pair.receiver.kind
    owner = owner_on(gateway, "ann")
    many = send_many(pair, owner, 0)
    pair.drained()
    gateway.cli("sink", "pause", kind)
    many = send_many(pair, owner, many)
    wait_for("it to know of them", lambda: pair.status(sinks)["lag"] >= BACKLOG, PATIENCE)
    gateway.cli("sink", "resume", kind)
    wait_for_the_middle(pair)
    gateway.kill()
    sinks.kill()
    sinks.spawn()
    wait_for("it to run", lambda: sinks.log().count("server.ready") == 2, PATIENCE)
    # Its names went with the process, so what it has not delivered waits for the gateway.
    gateway.start()
    pair.drained()
    check(pair, many, set())
