# SPDX-License-Identifier: Apache-2.0
"""POST and GET /v1/telemetry: every form of body, every way to say who one is, every ack level."""
import gzip
import json
import time

import pytest
import requests

from wire import basic

URL = "/v1/telemetry"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def post(server, owner, body, headers=None, query="", auth=None):
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    return requests.post(server.url + URL + query, data=body, timeout=20,
                         headers={**(owner.auth if auth is None else auth), **JSON, **(headers or {})})


def stored(owner, feed):
    """All data of a feed, oldest first."""
    r = requests.get(f"{owner.url}/feeds/{feed}/data", headers=owner.key_auth, timeout=20)
    return r.json()[::-1] if r.status_code == 200 else []


def values(owner, feed):
    return [d["value"] for d in stored(owner, feed)]


# ---- forms ----

@pytest.mark.parametrize("text,value", [
    ('21.50', "21.50"), ('-0', "-0"), ('1e3', "1e3"), ('0.1000', "0.1000"),
    ('12345678901234567890123456789', "12345678901234567890123456789"),
    ('true', "true"), ('false', "false"), ('"text"', "text"), ('""', ""),
    (r'"\u00e9\n\"\\\/"', 'é\n"\\/'), (r'"\ud83d\ude00"', "😀"), ('"grün 😀"', "grün 😀"),
    ('" 21.50 "', " 21.50 "), ('"{\\"a\\":1}"', '{"a":1}'),
])
def test_value_comes_back_as_it_was_sent(server, owner, feed, text, value):
    r = post(server, owner, f'{{"{feed}":{text}}}', query="?ack=applied")
    assert r.status_code == 202, r.text
    assert values(owner, feed) == [value]


@pytest.mark.parametrize("sent,key", [("UPPER-{}", "upper-{}"), ("a b_{}", "a-b-{}"),
                                      ("group{}.temp", "group{}.temp")])
def test_names_are_folded_to_keys(server, owner, feed, sent, key):
    assert post(server, owner, {sent.format(feed): 5}).status_code == 202
    assert values(owner, key.format(feed)) == ["5"]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("pad", [10, 700, 15000, 60000])
def test_requests_of_one_turn_do_not_mix(wire, owner, feed, pad, split):
    """Forty connections whose requests arrive together: bodies small, and larger than what a worker
    reads into at a time. Half of them pipeline a second request behind the first."""
    wires = [wire() for _ in range(40)]
    head = "POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nX-Device-Id: {}\r\nX-Device-Token: {}\r\n".format(
        owner.device, owner.secret)
    sent = []
    for i in range(len(wires)):
        body = "[" + ",".join(f'{{"{feed}-{i}":"{i}-{k}-' + "x" * min(pad, 900) + '"}'
                              for k in range(max(1, pad // 900))) + "]"
        sent.append(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    if split:
        for i, w in enumerate(wires):
            w.send(sent[i][:-1])
    for i, w in enumerate(wires):
        w.send(sent[i][-1 if split else 0:] + (sent[i] if i % 2 else b""))
    for i, w in enumerate(wires):
        for _ in range(1 + i % 2):
            r = w.read()
            assert r.status == 202, r
    for i in range(len(wires)):
        want = [f"{i}-{k}-" + "x" * min(pad, 900) for k in range(max(1, pad // 900))] * (1 + i % 2)
        assert values(owner, f"{feed}-{i}") == want


def test_several_feeds_in_one_object(server, owner, feed):
    r = post(server, owner, {f"{feed}-a": 1, f"{feed}-b": "two", f"{feed}-c": False})
    assert r.status_code == 202 and r.json()["accepted"] == 3
    assert [values(owner, f"{feed}-{x}") for x in "abc"] == [["1"], ["two"], ["false"]]


def test_value_with_time_and_place(server, owner, feed):
    r = post(server, owner, {feed: {"value": 3.5, "created_at": "2026-01-02T03:04:05Z",
                                    "lat": 48.5, "lon": -11.25, "ele": 520}})
    assert r.status_code == 202, r.text
    [datum] = stored(owner, feed)
    assert datum["value"] == "3.5" and datum["created_at"] == "2026-01-02T03:04:05Z"
    assert (datum["lat"], datum["lon"], datum["ele"]) == (48.5, -11.25, 520)
    assert datum["location"]["geometry"]["coordinates"] == [-11.25, 48.5, 520]


def test_array(server, owner, feed):
    r = post(server, owner, [{feed: 1}, {feed: {"value": 2}}, {feed: 3, f"{feed}-x": 4}])
    assert r.status_code == 202 and r.json()["accepted"] == 4
    assert values(owner, feed) == ["1", "2", "3"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_ndjson(server, owner, feed, end):
    body = "\n".join(json.dumps({feed: i}) for i in range(5)) + end
    r = post(server, owner, body, NDJSON)
    assert r.status_code == 202 and r.json()["accepted"] == 5, r.text
    assert values(owner, feed) == ["0", "1", "2", "3", "4"]


def test_offsets_follow_each_other(server, owner, feed):
    first = post(server, owner, [{feed: i} for i in range(10)]).json()
    second = post(server, owner, {feed: 10}).json()
    assert first["position"]["log"] == second["position"]["log"]
    assert second["position"]["offset"] >= first["position"]["offset"] + 10


def test_latest_values_of_the_caller(server, owner, feed):
    post(server, owner, [{feed: 1}, {feed: "newest"}])
    r = requests.get(server.url + URL, headers=owner.auth, timeout=10)
    assert r.status_code == 200 and r.headers["content-type"].startswith("application/json")
    assert r.json()["feeds"][feed]["value"] == "newest"
    by_key = requests.get(server.url + URL, headers=owner.key_auth, timeout=10)
    assert by_key.json()["feeds"][feed]["value"] == "newest"


def test_latest_is_by_event_time(server, owner, feed):
    post(server, owner, {feed: {"value": "new", "created_at": "2026-02-01T00:00:00Z"}})
    post(server, owner, {feed: {"value": "late", "created_at": "2026-01-01T00:00:00Z"}})
    r = requests.get(server.url + URL, headers=owner.auth, timeout=10)
    assert r.json()["feeds"][feed]["value"] == "new"
    assert values(owner, feed) == ["late", "new"]


# ---- all or nothing ----

BAD = {
    "empty": "", "blank": "  ", "no JSON": "hello", "cut": '{"F":', "cut string": '{"F":"a',
    "trailing": '{"F":1}x', "two objects": '{"F":1}{"F":2}', "comma": '{"F":1,}',
    "single quotes": "{'F':1}", "number": "5", "string": '"F"', "null": "null",
    "empty object": "{}", "empty array": "[]", "array of numbers": "[1]", "nested array": '[[{"F":1}]]',
    "null value": '{"F":null}', "member null value": '{"F":{"value":null}}',
    "no value member": '{"F":{"lat":1,"lon":2}}', "leading zero": '{"F":01}', "plus": '{"F":+1}',
    "point": '{"F":.5}', "hex": '{"F":0x1}', "NaN": '{"F":NaN}', "Infinity": '{"F":Infinity}',
    "control byte": '{"F":"a\x01"}', "lone surrogate": '{"F":"\\ud800"}', "bad escape": '{"F":"\\x"}',
    "empty key": '{"":1}', "key with slash": '{"F/x":1}', "key with accent": '{"Fé":1}',
    "key with two dots": '{"F.a.b":1}', "key of 129": '{"' + "k" * 129 + '":1}',
    "key of 300": '{"' + "k" * 300 + '":1}',
    "future": '{"F":{"value":1,"created_at":"2099-01-01T00:00:00Z"}}',
    "before 1970": '{"F":{"value":1,"created_at":"1969-01-01T00:00:00Z"}}',
    "value too long": '{"F":"' + "v" * 1025 + '"}',
    "bad time": '{"F":{"value":1,"created_at":"yesterday"}}',
    "impossible day": '{"F":{"value":1,"created_at":"2026-02-30T00:00:00Z"}}',
    "lat as text": '{"F":{"value":1,"lat":"x","lon":2}}',
    "lat too large": '{"F":{"value":1,"lat":91,"lon":2}}',
    "lon too large": '{"F":{"value":1,"lat":1,"lon":181}}',
    "lat without lon": '{"F":{"value":1,"lat":1}}',
    "depth": '{"F":' + "[" * 100000 + "]" * 100000 + "}",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_body_is_refused_and_stores_nothing(server, owner, feed, name):
    before = server.metric("journal_records_total")
    r = post(server, owner, BAD[name].replace("F", feed))
    assert r.status_code in (400, 413, 422), (r.status_code, r.text)
    assert r.json()["error"]
    # Nothing at all: no feed was made for it either.
    assert server.metric("journal_records_total") == before
    r = requests.get(f"{owner.url}/feeds/{feed}", headers=owner.key_auth, timeout=10)
    assert r.status_code == 404


@pytest.mark.parametrize("raw", [b'{"F":"\xff"}', b'{"F":"\xc0\xaf"}', b'{"F":"\xed\xa0\x80"}',
                                 b'\xef\xbb\xbf', b'{"\xff":1}', b'{"F":"a\x00"}'])
def test_bad_utf8_is_refused(server, owner, feed, raw):
    r = post(server, owner, raw.replace(b"F", feed.encode()))
    assert r.status_code == 422, r.text
    assert stored(owner, feed) == []


@pytest.mark.parametrize("bad", ['{"F":}', '{"F":null}', '{"F":{"value":1,"lat":"north"}}', '{"":1}', "[]"])
@pytest.mark.parametrize("form", ["array", "ndjson", "object"])
@pytest.mark.parametrize("place", [0, 5, 9])
def test_one_bad_element_refuses_all(server, owner, feed, bad, form, place):
    good = post(server, owner, {feed: "before"})
    assert good.status_code == 202
    if form == "object":
        if not bad.startswith("{"):
            bad = '{"x":[}'
        members = [f'"{feed}-{i}":{i}' for i in range(10)]
        members[place] = bad.replace("F", feed)[1:-1]
        body, headers = "{" + ",".join(members) + "}", {}
    else:
        items = [json.dumps({feed: i}) for i in range(10)]
        items[place] = bad.replace("F", feed)
        body = "\n".join(items) if form == "ndjson" else "[" + ",".join(items) + "]"
        headers = NDJSON if form == "ndjson" else {}
    r = post(server, owner, body, headers)
    assert r.status_code == 422, (r.status_code, r.text, body)
    assert values(owner, feed) == ["before"]
    assert [stored(owner, f"{feed}-{i}") for i in range(10)] == [[]] * 10


def test_the_sentence_names_the_element(server, owner, feed):
    r = post(server, owner, [{feed: 1}, {feed: 2}, {feed: {"value": 1, "lat": "x", "lon": 1}}])
    assert r.status_code == 422
    assert "element 3" in r.json()["error"] and "lat" in r.json()["error"]


@pytest.mark.parametrize("n,status", [(999, 202), (1000, 202), (1001, None)])
def test_limit_of_elements(server, owner, feed, n, status):
    r = post(server, owner, [{feed: i} for i in range(n)])
    if status:
        assert r.status_code == status and r.json()["accepted"] == n
        assert len(values(owner, feed)) == n
    else:
        assert r.status_code in (413, 422)
        assert stored(owner, feed) == []


@pytest.mark.parametrize("n,fits", [(1023, True), (1024, True), (1025, False)])
def test_limit_of_a_value(server, owner, feed, n, fits):
    r = post(server, owner, {feed: "v" * n})
    assert (r.status_code == 202) == fits, r.text
    assert r.status_code in (202, 413, 422)
    assert [len(v) for v in values(owner, feed)] == ([n] if fits else [])


# ---- codings ----

def test_gzip(server, owner, feed):
    body = json.dumps([{feed: f"value {i}"} for i in range(1000)]).encode()
    r = post(server, owner, gzip.compress(body), {"Content-Encoding": "gzip"})
    assert r.status_code == 202 and r.json()["accepted"] == 1000
    assert len(values(owner, feed)) == 1000


@pytest.mark.parametrize("spoil", ["cut", "trailing", "crc", "plain", "empty", "twice"])
def test_spoiled_gzip_is_refused(server, owner, feed, spoil):
    body = json.dumps({feed: 1}).encode()
    packed = gzip.compress(body)
    packed = {"cut": packed[:-5], "trailing": packed + b"x", "plain": body, "empty": b"",
              "crc": packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:],
              "twice": gzip.compress(packed)}[spoil]
    r = post(server, owner, packed, {"Content-Encoding": "gzip"})
    assert r.status_code in (400, 422), r.text
    assert stored(owner, feed) == []


@pytest.mark.parametrize("over,fits", [(0, True), (1, False)])
def test_limit_of_the_body_counts_after_unpacking(server, owner, feed, over, fits):
    body = json.dumps({feed: 1}).ljust(1048576 + over).encode()
    r = post(server, owner, gzip.compress(body), {"Content-Encoding": "gzip"})
    assert r.status_code == (202 if fits else 413), r.text


def test_gzip_bomb(server, owner, feed):
    def resident():
        with open(f"/proc/{server.pid}/statm") as f:
            return int(f.read().split()[1]) * 4096

    bomb = gzip.compress(b" " * (200 << 20), 9)
    assert len(bomb) < 1 << 20
    before = resident()
    for _ in range(10):
        assert post(server, owner, bomb, {"Content-Encoding": "gzip"}).status_code == 413
    assert resident() - before < 100 << 20
    assert post(server, owner, {feed: 1}).status_code == 202


@pytest.mark.parametrize("coding,status", [("identity", 202), ("GZIP", 202), ("x-gzip", None),
                                           ("deflate", 415), ("br", 415), ("gzip, gzip", 415),
                                           ("zstd", 415)])
def test_other_codings(server, owner, feed, coding, status):
    body = json.dumps({feed: 1}).encode()
    packed = gzip.compress(body) if "gzip" in coding.lower() else body
    r = post(server, owner, packed, {"Content-Encoding": coding})
    assert r.status_code == status or (status is None and r.status_code in (202, 415)), r.text


@pytest.mark.parametrize("kind,status", [
    ("application/json; charset=utf-8", 202), ("APPLICATION/JSON", 202),
    ("application/x-ndjson; charset=utf-8", 202), ("text/plain", 202),
    ("application/x-www-form-urlencoded", 202),  # what curl -d says of any body
    ("multipart/form-data; boundary=x", 415)])
def test_content_types(server, owner, feed, kind, status):
    r = post(server, owner, {feed: 1}, {"Content-Type": kind})
    assert r.status_code == status, r.text


def test_without_a_content_type_it_is_json(server, owner, feed):
    r = requests.post(server.url + URL, data=json.dumps({feed: 1}).encode(), headers=owner.auth,
                      timeout=10)
    assert r.status_code == 202


# ---- acknowledgements ----

def test_ack_received_has_no_position(server, owner, feed):
    r = post(server, owner, {feed: "r"}, query="?ack=received")
    assert r.status_code == 202
    assert r.json() == {"accepted": 1, "ack": "received"}
    end = time.monotonic() + 5
    while values(owner, feed) != ["r"]:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("level", ["durable", "applied"])
def test_ack_with_a_position(server, owner, feed, level):
    r = post(server, owner, {feed: 1}, query=f"?ack={level}")
    assert r.status_code == 202 and r.json()["ack"] == level
    assert set(r.json()["position"]) == {"log", "shard", "offset"}


@pytest.mark.parametrize("level", ["", "none", "DURABLE", "delivered:kafka", "durable,applied"])
def test_unknown_ack_level_is_refused(server, owner, feed, level):
    r = post(server, owner, {feed: 1}, query=f"?ack={level}")
    assert r.status_code == 400, r.text
    assert stored(owner, feed) == []


def test_default_level_is_a_setting(make_server):
    from conftest import owner_on
    s = make_server({"ack.level": "applied"})
    owner = owner_on(s, "a")
    assert post(s, owner, {"t": 1}).json()["ack"] == "applied"
    assert post(s, owner, {"t": 1}, query="?ack=durable").json()["ack"] == "durable"


def test_reads_see_what_was_just_accepted(server, owner, feed):
    """Every client posts and then reads back, on another connection as well."""
    for i in range(200):
        assert post(server, owner, {feed: i}).status_code == 202
        r = requests.get(f"{owner.url}/feeds/{feed}/data/last", headers=owner.key_auth, timeout=10)
        assert r.json()["value"] == str(i)


# ---- who ----

def test_all_ways_to_say_who_one_is(server, owner, feed):
    ways = [owner.auth, basic(owner.device, owner.secret), basic(owner.name, owner.key),
            owner.key_auth, {"x-aio-KEY": owner.key}]
    for i, auth in enumerate(ways):
        assert post(server, owner, {feed: i}, auth=auth).status_code == 202, auth
    for name in ("x-aio-key", "X-AIO-Key"):
        r = post(server, owner, {feed: 9}, auth={}, query=f"?{name}={owner.key}")
        assert r.status_code == 202
    assert len(values(owner, feed)) == 7


def test_wrong_ways_are_refused(server, owner, feed):
    wrong = [{}, {"X-Device-Id": owner.device}, {"X-Device-Token": owner.secret},
             basic(owner.device, "x"), basic(owner.name, "x"), basic("nobody", owner.key),
             basic("", ""), {"X-AIO-Key": "x"}, {"X-AIO-Key": ""}, {"Authorization": "Basic !!!"},
             {"Authorization": "Bearer " + owner.key}, {"Authorization": "Basic"},
             {"X-Device-Id": owner.device, "X-Device-Token": owner.secret + " x"},
             {"X-Device-Id": owner.device.upper(), "X-Device-Token": owner.secret}]
    for auth in wrong:
        r = post(server, owner, {feed: 1}, auth=auth)
        assert r.status_code == 401, (auth, r.text)
        assert r.json()["error"]
    assert stored(owner, feed) == []
