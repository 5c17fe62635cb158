# SPDX-License-Identifier: Apache-2.0
"""An account that is erased is gone: from the files of a running server, byte for byte, and, where data
are sealed, from every copy of them that was made before."""
import random
import secrets
import shutil
import threading
import time

import pytest
import requests

import conftest
from harness import AdminConnection, CliError
from test_sealing import canary, files_with, keyed, owner_on, send, values


def describe(owner, text):
    r = requests.put(f"{owner.url}/feeds/door", json={"description": text}, headers=owner.key_auth,
                     timeout=20)
    assert r.status_code == 200, r.text


class Victim:
    """An account whose every text is found by nothing but itself, and somebody who stays."""

    def __init__(self, server):
        self.server = server
        self.owner = owner_on(server, "gone" + secrets.token_hex(12))
        self.stays = owner_on(server, "stays")
        self.description, self.kept = canary(), canary()
        self.values = [canary() for _ in range(6)]
        describe(self.owner, self.description)
        for value in self.values:
            send(self.owner, "door", value, **{"Idempotency-Key": value[:60]})
        send(self.stays, "door", self.kept)
        self.names = [self.owner.name, self.owner.device, self.description]

    def flush(self):
        """Everything is in the files afterwards."""
        assert self.server.stop() == 0
        self.server.start()

    def found(self, texts, data=None):
        """{file: how many of the texts stand in it}"""
        count = {}
        for text in texts:
            for name in files_with(data or self.server.data, text):
                count[name] = count.get(name, 0) + 1
        return count

    def check_stays(self):
        assert values(self.stays, "door") == [self.kept]


def folders(found):
    return {name.split("/")[0] for name in found}


def test_sealed(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    v = Victim(server)
    v.flush()
    assert not v.found(v.values)
    assert "catalog.db" in v.found(v.names)
    answer = server.cli("account", "erase", v.owner.name)
    assert answer["erased"] == v.owner.name and "remains" not in answer
    # The list names numbers; the audit record of the removal was sealed with the key that is gone.
    assert v.found(v.values + v.names) == {}
    v.check_stays()
    v.flush()
    assert v.found(v.values + v.names) == {}
    assert server.metric("sealed_unreadable_total") == 0
    v.check_stays()
    with pytest.raises(CliError):
        server.cli("account", "show", v.owner.name)


def test_plain_says_what_remains(make_server):
    server = make_server()
    v = Victim(server)
    v.flush()
    before = v.found(v.values)
    assert {"journal", "history", "latest.snap"} <= folders(before)
    answer = server.cli("account", "erase", v.owner.name)
    assert "journal" in answer["remains"]
    assert folders(v.found(v.values)) == {"journal"}
    assert folders(v.found(v.names)) == {"journal", "audit"}
    v.check_stays()
    v.flush()
    assert folders(v.found(v.values)) == {"journal"}
    assert folders(v.found(v.names)) == {"journal", "audit"}
    v.check_stays()


def test_copy_made_before(make_server, tmp_path):
    """A copy of the data directory as a backup has it, without the keyring: nothing of it opens any more,
    and a server that starts on it, with keyring and list of today, erases what came back."""
    server = make_server(keyed(tmp_path))
    v = Victim(server)
    assert server.stop() == 0
    copy = tmp_path / "copy"
    shutil.copytree(server.data, copy, ignore=shutil.ignore_patterns("keyring*", "admin.sock"))
    old_keyring = (server.data / "keyring").read_bytes()
    server.start()
    server.cli("account", "erase", v.owner.name)
    assert v.found(v.values, copy) == {}
    assert server.stop() == 0

    # That the copy did hold them: the keyring of then opens it.
    restored = make_server(keyed(tmp_path), start=False)
    shutil.copytree(copy, restored.data)
    (restored.data / "keyring").write_bytes(old_keyring)
    restored.start()
    then = conftest.SimpleNamespace(**{**vars(v.owner), "url": f"{restored.url}/api/v2/{v.owner.name}"})
    assert values(then, "door") == v.values[::-1]
    assert restored.stop() == 0
    shutil.rmtree(restored.data)

    shutil.copytree(copy, restored.data)
    for name in "keyring", "keyring.erased":
        shutil.copy(server.data / name, restored.data / name)
    restored.start()
    assert v.found(v.values + v.names, restored.data) == {}
    v.stays.url = f"{restored.url}/api/v2/stays"
    v.check_stays()
    assert restored.metric("sealed_unreadable_total") == 0

    # Only the keys come back: they are destroyed again, and that is told.
    (server.data / "keyring").write_bytes(old_keyring)
    server.start()
    told = server.cli("audit", "list", "--actor", "erase")["entries"]
    assert [(e["op"], e["note"]) for e in told] == [("account_erase", "keys of an account that is gone, destroyed")]
    assert told[0]["subject"].isdigit()
    assert server.stop() == 0
    server.start()
    assert server.cli("audit", "list", "--actor", "erase")["entries"] == told


@pytest.mark.parametrize("sealed", [False, True])
def test_killed_in_the_middle(make_server, tmp_path, sealed):
    """Once the list names it, an erasure comes to its end."""
    rng = random.Random(int(time.time()))
    server = make_server(keyed(tmp_path) if sealed else None)
    begun = 0
    for delay in [0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15]:
        owner = owner_on(server, "gone" + secrets.token_hex(8))
        value = canary()
        send(owner, "door", value)
        thread = threading.Thread(target=quietly_erase, args=(server, owner.name))
        thread.start()
        time.sleep(delay * rng.uniform(0.5, 1.5))
        server.kill()
        thread.join(20)
        listed = server.data / "keyring.erased"
        number = [line for line in (listed.read_text() if listed.exists() else "").splitlines()
                  if line.startswith("account ")]
        server.start()
        shown = server.cli_run("account", "show", owner.name)
        if len(number) == begun:
            assert shown.returncode == 0 and values(owner, "door") == [value]
            continue
        begun = len(number)
        assert shown.returncode != 0
        assert f"done {number[-1].split()[1]}\n" in listed.read_text()
        assert folders(files_with(server.data, value)) <= (set() if sealed else {"journal"})
        assert folders(files_with(server.data, owner.name)) <= (set() if sealed else {"journal", "audit"})
    assert begun, "no erasure ever began"


def quietly_erase(server, name):
    try:
        AdminConnection(server.data / "admin.sock").call("account", "erase", account=name)
    except Exception:  # the server was killed
        pass


def test_while_it_sends(make_server, tmp_path):
    """What is on its way when its account is erased is erased too."""
    server = make_server()
    owner = owner_on(server, "gone")
    value, stop = canary(), threading.Event()

    def push():
        session = requests.Session()
        while not stop.is_set():
            session.post(f"{server.url}/v1/telemetry", json={"door": value}, headers=owner.auth, timeout=20)

    threads = [threading.Thread(target=push) for _ in range(4)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    server.cli("account", "erase", "gone")
    stop.set()
    for t in threads:
        t.join(20)
    assert server.stop() == 0
    assert {name.split("/")[0] for name in files_with(server.data, value)} == {"journal"}


def test_needs_a_server_and_an_account(make_server):
    server = make_server()
    with pytest.raises(CliError) as e:
        server.cli("account", "erase", "nobody")
    assert "there is no account" in e.value.stderr
    assert server.stop() == 0
    with pytest.raises(CliError) as e:
        server.cli("account", "erase", "nobody")
    assert "none runs here" in e.value.stderr


def test_device(make_server):
    """The device's row goes, byte for byte, and with --feeds the feeds that are its own."""
    server = make_server()
    owner = owner_on(server, "stays")
    sent, kept, device = [canary(), canary()], canary(), "dev" + secrets.token_hex(12)
    secret = server.add_device("stays", device, "--feeds", "own,door*")
    auth = conftest.device_auth(device, secret)
    # Of a text that comes twice in a row LZ4 may take the last byte into the match: then the first is not whole.
    for text in sent:
        r = requests.post(f"{server.url}/v1/telemetry?ack=applied", json={"own": text, "door": kept}, headers=auth,
                          timeout=20)
        assert r.status_code == 202, r.text
    assert server.stop() == 0
    server.start()
    assert "catalog.db" in files_with(server.data, device)
    assert folders(files_with(server.data, sent[0])) == {"journal", "history"}
    assert {"history", "latest.snap"} <= folders(files_with(server.data, sent[1]))
    answer = server.cli("device", "erase", device, "--feeds")
    assert answer["feeds_erased"] == 1 and "journal" in answer["remains"]
    for text in sent:
        assert folders(files_with(server.data, text)) == {"journal"}
    assert folders(files_with(server.data, device)) == {"journal", "audit"}
    assert values(owner, "door") == [kept, kept]
    r = requests.post(f"{server.url}/v1/telemetry", json={"own": "1"}, headers=auth, timeout=20)
    assert r.status_code == 401
    assert server.stop() == 0
    server.start()
    assert values(owner, "door") == [kept, kept]
