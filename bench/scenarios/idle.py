# SPDX-License-Identifier: Apache-2.0
"""What an MQTT connection costs that has logged in and says nothing: process memory, as the slope between 1,000 and 15,000 of them
(5,000 with TLS), so that what a server has anyway does not count. And TLS handshakes, beside nginx with the same certificate:
TLS 1.2, ECDSA P-256, one connection after the other."""
import peers
from result import Result
from scenarios.gate import script

BYTES = {"bytes": "bytes a connection"}
HANDSHAKES = {"cpu_us": "CPU µs a handshake", "per_second": "handshakes/s of one client"}


def measure(args):
    r = Result()
    most, tls_most = (max(1000 + 500, round(n * args.scale)) for n in (15000, 5000))
    found = script(args, r, "idle_bench.py", "--most", most, "--tls-most", tls_most, "--seconds", max(1, round(args.seconds)))
    group = r.group("Memory", BYTES, "bytes")
    r.row(group, f"Sluice, plain, up to {most:,}", [{"bytes": found["plain"]["bytes"]}])
    r.row(group, f"Sluice, TLS, up to {tls_most:,}", [{"bytes": found["tls"]["bytes"]}])
    r.claim("idle.plain", [found["plain"]["bytes"]])
    r.claim("idle.tls", [found["tls"]["bytes"]])
    group = r.group("Handshakes", HANDSHAKES, "cpu_us")
    for name, row in found["handshakes"].items():
        for kind, figures in row.items():
            r.row(group, f"{name.capitalize()}, {kind}", [figures])
    if "nginx" not in found["handshakes"]:
        with r.perhaps("nginx"):
            peers.find("nginx")
    return r.dict
