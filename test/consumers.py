# SPDX-License-Identifier: Apache-2.0
"""Consumers of a group, and the test that whatever they are nothing is lost: shared by test_consume.py and test_consume_ws.py."""
import random
import threading
import time
import warnings

import requests

from conftest import owner_on
from harness import wait_for
from sink_conformance import FIRST_SEED, SCHEDULES


class Group:
    """A consumer of a group."""

    def __init__(self, server, auth, name="g"):
        self.port, self.url = server.http_port, f"{server.url}/v1/consume/{name}"
        self.auth, self.session = auth, requests.Session()

    def fetch_raw(self, timeout=70, **query):
        return self.session.get(self.url, params=query, headers=self.auth, timeout=timeout)

    def fetch(self, **query):
        r = self.fetch_raw(**query)
        assert r.status_code == 200, r.text
        return r.json()["messages"]

    def values(self, **query):
        return [m["value"] for m in self.fetch(**query)]

    def tell(self, what, tokens, **rest):
        r = self.session.post(f"{self.url}/{what}", json={"tokens": tokens, **rest}, headers=self.auth, timeout=20)
        assert r.status_code == 200, r.text
        return r.json()

    def ack(self, messages):
        return self.tell("ack", [m["token"] for m in messages])

    def nack(self, messages, **rest):
        return self.tell("nack", [m["token"] for m in messages], **rest)

    def status(self):
        found = requests.get(self.url.rsplit("/", 1)[0], headers=self.auth, timeout=20).json()
        return {g["group"]: g for g in found}.get(self.url.rsplit("/", 1)[1])

    def drained(self):
        """Whether nothing is undone."""
        return not self.fetch(max=1) and self.status()["leased"] == 0


def send(server, auth, *bodies):
    r = requests.post(server.url + "/v1/telemetry", json=list(bodies), headers=auth, timeout=20)
    assert r.status_code == 202, r.text
    return r.json()["position"]["offset"]


def filler(server, auth, mebibytes):
    """So much for the journal."""
    for _ in range(mebibytes):
        send(server, auth, *[{"fill": "x" * 1000} for _ in range(1000)])


class Worker(threading.Thread):
    """Fetches, works for a while, and says so; sometimes it fails, or forgets what it has."""

    def __init__(self, group, done, stop, seed):
        super().__init__()
        self.group, self.done, self.stop, self.random = group, done, stop, random.Random(seed)
        self.start()

    def run(self):
        while not self.stop.is_set():
            try:
                self.turn()
            except (requests.RequestException, AssertionError):
                time.sleep(0.05)  # the server is down

    def turn(self):
        got = self.group.fetch(max=self.random.randint(1, 8), wait=1, lease=1)
        if self.random.random() < 0.03:
            return
        for i, m in enumerate(got):
            if self.random.random() < 0.05:
                self.group.nack(got[i:], delay=self.random.choice([0, 0.2]))
                return
            self.done(m)
            self.group.ack([m])


def run_schedules(make_server, disk, kinds, title):
    """Parallel consumers that fail and forget, a server that is killed (lossy: a power cut) between fetch and
    acknowledgement: every message is worked on, and of each feed for the first time in its order. A seed is what
    the workers do, what is sent, and when the server is killed."""
    server = make_server({"journal.disk": disk, "journal.segment_size": "1MiB"})
    ann = owner_on(server, "ann")
    group = lambda: Group(server, ann.key_auth)
    group().fetch()
    seen, lock, stop = {}, threading.Lock(), threading.Event()
    again = count = 0

    def done(m):
        nonlocal again, count
        with lock:
            of = seen.setdefault(m["feed"], {})  # its offsets, in the order of their first time
            again += m["offset"] in of
            count += m["offset"] not in of
            of[m["offset"]] = True

    workers = [kind(group(), done, stop, FIRST_SEED + i) for i, kind in enumerate(kinds)]
    sent, total = {}, 0
    for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES):
        rng = random.Random(seed)
        for worker in workers:
            worker.random = random.Random(rng.random())
        for i in range(25):
            feeds = [f"f{rng.randrange(6)}" for _ in range(8)]
            at = send(server, ann.auth, *[{f: f"{seed}-{i}-{k}"} for k, f in enumerate(feeds)])
            for k, f in enumerate(feeds):
                sent.setdefault(f, []).append(at + k)
            total += len(feeds)
        time.sleep(rng.random() * 0.6)
        server.kill()
        server.start()
        wait_for("most messages", lambda: count >= total - 300, 60)
    wait_for("all messages", lambda: count == total, 60)
    wait_for("all acknowledged", lambda: group().drained(), 30)
    stop.set()
    for w in workers:
        w.join(20)
    assert {f: list(of) for f, of in seen.items()} == sent
    warnings.warn(f"{title} ({disk}): seeds {FIRST_SEED} to {seed}: {total} messages, 0 lost, {again} handed out "
                  f"again, {SCHEDULES} kills", stacklevel=1)
    assert again < 100 * SCHEDULES
