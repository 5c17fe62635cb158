# SPDX-License-Identifier: Apache-2.0
"""A message that names itself, by Idempotency-Key or X-Device-Seq, is stored once however often it
is sent, and the retry gets the answer of the original; also over kill -9."""
import os
import random
import threading
import time
import uuid

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from fleet import read_back
from wire import Closed, Wire, request

URL = "/v1/telemetry"


def key(name):
    return {"Idempotency-Key": name}


def fresh():
    return uuid.uuid4().hex


def ask(server, owner, body, headers, path=URL, auth=None):
    return requests.post(server.url + path, json=body, timeout=20,
                         headers={**(auth or owner.auth), **headers})


def values(server, owner, feed):
    return [v for _, v in sorted(read_back(server, owner, feed).items())]


def replayed(r):
    return r.headers.get("Idempotency-Replayed") == "true"


# ---- keys ----

def test_retry_gets_the_original_answer(server, owner, feed):
    k = key(fresh())
    first = ask(server, owner, {feed: 1}, k)
    again = ask(server, owner, {feed: 1}, k)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert replayed(again) and not replayed(first)
    assert values(server, owner, feed) == ["1"]


def test_quotes_do_not_matter(server, owner, feed):
    name = fresh()
    assert ask(server, owner, {feed: 1}, key(f'"{name}"')).status_code == 202
    assert replayed(ask(server, owner, {feed: 1}, key(name)))
    escaped = ask(server, owner, {feed: 2}, key(f'"{name}\\"\\\\"'))
    assert escaped.status_code == 202 and not replayed(escaped)


def test_same_key_other_payload(server, owner, feed):
    k = key(fresh())
    assert ask(server, owner, {feed: 1}, k).status_code == 202
    r = ask(server, owner, {feed: 2}, k)
    assert r.status_code == 422 and "Idempotency-Key" in r.json()["error"]
    assert values(server, owner, feed) == ["1"]
    assert replayed(ask(server, owner, {feed: 1}, k))


@pytest.mark.parametrize("name", ["", '""', '"open', '"a" b', "a b", "x" * 256, '"' + "x" * 256 + '"',
                                  "a,b", '"\\a"', "caf\u00e9"])
def test_bad_keys_are_refused(server, owner, feed, name):
    r = ask(server, owner, {feed: 1}, {"Idempotency-Key": name.encode("utf-8")})
    assert r.status_code == 400, r.text
    assert "Idempotency-Key" in r.json()["error"]
    assert values(server, owner, feed) == []


@pytest.mark.parametrize("name", ["x" * 255, '"' + "x" * 255 + '"', '"with space"', "a=b;c/d+e"])
def test_good_keys_are_taken(server, owner, feed, name):
    assert ask(server, owner, {feed: 1}, key(name)).status_code in (202, 422)


def test_a_request_is_one_unit(server, owner, feed):
    k = key(fresh())
    body = [{feed: 1}, {feed: 2}, {feed: 3}]
    first = ask(server, owner, body, k)
    ask(server, owner, {feed: "between"}, {})
    again = ask(server, owner, body, k)
    assert again.json() == first.json() and again.json()["accepted"] == 3
    assert ask(server, owner, body[:2], k).status_code == 422
    after = ask(server, owner, {feed: "after"}, {})
    assert after.json()["position"]["offset"] == first.json()["position"]["offset"] + 4
    assert values(server, owner, feed) == ["1", "2", "3", "between", "after"]


def test_a_key_is_the_credentials_own(server, owner, feed):
    other = f"{owner.name}-other"
    secret = server.add_device(owner.name, other)
    k = key(fresh())
    assert ask(server, owner, {feed: 1}, k).status_code == 202
    r = ask(server, owner, {feed: 1}, k, auth={"X-Device-Id": other, "X-Device-Token": secret})
    assert r.status_code == 202 and not replayed(r)
    assert values(server, owner, feed) == ["1", "1"]


@pytest.mark.parametrize("ack", ["received", "durable", "applied"])
def test_every_ack_level(server, owner, feed, ack):
    k = key(fresh())
    for _ in range(3):
        r = ask(server, owner, {feed: 1}, k, path=f"{URL}?ack={ack}")
        assert r.status_code == 202, r.text
    ask(server, owner, {feed: 2}, {}, path=f"{URL}?ack=applied")
    assert values(server, owner, feed) == ["1", "2"]


def test_feed_that_must_be_made_first(server, owner):
    name, k = "new-" + fresh()[:12], key(fresh())
    first = ask(server, owner, {name: 1}, k)
    again = ask(server, owner, {name: 1}, k)
    assert first.status_code == 202 and replayed(again)
    assert values(server, owner, name) == ["1"]


def test_adafruit_create_and_batch(server, owner, feed):
    assert ask(server, owner, {feed: "begin"}, {}).status_code == 202
    base = f"{owner.api}/feeds/{feed}/data"
    bodies = [(base, {"value": "7", "lat": 1.5, "lon": 2.5}),
              (base + "/batch", {"data": [{"value": "8"}, {"value": "9"}]})]
    for path, body in bodies:
        k = key(fresh())
        first = ask(server, owner, body, k, path=path, auth=owner.key_auth)
        time.sleep(0.02)  # an id holds the time in milliseconds
        again = ask(server, owner, body, k, path=path, auth=owner.key_auth)
        assert first.status_code == 200, first.text
        assert replayed(again) and again.json() == first.json()
        answer = first.json() if isinstance(first.json(), list) else [first.json()]
        for datum in answer:
            r = requests.get(f"{server.url}{base}/{datum['id']}", headers=owner.key_auth, timeout=20)
            assert r.status_code == 200 and r.json()["value"] == datum["value"]
    assert values(server, owner, feed) == ["begin", "7", "8", "9"]


def test_many_at_once(server, owner, feed):
    """Copies that arrive together, on connections of all workers, are one message."""
    k, answers = key(fresh()), []

    def one():
        answers.append(ask(server, owner, {feed: 1}, k))

    threads = [threading.Thread(target=one) for _ in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {r.status_code for r in answers} == {202}
    assert len({r.text for r in answers}) == 1
    assert sum(not replayed(r) for r in answers) == 1
    assert values(server, owner, feed) == ["1"]


def test_pipelined_offsets_stay_right(server, owner, feed):
    """What stands behind a duplicate in the same append is told its true position."""
    k = key(fresh())
    plain = request("POST", URL, owner.auth, '{"%s":"p"}' % feed)
    named = request("POST", URL, {**owner.auth, **k}, '{"%s":"n"}' % feed)
    begin = ask(server, owner, {feed: "begin"}, {}).json()["position"]["offset"]
    with Wire(server.http_port) as w:
        w.send(plain + named + plain + named + named + plain + plain)
        answers = [w.read() for _ in range(7)]
    offsets = [a.json()["position"]["offset"] for a in answers]
    assert offsets[3] == offsets[4] == offsets[1]
    stored = read_back(server, owner, feed)
    assert stored.pop(begin) == "begin"
    assert {o: "n" if i in (1, 3, 4) else "p" for i, o in enumerate(offsets)} == stored
    assert len(stored) == 5


def test_unacknowledged_duplicates_shift_nobody(server, owner, feed):
    """Those at level received wait for no answer, but they are left out of the append all the same."""
    k = key(fresh())
    plain = request("POST", URL, owner.auth, '{"%s":"p"}' % feed)
    named = request("POST", URL, {**owner.auth, **k}, '[{"%s":"n"},{"%s":"n"}]' % (feed, feed))
    fast = request("POST", URL + "?ack=received", {**owner.auth, **k},
                   '[{"%s":"n"},{"%s":"n"}]' % (feed, feed))
    assert ask(server, owner, {feed: "p"}, {}).status_code == 202
    with Wire(server.http_port) as w:
        w.send(fast + plain + fast + fast + plain + named + fast + plain)
        answers = [w.read() for _ in range(8)]
    assert {a.status for a in answers} == {202}
    offsets = [answers[i].json()["position"]["offset"] for i in (1, 4, 5, 7)]
    stored = read_back(server, owner, feed)
    assert [stored[o] for o in offsets] == ["p", "p", "n", "p"]
    assert sorted(stored.values()) == ["n"] * 2 + ["p"] * 4


# ---- device sequences ----

@pytest.fixture
def device(server, owner):
    name = "seq-" + fresh()[:12]
    secret = server.add_device(owner.name, name)
    auth = {"X-Device-Id": name, "X-Device-Token": secret}
    return lambda feed, n, value: ask(server, owner, {feed: value}, {"X-Device-Seq": str(n)}, auth=auth)


def test_sequence(server, owner, feed, device):
    first = device(feed, 1, "a")
    assert first.status_code == 202
    assert device(feed, 3, "c").status_code == 202
    assert not replayed(device(feed, 2, "b"))  # out of order, and new
    again = device(feed, 1, "a")
    assert replayed(again) and again.json() == first.json()
    assert device(feed, 1, "other").status_code == 422
    assert device(feed, 100, "z").status_code == 202
    assert device(feed, 4, "d").status_code in (202, 409)
    assert device(feed, 2**64 - 1, "max").status_code == 202
    for n in range(2**64 - 40, 2**64 - 2):
        device(feed, n, "fill")
    r = device(feed, 2, "b")
    assert r.status_code == 409 and "X-Device-Seq" in r.json()["error"]
    assert values(server, owner, feed)[:3] == ["a", "c", "b"]


@pytest.mark.parametrize("n", ["", "0", "-1", "1.5", "x", str(2**64), "1 2", "9" * 30])
def test_bad_sequences_are_refused(server, owner, feed, device, n):
    r = device(feed, n, 1)
    assert r.status_code == 400 and "X-Device-Seq" in r.json()["error"], r.text


def test_both_names_are_refused(server, owner, feed):
    r = ask(server, owner, {feed: 1}, {**key("a"), "X-Device-Seq": "1"})
    assert r.status_code == 400 and "not both" in r.json()["error"]


# ---- the window, and death ----

def test_window(make_server):
    server = make_server({"journal.idempotency_window": "1s"})
    owner = owner_on(server, "a")
    k = key("same")
    assert ask(server, owner, {"f": 1}, k).status_code == 202
    assert replayed(ask(server, owner, {"f": 1}, k))
    time.sleep(1.1)
    assert not replayed(ask(server, owner, {"f": 1}, k))
    assert server.metric("messages_replayed_total") == 1
    assert server.metric("journal_duplicates_total") == 1


@pytest.mark.parametrize("disk", ["posix", "lossy"])
def test_killed_between_the_commit_and_the_answer(make_server, disk):
    server = make_server({"journal.disk": disk})
    owner = owner_on(server, "a")
    ask(server, owner, {"f": 0}, {})
    for i, name in enumerate([key(fresh()), {"X-Device-Seq": "7"}]):
        with Wire(server.http_port) as w:  # the answer is never read
            stored = server.metric("journal_records_total")
            w.send(request("POST", URL, {**owner.auth, **name}, {"f": str(i + 1)}))
            while server.metric("journal_records_total") == stored:
                time.sleep(0.01)
            server.kill()
        server.start()
        r = ask(server, owner, {"f": str(i + 1)}, name)
        assert r.status_code == 202
        assert replayed(r)
    assert values(server, owner, "f") == ["0", "1", "2"]


def test_outcome_unknown_then_the_same_key(make_server):
    """What 503 promises is true: the retry is the same message, and is told where it is."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "500ms"})
    owner = owner_on(server, "a")
    first = ask(server, owner, {"f": 0}, {}).json()["position"]["offset"]
    slow = server.data / "journal" / "slow_ms"
    slow.write_text("1500")
    k = key(fresh())
    r = ask(server, owner, {"f": 1}, k)
    assert r.status_code == 503 and "outcome unknown, retry with the same key" in r.text
    slow.write_text("0")
    for _ in range(100):
        r = ask(server, owner, {"f": 1}, k)
        if r.status_code == 202:
            break
    assert r.status_code == 202 and replayed(r)
    assert r.json()["position"]["offset"] == first + 1
    assert values(server, owner, "f") == ["0", "1"]


def test_outcome_unknown_behind_a_batch_that_hangs(make_server):
    """ack.timeout holds too for those whose batch could not even be handed on."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "500ms", "server.workers": 1})
    owner = owner_on(server, "a")
    assert ask(server, owner, {"f": 0}, {}).status_code == 202
    slow = server.data / "journal" / "slow_ms"
    slow.write_text("6000")
    with Wire(server.http_port) as first, Wire(server.http_port) as second, Wire(server.http_port) as third:
        first.send(request("POST", URL, owner.auth, {"f": "1"}))
        time.sleep(0.3)  # its batch is in fdatasync
        slow.write_text("0")
        begun = time.monotonic()
        second.send(request("POST", URL, owner.auth, {"f": "2"}))
        time.sleep(0.4)
        third.send(request("POST", URL, owner.auth, {"f": "3"}))
        for w, after in (second, 0.5), (third, 0.9):  # each has its own time
            assert w.read().status == 503
            assert after - 0.1 < time.monotonic() - begun < after + 2
        assert first.read().status == 503
    wait_for("all", lambda: values(server, owner, "f") == ["0", "1", "2", "3"])


class Insistent(threading.Thread):
    """Sends numbered messages, each again under its name until it is answered."""

    def __init__(self, server, auth, feed, stop, by_key):
        super().__init__(daemon=True)
        self.server, self.auth, self.feed, self.stop, self.by_key = server, auth, feed, stop, by_key
        self.n, self.retries, self.wrong = 0, 0, []

    def run(self):
        w = None
        while not self.stop.is_set():
            self.n += 1
            name = {"Idempotency-Key": f"{self.feed}-{self.n}"} if self.by_key else \
                {"X-Device-Seq": str(self.n)}
            bytes_ = request("POST", URL, {**self.auth, **name}, '{"%s":"%d"}' % (self.feed, self.n))
            while True:
                try:
                    w = w or Wire(self.server.http_port)
                    r = w.ask(bytes_)
                    if r.status == 202:
                        break
                    if r.status != 503:
                        self.wrong.append(r)
                        return
                except (Closed, OSError):
                    w = None
                    time.sleep(0.01)
                self.retries += 1


@pytest.mark.parametrize("disk", ["posix", "lossy"])
def test_exactly_once_over_kills(make_server, disk):
    server = make_server({"journal.disk": disk, "journal.segment_size": "1MiB"})
    owner = owner_on(server, "a")
    rng = random.Random(5)
    stop = threading.Event()
    senders = []
    for i in range(4):
        secret = server.add_device("a", f"d{i}")
        auth = {"X-Device-Id": f"d{i}", "X-Device-Token": secret}
        senders.append(Insistent(server, auth, f"f{i}", stop, i % 2))
    for s in senders:
        s.start()
    for _ in range(int(os.environ.get("ONCE_CYCLES", "8"))):
        time.sleep(rng.uniform(0.1, 0.4))
        server.kill()
        server.start()
    time.sleep(0.5)
    stop.set()
    for s in senders:
        s.join(20)
        assert not s.is_alive() and not s.wrong, s.wrong
        got = values(server, owner, s.feed)
        assert got == [str(n + 1) for n in range(s.n)], s.feed
    assert sum(s.retries for s in senders) > 0
