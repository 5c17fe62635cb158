# SPDX-License-Identifier: Apache-2.0
"""Load on a server that may be killed at any moment, and the proof that what it acknowledged is
still there: two ways of sending, one way of reading back."""
import json
import random
import subprocess
import threading
from datetime import datetime, timezone

import requests

from harness import BIN
from wire import Closed, Wire, request

CROCKFORD = {c: i for i, c in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


def offset_of(datum_id):
    """A datum id is {48-bit event time in ms, 16-bit node, 64-bit offset} in Crockford's base32."""
    number = 0
    for c in datum_id:
        number = number * 32 + CROCKFORD[c]
    return number & (2**64 - 1)


def awkward_value(rng):
    """Text that shows any byte that is lost or changed on the way."""
    kind = rng.randrange(4)
    if kind == 0:
        return "".join(rng.choices('abc "\\\n\t{}[]:,é😀\x7f\x01/', k=rng.randrange(1, 60)))
    if kind == 1:
        return "x" * rng.randrange(900, 1000)
    return f"{rng.random()!r}"


class Pusher(threading.Thread):
    """One device on one connection: sends, and keeps what was acknowledged, until the server is gone.

    acked: (feed, offset, value) of each message of a 202; unsure: the values whose answer never came.
    """

    def __init__(self, port, auth, feed, seed, ack="durable", batch_max=5):
        super().__init__(daemon=True)
        self.port, self.auth, self.feed = port, auth, feed
        self.rng = random.Random(seed)
        self.target = f"/v1/telemetry?ack={ack}"
        self.batch_max = batch_max
        self.number = 0
        self.seed = seed
        self.acked, self.unsure, self.refused = [], [], []
        self.stopping = threading.Event()

    def run(self):
        try:
            with Wire(self.port) as w:
                while not self.stopping.is_set():
                    self.step(w)
        except (Closed, OSError):
            pass

    def values(self):
        for _ in range(self.rng.randrange(1, self.batch_max + 1)):
            self.number += 1
            yield f"{self.seed}:{self.number}:{awkward_value(self.rng)}"

    def step(self, w):
        values = list(self.values())
        self.unsure = values
        body = json.dumps([{self.feed: v} for v in values], ensure_ascii=self.rng.random() < 0.5)
        r = w.ask(request("POST", self.target, self.auth, body))
        self.unsure = []
        if r.status != 202:
            self.refused.append((r.status, r.body))
            return
        answer = r.json()
        assert answer["accepted"] == len(values)
        first = answer.get("position", {}).get("offset")
        for i, value in enumerate(values):
            self.acked.append((self.feed, None if first is None else first + i, value))


class Loader:
    """The same with `sluice load`, which is faster; its values are numbers."""

    def __init__(self, server, device, secret, feed, log, first, connections=4, rate=None):
        self.log = log
        command = [BIN, "load", server.url, "--device", device, "--token", secret, "--feed", feed,
                   "--connections", str(connections), "--seconds", "60", "--ack-log", str(log),
                   "--first-sequence", str(first), "--quiet"]
        if rate:
            command += ["--rate", str(rate)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)

    def finish(self):
        """Waits for it; it ends by itself once the server is gone. The acked messages."""
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode in (0, 1), out
        acked = []
        if self.log.exists():
            for line in self.log.read_text().splitlines():
                _, _, feed, value, offset = line.split(" ")
                acked.append((feed, int(offset), value))
        return acked


def read_back(server, owner, feed, since=None):
    """{offset: value} of all data of a feed, by following the pages."""
    found = {}
    url = f"{server.url}/api/v2/{owner.name}/feeds/{feed}/data?limit=1000"
    if since is not None:
        url += "&start_time=" + datetime.fromtimestamp(since, timezone.utc).strftime(
            "%Y-%m-%dT%H:%M:%SZ")
    with requests.Session() as s:
        s.headers.update(owner.key_auth)
        while url:
            r = s.get(url, timeout=30)
            if r.status_code == 404:
                return found
            assert r.status_code == 200, r.text
            for datum in r.json():
                offset = offset_of(datum["id"])
                assert offset not in found, f"offset {offset} twice"
                found[offset] = datum["value"]
            marks = r.headers["link"].split('rel="next", <')
            url = marks[1].rstrip(">") if len(marks) == 2 else None
    return found


def missing(acked, stored):
    """Acknowledged messages that are not there as they were sent. stored: {feed: {offset: value}}"""
    return [(feed, offset, value, stored[feed].get(offset)) for feed, offset, value in acked
            if stored[feed].get(offset) != value]
