# SPDX-License-Identifier: Apache-2.0
"""A gateway (--roles ingest) and the process of its sinks (--roles sink), on one directory."""
import json

import requests

from harness import Server, wait_for

PATIENCE = 60


class Apart(Server):
    """The process of the sinks: of the gateway's directory and settings, with an operator's port of its own."""

    def __init__(self, gateway, home, **more):
        super().__init__(home, {**gateway.settings, "listen.http": "", "listen.mqtt": "", **more})
        self.settings["listen.operator"] = f"127.0.0.1:{self.operator_port}"
        self.data = gateway.data

    def command(self):
        return [*super().command(), "--roles", "sink"]


class Gateway(Server):
    roles = "ingest"

    def command(self):
        return [*super().command(), "--roles", self.roles]


class Pair:
    """Both, and what their one sink delivers to: a Target (sink_conformance.py)."""

    def __init__(self, tmp_path, receiver, place, settings=None):
        self.receiver, self.place = receiver, place
        self.settings = {**receiver.settings(place), f"{receiver.kind}.batch_max": receiver.batch_max, **(settings or {})}
        self.gateway = Gateway(tmp_path / "gateway", self.settings)
        self.sinks = Apart(self.gateway, tmp_path / "sinks")

    def start(self):
        self.gateway.start()
        self.sinks.start()
        return self

    def status(self, server=None):
        return json.loads((server or self.gateway).operator("/v1/status"))["sinks"][self.receiver.kind]

    def drained(self, server=None):
        return wait_for("all to be delivered", lambda: (s := self.status(server))["lag"] == 0 and
                        s["state"] == "running" and s, PATIENCE, 0.05)

    def values(self):
        """Of each message once, in the order of the journal."""
        found = {m.offset: m.value.decode() for m in self.receiver.read(self.place)}
        return [found[offset] for offset in sorted(found)]

    def close(self):
        for server in (self.sinks, self.gateway):
            if server.process and server.process.poll() is None:
                server.close()
            server.check_log()


def readyz(server):
    """Status and text."""
    r = requests.get(f"{server.operator_url}/readyz", timeout=5)
    return r.status_code, r.text
