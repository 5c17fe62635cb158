# SPDX-License-Identifier: Apache-2.0
"""Receipts: the Location of a 202 tells which watermarks have passed the message, to whom it concerns."""
import pytest
import requests

from conftest import owner_on
from harness import device_auth, free_port, wait_for


@pytest.fixture(scope="module")
def away():
    return {"postgres.url": f"postgresql://nobody@127.0.0.1:{free_port()}/none", "postgres.retry_max": "300ms"}


def send(server, auth, body, query="", headers=None):
    r = requests.post(server.url + "/v1/telemetry" + query, json=body, headers={**auth, **(headers or {})}, timeout=20)
    assert r.status_code == 202, r.text
    return r


def ask(server, path, auth):
    return requests.get(server.url + path, headers=auth, timeout=20)


def test_a_receipt_is_of_the_last_message_and_of_its_readers(make_server):
    server = make_server({})
    ann, bob = owner_on(server, "ann"), owner_on(server, "bob")
    first = send(server, ann.auth, {"a": 1, "b": 2, "c": 3}, "?ack=applied")
    offset = first.json()["position"]["offset"] + 2
    assert first.headers["Location"] == f"/v1/receipts/{offset}"
    r = ask(server, first.headers["Location"], ann.key_auth)
    assert (r.status_code, r.headers["Cache-Control"]) == (200, "no-store")
    assert r.json() == {"log": first.json()["position"]["log"], "shard": 0, "offset": offset, "durable": True,
                        "applied": {"latest": True, "history": True}, "delivered": {}}
    # Strangers learn nothing: they are told the same of what is there and of what is not.
    none = ask(server, "/v1/receipts/4000000000", bob.key_auth)
    theirs = ask(server, first.headers["Location"], bob.key_auth)
    assert none.status_code == theirs.status_code == 404 and none.text == theirs.text
    assert ask(server, first.headers["Location"], {}).status_code == 401
    # Nor does a device that is bound to other feeds, nor a role that may not read.
    bound = device_auth("bound", server.add_device("ann", "bound", "--feeds", "a,b"))
    assert ask(server, first.headers["Location"], bound).status_code == 404
    assert ask(server, f"/v1/receipts/{offset - 1}", bound).status_code == 200
    server.cli("role", "add", "mute", "data_write,feed_write")
    mute = device_auth("mute", server.add_device("ann", "mute", "--role", "mute"))
    assert ask(server, first.headers["Location"], mute).status_code == 403
    # What is no offset, and records that are no messages (the journal begins with those of the catalog).
    for path in ("x", "-1", "1.5", "18446744073709551616", str(2**64 + offset), "0x1", "0"):
        assert ask(server, f"/v1/receipts/{path}", ann.key_auth).status_code == 404, path
    assert "Location" not in send(server, ann.auth, {"a": 4}, "?ack=received").headers


def test_the_same_again_has_the_same_receipt_also_after_a_crash(make_server):
    server = make_server({})
    ann = owner_on(server, "ann")
    named = {"Idempotency-Key": "k1"}
    first = send(server, ann.auth, {"a": 1, "b": 2}, headers=named).headers["Location"]
    last = send(server, ann.auth, {"a": 2}).headers["Location"]
    assert first != last
    server.kill()
    server.start()
    again = send(server, ann.auth, {"a": 1, "b": 2}, headers=named)
    assert again.headers["Idempotency-Replayed"] == "true" and again.headers["Location"] == first
    for location in (first, last):
        applied = lambda: all(ask(server, location, ann.key_auth).json()["applied"].values())
        wait_for("the views", applied)


def test_a_sink_that_is_away_has_delivered_nothing(make_server, away):
    server = make_server(away)
    ann = owner_on(server, "ann")
    location = send(server, ann.auth, {"a": 1}, "?ack=applied").headers["Location"]
    for _ in range(3):
        r = ask(server, location, ann.key_auth).json()
        assert r["delivered"] == {"postgres": "pending"} and r["applied"] == {"latest": True, "history": True}
