# SPDX-License-Identifier: Apache-2.0
"""The audit log: who changed what, each change once whatever happens, longer than the journal keeps its
record, and whoever tampers with it is found."""
import os
import random
import re
import secrets
import threading
import time

import pytest
import requests

import conftest
from harness import WIDE, AdminConnection, device_auth, wait_for
from test_erase import keyed
from test_sealing import canary, files_with

CHANGES = int(os.environ.get("SLUICE_FULL", 0)) and 40 or 8


def entries(server, *args, **filters):
    """All that match, oldest first, over as many pages as it takes."""
    args = [*args, *(x for name, value in filters.items() for x in (f"--{name}", str(value)))]
    found, page = [], server.cli("audit", "list", *args)
    while True:
        found += page["entries"]
        if "next" not in page:
            return found[::-1]
        page = server.cli("audit", "list", *args, "--before", str(page["next"]))


def verify(server):
    """(is it whole, what it printed)"""
    run = server.cli_run("audit", "verify")
    return run.returncode == 0, run.stdout + run.stderr


def check_whole(server):
    whole, said = verify(server)
    assert whole, said


def files(server):
    return sorted((server.data / "audit").glob("*.jsonl"))


# ---- what it says ----

def test_who_what_before_after(make_server):
    server = make_server()
    server.cli("account", "add", "acme")
    server.cli("account", "add", "ops")
    root = server.cli("key", "add", "ops", "root", "--role", "admin")["key"]
    answer = requests.post(f"{server.url}/v1/admin/device/add", headers={"X-AIO-Key": root}, timeout=20,
                           json={"account": "acme", "device": "truck-1"})
    assert answer.status_code == 200
    server.cli("account", "change", "acme", "--plan", "plus")
    log = entries(server)
    assert [e["number"] for e in log] == list(range(1, len(log) + 1))
    assert [(e["op"], e["actor"], e["account"], e["subject"]) for e in log] == [
        ("account_add", "admin", "acme", "acme"), ("account_add", "admin", "ops", "ops"),
        ("key_add", "admin", "ops", "root"), ("device_add", "key:ops/root", "acme", "truck-1"),
        ("account_limits", "admin", "acme", "acme")]
    device, plan = log[3:]
    assert device["from"] == "127.0.0.1" and plan["from"] is None
    assert device["before"] is None and device["after"]["role"] == "device"
    assert (plan["before"]["plan"], plan["after"]["plan"]) == ("fleet", "plus")
    assert len({e["change_id"] for e in log}) == len(log)
    assert [e["offset"] for e in log] == sorted(e["offset"] for e in log)
    assert {e["state"] for e in log} == {"plain"}
    stored = "".join(path.read_text() for path in files(server))
    assert root not in stored and answer.json()["secret"] not in stored and "$2b$" not in stored

    assert entries(server, account="acme") == [log[0], log[3], log[4]]
    assert entries(server, actor="key:*") == entries(server, actor="key:ops/root") == [device]
    assert entries(server, actor="key:ops") == []
    assert entries(server, since="1h") == entries(server, until="2099-01-01") == log
    assert entries(server, until="1h") == entries(server, since="2099-01-01") == []
    assert entries(server, limit=2) == log
    page = server.cli("audit", "list", "--limit", "2")
    assert page["entries"] == log[:2:-1] and page["next"] == 4
    shown = server.cli_run("audit", "list", "--limit", "2").stdout
    assert "account_limits" in shown and "--before 4" in shown, shown
    for wrong in ["--since", "soon"], ["--before", "first"], ["--limit", "5000"]:
        assert server.cli_run("audit", "list", *wrong).returncode == 1

    status = requests.get(server.operator_url + "/v1/status", timeout=10).json()
    assert status["audit"]["entries"] == 5 and status["audit"]["files"] == 1
    assert set(status["views"]["audit"]) >= {"applied", "lag"} and status["views"]["audit"]["lag"] == 0
    assert server.metric("view_audit_records_total") == 5

    # Without a server it is read as it is.
    assert server.stop() == 0
    assert entries(server) == log
    check_whole(server)
    server.cli("account", "add", "offline")
    page = server.cli("audit", "list")
    assert page["entries"] == log[::-1] and "without a server" in page["note"]
    server.start()
    assert [e["subject"] for e in entries(server, actor="cli")] == ["offline"]
    check_whole(server)


def test_only_admins_read_it(make_server):
    server = make_server({"auth.failures_address": WIDE})
    server.add_account("ann")
    for role, status in ("owner", 403), ("reader", 403), ("admin", 200):
        auth = {"X-AIO-Key": server.cli("key", "add", "ann", role, "--role", role)["key"]}
        for what in "list", "verify":
            r = requests.get(f"{server.url}/v1/admin/audit/{what}", headers=auth, timeout=20)
            assert r.status_code == status, r.text
    assert requests.get(f"{server.url}/v1/admin/audit/list", timeout=20).status_code == 401


# ---- each change once ----

class Changer(threading.Thread):
    """Makes devices, one after the other, until the server is gone; notes which it was told of."""

    def __init__(self, server, prefix):
        super().__init__()
        self.server, self.prefix, self.done, self.tried = server, prefix, [], 0
        self.start()

    def run(self):
        admin = AdminConnection(self.server.data / "admin.sock")
        try:
            while True:
                name = f"{self.prefix}-{self.tried}"
                self.tried += 1
                admin.call("device", "add", account="acme", device=name)
                self.done.append(name)
        except Exception:  # the server was killed under it
            admin.close()


@pytest.mark.parametrize("disk", ["posix", "lossy"])
def test_killed(make_server, disk):
    """kill -9 at any time: what was answered is in the log once, and nothing is in it twice."""
    rng = random.Random(secrets.randbits(32))
    server = make_server({"journal.disk": disk, "audit.file_size": "4096"})
    server.add_account("acme")
    answered, tried = [], 0
    for run in range(CHANGES):
        changer = Changer(server, f"r{run}")
        time.sleep(rng.uniform(0.05, 0.5))
        server.kill()
        changer.join(20)
        answered += changer.done
        tried += changer.tried
        server.start()
        # A change that was not answered may have been made, or not.
    log = entries(server)
    names = [e["subject"] for e in log if e["op"] == "device_add"]
    assert len(names) == len(set(names)), "a change is in the log twice"
    missing = set(answered) - set(names)
    assert not missing, f"{len(missing)} of {len(answered)} changes are not in the log"
    assert len(answered) > 5 * CHANGES and len(names) <= tried
    assert len({e["change_id"] for e in log}) == len(log)
    assert [e["number"] for e in log] == list(range(1, len(log) + 1))
    assert len(files(server)) > 3
    made = server.cli("device", "list", "acme", "--limit", "100000")["devices"]
    assert {d["name"] for d in made} == set(names), "what the catalog has and what the log tells differ"
    check_whole(server)


def test_what_the_journal_is_owed(make_server):
    """While the journal is slow, the status says how many records wait for it, and for how long."""
    server = make_server({"journal.disk": "slow"})
    (server.data / "journal" / "slow_ms").write_text("2000")
    thread = threading.Thread(target=server.cli, args=("account", "add", "acme"))
    thread.start()

    def catalog():
        return requests.get(server.operator_url + "/v1/status", timeout=10).json()["catalog"]

    owed = wait_for("an outbox", lambda: (c := catalog())["outbox"] and c["outbox_ms"] > 100 and c)
    assert owed["outbox"] == 2  # the account's name, and the audit record
    assert server.metric("catalog_outbox") == 2
    thread.join(30)
    assert (catalog()["outbox"], catalog()["outbox_ms"], server.metric("catalog_outbox")) == (0, 0, 0)
    (server.data / "journal" / "slow_ms").write_text("0")
    assert [e["subject"] for e in entries(server)] == ["acme"]


# ---- longer than the journal ----

def test_beyond_the_journal(make_server):
    server = make_server({"journal.segment_size": "1MiB", "journal.retain_size": "1MiB"})
    owner = conftest.owner_on(server, "acme")
    r = requests.post(f"{owner.url}/feeds", json={"name": "noise"}, headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201), r.text
    log = entries(server)
    assert len(log) == 4
    body = [{"value": secrets.token_hex(500)} for _ in range(500)]
    for _ in range(10):
        r = requests.post(f"{owner.url}/feeds/noise/data/batch", json={"data": body}, headers=owner.auth,
                          timeout=20)
        assert r.status_code == 200, r.text

    def gone():
        status = requests.get(server.operator_url + "/v1/status", timeout=10).json()
        return status["journal"]["oldest"] > log[-1]["offset"]

    assert not gone()
    assert server.stop() == 0  # then no view needs them any more
    server.start()
    wait_for("the segments to go", gone, 30)
    assert entries(server) == log
    check_whole(server)
    server.kill()
    server.start()
    assert entries(server) == log
    check_whole(server)


def test_old_files_go(make_server):
    server = make_server({"audit.file_size": "4096"})
    for i in range(40):
        server.cli("role", "add", f"role{i}", "data_read")
    log = entries(server)
    assert len(files(server)) > 3
    assert server.stop() == 0
    time.sleep(1.2)
    server.settings["audit.keep"] = "1s"
    server.start()
    wait_for("old files to go", lambda: not files(server))
    assert entries(server) == []
    check_whole(server)
    server.cli("role", "add", "last", "data_read")
    [last] = entries(server)
    assert last["number"] == len(log) + 1 and last["change_id"] > log[-1]["change_id"]
    check_whole(server)
    server.kill()
    server.start()
    check_whole(server)


# ---- tampering ----

def edit(lines):
    lines[3] = lines[3].replace("role2", "rolex")


def drop(lines):
    del lines[3]


def swap(lines):
    lines[3], lines[4] = lines[4], lines[3]


def cut(lines):
    del lines[-2:]


def double(lines):
    lines.insert(3, lines[3])


@pytest.mark.parametrize("how, line", [(edit, 4), (drop, 4), (swap, 4), (cut, 0), (double, 5)])
def test_tampered(make_server, how, line):
    """Whatever is done to a line is found, with its place, while the server runs and without one."""
    server = make_server()
    for i in range(10):
        server.cli("role", "add", f"role{i}", "data_read")
    check_whole(server)
    [path] = files(server)
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    how(lines)
    path.write_text("".join(lines))
    place = f"{path.name}:{line}: " if line else f"{path.name}: "
    whole, said = verify(server)
    assert not whole and place in said, said
    errors = requests.get(f"{server.url}/v1/admin/audit/verify", timeout=20, headers={
        "X-AIO-Key": admin_key(server)}).json()
    assert not errors["whole"] and errors["damaged"] == len(errors["errors"]) > 0
    path.write_text("".join(lines))
    server.kill()
    whole, said = verify(server)
    assert not whole and place in said, said
    # A server does not go on from it as if nothing were.
    server.spawn()
    assert server.process.wait(30) != 0
    assert path.name in server.log()[-2000:], server.log()[-2000:]
    assert path.read_text() == "".join(lines), "the evidence was changed"


def admin_key(server):
    """A key to look with; what it adds to the log does not matter."""
    if not getattr(server, "looker", None):
        server.cli("account", "add", "ops")
        server.looker = server.cli("key", "add", "ops", "root", "--role", "admin")["key"]
    return server.looker


def test_missing_or_rotten_state(make_server):
    server = make_server()
    server.cli("account", "add", "acme")
    assert server.stop() == 0
    state = server.data / "audit" / "state"
    good = state.read_bytes()
    for bad in good[:-30], good.replace(b'"next":2', b'"next":1'), None:
        assert bad != good
        state.write_bytes(bad) if bad is not None else state.unlink()
        server.spawn()
        assert server.process.wait(30) != 0
        assert "audit" in server.log()[-1000:] and "state" in server.log()[-1000:]
        assert verify(server)[0] is False
    state.write_bytes(good)
    server.start()
    check_whole(server)


# ---- sealed ----

def test_sealed_and_erased(make_server, tmp_path):
    """Entries of an account are sealed with its key. When that is gone they cannot be read, and the chain
    over what is stored still holds."""
    server = make_server(keyed(tmp_path))
    name, stays = "gone" + secrets.token_hex(12), "stays"
    owner = conftest.owner_on(server, name)
    server.add_account(stays)
    text = canary()
    r = requests.put(f"{owner.url}/feeds/door", json={"description": text}, headers=owner.key_auth, timeout=20)
    if r.status_code == 404:
        r = requests.post(f"{owner.url}/feeds", json={"name": "door", "description": text},
                          headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201), r.text
    log = entries(server, account=name)
    assert {e["state"] for e in log} == {"sealed"} and any(text in str(e["after"]) for e in log)
    assert not files_with(server.data, text, "audit") and not files_with(server.data, name, "audit")
    whole_log = entries(server)
    server.cli("account", "erase", name)
    after = entries(server)
    number = log[0]["account_number"]
    mine = [e for e in after if e["account_number"] == number]
    assert len(mine) > len(log) and {e["state"] for e in mine} == {"erased"}
    assert {e["subject"] for e in mine} == {None}
    assert [e for e in after if e["account"] == stays] == [e for e in whole_log if e["account"] == stays]
    check_whole(server)
    assert server.stop() == 0
    check_whole(server)  # no key is needed for that
    assert {(e["state"], e["op"]) for e in entries(server)} == {("unreadable", None)}  # nor is there one here
    server.start()
    assert {e["state"] for e in entries(server) if e["account_number"] == number} == {"erased"}


def test_plain_erasure_says_it(make_server):
    server = make_server()
    conftest.owner_on(server, "gone")
    assert "audit" in server.cli("account", "erase", "gone")["remains"]
