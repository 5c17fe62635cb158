# SPDX-License-Identifier: Apache-2.0
"""A client of NATS that puts messages into a JetStream stream and waits for their acknowledgements, and nothing
else; its protocol is https://docs.nats.io/reference/reference-protocols/nats-protocol."""
import json
import re
import socket
import time

SUBJECT, INBOX = "bench.data", "_INBOX.bench"


class Jetstream:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb", 1 << 20)
        assert self.file.readline().startswith(b"INFO "), "this is no NATS server"
        self.socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %s.* 1\r\nPING\r\n' % INBOX.encode())
        assert self.file.readline() == b"PONG\r\n", "NATS did not answer"
        self.number = 0

    def message(self):
        """The next one that comes."""
        while True:
            line = self.file.readline()
            assert line, "NATS closed the connection"
            if line == b"PING\r\n":
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith((b"MSG ", b"HMSG ")):
                body = self.file.read(int(line.split()[-1]) + 2)
                return body[:-2]
            else:
                assert not line.startswith(b"-ERR"), line

    def ask(self, subject, body):
        self.number += 1
        body = body.encode()
        self.socket.sendall(f"PUB {subject} {INBOX}.{self.number} {len(body)}\r\n".encode() + body + b"\r\n")
        return json.loads(self.message())

    def make_stream(self, name):
        answer = self.ask(f"$JS.API.STREAM.CREATE.{name}", json.dumps({
            "name": name, "subjects": [SUBJECT], "storage": "file", "retention": "limits", "num_replicas": 1,
            "max_msgs": -1, "max_bytes": -1, "discard": "old"}))
        assert "error" not in answer, answer

    def publish(self, window, payload, seconds):
        """Windows of messages, each acknowledged wholly before the next; (messages, seconds)."""
        body, through, begun = "x" * payload, 0, time.monotonic()
        one = f"PUB {SUBJECT} {INBOX}.p {payload}\r\n{body}\r\n".encode()
        while time.monotonic() < begun + seconds:
            self.socket.sendall(one * window)
            for _ in range(window):
                answer = self.message()
                assert re.match(rb'\{"stream":"\w+", ?"seq":\d+\}', answer), answer
            through += window
        return through, time.monotonic() - begun
