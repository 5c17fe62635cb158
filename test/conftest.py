# SPDX-License-Identifier: Apache-2.0
"""Fixtures: servers, and one account with a key and a device on them."""
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest.register_assert_rewrite("consumers", "sink_conformance")

from harness import Server, device_auth  # noqa: E402
from wire import Wire  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time or fills the machine: not beside others")


@pytest.fixture(scope="session", autouse=True)
def binary():
    import harness
    assert Path(harness.BIN).exists(), f"{harness.BIN} is missing: build it, or set SLUICE_BIN"


@pytest.fixture
def make_server(tmp_path):
    """make_server(setting=..., ...): a fresh server, ended and checked after the test."""
    made = []

    def make(settings=None, start=True, **rest):
        server = Server(tmp_path / f"server{len(made)}", settings, **rest)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server with default limits for all tests of a module."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.close()


def owner_on(server, name):
    """An account with a key and a strong device, as the tests use it."""
    server.add_account(name)
    key = server.add_key(name)
    device = f"{name}-dev"
    secret = server.add_device(name, device)
    return SimpleNamespace(name=name, key=key, device=device, secret=secret,
                           auth=device_auth(device, secret), key_auth={"X-AIO-Key": key},
                           api=f"/api/v2/{name}", url=f"{server.url}/api/v2/{name}")


@pytest.fixture(scope="module")
def owner(server):
    return owner_on(server, "fleet1")


@pytest.fixture
def wire(server):
    """wire(): a new raw connection to the module's server."""
    opened = []

    def connect(**rest):
        opened.append(Wire(server.http_port, **rest))
        return opened[-1]

    yield connect
    for w in opened:
        w.close()


@pytest.fixture(scope="module")
def receiver():
    """Where webhooks are posted to."""
    from webhook_receiver import Webhooks  # which knows what a sink is; few tests do
    receiver = Webhooks()
    yield receiver
    receiver.close()


_numbers = itertools.count(1)


@pytest.fixture
def feed():
    """A feed key that no other test uses."""
    return f"feed-{next(_numbers)}"
