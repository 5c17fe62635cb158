# SPDX-License-Identifier: Apache-2.0
"""Shared subscriptions (MQTT 5.0, section 4.8.2): each message to one member of a group, on whatever worker."""
import itertools
import random
import struct

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from mqtt_members import Member, collect, take_all
from mqtt_wire import DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBSCRIBE, Mqtt, packet, text

_numbers = itertools.count(1)
MEMBERS = 6  # enough that each of two workers has some, but for one run in 30


@pytest.fixture(scope="module")
def owner(server):
    o = owner_on(server, "sharing")
    server.cli("account", "change", o.name, "--topics", "any")
    return o


@pytest.fixture
def root():
    return f"s{next(_numbers)}"


@pytest.fixture
def publish(server, owner):
    """publish(topic, payload, ...): each is on disk when it returns."""
    c = Mqtt(server.mqtt_port)
    c.login(owner.name, owner.key)

    def put(topic, *payloads, qos=1, retain=False):
        for payload in payloads:
            c.publish(topic, str(payload), qos, 1, retain=retain)
            if qos == 1:
                assert c.code(PUBACK, 1) == 0
            if qos == 2:
                assert c.code(PUBREC, 1) == 0
                c.send(packet(PUBREL, b"\0\1", 2)).expect(PUBCOMP)

    yield put
    c.close()


@pytest.mark.parametrize("qos", [0, 1])
def test_each_message_to_one(server, owner, root, publish, qos):
    """In turn; other groups, and who has subscribed by itself, get their own."""
    members = [Member(server, owner, version=4 + i % 2) for i in range(MEMBERS)]
    other, alone = Member(server, owner), Member(server, owner)
    for m in members:
        assert m.subscribe((f"$share/g/{root}/+", qos)) == [qos]
    assert other.subscribe((f"$share/h/{root}/+", qos)) == [qos]
    assert alone.subscribe((f"{root}/+", qos)) == [qos]
    publish(f"{root}/x", *range(4 * MEMBERS))
    got = collect(members, 4 * MEMBERS)
    assert sorted(int(p) for g in got.values() for p in g) == list(range(4 * MEMBERS))
    assert [len(g) for g in got.values()] == [4] * MEMBERS
    for c in (other, alone):
        assert collect([c], 4 * MEMBERS)[c] == [str(i) for i in range(4 * MEMBERS)]
    for c in members + [other, alone]:
        c.close()


def test_feeds_and_http(server, owner, root, publish):
    members = [Member(server, owner) for _ in range(MEMBERS)]
    for m in members:
        assert m.subscribe((f"$share/g/{owner.name}/feeds/{root}", 1)) == [1]
    publish(f"{owner.name}/feeds/{root}", "first")
    for i in range(MEMBERS):
        requests.post(f"{owner.url}/feeds/{root}/data", headers=owner.key_auth, json={"value": i}).raise_for_status()
    got = collect(members, MEMBERS + 1)
    assert sorted(p for g in got.values() for p in g) == sorted(["first"] + [str(i) for i in range(MEMBERS)])
    for m in members:
        m.close()


def test_names_and_options(server, owner, root, publish):
    """No retained messages (3.3.1.3); identifiers; what is no name, and no local, are refused."""
    publish(f"{root}/r", "kept", retain=True)
    for version, bad in ((4, 0x80), (5, 0x8f)):
        c = Member(server, owner, version=version)
        assert c.subscribe(("$share/g", 0), (f"$share//{root}", 0), ("$share/g/", 0), (f"$share/+/{root}", 0),
                           (f"$share/g/{root}/#", 1), ("$share/g/$SYS/#", 0)) == \
            [bad] * 4 + [1, 0x87 if version == 5 else 0x80]
        assert c.drain() == []
        c.close()
    c = Member(server, owner)
    assert c.subscribe((f"$share/g/{root}/#", 1), props=b"\x0b\x7b") == [1]
    publish(f"{root}/r", "x")
    p = c.expect(PUBLISH)
    assert b"\x02\x0b\x7bx" == p.body[-4:] and not p.flags & 1
    c.send(packet(SUBSCRIBE, b"\0\1\0" + text(f"$share/g/{root}/#") + b"\x05", 2))
    assert c.expect(DISCONNECT).body[0] == 0x82  # MQTT-3.8.3-4
    assert c.closed()


def test_who_leaves_is_not_asked(server, owner, root, publish):
    a, b = Member(server, owner), Member(server, owner)
    for m in (a, b, a):  # again: it is the same subscription
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    assert a.unsubscribe(f"$share/h/{root}") == 0x11 and a.unsubscribe(root) == 0x11
    assert a.unsubscribe(f"$share/g/{root}") == 0
    publish(root, 1, 2)
    assert collect([a, b], 2)[b] == ["1", "2"]
    assert b.unsubscribe(f"$share/g/{root}") == 0
    publish(root, 3)
    assert a.subscribe((f"$share/g/{root}", 1)) == [1]  # 3 came when nobody was there
    publish(root, 4)
    assert collect([a, b], 1)[a] == ["4"]
    a.close()
    b.close()


def test_who_is_busy_is_passed_over(server, owner, root, publish):
    """Receive Maximum is 1, and nothing is acknowledged: one message goes there, the others have the rest."""
    slow = Member(server, owner, props=b"\x21\0\1")
    members = [Member(server, owner) for _ in range(MEMBERS)]
    for m in [slow] + members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    publish(root, *range(20))
    got = collect(members, 19)
    first = slow.drain(ack=False)
    assert len(first) == 1 and sorted(int(p) for g in [first] + list(got.values()) for p in g) == list(range(20))
    for m in [slow] + members:
        m.close()


def test_when_all_are_busy_it_waits(server, owner, root, publish):
    members = [Member(server, owner, props=b"\x21\0\1") for _ in range(2)]
    for m in members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    publish(root, *range(10))
    got = collect(members, 10)
    assert sorted(int(p) for g in got.values() for p in g) == list(range(10))
    assert all(got.values())
    for m in members:
        m.close()


@pytest.mark.parametrize("session", [False, True])
def test_what_is_not_acknowledged_goes_to_others(server, owner, root, publish, session):
    """QoS 1 that was sent or waited, when its member's connection ends; a session does not get it again."""
    a = Member(server, owner, f"a-{root}", session=session, props=b"\x21\0\2")
    assert a.subscribe((f"$share/g/{root}", 1)) == [1]
    publish(root, *range(5))
    got = [a.next() for _ in range(2)]
    a.answer(PUBACK, got[0][2])
    assert [p[0] for p in got] == ["0", "1"] and a.next()[0] == "2"
    members = [Member(server, owner) for _ in range(MEMBERS)]
    for m in members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    a.close()
    got = collect(members, 4)
    assert sorted(p for g in got.values() for p in g) == ["1", "2", "3", "4"]
    a = Member(server, owner, f"a-{root}", session=session, clean=False)
    assert a.present == session and a.drain() == []
    publish(root, *range(10, 10 + 2 * MEMBERS + 2))
    got = collect(members + [a], 2 * MEMBERS + 2)
    assert bool(got[a]) == session  # it is a member again
    for m in members + [a]:
        m.close()


def test_qos_2_stays_with_its_client(server, owner, root, publish):
    """MQTT-4.8.2-4 and -5: completed when that client is back with its session, and given to nobody else."""
    a, b = Member(server, owner, f"a-{root}", session=True), Member(server, owner)
    assert a.subscribe((f"$share/g/{root}", 2)) == [2]
    publish(root, "x", qos=2)
    payload, qos, mid, dup = a.next()
    assert (payload, qos, dup) == ("x", 2, False)
    assert b.subscribe((f"$share/g/{root}", 2)) == [2]
    a.close()
    publish(root, "y", qos=2)
    payload, qos, other, _ = b.next()
    assert payload == "y"
    b.answer(PUBREC, other)
    assert b.expect(PUBREL).body[:2] == struct.pack(">H", other)
    b.answer(PUBCOMP, other)
    a = Member(server, owner, f"a-{root}", session=True, clean=False)
    assert a.present and a.next() == ("x", 2, mid, True)
    a.answer(PUBREC, mid)
    assert a.expect(PUBREL).body[:2] == struct.pack(">H", mid)
    a.answer(PUBCOMP, mid)
    assert a.drain() == [] and b.drain() == []
    a.close()
    b.close()


def test_the_last_one_keeps_what_it_was_sent(server, owner, root, publish):
    a = Member(server, owner, f"a-{root}", session=True)
    assert a.subscribe((f"$share/g/{root}", 1)) == [1]
    publish(root, "x")
    payload, _, mid, _ = a.next()
    assert payload == "x"
    a.close()
    a = Member(server, owner, f"a-{root}", session=True, clean=False)
    assert a.next() == ("x", 1, mid, True)
    a.answer(PUBACK, mid)
    publish(root, "y")
    assert a.next()[0] == "y"
    a.close()


def test_a_groups_copy_is_not_its_own(server, owner, root, publish):
    """A session that is in a group and has subscribed by itself gets both, before and after it was away."""
    a = Member(server, owner, f"a-{root}", session=True)
    assert a.subscribe((root, 1)) == [1]
    assert a.subscribe((f"$share/g/{root}", 2)) == [2]
    publish(root, "x", qos=2)
    first = sorted([a.next(), a.next()], key=lambda p: p[1])
    assert [p[:2] for p in first] == [("x", 1), ("x", 2)]
    a.close()
    a = Member(server, owner, f"a-{root}", session=True, clean=False)
    again = sorted([a.next(), a.next()], key=lambda p: p[1])
    assert again == [(*p[:3], True) for p in first]
    for _, qos, mid, _ in again:
        a.answer(PUBACK if qos == 1 else PUBREC, mid)
    a.answer(PUBCOMP, struct.unpack(">H", a.expect(PUBREL).body[:2])[0])
    assert a.drain() == []
    a.close()


def test_its_own_copy_waits_behind_a_groups(server, owner, root, publish):
    """The group's fills the window, and the client has it when its connection ends."""
    a = Member(server, owner, f"a-{root}", session=True, props=b"\x21\0\1")
    assert a.subscribe((f"$share/g/{root}", 2)) == [2]
    assert a.subscribe((root, 1)) == [1]
    publish(root, "x", qos=2)
    payload, qos, mid, _ = a.next()
    assert (payload, qos) == ("x", 2)
    a.answer(PUBREC, mid).expect(PUBREL)
    a.close()
    a = Member(server, owner, f"a-{root}", session=True, clean=False)
    assert a.expect(PUBREL).body[:2] == struct.pack(">H", mid)
    assert a.next()[:2] == ("x", 1)
    a.answer(PUBCOMP, mid)
    a.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_came_while_nobody_was_there(server, owner, root, publish, qos):
    """A session has the subscription: whoever of the group is back first reads what was missed, once."""
    names = [f"a-{root}", f"b-{root}"]
    members = [Member(server, owner, name, session=True) for name in names]
    for m in members:
        assert m.subscribe((f"$share/g/{root}/#", qos)) == [qos]
    publish(f"{root}/x", *range(4), qos=2)
    assert sorted(take_all(members[0], 2) + take_all(members[1], 2)) == ["0", "1", "2", "3"]
    for m in members:
        assert m.send(packet(DISCONNECT)).closed()  # it is none any more
    publish(f"{root}/x", *range(10, 150), qos=2)
    late = Member(server, owner)  # a new subscription sees what comes from now on, and so takes nothing away
    b = Member(server, owner, names[1], session=True, clean=False)
    got = take_all(b, 140)
    assert got == [str(i) for i in range(10, 150)]
    a = Member(server, owner, names[0], session=True, clean=False)
    publish(f"{root}/x", "y", "z", qos=2)
    assert sorted(take_all(a, 1) + take_all(b, 1)) == ["y", "z"]
    assert a.drain() == [] and b.drain() == []
    for m in (a, b, late):
        m.close()


def two_away(server, owner, root):
    """Two sessions of a group, neither of them connected: their client ids."""
    names = [f"a-{root}", f"b-{root}"]
    members = [Member(server, owner, name, session=True) for name in names]
    for m in members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    for m in members:
        assert m.send(packet(DISCONNECT)).closed()
    return names


def test_what_the_last_one_did_not_get_is_kept(server, owner, root, publish):
    """It is cut off within what was missed: what it was sent is sent again to it, the rest to whoever is first."""
    names = two_away(server, owner, root)
    publish(root, *range(120))
    a = Member(server, owner, names[0], session=True, clean=False)
    first = [a.next()[0] for _ in range(100)]  # a window of ours, nothing is acknowledged
    assert a.drain(ack=False) == [] and a.send(packet(DISCONNECT)).closed()
    b = Member(server, owner, names[1], session=True, clean=False)
    assert first + take_all(b, 20) == [str(i) for i in range(120)]
    a = Member(server, owner, names[0], session=True, clean=False)
    assert take_all(a, 100) == first
    for m in (a, b):
        assert m.drain() == []
        m.close()


def test_what_others_had_does_not_come_again(server, owner, root, publish):
    """The last member leaves something unread: who is back next gets that, not what came behind it and was delivered."""
    names = two_away(server, owner, root)
    publish(root, *range(120))
    a = Member(server, owner, names[0], session=True, clean=False)
    first = [a.next()[0] for _ in range(100)]  # a window of ours, nothing is acknowledged
    b = Member(server, owner, names[1], session=True, clean=False)
    publish(root, *range(200, 205))
    assert take_all(b, 5) == [str(i) for i in range(200, 205)] and b.drain() == []
    for m in (b, a):
        assert m.send(packet(DISCONNECT)).closed()
    late = Member(server, owner)  # which has not missed anything
    assert late.subscribe((f"$share/g/{root}", 1)) == [1] and late.drain() == []
    b = Member(server, owner, names[1], session=True, clean=False)
    assert first + take_all(b, 20) == [str(i) for i in range(120)]
    a = Member(server, owner, names[0], session=True, clean=False)
    assert take_all(a, 100) == first
    for m in (a, b, late):
        assert m.drain() == []
        m.close()


def missed_by(server, owner, root, count, props=b""):
    """Two members, of which the first has taken what the group missed: so many messages, none acknowledged."""
    names = [f"a-{root}", f"b-{root}"]
    members = [Member(server, owner, name, session=True) for name in names]
    for m in members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    for m in members:
        assert m.send(packet(DISCONNECT)).closed()
    c = Member(server, owner)
    for at in range(0, count, 20):
        for i in range(at, at + 20):
            c.publish(root, str(i), 1, 1 + i % 20)
        for i in range(20):
            assert c.code(PUBACK, 1 + i) == 0
    c.close()
    a = Member(server, owner, names[0], session=True, clean=False, props=props)
    assert a.next()[0] == "0"
    return a, Member(server, owner, names[1], session=True, clean=False)


def test_who_unsubscribes_leaves_what_it_was_not_sent(server, owner, root):
    """Of what was missed, which it had taken to itself, the others get the rest; what it was sent is its own."""
    a, b = missed_by(server, owner, root, 60, props=b"\x21\0\2")
    assert a.next()[0] == "1" and a.drain() == [] and b.drain() == []
    assert a.unsubscribe(f"$share/g/{root}") == 0
    assert take_all(b, 58) == [str(i) for i in range(2, 60)]
    for m in (a, b):
        assert m.drain() == []
        m.close()


@pytest.mark.parametrize("session", [False, True])
def test_who_unsubscribes_leaves_what_waits(server, owner, root, publish, session):
    """What it was sent is its own, with QoS 2; what waited for its window goes to the other one."""
    a, b = (Member(server, owner, f"{name}-{root}", session=session, props=b"\x21\0\1") for name in "ab")
    for m in (a, b):
        assert m.subscribe((f"$share/g/{root}", 2)) == [2]
    publish(root, *range(8), qos=2)
    first = a.next(), b.next()
    assert a.unsubscribe(f"$share/g/{root}") == 0
    for m, (_, _, mid, _) in zip((a, b), first):
        assert m.send(packet(PUBREC, struct.pack(">H", mid))).expect(PUBREL)
        m.answer(PUBCOMP, mid)
    assert sorted([p[0] for p in first] + take_all(b, 6)) == [str(i) for i in range(8)]
    for m in (a, b):
        assert m.drain() == []
        m.close()


def test_much_that_is_given_back(server, owner, root):
    """A member ends that had taken all that was missed: another takes as much."""
    a, b = missed_by(server, owner, root, 2400)
    assert b.drain() == []
    a.close()
    assert sorted(take_all(b, 2400), key=int) == [str(i) for i in range(2400)]
    assert b.drain() == []
    b.close()


def test_only_who_may_see_it(server, owner, root, publish):
    """A device's feeds are looked at with each message: it is passed over, and the filter behind the group counts."""
    secret = server.cli("device", "add", owner.name, f"d-{root}", "--feeds", f"{root}-mine")["secret"]
    bound, all_seeing = Member(server, owner, who=(f"d-{root}", secret)), Member(server, owner)
    for m in (bound, all_seeing):
        assert m.subscribe((f"$share/g/{owner.name}/f/+", 1)) == [1]
    publish(f"{owner.name}/f/{root}-other", *range(4))
    publish(f"{owner.name}/f/{root}-mine", *range(10, 14))
    got = collect([bound, all_seeing], 8)
    assert set(got[all_seeing]) >= {"0", "1", "2", "3"} and got[bound]
    assert bound.subscribe(("$share/g/somebody/f/x", 1)) == [1]  # this account's own topic of that name
    server.cli("account", "change", owner.name, "--topics", "adafruit")
    try:
        assert bound.subscribe(("$share/g/somebody/f/x", 1)) == [0x87]
    finally:
        server.cli("account", "change", owner.name, "--topics", "any")
    bound.close()
    all_seeing.close()


def test_what_comes_back_goes_to_who_may_see_it(server, owner, root, publish):
    """What a member leaves is read by one that may not see it: the next one has it."""
    secret = server.cli("device", "add", owner.name, f"e-{root}", "--feeds", f"{root}-mine")["secret"]
    a = Member(server, owner, f"a-{root}", session=True)
    assert a.subscribe((f"$share/g/{owner.name}/f/{root}-other", 1)) == [1]
    publish(f"{owner.name}/f/{root}-other", *range(4))
    for _ in range(4):
        a.next()
    bound, all_seeing = Member(server, owner, who=(f"e-{root}", secret)), Member(server, owner)
    for m in (bound, all_seeing):
        assert m.subscribe((f"$share/g/{owner.name}/f/{root}-other", 1)) == [1]
    a.close()
    assert sorted(collect([bound, all_seeing], 4)[all_seeing]) == ["0", "1", "2", "3"]
    bound.close()
    all_seeing.close()


def test_members_come_and_go(server, owner, root, publish):
    """While messages come, members' connections break at any moment and others join: each message is acknowledged by
    somebody."""
    rand = random.Random(root)
    members = [Member(server, owner) for _ in range(MEMBERS)]
    dropped = server.metric("mqtt_drops_shared_total")
    for m in members:
        assert m.subscribe((f"$share/g/{root}", 1)) == [1]
    seen = set()
    for i in range(60):
        publish(root, *range(5 * i, 5 * i + 5))
        k = rand.randrange(MEMBERS)
        if i % 3 == 0:
            members[k].sock.shutdown(2) if i % 2 else members[k].send(packet(DISCONNECT))
            members[k].close()
            members[k] = Member(server, owner)
            assert members[k].subscribe((f"$share/g/{root}", 1)) == [1]
        else:
            seen.update(members[k].drain())

    def all_seen():
        for m in members:
            seen.update(m.drain())
        return len(seen) == 300

    wait_for("300 messages", all_seen, 30)
    assert server.metric("mqtt_drops_shared_total") == dropped
    for m in members:
        m.close()


def test_over_kill_9(make_server):
    """Sessions are members again when their clients are back."""
    server = make_server()
    o = owner_on(server, "s9")
    server.cli("account", "change", o.name, "--topics", "any")
    names = [f"m{i}" for i in range(4)]
    for name in names:
        m = Member(server, o, name, session=True)
        assert m.subscribe(("$share/g/t/#", 1)) == [1]
    server.kill()
    server.start()
    c = Member(server, o)
    for i in range(3):  # before any of them is
        c.publish("t/x", f"early {i}", 1, 1)
        assert c.code(PUBACK, 1) == 0
    members = [Member(server, o, name, session=True, clean=False) for name in names]
    assert all(m.present for m in members)
    assert take_all(members[0], 3) == ["early 0", "early 1", "early 2"]
    for i in range(8):
        c.publish("t/x", str(i), 1, 1)
        assert c.code(PUBACK, 1) == 0
    got = collect(members, 8)
    assert [len(g) for g in got.values()] == [2] * 4
    server.stop()


def test_over_a_disk_that_hangs(make_server):
    """Whether a session has a message of QoS 2 is not known in time, nor whether it was taken from it: when the
    disk is back, somebody gets it."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "1s"})
    o = owner_on(server, "hung")
    server.cli("account", "change", o.name, "--topics", "any")
    slow = server.data / "journal" / "slow_ms"
    a, b = (Member(server, o, name, session=True) for name in "ab")
    for m in (a, b):
        assert m.subscribe(("$share/g/t", 2)) == [2]
    alone, c = Member(server, o), Member(server, o)
    assert alone.subscribe(("t", 0)) == [0]
    slow.write_text("2600")
    c.publish("t", "x", 2, 1)
    assert alone.next()[0] == "x"  # on disk after 2.6 s; what says that `a` is sent it is after 5.2 s
    assert a.expect(DISCONNECT).body[0] == 0x80  # after 3.6 s; what takes it back is unknown after 4.6 s
    slow.write_text("0")  # from 5.2 s on: what says that `b` is sent it waits for less than ack.timeout
    payload, qos, mid, _ = b.next()
    assert (payload, qos) == ("x", 2)
    b.answer(PUBREC, mid)
    assert b.expect(PUBREL).body[:2] == struct.pack(">H", mid)
    b.answer(PUBCOMP, mid)
    a = Member(server, o, "a", session=True, clean=False)
    assert a.present and a.drain() == [] and b.drain() == []
    server.stop()
