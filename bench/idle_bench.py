#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of the process for each idle MQTT connection that has logged in, plain and TLS, and TLS
handshakes a second, full and resumed, beside nginx with the same certificate.

Memory is the slope of the private pages over the number of connections, from --least to --most, so that what
a process has anyway does not count. Handshakes: `openssl s_time` on one core, the server on the other, TLS 1.2, since
that client resumes no sessions of 1.3. What a core could do is 1,000,000 / cpu_us.
"""
import asyncio
import os
import re
import resource
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))
import harness  # noqa: E402
import mqtt_wire as mqtt  # noqa: E402
from common import cpu_seconds, parse, parser, write_report  # noqa: E402
from conftest import owner_on  # noqa: E402
from peers import Missing, find  # noqa: E402
from pki import Authority  # noqa: E402

NGINX = """daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; server {{ listen 127.0.0.1:{port} ssl; server_name localhost;
ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
location / {{ return 204; }} }} }}
"""


def private_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) << 10 for kb in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", text, re.M))


async def hold(server, owner, port, context, levels):
    """Opens connections up to each level in turn; [(connections, bytes)]."""
    login, points, held = mqtt.connect("", owner.name, owner.key, keep_alive=0), [], []
    gate = asyncio.Semaphore(32)

    async def one(i):
        async with gate:  # from many addresses, or there are not enough ports
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None,
                local_addr=(f"127.0.0.{2 + i % 16}", 0))
            writer.write(login)
            answer = await reader.readexactly(4)
            assert answer == b"\x20\x02\0\0", answer
            held.append(writer)

    for level in levels:
        await asyncio.gather(*(one(i) for i in range(len(held), level)))
        await asyncio.sleep(2)
        assert server.metric("mqtt_connections") == level
        points.append((level, private_bytes(server.pid)))
    for writer in held:
        writer.transport.abort()
    return points


def slope(points):
    n, xs, ys = len(points), [p[0] for p in points], [p[1] for p in points]
    mx, my = sum(xs) / n, sum(ys) / n
    return sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x in xs)


def handshakes(port, seconds, reuse):
    """A second, as the client sees it: one connection at a time."""
    run = subprocess.run(["taskset", "-c", "1", "openssl", "s_time", "-connect", f"localhost:{port}", "-time",
                          str(seconds), "-tls1_2", "-reuse" if reuse else "-new"], capture_output=True, text=True)
    found = re.findall(r"(\d+) connections in (\d+) real seconds", run.stdout)
    assert found, run.stdout + run.stderr
    assert not reuse or "rrr" in run.stdout, "no session was resumed"
    return int(found[-1][0]) / int(found[-1][1])


def measure_handshakes(name, pid, port, seconds):
    row = {}
    for kind, reuse in (("full", False), ("resumed", True)):
        before = cpu_seconds(pid)
        rate = handshakes(port, seconds, reuse)
        row[kind] = {"per_second": round(rate, 1),
                     "cpu_us": round((cpu_seconds(pid) - before) * 1e6 / (rate * seconds), 1)}
    print(f"  {name:8} {row}", flush=True)
    return row


def main():
    p = parser(__doc__)
    p.add_argument("--least", type=int, default=1000)
    p.add_argument("--most", type=int, default=15000)
    p.add_argument("--tls-most", type=int, default=5000, help="the same for TLS, whose client needs much memory")
    p.add_argument("--seconds", type=int, default=4, help="of each kind of handshake")
    options = parse(p)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        home = Path(folder)
        ca, result = Authority(home), {}
        pair = ca.server("server", "localhost")
        server = harness.Server(home / "server", {
            "listen.mqtts": f"127.0.0.1:{harness.free_port()}", "listen.https": f"127.0.0.1:{harness.free_port()}",
            "tls.certificates": pair, "mqtt.connections_max": "100000", "listen.opening_max": "4096",
            "listen.backlog": "4096", **options.settings}, cpus={0})
        ports = {name: int(server.settings[name].split(":")[1]) for name in ("listen.mqtts", "listen.https")}
        server.start()
        owner = owner_on(server, "idle")
        context = ssl.create_default_context(cafile=str(ca.path))
        print("bytes of process memory for each idle connection:", flush=True)
        for name, port, tls, most in (("plain", server.mqtt_port, None, options.most),
                                      ("tls", ports["listen.mqtts"], context, options.tls_most)):
            levels = [options.least + (most - options.least) * i // 4 for i in range(5)]
            points = asyncio.run(hold(server, owner, port, tls, levels))
            harness.wait_for("their end", lambda: server.metric("mqtt_connections") == 0, 60)
            result[name] = {"points": points, "bytes": round(slope(points))}
            print(f"  {name:8} {result[name]['bytes']} up to {most}", flush=True)
        print("TLS 1.2 handshakes, ECDSA P-256, one connection at a time:", flush=True)
        result["handshakes"] = {"sluice": measure_handshakes("sluice", server.pid, ports["listen.https"],
                                                             options.seconds)}
        try:
            nginx = find("nginx")
        except Missing as e:
            print(e, flush=True)
        else:
            chain, key = pair.split(":")
            port = harness.free_port()
            (home / "nginx.conf").write_text(NGINX.format(home=home, port=port, chain=chain, key=key))
            nginx = subprocess.Popen(["taskset", "-c", "0", nginx, "-p", str(home), "-c", "nginx.conf"])
            harness.wait_for("nginx", lambda: (home / "pid").exists())
            try:
                result["handshakes"]["nginx"] = measure_handshakes("nginx", nginx.pid, port, options.seconds)
            finally:
                nginx.terminate()
                nginx.wait(10)
        server.close()
    write_report(options, result)


if __name__ == "__main__":
    main()
