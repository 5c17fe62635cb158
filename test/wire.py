# SPDX-License-Identifier: Apache-2.0
"""HTTP by hand: exact bytes out, exact bytes in. For what no client library would send."""
import base64
import json
import socket
import time


class Response:
    def __init__(self, status, headers, body, interim):
        self.status, self.headers, self.body, self.interim = status, headers, body, interim

    def json(self):
        return json.loads(self.body)

    def __getitem__(self, name):
        """The value of a header field; KeyError if it is absent or there twice."""
        values = [v for n, v in self.headers if n == name.lower()]
        if len(values) != 1:
            raise KeyError(f"{name}: {values}")
        return values[0]

    def __contains__(self, name):
        return any(n == name.lower() for n, _ in self.headers)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Closed(Exception):
    """The server closed the connection where something was expected."""


class Connection:
    """One connection, of any protocol; what was received and not looked at yet is in `buffer`."""

    def __init__(self, port, timeout=10.0, source=""):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def _more(self):
        try:
            got = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError) as e:
            raise Closed(repr(e)) from e
        if not got:
            raise Closed(f"after {self.buffer!r}")
        self.buffer += got


class Wire(Connection):
    """HTTP on one connection."""

    def _until(self, mark):
        while mark not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def _exactly(self, n):
        while len(self.buffer) < n:
            self._more()
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def _head(self):
        first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        version, status = first.split(b" ")[:2]
        assert version == b"HTTP/1.1", first
        headers = []
        for line in lines:
            name, value = line.split(b":", 1)
            assert name and name == name.strip(), line
            headers.append((name.decode().lower(), value.strip().decode()))
        return int(status), headers

    def read(self, head=False):
        """The next response; interim ones are kept beside it. `head`: it answers HEAD."""
        interim = []
        status, headers = self._head()
        while status < 200:
            interim.append(status)
            status, headers = self._head()
        lengths = [v for n, v in headers if n == "content-length"]
        chunked = any(n == "transfer-encoding" for n, _ in headers)
        body = b""
        if chunked and not head:
            assert not lengths, "both Content-Length and Transfer-Encoding"
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            self._until(b"\r\n")
        elif status not in (204, 304) and not head:
            assert len(lengths) == 1, f"one Content-Length wanted: {status} {headers}"
            body = self._exactly(int(lengths[0]))
        return Response(status, headers, body, interim)

    def ask(self, data, head=False):
        return self.send(data).read(head)

    def rest(self, timeout=5.0):
        """Everything up to the end of the connection; fails if it does not end in time."""
        got, self.buffer = self.buffer, b""
        end = time.monotonic() + timeout
        while True:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                return got
            except TimeoutError:
                raise AssertionError(f"the connection is still open after {timeout} s: {got!r}")
            if not more:
                return got
            got += more

    def silent(self, seconds=0.2):
        """Whether nothing comes and the connection stays open that long."""
        self.sock.settimeout(seconds)
        try:
            got = self.sock.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        self.buffer += got
        return False


def basic(user, password):
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def request(method, target, headers=None, body=None, version="HTTP/1.1", host="sluice"):
    """The bytes of a request. A body gets a Content-Length unless the headers frame it."""
    fields = {"Host": host, **(headers or {})}
    names = {n.lower() for n in fields}
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields["Content-Length"] = str(len(body))
    head = f"{method} {target} {version}\r\n"
    head += "".join(f"{n}: {v}\r\n" for n, v in fields.items())
    return head.encode() + b"\r\n" + (body or b"")


def chunks(*parts, trailers=b""):
    out = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts if p)
    return out + b"0\r\n" + trailers + b"\r\n"
