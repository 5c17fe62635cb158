# SPDX-License-Identifier: Apache-2.0
"""A POST of one value: Sluice (who sends it is checked, permitted, held to limits, and on disk before the answer) beside
servers that do less. nginx and HAProxy answer 204 and do nothing; Caddy and nginx with Basic authentication look
bcrypt up as well, Caddy with its cache of hashes. All run all the time on one core, the client on another one, and
are asked turn by turn. 10,000 devices in random order, each with a feed of its own."""
import base64
import shlex

from attack_bench import SECRET, bcrypt_seconds
from http_bench import NGINX_CONF, Client, Sluice, nginx, write_csv
from peers import Peer
from result import Result, ratios

COLUMNS = {"cpu_us": "CPU µs a message", "per_second": "messages/s", "p99_ms": "p99 ms", "memory_mib": "memory MiB"}
CADDY_USERS, NGINX_USERS = 500, 20  # more than 1,000 and Caddy's cache forgets them

HAPROXY_CONF = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout client 300s
    timeout connect 5s
    timeout server 300s
    timeout http-keep-alive 300s
frontend bench
    bind 127.0.0.1:{port}
    http-request return status 204
"""

CADDY_CONF = """\
{{
    admin off
    auto_https off
    servers {{
        protocols h1
    }}
}}
http://127.0.0.1:{port} {{
    basicauth {{
USERS
    }}
    respond 204
}}
"""


def users_csv(home, name, count):
    path = home / f"{name}.csv"
    path.write_text("".join(f"user-{i:04d},{SECRET}\n" for i in range(count)))
    return path


def caddy(home, cpu, stored):
    """Its cache of hashes is on, as it is by default."""
    hashed = base64.b64encode(stored.encode()).decode()
    users = "\n".join(f"        user-{i:04d} {hashed}" for i in range(CADDY_USERS))
    peer = Peer("Caddy, basic auth", home, cpu, ["caddy", "run", "--adapter", "caddyfile", "--config"],
                CADDY_CONF.replace("USERS", users))
    peer.csv, peer.words = users_csv(home, "caddy", CADDY_USERS), ("--basic",)
    return peer


def nginx_bcrypt(home, cpu, stored):
    """`return` would come before the password is looked at; a file that is not there comes behind it."""
    users = home / "htpasswd"
    users.write_text("".join(f"user-{i:04d}:{stored}\n" for i in range(NGINX_USERS)))
    auth = f'auth_basic bench; auth_basic_user_file {users}; try_files /none =204;'
    peer = Peer("nginx, basic auth, bcrypt", home, cpu, ["nginx", "-c"],
                "user root;\n" + NGINX_CONF.replace("return 204;", auth))
    peer.csv, peer.words = users_csv(home, "nginx", NGINX_USERS), ("--basic",)
    return peer


def in_turns(args, client, targets, connections, *more):
    """{target's name: [what each round measured]}"""
    rounds = {t.name: [] for t in targets}
    for t in targets:
        client.run(t, connections, args.seconds, None, *more)  # secrets are known, feeds are made
    for _ in range(args.rounds):
        for t in targets:
            rounds[t.name].append(client.run(t, connections, args.seconds, None, *more))
            print(f"{connections:4} connections: {t.name:26} {rounds[t.name][-1]['cpu_us']:9.2f} us", flush=True)
    return rounds


def start(args, r, running):
    """The servers that are compared; whoever is not there is named in the report."""
    cpu = {args.server_cpu}
    running.append(nginx(args.home, cpu))
    if not args.quick:
        with r.perhaps("HAProxy"):
            running.append(Peer("HAProxy return 204", args.home, cpu, ["haproxy", "-db", "-f"], HAPROXY_CONF))
    devices = [(f"device-{i:05d}", None) for i in range(round(10000 * args.scale))]
    running.append(Sluice(args.home, cpu, "Sluice", devices, args.settings))
    return running[-1]


def checkers(args, r, client, running):
    """Those who look at a password too. Caddy is asked over 64 connections, nginx over 4: each of its requests
    costs a hash."""
    group = r.group("Who checks a password", COLUMNS, "cpu_us")
    cost = 10
    _, stored = bcrypt_seconds(cost)
    with r.perhaps("Caddy"):
        peer = caddy(args.home, {args.server_cpu}, stored)
        running.append(peer)
        client.run(peer, 4, CADDY_USERS * 0.2, None, "--requests", str(CADDY_USERS * 20))  # all are in its cache
        r.row(group, f"{peer.name}, {CADDY_USERS} users in its cache", in_turns(args, client, [peer], 64)[peer.name])
    with r.perhaps("nginx with bcrypt"):
        peer = nginx_bcrypt(args.home, {args.server_cpu}, stored)
        running.append(peer)
        r.row(group, peer.name, in_turns(args, client, [peer], 4)[peer.name])
    r.dict["settings"]["bcrypt cost of Caddy and nginx"] = cost


def measure(args):
    r, running = Result(), []
    try:
        sluice = start(args, r, running)
        csv = args.home / "devices.csv"
        write_csv(csv, sluice.auths, 0)
        client = Client(args, args.home, csv)
        for connections in (64, 256):
            rounds = in_turns(args, client, running[:], connections)
            group = r.group(f"{connections} connections", COLUMNS, "cpu_us")
            for name, measured in rounds.items():
                r.row(group, name, measured)
            of = ratios(rounds["Sluice"], rounds["nginx return 204"], "cpu_us")
            r.claim(f"http.{connections}", of)
            r.guard(f"http.{connections}", of)
            r.command(rounds["Sluice"][0]["command"])
        if not args.quick:
            checkers(args, r, client, running)
        for t in running:
            r.command(shlex.join(t.command))
    finally:
        for t in running:
            t.stop()
    return r.dict
