# SPDX-License-Identifier: Apache-2.0
"""Whoever is told 401 learns nothing from how, or from how long it took.

Tries of all kinds are interleaved, each round in an order of its own, so that whatever else the machine
does hits all alike; then Welch's t-test, as dudect does it (Reparaz and others, 2017): |t| below 4.5 is
no difference. On ranks, because a loaded machine makes a few tries a hundred times slower, and on times
without the slowest tenth. SLUICE_FULL=1: 10,000 tries of each kind."""
import itertools
import math
import os
import random
import statistics
import time
import warnings

import pytest

from conftest import owner_on
from harness import device_auth
from wire import Wire, basic, request

pytestmark = pytest.mark.alone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it leaves Python in 3.13; Debian 12 has 3.11
    import crypt

FULL = os.environ.get("SLUICE_FULL") == "1"
TRIES = 10000 if FULL else 250
# What a password hash costs: bcrypt of two costs, yescrypt; and one that was generated has none.
SETTINGS = {"b4": "$2b$04$" + "a" * 21 + ".", "b5": "$2b$05$" + "b" * 21 + ".", "y": "$y$j75$abcdefgh$", "fast": None}
T_MAX = 4.5


def welch(a, b):
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread)


def without_slowest(times, limit):
    return [t for t in times if t <= limit]


def ranks(times):
    """{kind: [...]}, each time replaced by its place among all of them."""
    places = sorted((t, kind) for kind, of_kind in times.items() for t in of_kind)
    found = {kind: [] for kind in times}
    for place, (_, kind) in enumerate(places):
        found[kind].append(place)
    return found


def differences(times):
    """Each pair of kinds: [(how, one, other, t)]."""
    limit = sorted(itertools.chain(*times.values()))[len(times) * TRIES * 9 // 10]
    cut = {kind: without_slowest(t, limit) for kind, t in times.items()}
    return [(how, one, other, welch(of[one], of[other]))
            for how, of in (("ranks", ranks(times)), ("times", cut))
            for one, other in itertools.combinations(times, 2)]


def make_devices(server):
    """One of each way to keep a secret, and the same again, disabled: {name: its secret}."""
    secrets = {}
    for name, setting in SETTINGS.items():
        for device in (name, f"{name}-off"):
            if setting:
                secrets[device] = f"the secret of {device}"
                server.cli("device", "add", "a", device, "--hash", crypt.crypt(secrets[device], setting))
            else:
                secrets[device] = server.add_device("a", device)
            if device != name:
                server.cli("device", "disable", device)
    return secrets


def asked(kind, number, secrets, rng, auth=device_auth):
    """A try of this kind that was never made before."""
    name = rng.choice(list(SETTINGS))
    secret = f"wrong {number:08}"
    if kind == "unknown":
        name = f"nobody-{number:08}"
    elif kind == "disabled":
        name += "-off"
        secret = secrets[name] if number % 2 else secret
    elif kind == "over-long":
        secret += "x" * 400
    return request("POST", "/v1/telemetry", auth(name, secret), {"t": 1})


KINDS = ("unknown", "wrong", "disabled", "over-long")


def start(make_server):
    s = make_server({"auth.failures_credential": "100000000/1s", "auth.failures_address": "100000000/1s",
                     # Times of threads that run when nobody else wants to would be those of the others;
                     # and a secret that is repeated is remembered, which is no secret.
                     "auth.hash_idle_priority": "false", "auth.negative_ttl": "0ms"})
    owner_on(s, "a")
    return s, make_devices(s)


def measure(s, secrets, kinds, ask):
    rng = random.Random(1)
    times = {kind: [] for kind in kinds}
    with Wire(s.http_port, timeout=60) as w:
        for number in range(TRIES + 20):
            for kind in rng.sample(kinds, len(kinds)):
                data = ask(kind, number, secrets, rng)
                begun = time.perf_counter_ns()
                status = w.ask(data).status
                took = time.perf_counter_ns() - begun
                assert status == 401
                if number >= 20:  # the first ones warm the caches
                    times[kind].append(took)
    return times


def report(times):
    pairs = differences(times)
    print(f"{TRIES} tries of each kind")
    for kind, t in times.items():
        print(f"  {kind:20} median {statistics.median(t) / 1e6:.3f} ms")
    for how, one, other, t in pairs:
        print(f"  {how:6} {one:10} {other:10} t {t:6.2f}")
    return [p for p in pairs if abs(p[3]) >= T_MAX]


def test_the_test_can_tell(make_server):
    """One hash less is seen at once: what the next tests do not see is not there."""
    times = {"one": [1000 + i % 97 for i in range(TRIES)], "other": [1015 + i % 97 for i in range(TRIES)]}
    assert report(times)


def test_time_tells_nothing(make_server):
    """Unknown device, wrong secret, disabled device (also with the right secret), over-long secret."""
    s, secrets = start(make_server)
    before = s.metrics()
    assert not report(measure(s, secrets, KINDS, asked))
    after = s.metrics()
    # One hash of each kind in use for everybody, which is why.
    computed = sum(after[f"sluice_hashes_{n}_total"] - before[f"sluice_hashes_{n}_total"] for n in ("run", "decoy"))
    assert computed == 3 * len(KINDS) * (TRIES + 20)


def test_time_does_not_tell_what_a_device_costs(make_server):
    s, secrets = start(make_server)

    def ask(kind, number, _secrets, _rng):
        return request("POST", "/v1/telemetry", device_auth(kind, f"wrong {number:08}"), {"t": 1})

    times = measure(s, secrets, tuple(SETTINGS), ask)
    seen = report(times)
    # Which hash is the first of the list may be seen, by a per cent, of real ids and others alike.
    medians = [statistics.median(t) for t in times.values()]
    assert max(medians) < (1.03 if FULL else 1.15) * min(medians)
    assert not [pair for pair in seen if set(pair[1:3]) == {"b4", "b5"}]


def test_ids_that_nobody_has_are_of_a_kind_too(make_server):
    """What the time tells of a real device it tells of an id that nobody has: which kind of hash comes first."""
    s, secrets = start(make_server)
    real = [name for name in SETTINGS if SETTINGS[name]]

    def ask(kind, number, _secrets, rng):
        # As many ids of one sort as of the other.
        name = rng.choice(real) if kind == "real" else f"nobody-{rng.randrange(300)}"
        return request("POST", "/v1/telemetry", device_auth(name, f"wrong {number:08}"), {"t": 1})

    assert not report(measure(s, secrets, ("real", "nobody"), ask))


def test_bytes_tell_nothing(make_server):
    s, secrets = start(make_server)
    rng = random.Random(2)
    seen = set()
    for auth in (device_auth, basic):
        for number in range(8):
            for kind in KINDS:
                with Wire(s.http_port) as w:
                    r = w.ask(asked(kind, number, secrets, rng, auth))
                # The request's id and the time are everybody's own.
                headers = tuple((n, v) for n, v in r.headers if n not in ("x-request-id", "date"))
                seen.add((r.status, headers, r.body))
    assert len(seen) == 1, seen
    assert seen.pop()[0] == 401


def test_failures_of_all_kinds_count_alike(make_server):
    """Also who tries too often is told the same, after as many tries."""
    s = make_server({"auth.failures_credential": "5/60s", "auth.failures_address": "1000/60s",
                     "auth.refusal_hold": "0ms"})
    owner_on(s, "a")
    secrets = make_devices(s)
    for name, secret in (("nobody", "wrong"), ("b4", "wrong"), ("b5-off", secrets["b5-off"]), ("y", "x" * 400),
                         ("fast-off", secrets["fast-off"]), ("fast", "x" * 400)):
        with Wire(s.http_port) as w:
            statuses = [w.ask(request("POST", "/v1/telemetry", device_auth(name, secret), {"t": 1})).status
                        for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2, name
