# SPDX-License-Identifier: Apache-2.0
"""Encryption at rest: what lies in the data directory tells nothing of what was sent, and a server with
the master key serves it as ever."""
import secrets

import pytest
import requests

import conftest
from harness import wait_for


def keyed(tmp_path, **rest):
    path = tmp_path / "master.key"
    if not path.exists():
        path.write_text(secrets.token_hex(32) + "\n")
    return {"encryption.master_key_file": str(path), **rest}


def canary():
    """Text that no compression shortens and nothing else contains."""
    return secrets.token_urlsafe(48)


def files_with(data, text, under=""):
    """The files below the data directory in which the bytes stand, under their names from there.

    LZ4 takes a text's first and last bytes into a match when another text begins or ends alike, as
    one of 64 does: what is between them is looked for. A short one would leave nothing to look for."""
    needle = text.encode()[3:-3] if len(text) > 12 else text.encode()
    return sorted(str(path.relative_to(data)) for path in (data / under).rglob("*")
                  if path.is_file() and needle in path.read_bytes())


def owner_on(server, name):
    """An account with the feed "door"."""
    owner = conftest.owner_on(server, name)
    r = requests.post(f"{owner.url}/feeds", json={"name": "door"}, headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201), r.text
    return owner


def send(owner, feed, value, **headers):
    r = requests.post(f"{owner.url}/feeds/{feed}/data", json={"value": value, "lat": 47.5, "lon": 8.5},
                      headers={**owner.auth, **headers}, timeout=20)
    assert r.status_code == 200, r.text
    return r.json()


def values(owner, feed):
    r = requests.get(f"{owner.url}/feeds/{feed}/data", headers=owner.auth, timeout=20)
    assert r.status_code == 200, r.text
    return [d["value"] for d in r.json()]


def refused_start(server):
    server.spawn()
    assert server.process.wait(30) != 0
    return server.log()


@pytest.mark.parametrize("sealed", [False, True])
def test_journal_holds_no_value(make_server, tmp_path, sealed):
    server = make_server(keyed(tmp_path) if sealed else None)
    owner = owner_on(server, "sealed")
    value, name = canary(), canary()
    first = send(owner, "door", value, **{"Idempotency-Key": name})
    again = send(owner, "door", value, **{"Idempotency-Key": name})
    assert again["id"] == first["id"]
    found = files_with(server.data, value, "journal"), files_with(server.data, name, "journal")
    assert all(found) != sealed and any(found) != sealed  # the plain run shows that this finds it
    assert values(owner, "door") == [value]

    server.kill()  # the views read the journal again
    server.start()
    assert values(owner, "door") == [value]
    assert send(owner, "door", value, **{"Idempotency-Key": name})["id"] == first["id"]
    r = requests.post(f"{owner.url}/feeds/door/data", json={"value": "other"}, timeout=20,
                      headers={**owner.auth, "Idempotency-Key": name})
    assert r.status_code == 422, r.text
    assert server.metric("sealed_unreadable_total") == 0
    assert (server.metric("sealed_records_total") > 0) == sealed


def test_change_and_delete(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    owner = owner_on(server, "sealed")
    before, after, gone = canary(), canary(), canary()
    first, second = send(owner, "door", before), send(owner, "door", gone)
    r = requests.put(f"{owner.url}/feeds/door/data/{first['id']}", json={"value": after},
                     headers=owner.key_auth, timeout=20)
    assert r.status_code == 200, r.text
    r = requests.delete(f"{owner.url}/feeds/door/data/{second['id']}", headers=owner.key_auth,
                        timeout=20)
    assert r.status_code == 200, r.text
    assert values(owner, "door") == [after]
    server.kill()
    server.start()
    assert values(owner, "door") == [after]
    for text in before, after, gone:
        assert files_with(server.data, text, "journal") == []


def test_tail_opens_with_the_master_key(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    owner = owner_on(server, "sealed")
    value = canary()
    send(owner, "door", value)
    key = server.settings["encryption.master_key_file"]

    def tail(*args):
        run = server.cli_run("journal", "tail", *args)
        assert run.returncode == 0, run.stderr
        return run.stdout if " datum " in run.stdout else None  # seen once the next batch proves it

    closed = wait_for("the datum", tail)
    assert value not in closed and "sealed_bytes" in closed
    opened = tail("--set", f"encryption.master_key_file={key}")
    assert value in opened and "sealed_bytes" not in opened


def test_master_key_from_the_environment(make_server):
    server = make_server({"encryption.master_key_env": "SLUICE_MASTER_KEY"},
                         env={"SLUICE_MASTER_KEY": secrets.token_hex(32)})
    owner = owner_on(server, "sealed")
    value = canary()
    send(owner, "door", value)
    server.stop()
    server.start()
    assert values(owner, "door") == [value]


def test_refuses_a_wrong_or_missing_master_key(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    owner = owner_on(server, "sealed")
    send(owner, "door", "1")
    assert server.stop() == 0
    path = server.settings.pop("encryption.master_key_file")
    assert "no master key is given" in refused_start(server)
    other = tmp_path / "other.key"
    other.write_text(secrets.token_hex(32))
    server.settings["encryption.master_key_file"] = str(other)
    assert "another master key" in refused_start(server)
    other.write_text("short")
    assert "must hold 32 random bytes or more" in refused_start(server)
    server.settings["encryption.master_key_file"] = str(tmp_path / "none")
    assert "No such file" in refused_start(server)
    server.settings["encryption.master_key_file"] = path
    server.start()
    assert values(owner, "door") == ["1"]


def test_turned_on_later(make_server, tmp_path):
    server = make_server()
    owner = owner_on(server, "sealed")
    plain, sealed = canary(), canary()
    send(owner, "door", plain)
    server.stop()
    server.settings.update(keyed(tmp_path))
    server.start()
    send(owner, "door", sealed)
    assert files_with(server.data, sealed, "journal") == []
    assert values(owner, "door") == [sealed, plain]
    server.kill()
    server.start()
    assert values(owner, "door") == [sealed, plain]


def test_power_cut_after_the_first_message(make_server, tmp_path):
    """A key is durable before anything is sealed by it."""
    server = make_server(keyed(tmp_path, **{"journal.disk": "lossy"}))
    owner = owner_on(server, "sealed")
    value = canary()
    send(owner, "door", value)
    server.kill()
    server.start()
    assert values(owner, "door") == [value]


@pytest.mark.parametrize("sealed", [False, True])
def test_views_hold_no_value(make_server, tmp_path, sealed):
    """Neither the snapshot of the newest values nor the database, also after rows were merged."""
    server = make_server({**(keyed(tmp_path) if sealed else {}), "history.flush_size": "64KiB",
                          "history.flush_time": "100ms"})
    owner = owner_on(server, "sealed")
    sent = []
    for _ in range(40):
        sent.append(canary())
        flushes = server.metric("history_flushes_total")
        send(owner, "door", sent[-1])
        wait_for("a flush", lambda: server.metric("history_flushes_total") > flushes)
    wait_for("a merge", lambda: server.metric("history_rows_merged_total") >= 32)
    assert values(owner, "door") == sent[::-1]
    assert server.stop() == 0
    kept = [text for text in sent if files_with(server.data, text, "history")]
    newest = files_with(server.data, sent[-1])
    assert (not kept and not newest) if sealed else (len(kept) == 40 and "latest.snap" in newest)
    server.start()
    assert values(owner, "door") == sent[::-1]
    last = requests.get(f"{owner.url}/feeds/door/data/last", headers=owner.auth, timeout=20).json()
    assert last["value"] == sent[-1]
    assert server.metric("sealed_unreadable_total") == 0


def test_chart_of_sealed_rows(make_server, tmp_path):
    server = make_server({**keyed(tmp_path), "history.flush_time": "100ms"})
    owner = owner_on(server, "sealed")
    for i in range(10):
        send(owner, "door", str(i))
    assert server.stop() == 0
    server.start()
    r = requests.get(f"{owner.url}/feeds/door/data/chart", headers=owner.auth, timeout=20,
                     params={"hours": 1, "field": "sum"})
    assert r.status_code == 200, r.text
    assert sum(float(v) for _, v in r.json()["data"]) == 45


def test_rotate(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    owner = owner_on(server, "sealed")
    value = canary()
    send(owner, "door", value)
    old, new = tmp_path / "master.key", tmp_path / "new.key"
    new.write_text(secrets.token_hex(32))
    setting = ["--set", f"encryption.master_key_file={old}"]
    running = server.cli_run("keyring", "rotate", str(new), *setting)
    assert running.returncode == 1 and "another process has it" in running.stderr
    assert server.stop() == 0
    short = tmp_path / "short.key"
    short.write_text("short")
    refused = server.cli_run("keyring", "rotate", str(short), *setting)
    assert refused.returncode == 1 and "must hold 32 random bytes" in refused.stderr
    done = server.cli_run("keyring", "rotate", str(new), *setting)
    assert done.returncode == 0, done.stderr
    shown = server.cli_run("keyring", "show", "--set", f"encryption.master_key_file={new}")
    assert shown.returncode == 0 and shown.stdout.split() == ["keys", "1", "destroyed", "0"]
    assert "another master key" in refused_start(server)
    server.settings["encryption.master_key_file"] = str(new)
    server.start()
    assert values(owner, "door") == [value]
