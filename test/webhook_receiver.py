# SPDX-License-Identifier: Apache-2.0
"""A receiver of webhooks under test: a process of its own that verifies what it gets as Standard Webhooks says, and
writes it down before it says that it has it.

Run as a program: webhook_receiver.py HOME PORT [CERTIFICATE KEY]. What is posted to /PLACE becomes lines of
HOME/PLACE.got, if the file HOME/PLACE.rules says nothing else.
"""
import asyncio
import base64
import hashlib
import hmac
import json
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST, SECOND = (f"whsec_{base64.b64encode(bytes([c]) * 32).decode()}" for c in b"ab")
TOLERANCE_S = 300


# ---- the program ----

def is_signed(secrets, headers, body):
    """By one of the secrets, and lately."""
    id, when = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(when)) > TOLERANCE_S or "." in id:
        return False
    given = headers["webhook-signature"].split()
    for secret in secrets:
        mac = hmac.new(base64.b64decode(secret[6:]), f"{id}.{when}.".encode() + body, hashlib.sha256).digest()
        if any(hmac.compare_digest(s, "v1," + base64.b64encode(mac).decode()) for s in given):
            return True
    return False


def values_of(event):
    """(id, value, data) of what is in a request; id None: the request's own."""
    events = event["data"] if event["type"] == "batch" else [event]
    for e in events:
        d = e["data"]
        value = base64.b64decode(d["value_base64"]) if "value_base64" in d else d.get("value", "").encode()
        yield e.get("id"), value, e


class Receiver:
    def __init__(self, home):
        self.home, self.read = Path(home), {}

    def file(self, name):
        """Its JSON, read again when it was changed; {}: there is none."""
        path = self.home / name
        try:
            changed = path.stat().st_mtime_ns
            if self.read.get(name, (0,))[0] != changed:
                self.read[name] = changed, json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        return self.read[name][1]

    async def answer(self, method, path, headers, body):
        """Status, headers, body."""
        place = path.strip("/")
        rules = self.file(f"{place}.rules")
        note = lambda what: open(self.home / f"{place}.tried", "a").write(json.dumps(what) + "\n")
        if not is_signed(self.file("secrets"), headers, body):
            note({"unsigned": True})
            return 401, {}, b"the signature is wrong"
        event = json.loads(body)
        values = list(values_of(event))
        note({"at": time.time(), "id": headers["webhook-id"], "values": [v.decode("latin-1") for _, v, _ in values],
              "signatures": len(headers["webhook-signature"].split())})
        if rules.get("wait"):
            await asyncio.sleep(rules["wait"])
        if rules.get("delay"):
            await asyncio.sleep(random.random() * rules["delay"])
        if any(bad.encode("latin-1") in value for _, value, _ in values for bad in rules.get("refuse", [])):
            return 422, {}, b"that is no value"
        if rules.get("status"):
            return rules["status"], rules.get("headers", {}), rules.get("body", "").encode()
        with open(self.home / f"{place}.got", "a") as f:
            f.write("".join(json.dumps([id or headers["webhook-id"], e]) + "\n" for id, _, e in values))
        return 200, {}, b"x" * rules.get("bytes", 0)

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                headers = {}
                while (line := (await reader.readline()).decode().strip()):
                    name, value = line.split(":", 1)
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers["content-length"]))
                status, more, answer = await self.answer(method, path, headers, body)
                head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(answer)}", *(f"{k}: {v}" for k, v in more.items())]
                writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()


async def main(home, port, *certified):
    tls = None
    if certified:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certified)
    server = await asyncio.start_server(Receiver(home).serve, "127.0.0.1", int(port), ssl=tls, backlog=500)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    sys.exit()


# ---- the target ----

from harness import free_port, wait_for  # noqa: E402
from sink_conformance import Message, Target  # noqa: E402


class Webhooks(Target):
    """A place is a path."""
    kind = "webhook"
    poison, poison_why = (("raw/x", b"poison"), ("raw/x", b"\xff poison")), "HTTP 422: that is no value"
    scheme = "http"

    def __init__(self, certified=(), **own):
        self.home = Path(tempfile.mkdtemp(prefix="sluice-webhooks-"))
        self.port, self.process, self.certified, self.own = free_port(), None, certified, own
        self.secret_file = self.home / "secret"
        self.secret_file.write_text(FIRST + "\n")
        self.accept_secrets(FIRST)
        self.start()

    def accept_secrets(self, *secrets):
        self.replace("secrets", json.dumps(secrets))

    def replace(self, name, text):
        (self.home / "new").write_text(text)
        (self.home / "new").rename(self.home / name)

    def settings(self, place, port=None):
        # What is refused is not tried again by itself: the tests say when.
        self.rule(place, refuse=["poison"])
        return {"webhook.url": f"{self.scheme}://127.0.0.1:{port or self.port}/{place}", "webhook.retry_dead": "false",
                "webhook.secret_file": str(self.secret_file), "webhook.allow": "127.0.0.0/8",
                **{f"webhook.{name}": value for name, value in self.own.items()}}

    def rule(self, place, **rules):
        """What it answers there from now on: refuse, status, headers, body, wait and delay (at most, by chance; s), bytes."""
        self.replace(f"{place}.rules", json.dumps(rules))

    def start(self):
        if self.process is None or self.process.poll() is not None:
            with open(self.home / "log", "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, __file__, str(self.home), str(self.port), *map(str, self.certified)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def up():
            assert self.process.poll() is None, (self.home / "log").read_text()
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for("the receiver", up, 30)

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    stop = kill  # it writes down before it answers

    def close(self):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def lines(self, place, kind):
        try:
            text = (self.home / f"{place}.{kind}").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines() if line.endswith(("}", "]"))]

    def events(self, place):
        """(id, event) of all that were taken."""
        return [(id, e) for id, e in self.lines(place, "got")]

    def tried(self, place):
        """All requests, also those that were refused."""
        return self.lines(place, "tried")

    def read(self, place):
        found = []
        for id, e in self.events(place):
            if e["type"] == "webhook.test":
                continue
            d = e["data"]
            (_, value, _), = values_of(e)
            found.append(Message(int(id.rsplit("_", 1)[1]), value, d["account"], d.get("feed"), d["device"],
                                 d.get("topic")))
        return found

    def accept_poison(self, place):
        self.rule(place)
