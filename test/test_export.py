# SPDX-License-Identifier: Apache-2.0
"""`sluice account export`: every record and every datum of an account, once, as lines of JSON."""
import json

import requests

from test_sealing import keyed, owner_on, send, values


def export(server, account):
    run = server.cli_run("account", "export", account)
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in run.stdout.splitlines()]
    return {kind: [r for r in records if r["type"] == kind]
            for kind in ("account", "key", "device", "group", "feed", "datum")}


def test_all_of_it(make_server, tmp_path):
    server = make_server(keyed(tmp_path))
    owner, other = owner_on(server, "mine"), owner_on(server, "theirs")
    sent = send(owner, "door", "first")
    send(other, "door", "not mine")
    many = [{"bulk": f"{i}"} for i in range(1000)]
    for _ in range(3):  # more than one part
        r = requests.post(f"{server.url}/v1/telemetry?ack=applied", json=many, headers=owner.auth, timeout=60)
        assert r.status_code == 202, r.text
    r = requests.post(f"{owner.url}/feeds", json={"name": "last only", "history": False},
                      headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201), r.text
    send(owner, "last-only", "old")
    send(owner, "last-only", "new")
    assert values(owner, "door") == ["first"]  # the views have it all
    got = export(server, "mine")
    assert [r["name"] for r in got["account"]] == ["mine"]
    assert [r["name"] for r in got["device"]] == [owner.device]
    assert [r["name"] for r in got["key"]] == ["main"]
    assert {r["key"] for r in got["feed"]} == {"door", "bulk", "last-only"}
    of = {key: [d for d in got["datum"] if d["feed"] == key] for key in ("door", "bulk", "last-only")}
    assert [(d["id"], d["value"], d["lat"], d["lon"]) for d in of["door"]] == [(sent["id"], "first", 47.5, 8.5)]
    assert len({d["id"] for d in of["bulk"]}) == len(of["bulk"]) == 3000
    assert sorted(int(d["value"]) for d in of["bulk"]) == sorted(list(range(1000)) * 3)
    assert [d["value"] for d in of["last-only"]] == ["new"]
    assert owner.secret not in json.dumps(got) and owner.key not in json.dumps(got)


def test_nobody(make_server):
    server = make_server()
    run = server.cli_run("account", "export", "nobody")
    assert run.returncode == 1 and "there is no account" in run.stderr and run.stdout == ""
