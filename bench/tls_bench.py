#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS costs, beside nginx with the same OpenSSL: a handshake full and resumed, a message on a
connection that is open, memory of an idle connection.

Server on one core, clients on another; turn by turn, medians of the rounds. CPU is that of all
threads and processes of the server, from /proc/PID/stat. A handshake's cost is that of a connection
with one request and its answer, less that of the same without TLS.

    bench/tls_bench.py --bin build/src/sluice --json results.json
"""
import argparse
import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "bench")]

import harness  # noqa: E402
from http_bench import cpu_seconds, machine  # noqa: E402
from pki import Authority  # noqa: E402

NGINX_CONF = """\
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers {ciphers};
    ssl_prefer_server_ciphers off;
    ssl_session_timeout 1d;
    ssl_session_tickets on;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        {certificates}
        location / {{ return 204; }}
    }}
}}
"""

CIPHERS = ("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
           "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305")

WRK_SCRIPT = """\
wrk.method = "POST"
wrk.body = '{"temperature": 21.5}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Device-Id"] = "%s"
wrk.headers["X-Device-Token"] = "%s"
"""


class Nginx:
    name = "nginx"

    def __init__(self, home, cpu, pairs):
        self.home = home / "nginx"
        self.home.mkdir()
        self.port, self.tls_port = harness.free_port(), harness.free_port()
        conf = self.home / "nginx.conf"
        certificates = " ".join("ssl_certificate {}; ssl_certificate_key {};".format(*p.split(":")) for p in pairs)
        conf.write_text(NGINX_CONF.format(home=self.home, port=self.port, tls_port=self.tls_port,
                                          ciphers=CIPHERS, certificates=certificates))
        self.process = subprocess.Popen(["nginx", "-c", str(conf)], cwd=self.home, stdin=subprocess.DEVNULL,
                                        preexec_fn=lambda: os.sched_setaffinity(0, cpu))
        self.auth = {"X-Device-Id": "none", "X-Device-Token": "none"}
        harness.wait_for("nginx", lambda: connectable(self.tls_port))

    def pids(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Sluice:
    name = "sluice"

    def __init__(self, home, cpu, pairs, settings):
        self.tls_port = harness.free_port()
        self.server = harness.Server(home / "sluice", {
            "server.workers": "1", "journal.segment_size": "64MiB", "http.idle_timeout": "1h",
            "listen.https": f"127.0.0.1:{self.tls_port}", "tls.certificates": ", ".join(pairs), **settings}, cpus=cpu)
        self.server.start(60)
        self.port = self.server.http_port
        self.server.add_account("bench")
        secret = self.server.add_device("bench", "bench-dev")
        self.auth = harness.device_auth("bench-dev", secret)

    def pids(self):
        return [self.server.pid]

    def cpu(self):
        return cpu_seconds(self.server.pid)

    def stop(self):
        assert self.server.stop(60) == 0


def connectable(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def context_of(ca, version, ciphers=None):
    context = ssl.create_default_context(cafile=str(ca.path))
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


# ---- handshakes ----

KINDS = {
    "no TLS": None,
    "1.3 ECDSA full": (ssl.TLSVersion.TLSv1_3, None, False),
    "1.3 resumed": (ssl.TLSVersion.TLSv1_3, None, True),
    "1.2 ECDSA full": (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", False),
    "1.2 RSA full": (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256", False),
    "1.2 resumed": (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
}
REQUEST = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"


def one_connection(port, context, session):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        s = context.wrap_socket(s, server_hostname="localhost", session=session)
    s.sendall(REQUEST)
    assert s.recv(4096).startswith(b"HTTP/1.1 ")
    reused, session = context and s.session_reused, context and s.session
    s.close()
    return reused, session


def handshakes(ca, target, kind, seconds):
    """CPU per connection, in microseconds."""
    how = KINDS[kind]
    context = how and context_of(ca, how[0], how[1])
    port = target.tls_port if how else target.port
    _, session = one_connection(port, context, None)
    keep = session if how and how[2] else None
    cpu, begun, count = target.cpu(), time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        for _ in range(20):
            reused, _ = one_connection(port, context, keep)
            assert bool(reused) == bool(keep), f"{target.name}: {kind}: reused {reused}"
            count += 1
    return (target.cpu() - cpu) / count * 1e6


# ---- messages ----

def messages(args, home, target, tls):
    script = home / f"{target.name}.lua"
    script.write_text(WRK_SCRIPT % (target.auth["X-Device-Id"], target.auth["X-Device-Token"]))
    url = f"https://127.0.0.1:{target.tls_port}" if tls else f"http://127.0.0.1:{target.port}"
    cpu = target.cpu()
    run = subprocess.run(["taskset", "-c", str(args.client_cpu), "wrk", "-t1", f"-c{args.connections}",
                          f"-d{max(1, round(args.seconds))}s", "-s", str(script), url + "/v1/telemetry"],
                         capture_output=True, text=True)
    cpu = target.cpu() - cpu
    count = re.search(r"(\d+) requests in", run.stdout)
    assert run.returncode == 0 and count and "Non-2xx" not in run.stdout and "Socket errors" not in run.stdout, \
        run.stdout + run.stderr
    return cpu / int(count[1]) * 1e6


# ---- memory ----

def memory(target):
    """Bytes that are the processes' own."""
    total = 0
    for pid in target.pids():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Anonymous:\s+(\d+)", rollup, re.M)[1]) * 1024
    return total


def idle(args, ca, target, version):
    """Bytes per idle connection: the slope between a fifth of the connections and all."""
    context, open_ones, points = context_of(ca, version), [], []
    for n in range(args.idle):
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", target.tls_port)),
                                server_hostname="localhost")
        s.sendall(REQUEST)
        assert s.recv(4096).startswith(b"HTTP/1.1 ")
        open_ones.append(s)
        if (n + 1) % (args.idle // 5) == 0:
            time.sleep(0.2)
            points.append((n + 1, memory(target)))
    for s in open_ones:
        s.close()
    (n0, m0), (n1, m1) = points[0], points[-1]
    return (m1 - m0) / (n1 - n0)


class Notes:
    def __init__(self):
        self.rounds = {}

    def put(self, what, target, value):
        self.rounds.setdefault((what, target.name), []).append(value)
        print(f"{what:24s} {target.name:8s} {value:9.1f}", file=sys.stderr)

    def results(self):
        return [{"what": what, "server": server, "median": statistics.median(values), "rounds": values}
                for (what, server), values in self.rounds.items()]


def measure_cpu(args, notes, home, ca, start):
    targets = start(home)
    try:
        for _ in range(args.rounds):
            for kind in KINDS if "handshakes" in args.only else ():
                for t in targets:
                    notes.put(kind, t, handshakes(ca, t, kind, args.seconds))
            for tls in (False, True) if "messages" in args.only else ():
                for t in targets:
                    notes.put("message, TLS" if tls else "message, no TLS", t, messages(args, home, t, tls))
    finally:
        for t in targets:
            t.stop()


def measure_memory(args, notes, home, ca, start):
    """With fresh servers each: memory that was used before would be used again."""
    for version, name in ((ssl.TLSVersion.TLSv1_3, "1.3"), (ssl.TLSVersion.TLSv1_2, "1.2")):
        (home / name).mkdir()
        targets = start(home / name)
        try:
            for t in targets:
                notes.put(f"idle {name}, bytes", t, idle(args, ca, t, version))
        finally:
            for t in targets:
                t.stop()


def table(results, names):
    def of(what, server):
        return next(r["median"] for r in results if (r["what"], r["server"]) == (what, server))

    print(f"{'':26}" + "".join(f"{n:>12}" for n in names))
    for what in dict.fromkeys(r["what"] for r in results):
        less = what[:1] == "1"
        cells = "".join(f"{of(what, n) - (of('no TLS', n) if less else 0):12.1f}" for n in names)
        unit = "handshake, us: " if less else "connection, us: " if what == "no TLS" else ""
        print(f"{unit + what:30}"[:30].ljust(30) + cells)


def parse_args():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", help="the sluice binary (else SLUICE_BIN, else build/src/sluice)")
    p.add_argument("--json", help="write everything measured here")
    p.add_argument("--dir", help="where the data go")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--idle", type=int, default=5000, help="idle connections")
    p.add_argument("--only", nargs="+", default=["handshakes", "messages", "memory"],
                   choices=["handshakes", "messages", "memory"])
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    p.add_argument("--set", action="append", default=[], help="a setting of sluice: section.name=value")
    p.add_argument("--no-nginx", action="store_true")
    return p.parse_args()


def main():
    args = parse_args()
    if args.bin:
        harness.BIN = str(Path(args.bin).resolve())
    os.sched_setaffinity(0, {args.client_cpu})
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir or ROOT) as home:
        home = Path(home)
        home.chmod(0o755)  # nginx's worker may be somebody else
        ca = Authority(home)
        pairs = [ca.server("ec", "localhost"), ca.server("rsa", "localhost", kind="rsa")]
        settings = dict(s.split("=", 1) for s in args.set)

        def start(home):
            home.chmod(0o755)
            peers = [] if args.no_nginx else [Nginx(home, {args.server_cpu}, pairs)]
            return [*peers, Sluice(home, {args.server_cpu}, pairs, settings)]

        notes = Notes()
        if {"handshakes", "messages"} & set(args.only):
            measure_cpu(args, notes, home, ca, start)
        if "memory" in args.only:
            measure_memory(args, notes, home, ca, start)
    report = {"machine": machine(), "arguments": vars(args), "openssl": ssl.OPENSSL_VERSION,
              "results": notes.results()}
    table(report["results"], list(dict.fromkeys(r["server"] for r in report["results"])))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
