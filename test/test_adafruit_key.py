# SPDX-License-Identifier: Apache-2.0
"""A key that puts a new one in its own place: the old one is refused from the next request on."""
import json
import re
import threading

import pytest
import requests

from conftest import owner_on
from harness import WIDE, Server, device_auth

REFUSED = {"error": "request failed - invalid API key provided"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Tries with a key that is gone are failures of this address, of which there are many here."""
    server = Server(tmp_path_factory.mktemp("server"), {"auth.failures_address": WIDE, "server.workers": "4"})
    server.start()
    yield server
    server.close()


@pytest.fixture
def owner(server, feed):
    return owner_on(server, f"user-{feed}")


def regenerate(owner, key, body=None, **rest):
    return requests.post(owner.url + "/key/regenerate", headers={"X-AIO-Key": key}, json=body, timeout=20, **rest)


def status(session, owner, key):
    return session.get(owner.url + "/feeds", headers={"X-AIO-Key": key}, timeout=20).status_code


def test_old_is_refused_at_once(owner):
    """On connections that have used it before, whichever worker they are on."""
    sessions = [requests.Session() for _ in range(24)]
    key = owner.key
    for _ in range(5):
        for s in sessions:
            assert status(s, owner, key) == 200
        r = regenerate(owner, key)
        assert r.status_code == 200 and r.headers["Cache-Control"] == "no-store", r.text
        made = r.json()
        assert set(made) == {"username", "name", "key"} and (made["username"], made["name"]) == (owner.name, "main")
        assert re.fullmatch(r"aio_[A-Za-z0-9]{28}", made["key"]) and made["key"] != key
        for s in sessions:
            r = s.get(owner.url + "/feeds", headers={"X-AIO-Key": key}, timeout=20)
            assert r.status_code == 401 and r.json()["error"] == REFUSED["error"]
            assert status(s, owner, made["key"]) == 200
        assert requests.get(owner.url + "/feeds", auth=(owner.name, key), timeout=20).status_code == 401
        assert requests.get(owner.url + "/feeds", auth=(owner.name, made["key"]), timeout=20).status_code == 200
        key = made["key"]


def test_a_key_of_ones_own(owner):
    """So that one who never got the answer can look whether it was done."""
    want = "aio_" + "Ab3" * 9 + "Z"
    assert regenerate(owner, owner.key, {"key": want}).json()["key"] == want
    assert regenerate(owner, owner.key, {"key": want}).status_code == 401
    r = regenerate(owner, want, {"key": want})
    assert r.status_code == 400 and "in use" in r.json()["error"], r.text
    form = "0123456789abcdef" * 2
    r = requests.post(owner.url + "/key/regenerate", headers={"X-AIO-Key": want}, data={"key": form}, timeout=20)
    assert r.json()["key"] == form
    for bad in ("", "password", "aio_short", 5, [], "aio_" + "x" * 29):
        r = regenerate(owner, form, {"key": bad})
        if bad == "":  # as none
            form = r.json()["key"]
            continue
        assert r.status_code == 422 and '"key"' in r.json()["error"], (bad, r.text)
    r = requests.post(owner.url + "/key/regenerate", headers={"X-AIO-Key": form}, data="{", timeout=20)
    assert r.status_code == 422


def test_who_may(server, owner):
    for role in ("reader", "writer", "device"):
        key = server.cli("key", "add", owner.name, role, "--role", role)["key"]
        r = regenerate(owner, key)
        assert r.status_code == 403, (role, r.text)
    assert regenerate(owner, "aio_" + "x" * 28).status_code == 401
    device = server.cli("device", "add", owner.name, owner.name + "-boss", "--role", "owner")
    r = requests.post(owner.url + "/key/regenerate", headers=device_auth(owner.name + "-boss", device["secret"]), timeout=20)
    assert r.status_code == 403 and "device's secret" in r.json()["error"]
    other = owner_on(server, owner.name + "-2")
    assert regenerate(owner, other.key).status_code == 404
    # Only itself: the account's other keys stay.
    second = server.add_key(owner.name, "second")
    assert regenerate(owner, owner.key).status_code == 200
    assert status(requests, owner, second) == 200


def test_one_of_many_wins(owner):
    """Of those who have the old key only one gets a new one, and that is the one that works."""
    key = owner.key
    for _ in range(10):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(regenerate(owner, key))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        won = [r for r in answers if r.status_code == 200]
        assert len(won) == 1, [(r.status_code, r.text) for r in answers]
        assert all(r.status_code in (401, 400, 409) for r in answers if r.status_code != 200)
        key = won[0].json()["key"]
        assert status(requests, owner, key) == 200


def test_outlives_a_crash(make_server):
    server = make_server()
    owner = owner_on(server, "a")
    made = regenerate(owner, owner.key).json()["key"]
    server.kill()
    server.start()
    owner.url = f"{server.url}/api/v2/a"
    assert status(requests, owner, owner.key) == 401 and status(requests, owner, made) == 200
    server.stop()
    # Who did it is recorded, what it was is nowhere.
    printed = server.cli_run("journal", "tail", "--json").stdout
    told = [json.loads(r["payload"]) for r in map(json.loads, printed.splitlines()) if r["kind"] == "audit"]
    # Perhaps twice, with one change id: the crash may have come before that it is written was noted.
    assert {a["actor"] for a in told if a["op"] == "key_secret"} == {"main"}
    for path in server.home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert owner.key.encode() not in data and made.encode() not in data, path
