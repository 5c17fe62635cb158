# SPDX-License-Identifier: Apache-2.0
"""MQTT over WebSocket at /mqtt: the upgrade, frames of any shape, control frames, refusals."""
import itertools
import re
import struct
import subprocess

import paho.mqtt.client as paho
import pytest
import requests

import mqtt_wire as mqtt
from conftest import owner_on
from harness import ROOT, Server, free_port, wait_for
from mqtt_wire import CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, packet, text
from pki import Authority
from test_proxy import v1
from websocket_wire import CLOSE, CONTINUATION, PING, TEXT, WebSocket, frame, upgrade
from wire import Wire, request

_numbers = itertools.count(1)


@pytest.fixture
def new_feed():
    return f"ws-{next(_numbers)}"


@pytest.fixture
def ws(server):
    """ws(version=4, ...): a connection, upgraded, not logged in."""
    opened = []

    def connect(version=4, **rest):
        opened.append(WebSocket(server.http_port, version, **rest))
        return opened[-1]

    yield connect
    for w in opened:
        w.close()


@pytest.fixture
def client(ws, owner):
    def connect(version=4, **rest):
        c = ws(version, **rest)
        c.login(owner.name, owner.key)
        return c
    return connect


def values(owner, feed):
    r = requests.get(f"{owner.url}/feeds/{feed}/data?include=value", headers=owner.key_auth)
    return [d["value"] for d in r.json()] if r.status_code == 200 else []


def ended(c, code):
    """The connection ends, and its close frame has this code."""
    assert c.closed()
    assert c.close_code == code, (c.close_code, c.close_reason)
    return True


# ---- the upgrade ----

def test_the_answer(server, ws):
    c = ws(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits", Origin="https://any.test")
    assert b"\r\nSec-WebSocket-Protocol: mqtt" in c.head
    assert b"Extensions" not in c.head
    assert b"\r\nSec-WebSocket-Protocol: mqtt\r\n" in ws(protocol="chat, mqttv3.1, mqtt").head + b"\r\n"
    assert b"\r\nSec-WebSocket-Protocol: mqttv3.1\r\n" in ws(protocol="mqttv3.1").head + b"\r\n"
    assert ws(path="/mqtt/?x=1").head
    assert server.metric("websocket_upgrades_total") >= 3


@pytest.mark.parametrize("data, status", [
    (upgrade(protocol=None), 400), (upgrade(protocol="MQTT"), 400), (upgrade(protocol="amqp"), 400),
    (upgrade(Sec_WebSocket_Key="short"), 400), (upgrade(Sec_WebSocket_Key=None), 400),
    (upgrade(Sec_WebSocket_Version=None), 400), (upgrade(version="HTTP/1.0"), 400),
    (upgrade(Content_Length="2") + b"hi", 400), (upgrade(Sec_WebSocket_Version="8"), 426),
    (upgrade(Upgrade=None), 426), (upgrade(Connection="keep-alive"), 426),
    (upgrade(method="POST", Content_Length="0"), 404), (upgrade(path="/mqtts"), 404),
    (upgrade(path="/api/v2/user"), 401)])
def test_refused_upgrades(wire, data, status):
    w = wire()
    r = w.ask(data)
    assert r.status == status
    if status == 426:
        assert r["sec-websocket-version"] == "13" and r["upgrade"] == "websocket"
    if status in (400, 426):
        assert r.json()["error"] and w.rest() == b""


def test_behind_other_requests(owner, wire, new_feed):
    """Pipelined behind a message: the answers leave in order, and frames that came along count."""
    w = wire()
    body = request("POST", "/v1/telemetry", {**owner.auth, "Content-Type": "application/json"}, {new_feed: 1})
    login = mqtt.connect("", owner.name, owner.key)
    w.send(body + upgrade() + frame(login) + frame(packet(PINGREQ)))
    assert w.read().status == 202
    assert w._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    assert w._exactly(6) == b"\x82\x04\x20\x02\0\0"
    assert w._exactly(4) == b"\x82\x02\xd0\0"


def test_it_can_be_turned_off(make_server):
    server = make_server({"mqtt.websocket": "false"})
    with Wire(server.http_port) as w:
        assert w.ask(upgrade()).status == 404


def test_connections_count_as_those_of_mqtt(make_server):
    server = make_server({"mqtt.connections_max": "2", "http.connections_max": "2"})
    owner = owner_on(server, "ann")
    one, two = WebSocket(server.http_port), WebSocket(server.http_port)
    for c in one, two:
        c.login(owner.name, owner.key)
    with Wire(server.http_port) as w:
        assert w.ask(upgrade()).status == 503
    with Wire(server.http_port) as w:  # those of HTTP are not used up
        assert w.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert server.metric("mqtt_connections") == 2
    one.close()
    wait_for("its end", lambda: server.metric("mqtt_connections") == 1)
    with WebSocket(server.http_port) as c:
        c.login(owner.name, owner.key)
    two.close()


@pytest.mark.parametrize("allowed, origin, status", [
    ("*", "https://any.test", 101), ("https://a.test", "https://a.test", 101),
    ("https://a.test", "https://b.test", 403), ("https://a.test", "null", 403), ("https://a.test", None, 101),
    ("", "https://b.test", 403), ("", "http://sluice", 101)])
def test_origins(make_server, allowed, origin, status):
    server = make_server({"http.cors_origin": allowed})
    with Wire(server.http_port) as w:
        w.send(upgrade(Origin=origin))
        assert w._until(b"\r\n").startswith(b"HTTP/1.1 %d " % status)


# ---- frames ----

def session(owner, feed):
    return (mqtt.connect("", owner.name, owner.key) +
            mqtt.publish(f"{owner.name}/feeds/{feed}", "1", 1, 1) + packet(PINGREQ))


def check_session(c, owner, feed):
    assert c.expect(CONNACK).body[1] == 0
    got = sorted(c.receive().type for _ in range(2))
    assert got == [PUBACK, PINGRESP]


def test_packets_cut_anywhere_into_frames(server, owner, ws, new_feed):
    """Frames know nothing of packets: cut at every byte, one byte each, all in one."""
    data = session(owner, new_feed)
    for cut in range(1, len(data), 3):
        with WebSocket(server.http_port) as c:
            c.bytes(frame(data[:cut]) + frame(data[cut:]))
            check_session(c, owner, new_feed)
    for piece in (1, 2, 7, len(data)):
        c = ws()
        c.bytes(b"".join(frame(data[i:i + piece]) for i in range(0, len(data), piece)))
        check_session(c, owner, new_feed)


def test_frames_cut_anywhere_into_segments(server, owner, new_feed):
    data = frame(session(owner, new_feed))
    for cut in range(1, len(data), 2):
        with WebSocket(server.http_port) as c:
            c.bytes(data[:cut])
            c.bytes(data[cut:])
            check_session(c, owner, new_feed)


def test_fragments_with_pings_between(ws, owner, new_feed):
    c = ws()
    data = session(owner, new_feed)
    third = len(data) // 3
    c.bytes(frame(data[:third], final=False) + frame(b"one", PING) + frame(b"", CONTINUATION, final=False) +
            frame(data[third:-1], CONTINUATION, final=False) + frame(b"two", PING) +
            frame(data[-1:], CONTINUATION))
    check_session(c, owner, new_feed)
    assert c.pongs == [b"one", b"two"]


def test_large_messages(owner, client, new_feed):
    """Both ways over one read, and over what 16 bits of length can say."""
    c = client()
    topic, value = f"{owner.name}/feeds/{new_feed}", "x" * 90000 + "y"
    made = requests.post(f"{owner.url}/feeds", headers=owner.key_auth,
                         json={"feed": {"name": new_feed, "history": False}})
    assert made.status_code < 300, made.text
    c.send(packet(SUBSCRIBE, struct.pack(">H", 9) + text(topic) + b"\0", 2))
    assert c.code(SUBACK, 9) == 0
    c.send(mqtt.publish(topic, value, 1, 7))
    got = {p.type: p for p in (c.receive(), c.receive())}
    assert PUBACK in got and got[PUBLISH].body == text(topic) + value.encode()


@pytest.mark.parametrize("bad, code", [
    (frame(packet(PINGREQ), mask=False), 1002), (frame(packet(PINGREQ), reserved=4), 1002),
    (frame(b"hi", TEXT), 1003), (frame(packet(PINGREQ), TEXT), 1003), (frame(b"", TEXT), 1003), (frame(b"x", 3), 1002), (frame(b"x", 11), 1002),
    (frame(b"x", CONTINUATION), 1002), (frame(b"x", final=False) + frame(b"y"), 1002),
    (frame(b"x" * 126, PING), 1002), (frame(b"x", PING, final=False), 1002), (frame(b"x", wide=2), 1002),
    (b"\x82\xff" + b"\xff" * 8 + b"mask", 1002), (frame(b"\x03\xed", CLOSE), 1002), (frame(b"x", CLOSE), 1002),
    (frame(b"\x03\xe8\xff", CLOSE), 1007)], ids=lambda v: v if isinstance(v, int) else "frame")
def test_what_is_no_frame(client, bad, code):
    """It ends the connection, but what came before it is dealt with."""
    c = client()
    c.bytes(frame(packet(PINGREQ)) + bad)
    c.expect(PINGRESP)
    assert ended(c, code)


@pytest.mark.parametrize("payload, code", [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001),
                                           (b"\x0f\xa0", 4000)])
def test_the_client_closes(client, payload, code):
    c = client()
    c.frame(packet(PINGREQ)).frame(payload, CLOSE).frame(packet(PINGREQ))
    c.expect(PINGRESP)
    assert ended(c, code)


def test_a_close_is_no_disconnect(server, owner, client, ws, new_feed):
    """The will is published, as when TCP ends; not behind DISCONNECT."""
    for tail, expected in [(frame(b"\x03\xe8", CLOSE), ["gone"]),
                           (frame(packet(mqtt.DISCONNECT)) + frame(b"\x03\xe8", CLOSE), ["gone"])]:
        c = ws()
        c.login(owner.name, owner.key, will=(f"{owner.name}/feeds/{new_feed}", "gone"))
        c.bytes(tail)
        assert ended(c, 1000)
        wait_for("the will", lambda: values(owner, new_feed) == expected)


def test_a_close_behind_a_cold_login(make_server):
    """All in one read, while the secret waits for its hash: nothing of it is lost."""
    server = make_server()
    owner = owner_on(server, "ann")
    server.cli("device", "add", "ann", "cold", "--secret", "not so strong", "--bcrypt")
    c = WebSocket(server.http_port)
    c.bytes(frame(mqtt.connect("", "cold", "not so strong") + mqtt.publish("ann/feeds/a", "1", 1, 1)) +
            frame(b"\x03\xe8", CLOSE))
    assert c.expect(CONNACK).body[1] == 0
    assert c.code(PUBACK, 1) == 0
    assert ended(c, 1000)
    assert values(owner, "a") == ["1"]


def test_pings_are_bounded(server, client):
    """Who sends pings and reads no pongs is not read from: nothing piles up here."""
    c = client()
    c.sock.settimeout(1)
    flood = frame(b"x" * 125, PING) * 500
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 256 << 20:
            sent += c.sock.send(flood)
    c.sock.settimeout(10)
    assert server.metric("connections_open") >= 1  # and the worker serves others


def test_keep_alive_counts_packets(ws, owner):
    """Pings of WebSocket are not MQTT's: section 3.1.2.10."""
    c = ws(5)
    c.login(owner.name, owner.key, keep_alive=1)
    for _ in range(40):
        try:
            c.frame(b"", PING)
        except OSError:
            break
        c.sock.settimeout(0.1)
        try:
            c._need(1)
        except TimeoutError:
            continue
        except mqtt.Closed:
            break
        break
    c.sock.settimeout(10)
    p = c.expect(mqtt.DISCONNECT)
    assert p.body[0] == 0x8d
    assert ended(c, 1000)


def test_garbage_before_connect(ws):
    c = ws()
    c.frame(packet(PINGREQ))
    assert ended(c, 1000)


def test_the_client_behind_a_proxy(make_server):
    """Limits of failures count who the proxy names: by its header, and by its PROXY protocol."""
    server = make_server({"listen.trusted_proxies": "127.0.0.0/8", "auth.failures_address": "2/60s"})
    owner_on(server, "ann")

    def wrong(source):
        with WebSocket(server.http_port, 5, X_Forwarded_For=source) as c:
            c.send(mqtt.connect("", "ann", "aio_wrong" + source, 5))
            return c.expect(CONNACK).body[1]

    assert [wrong("192.0.2.1") for _ in range(3)][:2] == [0x86, 0x86]
    assert wrong("192.0.2.1") != 0x86
    assert wrong("192.0.2.2") == 0x86


def test_proxy_protocol(make_server):
    server = make_server({"listen.trusted_proxies": "127.0.0.0/8", "listen.proxy_protocol": "true"})
    owner = owner_on(server, "ann")
    with Wire(server.http_port) as w:
        w.send(v1("192.0.2.1") + upgrade() + frame(mqtt.connect("", owner.name, owner.key)))
        assert w._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert w._exactly(6) == b"\x82\x04\x20\x02\0\0"


def test_a_stop_says_so(make_server):
    server = make_server()
    owner = owner_on(server, "ann")
    c = WebSocket(server.http_port, 5)
    c.login(owner.name, owner.key)
    assert server.stop() == 0
    assert c.expect(mqtt.DISCONNECT).body[0] == 0x8b
    assert ended(c, 1000)


# ---- clients that people have ----

@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server with HTTPS, an account, and the authority's certificate."""
    home = tmp_path_factory.mktemp("secure")
    ca = Authority(home)
    server = Server(home / "server", {"listen.https": f"127.0.0.1:{free_port()}",
                                      "listen.mqtts": f"127.0.0.1:{free_port()}",
                                      "tls.certificates": ca.server("server", "localhost")})
    server.https_port = int(server.settings["listen.https"].split(":")[1])
    server.mqtts_port = int(server.settings["listen.mqtts"].split(":")[1])
    server.start()
    server.owner, server.ca = owner_on(server, "fleet2"), ca
    yield server
    server.close()


@pytest.mark.parametrize("protocol", [paho.MQTTv31, paho.MQTTv311, paho.MQTTv5])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_paho(secure, new_feed, protocol, tls):
    """300 messages out and back, as fast as the library sends them."""
    owner, got, ready = secure.owner, [], []
    c = paho.Client(protocol=protocol, transport="websockets")
    c.username_pw_set(owner.name, owner.key)
    if tls:
        c.tls_set(ca_certs=str(secure.ca.path))
    topic = f"{owner.name}/feeds/{new_feed}"
    c.on_message = lambda _c, _u, m: got.append(m.payload.decode())
    c.on_subscribe = lambda *_: ready.append(True)
    c.on_connect = lambda c, *_: c.subscribe(topic, 1)
    c.connect("localhost" if tls else "127.0.0.1", secure.https_port if tls else secure.http_port, 30)
    c.loop_start()
    wait_for("the subscription", lambda: ready, 30)
    sent = [c.publish(topic, str(i), qos=1 + i % 2) for i in range(300)]
    for message in sent:
        message.wait_for_publish(30)
    wait_for("all of them", lambda: len(got) >= 300, 30)
    c.disconnect()
    c.loop_stop()
    assert got == [str(i) for i in range(300)]


@pytest.fixture(scope="session")
def npm_mqtt(tmp_path_factory):
    """A directory in which node finds the package mqtt."""
    home = tmp_path_factory.mktemp("npm")
    try:
        run = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--prefix",
                              str(home), "mqtt@5.10.1"], capture_output=True, text=True, timeout=120, cwd=home)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer")
    away = re.search(r"\b(ENOTFOUND|EAI_AGAIN|ECONN\w+|E\w*TIMEDOUT|E\w*UNREACH|ERR_SOCKET_TIMEOUT|E403|E407|E5\d\d)\b", run.stderr)
    if run.returncode and away:
        pytest.skip(f"the npm registry cannot be reached: {away[0]}")
    assert run.returncode == 0, run.stderr
    return home


def node(server, home, door, topic, count, version="5"):
    """Subscribes and publishes so many; prints what it received."""
    port = {"mqtt": server.mqtt_port, "ws": server.http_port, "wss": server.https_port}[door]
    url = f"mqtt://127.0.0.1:{port}" if door == "mqtt" else f"{door}://localhost:{port}/mqtt"
    return subprocess.Popen(
        ["node", str(ROOT / "test" / "mqtt_client.js"), url, version, server.owner.name, server.owner.key, topic,
         str(count), str(server.ca.path)], stdout=subprocess.PIPE, text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_PATH": str(home / "node_modules")})


@pytest.mark.parametrize("door", ["mqtt", "ws", "wss"])
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_npm_mqtt(secure, npm_mqtt, new_feed, door, version):
    run = node(secure, npm_mqtt, door, f"{secure.owner.name}/feeds/{new_feed}", 100, version)
    assert run.communicate(timeout=60)[0].split() == [str(i) for i in range(100)]
    assert run.returncode == 0
    assert values(secure.owner, new_feed) == [str(i) for i in reversed(range(100))]


# ---- the same at every door ----

def mosquitto(server, which, tls, *args):
    port = ["-h", "localhost", "-p", str(server.mqtts_port), "--cafile", str(server.ca.path)] if tls else \
        ["-h", "127.0.0.1", "-p", str(server.mqtt_port)]
    return subprocess.Popen([which, *port, "-u", server.owner.name, "-P", server.owner.key, *args],
                            stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("tls", [False, True], ids=["1883", "8883"])
def test_mosquitto_both_ways(secure, new_feed, tls):
    """A value sent is read over HTTP at once, and one sent over HTTP reaches the subscriber."""
    owner, topic = secure.owner, f"{secure.owner.name}/feeds/{new_feed}"
    url = f"{owner.url}/feeds/{new_feed}/data"
    pub = mosquitto(secure, "mosquitto_pub", tls, "-t", topic, "-m", "21.5", "-q", "1")
    assert pub.wait(30) == 0
    assert requests.get(url + "/last", headers=owner.key_auth).json()["value"] == "21.5"
    before = secure.metric("mqtt_subscriptions")
    sub = mosquitto(secure, "mosquitto_sub", tls, "-t", topic, "-q", "1", "-C", "1", "-v")
    wait_for("the subscription", lambda: secure.metric("mqtt_subscriptions") == before + 1, 30)
    assert requests.post(url, headers=owner.key_auth, data={"value": "22.5"}).status_code == 200
    assert sub.communicate(timeout=30)[0] == f"{topic} 22.5\n"


def test_one_message_at_all_doors(secure, npm_mqtt, new_feed):
    """Sent over secure WebSocket, it reaches subscribers over TCP and TLS."""
    topic = f"{secure.owner.name}/feeds/{new_feed}"
    before = secure.metric("mqtt_subscriptions")
    subs = [mosquitto(secure, "mosquitto_sub", tls, "-t", topic, "-q", "1", "-C", "3") for tls in (False, True)]
    wait_for("the subscriptions", lambda: secure.metric("mqtt_subscriptions") == before + 2, 30)
    sender = node(secure, npm_mqtt, "wss", topic, 3)
    for each in (sender, *subs):
        assert each.communicate(timeout=60)[0].split() == ["0", "1", "2"]
    last = requests.get(f"{secure.owner.url}/feeds/{new_feed}/data/last", headers=secure.owner.key_auth)
    assert last.json()["value"] == "2"
