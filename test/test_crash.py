# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged survives: kill -9 at random moments, and power cuts (what was not synced is
gone). CRASH_CYCLES and POWER_CYCLES say how often; CRASH_SEED repeats a run."""
import os
import random
import re
import shutil
import subprocess
import time
import warnings

import pytest
import requests

from conftest import owner_on
from fleet import Loader, Pusher, missing, read_back

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
FEEDS = [f"crash-{i}" for i in range(4)]


class Life:
    """A server that is killed again and again, and everything it ever acknowledged."""

    def __init__(self, server, seed):
        self.server, self.rng = server, random.Random(seed)
        self.owner = owner_on(server, "crash")
        self.acked = []
        self.cycle = 0
        self.sequence = 1

    def run_pushers(self):
        pushers = [Pusher(self.server.http_port, self.owner.auth, feed, self.rng.randrange(10**9))
                   for feed in FEEDS]
        for p in pushers:
            p.start()
        time.sleep(self.rng.uniform(0.005, 0.25))
        self.server.kill()
        for p in pushers:
            p.join(20)
            assert not p.is_alive()
            assert not p.refused, p.refused[:3]
        return [a for p in pushers for a in p.acked]

    def run_loader(self):
        log = self.server.home / f"acks-{self.cycle}"
        loader = Loader(self.server, self.owner.device, self.owner.secret, FEEDS[0], log, self.sequence,
                        rate=4000)
        self.sequence += 10**6
        time.sleep(self.rng.uniform(0.03, 0.3))
        self.server.kill()
        return loader.finish()

    def check(self, acked, since):
        stored = {feed: read_back(self.server, self.owner, feed, since) for feed in FEEDS}
        lost = missing(acked, stored)
        assert not lost, (f"seed {SEED}, cycle {self.cycle}: {len(lost)} of {len(acked)} acknowledged "
                          f"messages are not there as sent: {lost[:3]}\n{self.server.log()[-3000:]}")

    def turn(self):
        since = time.time() - 2
        self.cycle += 1
        acked = self.run_loader() if self.cycle % 2 else self.run_pushers()
        self.server.start()
        self.check(acked, since)
        self.acked += acked


def live(server, seed, cycles):
    life = Life(server, seed)
    for _ in range(cycles):
        life.turn()
    # Whatever later crashes did, the early messages are there too.
    life.check(life.acked, None)
    assert len(life.acked) > 20 * cycles, "too little load to prove anything"
    warnings.warn(f"seed {seed}: {cycles} cycles, {len(life.acked)} acknowledged messages, none lost",
                  stacklevel=1)
    return life


SMALL = {
    "journal.segment_size": "1MiB",   # the end of a segment is crossed as well
    "history.flush_time": "100ms",    # and flushes, too, are interrupted
    "history.flush_size": "256KiB",
}


@pytest.mark.filterwarnings("default")
def test_kill_9(make_server):
    live(make_server(SMALL), SEED, int(os.environ.get("CRASH_CYCLES", "100")))


@pytest.mark.filterwarnings("default")
def test_power_loss(make_server):
    server = make_server({**SMALL, "journal.disk": "lossy"})
    live(server, SEED + 1, int(os.environ.get("POWER_CYCLES", "40")))


def test_kill_while_starting(make_server):
    """Killed in the middle of recovery, again and again; then it recovers."""
    server = make_server(SMALL)
    life = Life(server, SEED + 2)
    acked = life.run_pushers()
    for _ in range(10):
        server.spawn()
        time.sleep(life.rng.uniform(0.0, 0.4))
        server.kill()
    server.start()
    life.check(acked, None)


def test_catalog_changes_survive(make_server):
    """What a command reported as done is done, also when the server dies right after."""
    server = make_server()
    owner = owner_on(server, "a")
    for i in range(5):
        secret = server.add_device("a", f"late-{i}")
        server.kill()
        server.start()
        r = requests.post(server.url + "/v1/telemetry", json={f"late-feed-{i}": i}, timeout=10,
                          headers={"X-Device-Id": f"late-{i}", "X-Device-Token": secret})
        assert r.status_code == 202, r.text
    r = requests.get(f"{server.url}/api/v2/a/feeds", headers=owner.key_auth, timeout=10)
    assert {f["key"] for f in r.json()} >= {f"late-feed-{i}" for i in range(5)}


def test_a_pipe_where_a_file_is_expected(make_server, tmp_path):
    """Whoever put it there: the start ends at once, and says of what it is."""
    (tmp_path / "master").write_text("11" * 32 + "\n")
    (tmp_path / "master").chmod(0o600)
    server = make_server({"encryption.master_key_file": str(tmp_path / "master")})
    owner = owner_on(server, "a")
    server.cli("webhook", "add", "a", "http://127.0.0.1:9/")
    assert requests.post(f"{server.url}/v1/telemetry", json={"t": 1}, headers=owner.auth, timeout=10).status_code == 202
    assert server.stop() == 0
    segment, pipe = max(p.name for p in (server.data / "journal").glob("*.slg")), tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in ("LOCK", "journal/cursors", "journal/ckpt.a", f"journal/{segment}", "latest.snap", "session.snap", "rules.snap",
                 "catalog.db", "catalog.db-journal", "catalog.db-wal", "keyring", "audit/state", "sinks/webhooks.json", "sinks/webhooks.at",
                 "history/CURRENT", "history/IDENTITY"):
        path, copy = server.data / name, server.home / "copy"
        if path.exists():
            path.rename(copy)
        if name == "history/IDENTITY":  # nor is one waited for that a link leads to
            path.symlink_to(pipe)
        else:
            os.mkfifo(path)
        server.stderr_path.write_text("")
        server.spawn()
        try:
            status = server.process.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the start waits at {name}")
        assert status != 0, name
        assert f"{name.split('/')[-1]}: it is no file" in server.log(), server.log()
        path.unlink()
        if copy.exists():
            copy.rename(path)
    server.start()


def test_an_older_journal_beside_its_views(make_server, tmp_path):
    """Somebody put back an older copy of that folder alone. The views have read further: the start says who, where, and what to do,
    and changes nothing; told to go on, it goes on at numbers that nobody has seen."""
    server = make_server()
    owner = owner_on(server, "a")

    def send(first):
        answers = [requests.post(f"{server.url}/v1/telemetry", json={"t": n}, headers=owner.auth, timeout=10)
                   for n in range(first, first + 30)]
        assert {r.status_code for r in answers} == {202}
        return [r.json()["position"]["offset"] for r in answers]

    send(0)
    assert server.stop() == 0
    journal, copy = server.data / "journal", tmp_path / "copy"
    shutil.copytree(journal, copy)
    server.start()
    seen = send(30)
    assert server.stop() == 0
    shutil.rmtree(journal)
    shutil.copytree(copy, journal)
    before = {p.name: p.read_bytes() for p in journal.iterdir()}
    server.stderr_path.write_text("")
    server.spawn()
    assert server.process.wait(30) != 0
    said = re.search(r'record (\d+) was expected there and had been durable: "(\w+)" has read up to record (\d+) \((.*?)\)\. '
                     r"Nothing was changed\..* journal\.skip_corrupt", server.log())
    assert said, server.log()
    assert int(said[1]) <= min(seen) and int(said[3]) > max(seen) and said[4].startswith(str(server.data))
    made = server.cli_run("backup", str(tmp_path / "backup"))  # which opens the journal, too
    assert made.returncode == 1 and said[0] in made.stderr, made
    assert {p.name: p.read_bytes() for p in journal.iterdir()} == before
    server.settings["journal.skip_corrupt"] = "true"
    server.start()
    assert min(send(60)) > 2**32
    server.stop()
    del server.settings["journal.skip_corrupt"]
    server.start()
    assert min(send(90)) > 2**32
    points = requests.get(f"{owner.url}/feeds/t/data?limit=1000", headers=owner.key_auth, timeout=10).json()
    assert sorted(int(p["value"]) for p in points) == list(range(120))  # the views have them all


def test_an_older_journal_beside_webhooks(make_server, tmp_path):
    """They are asked as views are, of which none is left here."""
    server = make_server()
    owner = owner_on(server, "a")
    server.cli("webhook", "add", "a", "http://127.0.0.1:9/", "--feeds", "none")
    assert server.stop() == 0
    journal, copy, sinks = server.data / "journal", tmp_path / "copy", server.data / "sinks"
    shutil.copytree(journal, copy)
    server.start()
    answer = requests.post(f"{server.url}/v1/telemetry", json={"t": 1}, headers=owner.auth, timeout=10)
    assert answer.status_code == 202
    assert server.stop() == 0
    for old in [journal, *(server.data / name for name in ("history", "audit", "latest.snap", "session.snap", "rules.snap"))]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    shutil.copytree(copy, journal)
    server.stderr_path.write_text("")
    server.spawn()
    assert server.process.wait(30) != 0
    said = re.search(r'"webhooks" has read up to record (\d+) \((.*?)\)\. Nothing was changed', server.log())
    assert said and said[2] == str(sinks / "webhooks.at"), server.log()
    assert int(said[1]) > answer.json()["position"]["offset"]


@pytest.mark.parametrize("empty", [False, True])
def test_a_catalog_that_is_gone(make_server, tmp_path, empty):
    """Behind a new one the next account would have the number, and see the data, of the one before."""
    server = make_server()
    owner = owner_on(server, "a")
    assert requests.post(f"{server.url}/v1/telemetry", json={"t": 1}, headers=owner.auth, timeout=10).status_code == 202
    assert server.stop() == 0
    catalog = server.data / "catalog.db"
    catalog.rename(tmp_path / "catalog.db")
    if empty:
        catalog.touch(0o600)
    why = f"{catalog}: it is {'empty' if empty else 'missing'}, but the journal has records"
    for command in ("account", "add", "b"), ("backup", str(tmp_path / "backup")):
        done = server.cli_run(*command)
        assert done.returncode == 1 and why in done.stderr, done
    server.stderr_path.write_text("")
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log(), server.log()
    assert catalog.exists() == empty and not (empty and catalog.stat().st_size)
    (tmp_path / "catalog.db").rename(catalog)
    server.start()
    assert requests.get(f"{owner.url}/feeds/t/data/last", headers=owner.key_auth, timeout=10).json()["value"] == "1"


@pytest.mark.parametrize("by", ["account", "message", "message, killed"])
def test_an_older_catalog(make_server, tmp_path, by):
    """Its next numbers were given out since: behind it a new feed would show the data of one that it does not know."""
    server = make_server()
    owner = owner_on(server, "a")

    def send(body):
        return requests.post(f"{server.url}/v1/telemetry", json=body, headers=owner.auth, timeout=10).status_code

    def value(feed):
        return requests.get(f"{owner.url}/feeds/{feed}/data/last", headers=owner.key_auth, timeout=10).json().get("value")

    assert send({"t": 1}) == 202
    assert server.stop() == 0
    catalog = server.data / "catalog.db"
    shutil.copy(catalog, tmp_path / "old.db")
    server.start()
    if by == "account":
        server.cli("account", "add", "b")
    else:
        assert send({"u": "of u"}) == 202
    if by == "message, killed":
        server.kill()
    else:
        assert server.stop() == 0
    shutil.copy(tmp_path / "old.db", catalog)
    catalog.with_name("catalog.db-journal").unlink(missing_ok=True)
    why = f"{catalog}: it is older than the journal"
    if by != "message, killed":  # then only a server finds it: it has read the end of the journal
        for command in ("account", "add", "c"), ("backup", str(tmp_path / "backup")):
            done = server.cli_run(*command)
            assert done.returncode == 1 and why in done.stderr, done
    server.stderr_path.write_text("")
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log() and "journal.skip_corrupt" in server.log(), server.log()
    server.settings["journal.skip_corrupt"] = "true"
    server.start()
    assert send({"v": "of v"}) == 202 and value("v") == "of v" and value("t") == "1"
    assert server.stop() == 0
    del server.settings["journal.skip_corrupt"]
    server.start()
    made = requests.post(f"{owner.url}/feeds", json={"name": "w"}, headers=owner.key_auth, timeout=10).json()
    assert made["id"] > 2**32 and value("w") is None


def test_torn_tail_is_cut(make_server):
    """Half a batch at the end of the log is what a crash leaves; it is no reason not to start."""
    server = make_server(SMALL)
    life = Life(server, SEED + 3)
    acked = life.run_pushers()
    segment = max((server.data / "journal").glob("*.slg"), key=lambda p: p.name)
    size = segment.stat().st_size
    data = segment.read_bytes().rstrip(b"\0")
    with open(segment, "r+b") as f:
        f.seek(len(data))
        f.write(os.urandom(min(300, size - len(data))))
    server.start()
    life.check(acked, None)


def damage(segment, share):
    """Flips one bit at that share of what is written; returns the whole damaged file. Not in a zero: that
    may be what pads a batch to 8 bytes, and means nothing."""
    data = bytearray(segment.read_bytes())
    at = int(len(bytes(data).rstrip(b"\0")) * share)
    while not data[at]:
        at += 1
    data[at] ^= 0x10
    segment.write_bytes(data)
    return bytes(data)


def test_damage_below_what_was_durable_is_refused_by_name(make_server):
    """A flipped bit in the middle of the log: never a silent loss, always a sentence with the file."""
    server = make_server()
    life = Life(server, SEED + 4)
    life.run_pushers()
    [segment] = (server.data / "journal").glob("*.slg")
    data = damage(segment, 0.5)
    server.spawn()
    assert server.process.wait(30) not in (0, -6, -11)
    assert segment.name in server.log()[-2000:], server.log()[-2000:]
    assert segment.read_bytes() == data, "the evidence was changed"


def test_old_damage_is_found_by_verify(make_server):
    """What a clean start does not read again, `journal verify` does."""
    server = make_server()
    life = Life(server, SEED + 5)
    life.run_pushers()
    server.start()
    assert server.stop() == 0
    sound = server.cli_run("journal", "verify")
    assert sound.returncode == 0, sound.stderr
    [segment] = (server.data / "journal").glob("*.slg")
    data = damage(segment, 0.3)
    found = server.cli_run("journal", "verify")
    assert found.returncode == 1 and segment.name in found.stdout + found.stderr
    assert segment.read_bytes() == data, "the evidence was changed"


def test_two_servers_on_one_directory(make_server):
    first = make_server()
    second = make_server(start=False)
    second.data = first.data
    second.spawn()
    assert second.process.wait(20) not in (0, -6, -11)
    assert "data" in second.log()
    assert first.ready()
