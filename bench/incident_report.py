# SPDX-License-Identifier: Apache-2.0
"""The report of bench/incident.py: from the numbers of one run to docs/incident.md, its plots, and the table
that opens the README. All figures in them are those of the run, or computed from them here."""
import math
import statistics
import time

from svg import log_bars, log_lines, number

BEGIN, END = "<!-- incident: written by `make incident` -->", "<!-- end of what `make incident` wrote -->"
TITLES = {
    "was": "(a) as it was",
    "rbac": "(b) with the RBAC fix alone",
    "held": "(c) with the final fix, at its best: Redis remembers all 30,000",
    "final": "(c) with the final fix, the fleet as it is",
    "few": "(c) with the final fix, a few devices",
    "sluice": "(d) Sluice, every message on disk",
}
SHORT = {"was": "(a) as it was", "rbac": "(b) RBAC fix", "held": "(c) at its best", "final": "(c) the fleet as it is",
         "sluice": "(d) Sluice"}
COLOURS = {"was": 0, "rbac": 1, "held": 2, "final": 5, "few": 5, "sluice": 3}


class Figures:
    """What the tables show, computed from what was measured."""

    def __init__(self, report):
        self.report, self.args = report, report["arguments"]
        self.cases, self.failed = report["cases"], report["failed"]

    def title(self, case):
        return TITLES[case].replace("30,000", f"{self.args['devices']:,}")

    def has(self, case, phase):
        return case not in self.failed and phase in self.cases.get(case, {})

    def others(self):
        """The share of the gateways' core that programs took which are not measured, while it was measured."""
        return self.report["others_s"] / (self.report["measured_s"] or 1)

    def values(self, case, phase, what):
        return [r[what] for r in self.cases[case][phase]]

    def cpu_ms(self, case):
        """CPU of the gateway and its Redis for a request, in each round."""
        return [sum(r["cpu_ms"].values()) for r in self.cases[case]["full"]]

    def misses_per_second(self):
        """At the wanted rate: a device's pair is remembered for the TTL, then its next message costs a hash."""
        a = self.args
        return a["devices"] / (a["ttl"] + a["devices"] / a["target"])

    def cores(self, case):
        target = self.args["target"]
        if case != "final":
            return target / 1000 * statistics.median(self.cpu_ms(case))
        if not self.has("held", "full"):
            return None
        misses = self.misses_per_second()
        hit, miss = (statistics.median(self.cpu_ms(c)) / 1000 for c in ("held", "final"))
        return misses * miss + (target - misses) * hit

    def dollars(self, case):
        cores = self.cores(case)
        return None if cores is None else math.ceil(cores) * self.args["dollars"]

    def back(self, case, phase="restart"):
        if not self.has(case, phase):
            return "not measured"
        r = self.cases[case][phase]
        if r["never"]:
            return f"not in {r['watched_s']:.0f} s"
        return f"{r['first_s']:.2f} s" if not r["slow_s"] else f"{r['first_s']:.2f} s, on time after {r['slow_s']} s"

    def attacked(self, case):
        if not self.has(case, "attack"):
            return "not measured"
        r = self.cases[case]["attack"]
        return "none" if not r["accepted"] else f"{100 * r['per_second'] / r['rate']:.0f} %, {number(r['p99_ms'])} ms"


def spread(values, show=number):
    """median (min to max)"""
    return f"{show(statistics.median(values))} ({show(min(values))} to {show(max(values))})"


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(c) for c in line) + " |" for line in lines)


def failed_row(f, case, width):
    return [f.title(case), f"**failed**: {f.failed[case]}".replace("|", "/").replace("\n", " "), *[""] * (width - 2)]


def rows_of(f, cases, phase, width, row):
    """A row for each case that was measured or failed."""
    rows = []
    for case in cases:
        if case in f.failed:
            rows.append(failed_row(f, case, width))
        elif f.has(case, phase):
            rows.append([f.title(case), *row(case)])
    return rows


def summary(f):
    def row(case):
        half = [f.values(case, "half", what) for what in ("p50_ms", "p99_ms")] if f.has(case, "half") else None
        cores, dollars = f.cores(case), f.dollars(case)
        own = "as the line above" if case == "final" else None
        back = own or f.back(case)
        if case == "held" and f.has(case, "restart_lost"):
            back += f"; if Redis forgets: {f.back(case, 'restart_lost')}"
        return [number(statistics.median(f.values(case, "full", "per_second"))),
                " / ".join(number(statistics.median(v)) for v in half) if half else "",
                "" if cores is None else number(cores), "" if dollars is None else f"{dollars:,.0f}",
                back, own or f.attacked(case)]
    target = f"{f.args['target']:,}"
    return table(["gateway", "requests/s of one core", "p50 / p99 at half of that, ms", f"cores for {target}/s",
                  "$ a month", "back after `kill -9`", "under attack: of the fleet's messages, p99"],
                 rows_of(f, ("was", "rbac", "held", "final", "sluice"), "full", 7, row))


def disturbed(f):
    """What the reader must know if the machine did other things as well."""
    if f.others() < 0.1:
        return ""
    return f"\n**The machine was not idle**: other programs took {f.others() * 100:.0f} % of the gateways' core. Measure again."


def readme_part(f):
    a, m = f.args, f.report["machine"]
    return f"""{BEGIN}
**The incident behind it, replayed** by one command, `make incident`: {a['devices']:,} devices whose secrets are kept as bcrypt
(cost {a['cost']}), against the gateway of the incident as it was, with its two fixes, and against Sluice, each on one core ({m['cpu']}).
(a) to (c) answer and store nothing. [The report](docs/incident.md) says how each figure came about.{disturbed(f)}

{summary(f)}
{END}
"""


def put_into_readme(text, part):
    """The README with the part in place of the one it has."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError("README.md lacks the markers of make incident")
    return text[:text.index(BEGIN)] + part + text[text.index(END) + len(END) + 1:]


# ---- the report's sections ----

def what_each_does(f):
    a = f.args
    document = f.report.get("document_bytes")
    size = f" ({document / 1000:.0f} kB here)" if document else ""
    return f"""## What each does with a message

| gateway | who is it | may it | what becomes of the message |
|---|---|---|---|
| (a) as it was | the device's hash from Redis, bcrypt for every request | its user's document{size} from Redis, parsed whole | nothing: it answers 204 to the proxy that asked |
| (b) RBAC fix | the same | a bit in the device's row | nothing |
| (c) final fix | SHA-256 of device and secret is a key in Redis for {a['ttl']} s; bcrypt when it is not there, once for all who ask at that time | a bit in that key | nothing |
| (d) Sluice | bcrypt once for each pair of stored hash and secret, remembered until one of them changes | a bit in the account's copy in memory | limits of account and device, then 202 when it is on disk (fdatasync), then latest value, history and rollups |

(a) to (c) are [bench/incident/gateway.go](../bench/incident/gateway.go), written afresh: Go's net/http, redigo, x/crypto's bcrypt, singleflight.
"""


def honesty(f):
    a, r = f.args, f.report
    login = f.cases.get("sluice", {}).get("start", {})
    took = f" here that took {login['login_seconds']:.0f} s." if "login_seconds" in login else ""
    return f"""## What to know before believing it

- **Cost.** A hash of cost {a['cost']} takes {r['hash_ms']:.1f} ms of this machine (libxcrypt). {a['devices']:,} of them take {a['devices'] * r['hash_ms'] / 60000:.0f} minutes of a core, so Sluice's fleet is
  stored with cost {a['warm_cost']} ({r['warm_hash_ms']:.2f} ms) and logged in before anything is measured;{took} That flatters nothing but the login: the
  number of hashes computed in each measurement of (d) is in the tables, and a run at full rate with more than one for 1,000 messages fails. What
  the login of devices with cost {a['cost']} does, and the attack, which is on one of those, are measured with cost {a['cost']}. (a) to (c) have cost {a['cost']} everywhere.
- Sluice's catalog is filled and the fleet logged in on a file system in memory, then stopped and moved to the disk that is measured.
- **(c) at its best** is a state that a fleet of this size cannot reach by itself on one core: the command puts all pairs into Redis and
  measures before they expire. **The fleet as it is** begins with none of them.
- **One core each**: gateway and Redis share core {a['server_cpu']}, `sluice load` has core {a['client_cpu']}. CPU is that of all their threads. For a device's
  request `sluice load` sends `X-Device-Id` and `X-Device-Token`, over {a['connections']} connections that stay open, devices in random order, without TLS.
- All devices have one secret and one stored hash, for making {a['devices']:,} takes as long as computing them. Nobody gains: what any of the
  four remembers has the device in it.
- A latency is that of a message that was answered. Of those that were not, the tables say how few were accepted, or how many never sent.
- Cores are CPU time per request at full rate times requests: cores that are 100 % busy. Whoever wants air takes twice as many, of each.
- Dollars are cores, rounded up, at {a['dollars']:g} a month: a setting of the command, about what a cloud asks for one. Redis' memory, disks, traffic are not in it.
"""


def full_rate(f):
    def row(case):
        busy = statistics.median(sum(b.values()) for b in f.values(case, "full", "busy"))
        redis = statistics.median(b.get("redis", 0) for b in f.values(case, "full", "busy"))
        return [spread(f.values(case, "full", "per_second")), f"{busy * 100:.0f}", f"{redis * 100:.0f}",
                spread(f.cpu_ms(case)), spread(f.values(case, "full", "hashes"))]
    text = "## One core at its most\n\nAs fast as the answers come; median (min to max) of " \
        f"{f.args['rounds']} rounds of {f.args['seconds']:g} s, turn by turn. Four connections fill a core with hashes " \
        f"((a), (b), the fleet as it is); the others have {f.args['connections']}.\n\n"
    text += table(["gateway", "requests/s", "CPU %", "of it Redis", "CPU ms a request", "hashes computed"],
                  rows_of(f, ("was", "rbac", "held", "final", "sluice"), "full", 6, row)) + "\n"
    if f.has("was", "full") and f.has("rbac", "full"):
        a, b = (statistics.median(f.values(c, "full", "per_second")) for c in ("was", "rbac"))
        text += f"\nThe RBAC fix alone makes it {b / a:.2f} times as fast.\n"
    return text


def half_rate(f):
    def row(case):
        busy = statistics.median(sum(b.values()) for b in f.values(case, "half", "busy"))
        return [number(statistics.median(f.values(case, "half", "rate"))), spread(f.values(case, "half", "p50_ms")),
                spread(f.values(case, "half", "p99_ms")), f"{busy * 100:.0f}"]
    return "## Latency at half of that\n\nOn a schedule; a latency counts from when its message was due. At the slow ones p99 is " \
        "that of few messages.\n\n" + \
        table(["gateway", "requests/s", "p50 ms", "p99 ms", "CPU %"],
              rows_of(f, ("was", "rbac", "held", "final", "sluice"), "half", 5, row)) + "\n"


def hidden(f):
    """What a load test without the header, or with few devices, would have shown."""
    rows = rows_of(f, ("was", "rbac"), "headless", 4, lambda case: [
        number(f.cases[case]["headless"]["per_second"]),
        number(statistics.median(f.values(case, "full", "per_second"))), f.cases[case]["headless"]["hashes"]])
    text = "## How a load test hid it\n\n"
    if rows:
        text += "The same gateways with an application's key (`X-AIO-Key`) instead of the two header fields of a device: no bcrypt, so " \
            "the RBAC is all there is to find. `sluice load --compare` names the fields that a scenario lacks.\n\n" + \
            table(["gateway", "requests/s without the header", "with it", "hashes without it"], rows) + "\n\n"
    if f.has("few", "few"):
        r, a = f.cases["few"]["few"], f.args
        ideal = a["few"] / a["ttl"] * r["seconds"]
        text += f"And (c) with {a['few']} devices instead of {a['devices']:,}: {number(r['per_second'])} requests/s over {r['seconds']:.0f} s, p99 " \
            f"{number(r['p99_ms'])} ms, with {r['hashes']} hashes ({a['few']} devices / {a['ttl']} s x {r['seconds']:.0f} s = {ideal:.0f}). It " \
            "is the number of devices, not of requests, that costs.\n"
    elif "few" in f.failed:
        text += f"(c) with few devices: **failed**: {f.failed['few']}\n"
    return text


def course(f):
    def row(case):
        r = f.cases[case]["course"]
        whole = [p for p in r["series"] if p["answers"] is not None]
        first, last = ([p["answers"] - p["refused"] for p in part] for part in (whole[:10], whole[-5:]))
        return [number(r["rate"]), number(statistics.mean(first)) if first else "",
                number(statistics.mean(last)) if last else "", f"{sum(r['busy'].values()) * 100:.0f}",
                number(r["p99_ms"]), f"{r['hashes']:,}", f"{r['unsent']:,}"]
    rows = rows_of(f, ("was", "rbac", "held", "sluice"), "course", 8, row)
    return f"""## The same offer to each for {f.args['course_seconds']:g} s

60 % of what (c) can do at its best. What (c) remembers ends after {f.args['ttl']} s.

![accepted requests over time](incident/course.svg)

{table(["gateway", "offered/s", "accepted/s, first 10 s", "last 5 s", "CPU %", "p99 ms", "hashes", "never sent"], rows)}
"""


def attack(f):
    a = f.args

    def row(case):
        r, half = f.cases[case]["attack"], f.values(case, "half", "p99_ms")
        return [number(r["rate"]), f"{100 * r['per_second'] / r['rate']:.0f} %", number(statistics.median(half)),
                number(r["p99_ms"]) if r["accepted"] else "", f"{sum(r['busy'].values()) * 100:.0f}",
                number(r["guesses_per_second"]),
                ", ".join(f"{s}: {n:,}" for s, n in r["guesses_status"].items()), r["hashes"]]
    rows = rows_of(f, ("was", "rbac", "held", "sluice"), "attack", 9, row)
    return f"""## An attack

Up to {a['attack_rate']} guesses a second of one device's secret from {a['attackers']} addresses, a new one each time, beside the fleet at half rate, for
{a['attack_seconds']:g} s. (c) is at its best.

![accepted messages of the fleet, quiet and attacked](incident/attack.svg)

{table(["gateway", "fleet offers/s", "of it accepted", "p99 ms quiet", "attacked", "CPU %", "guesses answered/s", "with", "hashes"], rows)}
"""


def restart(f):
    def row(case, phase, title):
        r = f.cases[case][phase]
        on_time = f"not in {r['watched_s']:.0f} s" if r["never"] else f"{r['slow_s']} s"
        return [title, number(r["rate"]), f"{r['first_s']:.2f}", on_time, f"{r['hashes']:,}"]
    rows = rows_of(f, ("was", "rbac", "held"), "restart", 5, lambda c: row(c, "restart", "")[1:])
    if f.has("held", "restart_lost"):
        rows.append(row("held", "restart_lost", "(c) the same, and Redis has lost its memory too"))
    rows += rows_of(f, ("sluice",), "restart", 5, lambda c: row(c, "restart", "")[1:])
    return f"""## A restart

`kill -9` of the gateway under the fleet at half rate, and a new start at once. First answer: when a message is accepted again, since the kill.
On time: how many seconds it took until none was without an accepted message or had a p99 (from when a message was due) over 1 s.
What Sluice knew comes back from its sealed snapshot (`auth.snapshot_key_file`), its journal from the disk.

{table(["gateway", "fleet offers/s", "first answer, s", "on time after", "hashes since"], rows)}
"""


def logins(f):
    if not f.has("sluice", "logins"):
        return ""
    r, a = f.cases["sluice"]["logins"], f.args
    each = r["seconds"] / r["devices"]
    fleet = statistics.median(f.values("sluice", "half", "rate"))
    return f"""## Devices that Sluice does not know yet

{r['devices']} devices with hashes of cost {a['cost']} log in for the first time beside the fleet at half rate: all were in after {r['seconds']:.1f} s, {r['hashes']}
hashes, {each * 1000:.0f} ms each; meanwhile {100 * r['fleet_per_second'] / fleet:.0f} % of the fleet's messages were accepted, p99 {number(r['fleet_p99_ms'])} ms. At that
pace {a['devices']:,} devices take {each * a['devices'] / 60:.0f} minutes of this core, once.
"""


def arithmetic(f):
    a, lines = f.args, []
    for case in ("was", "rbac", "held", "sluice"):
        if f.has(case, "full"):
            cpu = statistics.median(f.cpu_ms(case))
            lines.append(f"- {f.title(case)}: {a['target']:,} x {number(cpu)} ms = {number(f.cores(case))} cores")
    if f.has("final", "full") and f.has("held", "full"):
        misses = f.misses_per_second()
        hit, miss = (statistics.median(f.cpu_ms(c)) for c in ("held", "final"))
        lines.append(
            f"- {f.title('final')}: a device sends every {a['devices'] / a['target']:.2g} s and costs a hash every {a['ttl']} s and a message: {misses:,.0f} x "
            f"{number(miss)} ms + {a['target'] - misses:,.0f} x {number(hit)} ms = {number(f.cores('final'))} cores. A time that every message "
            "renews would spare devices that send more often than it, and none of the others.")
    return f"""## Cores for {a['target']:,} requests/s

![cores](incident/cores.svg)

""" + "\n".join(lines) + "\n"


def setting(f):
    r, a = f.report, f.args
    m, v = r["machine"], r["versions"]
    sluice = f.cases.get("sluice", {}).get("start", {}).get("settings", {})
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(r["begun"]))
    versions = ", ".join(f"{name} {version}" for name, version in v.items() if version)
    shown = {k: a[k] for k in sorted(a) if k not in (
        "bin", "json", "dir", "set", "settings", "out", "gateway", "only", "quick")}
    return f"""## Machine, versions, settings

{m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, load {m['load_before']:.2f} before; {begun}, {r['took_s']:.0f} s. Other programs
took {f.others() * 100:.0f} % of the gateways' core while something was measured.
{versions}.

`make incident ARGS="--{{option}} {{value}}"` with: {', '.join(f'{k.replace("_", "-")} {v:g}' for k, v in shown.items())}.
Sluice: {', '.join(f'`{k}={v}`' for k, v in sluice.items()) or 'not started'}.
"""


def document(f):
    quick = " **This was a quick run: it shows that the command works, and nothing else.**" if f.args["quick"] else ""
    sections = [what_each_does(f), honesty(f), full_rate(f), half_rate(f), hidden(f), course(f), attack(f), restart(f),
                logins(f), arithmetic(f), setting(f)]
    return f"""# The incident, replayed

Written by `make incident`; do not edit.{quick}{disturbed(f)}

An IoT gateway computed a bcrypt hash for every telemetry message, and grew from machine to machine. It hid for weeks, because the load
test lacked the header that production's devices send; what the test did find, a slow RBAC lookup, was fixed, and production did not notice.
The final fix was a cache in Redis. Here its three states, written afresh, stand beside Sluice.

{summary(f)}

""" + "\n".join(s for s in sections if s)


def plots(f):
    """{file name: SVG}"""
    courses = {f.title(case): [(p["s"], p["answers"] - p["refused"]) for p in f.cases[case]["course"]["series"]]
               for case in ("was", "rbac", "held", "sluice") if f.has(case, "course")}
    attacked = [bar for case in ("was", "rbac", "held", "sluice") if f.has(case, "attack") and f.has(case, "half")
                for bar in ((f"{SHORT[case]}, quiet", statistics.median(f.values(case, "half", "per_second")), 4),
                            ("attacked", f.cases[case]["attack"]["per_second"], 0))]
    cores = [(SHORT[case], f.cores(case), COLOURS[case]) for case in
             ("was", "rbac", "held", "final", "sluice") if f.has(case, "full") and f.cores(case)]
    return {
        "course.svg": log_lines("The same offer to each", "seconds", "accepted requests/s", courses),
        "attack.svg": log_bars("The fleet's messages accepted a second", attacked),
        "cores.svg": log_bars(f"Cores for {f.args['target']:,} requests/s", cores),
    }


def write(report, folder, readme):
    """The report and its plots into a folder, the summary into a README or nowhere."""
    f = Figures(report)
    (folder / "incident").mkdir(parents=True, exist_ok=True)
    (folder / "incident.md").write_text(document(f))
    for name, svg in plots(f).items():
        (folder / "incident" / name).write_text(svg)
    if readme:
        readme.write_text(put_into_readme(readme.read_text(), readme_part(f)))
    print(summary(f))
    print(f"\nthe report is {folder / 'incident.md'}" + (f", its table in {readme}" if readme else ""))
