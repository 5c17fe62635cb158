# SPDX-License-Identifier: Apache-2.0
"""A backup of a running server holds, byte for byte, all that was accepted before it began; it names what
is damaged in it; it holds no key; and what is restored uses no number again."""
import os
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time

import pytest
import requests

import conftest
import fleet
import harness
from harness import wait_for
from test_export import export
from test_sealing import canary, files_with, keyed, owner_on, send, values

JUMP = 1 << 40
NUMBERS = 1 << 32


def run(*args):
    return subprocess.run([harness.BIN, *map(str, args)], text=True, capture_output=True, timeout=100)


def good(*args):
    done = run(*args)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    assert not harness.REPORTS.search(done.stderr), done.stderr
    return dict(line.split(None, 1) for line in done.stdout.splitlines() if " " in line)


def bad(*args):
    done = run(*args)
    assert done.returncode == 1, (args, done.stdout, done.stderr)
    assert not harness.REPORTS.search(done.stderr), done.stderr
    return done.stdout + done.stderr


def backup(server, to, *args):
    return good("backup", to, "--data", server.data, "--set", f"journal.segment_size={SEGMENT}", *args)


SEGMENT = "1MiB"
SMALL = {"journal.segment_size": SEGMENT, "history.flush_time": "300ms"}


def restore(make_server, backup_dir, settings=None, keys_of=None, start=True, *args):
    """A server on what was restored, with the keyring of another one put beside first."""
    server = make_server({**SMALL, **(settings or {})}, start=False)
    if keys_of:
        server.data.mkdir(mode=0o700)
        for name in "keyring", "keyring.erased":
            if (keys_of.data / name).exists():
                shutil.copy(keys_of.data / name, server.data / name)
    server.restored = good("restore", backup_dir, "--data", server.data, "--set",
                           f"journal.segment_size={SEGMENT}", *args)
    return server.start() if start else server


def on(server, owner):
    """The same account on another server."""
    return conftest.SimpleNamespace(**{**vars(owner), "url": f"{server.url}/api/v2/{owner.name}"})


def offset_of(server, owner):
    """Where the journal puts a message now: its id says it."""
    return fleet.offset_of(send(on(server, owner), "door", "1")["id"])


def fill(server, owner, megabytes):
    """So much for the copying to take a while. Returns what was sent."""
    sent = [secrets.token_urlsafe(700) for _ in range(megabytes * 1100)]
    for at in range(0, len(sent), 500):
        r = requests.post(f"{server.url}/v1/telemetry", json=[{"bulk": v} for v in sent[at:at + 500]],
                          headers=owner.auth, timeout=60)
        assert r.status_code == 202, r.text
    return sent


class Load:
    """Sends all the time: a number to "count", text to "door", and a new feed now and then; keeps what was
    accepted, in order."""

    def __init__(self, server, owner, threads=2, size=200, pause=0.0):
        self.server, self.owner, self.size, self.pause = server, owner, size, pause
        self.stop, self.lock, self.accepted, self.took = threading.Event(), threading.Lock(), [], []
        self.failures = []
        self.threads = [threading.Thread(target=self.push, args=(i,)) for i in range(threads)]
        for t in self.threads:
            t.start()

    def push(self, thread):
        session, n = requests.Session(), 0
        while not self.stop.is_set():
            body = {"count": thread * 1000000 + n, "door": secrets.token_urlsafe(self.size)}
            if n % 20 == 19:
                body[f"new-{thread}-{n}"] = str(n)
            begun = time.monotonic()
            try:
                r = session.post(f"{self.server.url}/v1/telemetry", json=body, headers=self.owner.auth, timeout=30)
            except requests.RequestException as e:
                self.failures.append(str(e))
                return
            with self.lock:
                self.took.append(time.monotonic() - begun)
                if r.status_code == 202:
                    self.accepted.append(body)
                else:
                    self.failures.append(r.text)
            n += 1
            if self.pause:
                time.sleep(self.pause)

    def so_far(self):
        with self.lock:
            return list(self.accepted)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(40)
        assert not self.failures, self.failures[:3]
        return self.accepted


def all_values(server, owner):
    """{feed: every value}"""
    found = {}
    for d in export(server, owner.name)["datum"]:
        found.setdefault(d["feed"], []).append(d["value"])
    return found


def check_holds(server, owner, sent):
    """All of it is there, byte for byte, in every way of asking."""
    owner = on(server, owner)
    found = {feed: set(of) for feed, of in all_values(server, owner).items()}
    lost = [(feed, value) for body in sent for feed, value in body.items() if str(value) not in found[feed]]
    assert not lost, f"{len(lost)} of {len(sent)} messages are missing: {lost[:3]}"
    r = requests.get(f"{owner.url}/feeds/count/data/last", headers=owner.key_auth, timeout=20)
    assert r.status_code == 200 and r.json()["value"] == values(owner, "count")[0]
    assert r.json()["value"] in found["count"]
    chart = requests.get(f"{owner.url}/feeds/count/data/chart", headers=owner.key_auth, timeout=20,
                         params={"resolution": 60, "hours": 24, "field": "max"})
    assert chart.status_code == 200, chart.text
    tops = [float(value) for _, value in chart.json()["data"] if value is not None]
    assert tops and max(tops) == max(float(c) for c in found["count"])


@pytest.mark.parametrize("sealed", [False, True])
def test_under_load(make_server, tmp_path, sealed):
    settings = {**SMALL, **(keyed(tmp_path) if sealed else {})}
    server = make_server(settings)
    owner = owner_on(server, "acme")
    load = Load(server, owner)
    wait_for("some messages", lambda: len(load.so_far()) > 300, 60)
    before = load.so_far()
    to = tmp_path / "backup"
    said = backup(server, to, "--rate", "2")
    during = len(load.so_far()) - len(before)
    accepted = load.end()
    assert during > 10  # it went on
    assert said["sealed"].startswith("yes") == sealed
    good("backup", "verify", to)
    assert not (server.data / "backup.tmp").exists()
    assert {p.name for p in to.iterdir()} - {"latest.snap", "session.snap", "rules.snap", "webhooks.snap"} == \
        {"manifest", "journal", "history", "audit", "catalog.db"}
    for path in to.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path  # verifiers are in there
    if sealed:
        assert not [body for body in accepted if files_with(to, body["door"])]
    end = offset_of(server, owner)
    server.kill()

    there = restore(make_server, to, keyed(tmp_path) if sealed else None, server if sealed else None)
    assert int(there.restored["position"]) > JUMP > end
    check_holds(there, owner, before)
    assert there.metric("sealed_unreadable_total") == 0
    assert JUMP < offset_of(there, owner) < 2 * JUMP
    # It goes on: a new feed, a new account, a restart.
    r = requests.post(f"{on(there, owner).url}/feeds", json={"name": "other"}, headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201) and r.json()["id"] >= NUMBERS
    send(on(there, owner), "other", "7")
    new = owner_on(there, "late")
    send(new, "door", "8")
    there.kill()
    there.start()
    check_holds(there, owner, before)
    assert values(on(there, owner), "other") == ["7"] and values(new, "door") == ["8"]


def test_retention_goes_on(make_server, tmp_path):
    """Segments that retention removes while they wait to be copied are in the backup all the same; what it
    had removed before is in the history."""
    server = make_server({**SMALL, "journal.retain_size": "3MiB"})
    owner = owner_on(server, "acme")
    load = Load(server, owner, pause=0.02)
    fill(server, owner, 2)

    def oldest():
        return min(int(p.stem) for p in (server.data / "journal").glob("*.slg"))

    for _ in range(3):
        fill(server, owner, 1)
    wait_for("retention", lambda: oldest() > 0, 100)  # a view writes its snapshot every 30 s
    before, removed = load.so_far(), oldest()
    to = tmp_path / "backup"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"])
    wait_for("the copying", lambda: (to / "journal").exists() or command.poll() is not None, 60)
    command.send_signal(signal.SIGSTOP)  # it waits, however slow the machine is, until retention has gone on
    try:
        first = min(int(p.stem) for p in (server.data / "backup.tmp" / "journal").glob("*.slg"))
        assert first >= removed
        fill(server, owner, 3)
        wait_for("retention to go on", lambda: oldest() > first, 100)
        load.end()
    finally:
        command.send_signal(signal.SIGCONT)
    assert command.wait(100) == 0
    good("backup", "verify", to)
    assert min(int(p.stem) for p in (to / "journal").glob("*.slg")) == first
    assert server.stop() == 0
    check_holds(restore(make_server, to), owner, before)


def test_killed_command(make_server, tmp_path):
    """What it leaves is visibly no backup; the next one may begin at once, and the server keeps nothing."""
    server = make_server({**SMALL, "auth.snapshot_interval": "200ms"})
    owner = owner_on(server, "acme")
    fill(server, owner, 3)
    to = tmp_path / "killed"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"])
    wait_for("the copying", lambda: list(to.glob("journal/*.slg")))
    assert (server.data / "backup.tmp").exists()
    busy = bad("backup", tmp_path / "second", "--data", server.data)
    assert "another backup is being made" in busy and not (tmp_path / "second").exists()
    os.kill(command.pid, signal.SIGKILL)
    command.wait(20)
    assert "not finished" in bad("backup", "verify", to)
    assert "not finished" in bad("restore", to, "--data", tmp_path / "data")
    wait_for("the server to drop it", lambda: not (server.data / "backup.tmp").exists())
    assert "backup.dropped" in server.log()
    assert 'holds "' in bad("backup", to, "--data", server.data)
    backup(server, tmp_path / "next")
    good("backup", "verify", tmp_path / "next")


def test_killed_server(make_server, tmp_path):
    """The command says what happened and leaves nothing; the next start leaves nothing either."""
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    fill(server, owner, 3)
    to = tmp_path / "backup"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"],
                               stderr=subprocess.PIPE, text=True)
    wait_for("the copying", lambda: list(to.glob("journal/*.slg")))
    server.kill()
    server.start()
    assert not (server.data / "backup.tmp").exists()
    error = command.communicate(timeout=60)[1]
    assert command.returncode == 1 and ("taken away" in error or "No such file" in error), error
    assert list(to.iterdir()) == []
    # A server that only goes away takes nothing with it.
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"])
    wait_for("the copying", lambda: list(to.glob("journal/*.slg")))
    assert server.stop() == 0
    assert command.wait(60) == 0
    good("backup", "verify", to)
    server.start()
    assert not (server.data / "backup.tmp").exists()


def test_killed_restore(make_server, tmp_path):
    """Nothing starts on half of a restore; it may be run again."""
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    sent = fill(server, owner, 3)
    to = tmp_path / "backup"
    backup(server, to, "--rate", "0")
    there = make_server(SMALL, start=False)
    seen = set()
    for delay in (0.0, 0.02, 0.1, 0.3, 0.6):
        command = subprocess.Popen([harness.BIN, "restore", to, "--data", there.data, "--rate", "4"],
                                   stdout=subprocess.DEVNULL)
        wait_for("the mark", lambda: (there.data / "restore.partial").exists() or command.poll() is not None)
        time.sleep(delay)
        os.kill(command.pid, signal.SIGKILL)
        command.wait(20)
        if not (there.data / "restore.partial").exists():
            break
        seen.add(delay)
        there.spawn()
        assert there.process.wait(30) != 0
        assert "a restore into this directory has not come to its end" in there.log()
        assert "has not come to its end" in bad("account", "list", "--data", there.data)
    assert len(seen) >= 2
    if (there.data / "restore.partial").exists():
        good("restore", to, "--data", there.data)
    there.start()
    assert sorted(all_values(there, owner)["bulk"]) == sorted(sent)


def flip(path, at=None):
    raw = bytearray(path.read_bytes())
    at = len(raw) // 2 if at is None else at
    raw[at] ^= 4
    path.write_bytes(raw)


def test_damage_is_named(make_server, tmp_path):
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    for n in range(5):
        send(owner, "door", canary())
    assert server.stop() == 0  # so that there is a snapshot of the newest values
    server.start()
    to = tmp_path / "backup"
    backup(server, to)
    files = sorted(p for p in to.rglob("*") if p.is_file())
    assert {"manifest", "catalog.db", "latest.snap", "session.snap", "rules.snap", "CURRENT", "ckpt.a", "state"} <= {p.name for p in files}
    for path in files:
        name = path.relative_to(to)
        for at in {0, path.stat().st_size // 2, path.stat().st_size - 1}:
            flip(path, at)
            assert f"{to}/{name}" in bad("backup", "verify", to), (name, at)
            data = tmp_path / f"restored-{name.name}-{at}"
            assert f"{to}/{name}" in bad("restore", to, "--data", data), (name, at)
            assert path.name == "manifest" or (data / "restore.partial").exists()
            flip(path, at)
        aside = path.rename(tmp_path / "aside")
        assert f"{to}/{name}" in bad("backup", "verify", to)
        aside.rename(path)
    extra = to / "history" / "keyring"
    extra.write_text("x")
    assert f"{extra}: it is no part of this backup" in bad("backup", "verify", to)
    extra.unlink()
    with open(files[0], "ab") as f:
        f.write(b"x")
    assert "it is too long" in bad("backup", "verify", to) or files[0].name == "manifest"
    os.truncate(files[0], files[0].stat().st_size - 1)
    good("backup", "verify", to)


def test_directories_that_hold_something(make_server, tmp_path):
    server = make_server(SMALL)
    to = tmp_path / "backup"
    to.mkdir()
    (to / "letter").write_text("mine")
    assert 'holds "letter"' in bad("backup", to, "--data", server.data)
    assert [p.name for p in to.iterdir()] == ["letter"] and not (server.data / "backup.tmp").exists()
    (to / "letter").unlink()
    backup(server, to)
    assert "another process has it" in bad("restore", to, "--data", server.data)
    assert server.stop() == 0
    kept = sorted((p, p.stat().st_size) for p in server.data.rglob("*"))
    assert "a backup is restored into a directory that is new" in bad("restore", to, "--data", server.data)
    assert sorted((p, p.stat().st_size) for p in server.data.rglob("*")) == kept
    assert "there is no data directory" in bad("backup", tmp_path / "b", "--data", tmp_path / "nowhere")
    assert run("backup").returncode == 2 and run("backup", to, "--rate", "fast").returncode == 2
    assert "sluice backup verify DIR" in run("backup", "--help").stdout


def test_no_number_twice(make_server, tmp_path):
    """Numbers of accounts, feeds and records that came after the backup are given to nobody, however often
    it is restored; an account that was erased after it is erased again, and its number hurts nobody."""
    server = make_server({**SMALL, **keyed(tmp_path)})
    owner, gone = owner_on(server, "acme"), owner_on(server, "gone")
    secret_value = canary()
    send(owner, "door", "1")
    send(gone, "door", secret_value)
    to = tmp_path / "backup"
    backup(server, to)
    late = owner_on(server, "late")
    send(late, "door", "2")
    erased = {server.cli("account", "erase", name)["account_number"] for name in ("gone", "late")}
    last = offset_of(server, owner)
    assert server.stop() == 0

    offsets = []
    for nth in 1, 2, 3:
        there = restore(make_server, to, keyed(tmp_path), server)
        assert int(there.restored["nth"]) == nth
        fresh = owner_on(there, "late")
        send(fresh, "door", canary())
        assert len(values(fresh, "door")) == 1
        shown = there.cli("account", "erase", "late")["account_number"]
        assert shown >= nth * NUMBERS and shown not in erased
        offsets.append(offset_of(there, owner))
        assert nth * JUMP < offsets[-1] < (nth + 1) * JUMP and last < JUMP
        assert there.cli_run("account", "show", "gone").returncode != 0
        assert values(on(there, owner), "door") == ["1"] * 2
        assert files_with(there.data, secret_value) == [] and files_with(there.data, gone.name) == []
        there.kill()
    assert len((to / "restores").read_text().splitlines()) == 3
    good("backup", "verify", to)
    # A backup that cannot be written to does not count; then it must be said.
    (to / "restores").unlink()
    (to / "restores").mkdir()
    assert "say by --nth" in bad("restore", to, "--data", tmp_path / "a", "--without-keyring")
    there = restore(make_server, to, keyed(tmp_path), server, True, "--nth", "9")
    assert 9 * JUMP < offset_of(there, owner)


def test_keys_stay_apart(make_server, tmp_path):
    """No byte of a key is in a backup, nothing of it can be read without the keyring, and once an account
    is erased nothing of its data in older backups can."""
    server = make_server({**SMALL, **keyed(tmp_path)})
    stays, gone = owner_on(server, "stays"), owner_on(server, "gone")
    kept, value = canary(), canary()
    send(stays, "door", kept)
    send(gone, "door", value)
    to = tmp_path / "backup"
    assert backup(server, to)["sealed"].startswith("yes")
    assert files_with(to, value) == [] and files_with(to, kept) == []
    keyring = (server.data / "keyring").read_bytes()
    for path in (p for p in to.rglob("*") if p.is_file()):
        assert "keyring" not in path.name and path.name != "verified.snap"
        raw = path.read_bytes()
        assert not [at for at in range(64, len(keyring) - 32, 32) if keyring[at:at + 32].strip(b"\0")
                    and keyring[at:at + 32] in raw], path

    assert "put keyring and keyring.erased there first" in bad("restore", to, "--data", tmp_path / "none")
    there = restore(make_server, to, keyed(tmp_path), server)
    assert values(on(there, gone), "door") == [value] and values(on(there, stays), "door") == [kept]
    there.kill()

    server.cli("account", "erase", "gone")
    there = restore(make_server, to, keyed(tmp_path), server)
    assert values(on(there, stays), "door") == [kept]
    assert there.cli_run("account", "show", "gone").returncode != 0
    assert there.metric("sealed_unreadable_total") == 0
    # The keyring alone, without the list: the account's name comes back, its data do not.
    (server.data / "keyring.erased").rename(tmp_path / "list")
    there = restore(make_server, to, keyed(tmp_path), server)
    assert values(on(there, gone), "door") == [] and values(on(there, stays), "door") == [kept]


def test_erased_meanwhile(make_server, tmp_path):
    """An erasure takes away what is kept for a backup, and the backup says so: no copy outlives it."""
    server = make_server(SMALL)
    stays, gone = owner_on(server, "stays"), owner_on(server, "gone" + secrets.token_hex(8))
    value = canary()
    send(gone, "door", value)
    fill(server, stays, 3)
    assert server.stop() == 0
    server.start()
    to = tmp_path / "backup"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"],
                               stderr=subprocess.PIPE, text=True)
    wait_for("the copying", lambda: list(to.glob("journal/*.slg")))
    assert files_with(server.data, gone.name, "backup.tmp")
    server.cli("account", "erase", gone.name)
    assert not (server.data / "backup.tmp").exists()
    assert {name.split("/")[0] for name in files_with(server.data, value)} == {"journal"}
    assert {name.split("/")[0] for name in files_with(server.data, gone.name)} == {"journal", "audit"}
    error = command.communicate(timeout=60)[1]
    assert command.returncode == 1 and ("taken away" in error or "No such file" in error), error
    assert list(to.iterdir()) == []

    # The same for what a crash left: the command is dead, and so is the server.
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"])
    wait_for("the copying", lambda: list(to.glob("journal/*.slg")))
    server.kill()
    os.kill(command.pid, signal.SIGKILL)
    command.wait(20)
    assert (server.data / "backup.tmp").exists()
    server.start()
    assert not (server.data / "backup.tmp").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_without_a_server(make_server, tmp_path, killed):
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    sent = [canary() for _ in range(20)]
    for value in sent:
        send(owner, "door", value)
    if killed:
        server.kill()
        server.cli("account", "add", "waits")  # its record is owed to the journal
    else:
        assert server.stop() == 0
    to = tmp_path / "backup"
    backup(server, to)
    good("backup", "verify", to)
    assert not (server.data / "backup.tmp").exists()
    server.start()
    assert values(owner, "door") == sent[::-1]
    there = restore(make_server, to)
    assert values(on(there, owner), "door") == sent[::-1]
    assert there.cli_run("account", "show", "waits").returncode == (0 if killed else 1)


def test_restored_is_backed_up_again(make_server, tmp_path):
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    sent = [canary()]
    send(owner, "door", sent[0])
    for n in 1, 2, 3:
        to = tmp_path / f"backup{n}"
        backup(server, to)
        server.kill()
        server = restore(make_server, to)
        assert n * JUMP < offset_of(server, owner) < (n + 1) * JUMP
        sent += ["1", canary()]
        send(on(server, owner), "door", sent[-1])
        assert values(on(server, owner), "door") == sent[::-1]
    assert "gap_from" in server.cli_run("journal", "inspect").stdout


@pytest.mark.parametrize("sealed", [False, True])
def test_the_audit_log(make_server, tmp_path, sealed):
    """It is in the backup, whole, though it grows meanwhile; it says who made the backup; it goes on."""
    settings = keyed(tmp_path) if sealed else {}
    server = make_server({**SMALL, **settings})
    stop = threading.Event()

    def change():
        admin, n = harness.AdminConnection(server.data / "admin.sock"), 0
        while not stop.is_set() and n < 800:  # one page of both lists
            admin.call("account", "add", account=f"a{n}")
            time.sleep(0.01)
            n += 1

    server.cli("account", "add", "before")
    thread = threading.Thread(target=change)
    thread.start()
    for n in range(5):
        backup(server, tmp_path / f"b{n}")
    stop.set()
    thread.join(20)
    for n in range(5):
        there = restore(make_server, tmp_path / f"b{n}", settings, server if sealed else None)
        there.cli("account", "add", "after")
        done = there.cli("audit", "list", "--limit", "1000")["entries"]
        assert there.cli_run("audit", "verify").returncode == 0
        assert f"/b{n}" in str([e for e in done if e["op"] == "backup"][0])
        names = [e["account"] for e in done if e["op"] == "account_add"]
        assert names[0] == "after" and names[-1] == "before"
        assert sorted(names) == sorted([a["name"] for a in there.cli("account", "list")["accounts"]])
        there.kill()


def test_the_audit_log_ends_where_the_backup_does(make_server, tmp_path):
    """Lines that are written while it is being copied are of changes that the backup does not hold."""
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    fill(server, owner, 3)
    to = tmp_path / "backup"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", "1"])
    wait_for("the copying", lambda: (to / "journal").exists() or command.poll() is not None, 60)
    command.send_signal(signal.SIGSTOP)
    try:
        server.cli("account", "add", "late")
        files = server.data / "audit"
        wait_for("its line", lambda: any(b'"late"' in p.read_bytes() for p in files.glob("*.jsonl")), 60)
    finally:
        command.send_signal(signal.SIGCONT)
    assert command.wait(100) == 0
    there = restore(make_server, to)
    there.cli("account", "add", "after")
    assert there.cli_run("audit", "verify").returncode == 0
    names = [e["account"] for e in there.cli("audit", "list")["entries"] if e["op"] == "account_add"]
    assert names == ["after", "acme"]
    assert sorted(a["name"] for a in there.cli("account", "list")["accounts"]) == ["acme", "after"]


def p99(times):
    return sorted(times)[int(len(times) * 0.99)]


def test_senders_do_not_notice(make_server, tmp_path):
    """Messages go on being accepted about as fast while a backup is made at the default rate."""
    server = make_server(SMALL)
    owner = owner_on(server, "acme")
    fill(server, owner, 8)
    load = Load(server, owner, threads=2, pause=0.004)
    wait_for("messages", lambda: len(load.took) > 400, 60)
    quiet, at = p99(load.took), len(load.took)
    backup(server, tmp_path / "backup", "--rate", "4")
    meanwhile = load.took[at:]
    load.end()
    assert len(meanwhile) > 200
    assert p99(meanwhile) < max(20 * quiet, 0.25), (quiet, p99(meanwhile))


@pytest.mark.parametrize("sealed", [False, True])
def test_webhooks_of_accounts(make_server, tmp_path, sealed):
    """They are in it, their secrets in no file in plain; sealed ones are as they were once the keyring is there."""
    settings = {**SMALL, **(keyed(tmp_path) if sealed else {})}
    server = make_server(settings)
    owner_on(server, "acme")
    owner_on(server, "gone")
    made = server.cli("webhook", "add", "acme", "https://hooks.example.org/our-place", "--feeds", "door", "--order", "feed")
    server.cli("webhook", "add", "gone", "https://hooks.example.org/their-place")
    hook, secret = str(made["webhook"]), made["signing_secret"]
    server.cli("webhook", "pause", hook)
    to = tmp_path / "backup"
    backup(server, to)
    assert not files_with(to, secret) and not files_with(to, secret[6:])
    assert files_with(server.data, secret) == ["sinks/webhooks.json"]
    assert bool(files_with(to, "our-place")) != sealed or not sealed
    if sealed:
        assert "webhooks.snap" not in files_with(to, "our-place")
    server.cli("account", "erase", "gone")
    server.stop()
    restored = restore(make_server, to, settings, keys_of=server)
    show = restored.cli("webhook", "show", hook)
    assert (show["url"], show["feeds"], show["order"]) == ("https://hooks.example.org/our-place", "door", "feed")
    assert restored.cli("webhook", "add", "acme", "https://hooks.example.org/x")["webhook"] > 1000  # a number nobody had
    if sealed:
        assert show["state"] == "paused" and files_with(restored.data, secret) == ["sinks/webhooks.json"]
        assert [k["account"] for k in restored.cli("webhook", "list")["webhooks"]] == ["acme", "acme"]
        return
    assert show["state"] == "disabled" and "rotate" in show["error"]
    assert restored.cli("webhook", "rotate", hook)["signing_secret"] != secret
    assert restored.cli("webhook", "resume", hook)["state"] == "running"
