# SPDX-License-Identifier: Apache-2.0
"""Whether an account may send: Sluice's rolling windows for a million accounts in random order, beside the same decision
in Redis (a sorted set for each account, by a script, so that it is exact) and nginx's limit_req (one number for each
account, so that it is not). Sluice's is a call in the server itself; nginx's is the difference between two nginx of which one
has the limit. Redis is asked 16 decisions at a time, and one by one."""
import hashlib
import math
import random
import re
import subprocess
import time

from common import children, memory_bytes, tool
from http_bench import NGINX_CONF, Client
from peers import Peer, Redis
from result import Result, ratios

COLUMNS = {"ns": "CPU ns a decision", "bytes": "bytes an account"}
WINDOW_MS, LIMIT, STAMPS = 60000, 60, 6

SCRIPT = f"""redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1] - {WINDOW_MS})
if redis.call('ZCARD', KEYS[1]) >= {LIMIT} then return 0 end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], {WINDOW_MS})
return 1"""

LIMIT_REQ = "limit_req zone=accounts burst=1000 nodelay; try_files /none =204;"
ZONE = "http {{\n    limit_req_zone $http_x_device_id zone=accounts:512m rate=1000r/s;"


def own(args, accounts, stamps):
    """{(batch, subjects): CPU ns}, bytes of an account."""
    run = subprocess.run(["taskset", "-c", str(args.server_cpu), tool("throttle_bench"), str(accounts), str(stamps)],
                         check=True, capture_output=True, text=True)
    found = {(int(b), int(s)): float(ns) for b, s, ns in re.findall(
        r"batch +(\d+), (\d) subject.*?, +([\d.]+) ns CPU", run.stdout)}
    return found, float(re.search(r"used: ([\d.]+) bytes each", run.stdout)[1])


def measure_own(args, r, accounts):
    group = r.group(f"Sluice, {accounts:,} accounts", COLUMNS, "ns")
    rounds = [own(args, accounts, STAMPS) for _ in range(args.rounds)]
    for batch in (1, 16, 64):
        for subjects in (1, 2):
            r.row(group, f"Sluice, {batch} at a time, {'account' if subjects == 1 else 'account and address'}",
                  [{"ns": found[batch, subjects], "bytes": size} for found, size in rounds])
    if not args.quick:
        for stamps in (1, LIMIT):
            found, size = own(args, accounts, stamps)
            r.row(group, f"Sluice, 16 at a time, {stamps} of {LIMIT} used", [{"ns": found[16, 1], "bytes": size}])
    r.claim("throttle.batch", [found[16, 1] for found, _ in rounds])
    r.claim("throttle.one", [found[1, 1] for found, _ in rounds])
    r.claim("throttle.bytes", [size - 64 for _, size in rounds])
    return [{"ns": found[16, 1]} for found, _ in rounds]


def measure_redis(args, r, accounts):
    """Filled as Sluice's: each account has sent 6 times in the last minute."""
    redis = Redis("Redis", args.home, {args.server_cpu}, "--appendonly", "no")
    try:
        before, now = memory_bytes(redis.process.pid), int(time.time() * 1000)
        for first in range(0, accounts, 10000):
            redis.do(("ZADD", f"a:{i}", *(w for k in range(STAMPS) for w in (now + k, f"{i}-{k}")))
                     for i in range(first, min(first + 10000, accounts)))
        size = (memory_bytes(redis.process.pid) - before) / accounts
        redis.do([("EVAL", SCRIPT.replace("\n", " "), "1", "warm", now, "x")])
        name = hashlib.sha1(SCRIPT.replace("\n", " ").encode()).hexdigest()
        pick = random.Random(1)

        def decide(count, batch):
            asks = [("EVALSHA", name, "1", f"a:{pick.randrange(accounts)}", now + 10, f"m{pick.random()}") for _ in range(count)]
            cpu = redis.cpu()
            for at in range(0, count, batch):
                redis.do(asks[at:at + batch])
            return {"ns": (redis.cpu() - cpu) * 1e9 / count, "bytes": size}
        group = r.group(f"Peers, {accounts:,} accounts", COLUMNS, "ns")
        count = round(20000 * max(1, args.seconds))
        batched = [decide(count, 16) for _ in range(args.rounds)]
        r.row(group, "Redis, sorted sets, 16 at a time", batched)
        if not args.quick:
            r.row(group, "Redis, sorted sets, one at a time", [decide(count // 2, 1) for _ in range(args.rounds)])
        return group, batched
    finally:
        redis.stop()


def shared_bytes(pid):
    """Of shared memory that a process and its children use."""
    found = re.search(r"^RssShmem:\s+(\d+)", open(f"/proc/{pid}/status").read(), re.M)
    return max([int(found[1]) << 10, *(shared_bytes(child) for child in children(pid))])


def measure_nginx(args, r, accounts, group):
    csv = args.home / "accounts.csv"
    csv.write_text("".join(f"account-{i:07d},none\n" for i in range(accounts)))
    plain = Peer("nginx", args.home, {args.server_cpu}, ["nginx", "-c"], NGINX_CONF.replace("return 204;", "try_files /none =204;"))
    limited = Peer("nginx with limit_req", args.home, {args.server_cpu}, ["nginx", "-c"],
                   NGINX_CONF.replace("http {{", ZONE).replace("return 204;", LIMIT_REQ))
    client, rounds = Client(args, args.home, csv), []
    try:
        before, sent = shared_bytes(limited.process.pid), 0
        for _ in range(args.rounds + 1):
            a, b = (client.run(t, 64, args.seconds * 2) for t in (plain, limited))
            sent += b["per_second"] * args.seconds * 2
            known = accounts * (1 - math.exp(-sent / accounts))  # of so many drawn at random
            rounds.append({"ns": (b["cpu_us"] - a["cpu_us"]) * 1000,
                           "bytes": (shared_bytes(limited.process.pid) - before) / known})
        r.row(group, "nginx, limit_req", rounds[1:])
    finally:
        plain.stop()
        limited.stop()


def measure(args):
    r, accounts = Result(), round(1000000 * args.scale)
    mine = measure_own(args, r, accounts)
    with r.perhaps("Redis"):
        group, redis = measure_redis(args, r, accounts)
        r.guard("throttle", ratios(mine, redis, "ns"))
    if not args.quick:
        with r.perhaps("nginx limit_req"):
            measure_nginx(args, r, accounts, group)
    return r.dict
