# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md and its plots, made of the figures that bench.py's scenarios left behind. No figure is in them
that is not in those files, or computed from them here."""
import importlib
import inspect
import json
import statistics
import time

from budget import BUDGET, number, verdict
from scenarios import FORMAT, SCENARIOS
from svg import log_bars, log_lines

BUSY = 0.1  # of the cores taken by other programs, from which on the reader must know


def spread(values, unit=""):
    """median (least to most), each as a person writes it."""
    if not values:
        return ""
    text = number(statistics.median(values))
    if len(values) > 1:
        text += f" ({number(min(values))} to {number(max(values))})"
    return text if not unit else f"{text} {unit}"


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "/").replace("\n", " ") for c in line) + " |" for line in lines)


def read(folder):
    """{scenario: what was measured}, of those that have run."""
    found = {}
    for name in SCENARIOS:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
            if found[name].get("format") != FORMAT:
                found[name]["failed"] = "its figures are of another version of this program"
    return found


def reason(found, name):
    """Why a scenario has no figures; None: it has."""
    if name not in found:
        return "it was not asked for"
    return found[name].get("failed")


# ---- the budget ----

def claims(found):
    """{line of the budget: (scenario, the claim)}"""
    return {claim["line"]: (name, claim) for name, result in found.items() if not reason(found, name)
            for claim in result["claims"]}


def limit(value, line):
    return "" if value is None else f"{value:,.5g} {line.unit}".strip()


def budget_row(found, key):
    line, known = BUDGET[key], claims(found)
    if key not in known:
        why = [r["undecided"][key] for name, r in found.items() if not reason(found, name) and key in r["undecided"]]
        return [line.says, "", limit(line.must, line), limit(line.aim, line), f"not decided: {why[0]}" if why else "not measured", ""]
    name, claim = known[key]
    value = statistics.median(claim["values"])
    return [line.says, spread(claim["values"], line.unit), limit(claim["must"], line), limit(claim["aim"], line),
            verdict(line, value, claim["must"], claim["aim"]), f"[{SCENARIOS[name].title}](#{anchor(SCENARIOS[name].title)})"]


def anchor(title):
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")


def budget_table(found):
    return table(["what is demanded", "measured", "must", "aim", "does it hold?", "where"],
                 [budget_row(found, key) for key in BUDGET])


def balance(found):
    """How many of the lines hold, in a sentence."""
    known = claims(found)
    missed = [key for key, (_, c) in known.items()
              if verdict(BUDGET[key], statistics.median(c["values"]), c["must"], c["aim"]) == "**does not hold**"]
    return f"Of {len(BUDGET)} lines {len(known)} were measured; {len(known) - len(missed)} hold, {len(missed)} do not."


# ---- a scenario ----

def group_text(group):
    columns = [(key, title) for key, title in group["columns"].items() if any(row.get(key) for row in group["rows"])]
    return f"**{group['title']}**\n\n" + table(
        ["", *(title for _, title in columns)],
        [[row["name"], *(spread(row.get(key, [])) for key, _ in columns)] for row in group["rows"]])


def claims_text(result):
    rows = [[BUDGET[c["line"]].says, spread(c["values"], BUDGET[c["line"]].unit), limit(c["must"], BUDGET[c["line"]]),
             verdict(BUDGET[c["line"]], statistics.median(c["values"]), c["must"], c["aim"])] for c in result["claims"]]
    return table(["the budget's line", "measured", "must", "does it hold?"], rows) if rows else ""


def facts(result):
    """What else the reader must know of a scenario, a line each."""
    given = result["arguments"]
    lines = [f"**Not measured, {peer}**: {' '.join(why.split())}" for peer, why in result["missing"].items()]
    lines += result["notes"]
    if result["others"] > BUSY:
        lines.append(f"**The machine was not idle**: other programs took {result['others'] * 100:.0f} % of its cores. Measure again.")
    lines.append(f"{given['rounds']} rounds of {given['seconds']:g} s, median (least to most); servers on core "
                 f"{given.get('server_cpu', 0)}, clients on core {given.get('client_cpu', 0)}; took {result['took_s']:.0f} s, "
                 + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(result["begun"])) + ".")
    if given.get("scale", 1) != 1:
        lines.append(f"**Scaled**: {given['scale']:g} of the devices, points and messages.")
    settings = {**result["settings"], **given.get("settings", {})}
    if settings:
        lines.append("Settings: " + ", ".join(f"{k} {v}" for k, v in settings.items()) + ".")
    return "\n".join(f"- {line}" for line in lines)


def what(name):
    """The scenario's own words, from its module."""
    return inspect.getdoc(importlib.import_module(f"scenarios.{name}"))


def commands(result):
    if not result["commands"]:
        return ""
    return "<details><summary>Commands</summary>\n\n```\n" + "\n".join(result["commands"]) + "\n```\n</details>"


def pictures(found):
    """{file name: (title, SVG)}"""
    made = {}
    for name, result in found.items():
        if reason(found, name):
            continue
        for i, group in enumerate(result["groups"], 1):
            key = group["bars"]
            bars = [(row["name"], statistics.median(row[key]), 3 if row["name"].startswith("Sluice") else 5)
                    for row in group["rows"] if row.get(key)] if key else []
            if bars:
                title = f"{group['title']}: {group['columns'][key]}"
                made[f"{name}-{i}.svg"] = (title, log_bars(title, bars))
        for i, plot in enumerate(result["plots"], 1):
            series = {k: v for k, v in plot["series"].items() if v}
            least = min((y for line in series.values() for _, y in line if y > 0), default=1)
            made[f"{name}-over-time-{i}.svg"] = (plot["title"], log_lines(plot["title"], plot["x"], plot["y"], series, least))
    return made


def section(found, name, made):
    title = f"## {SCENARIOS[name].title}\n\n"
    why = reason(found, name)
    if why:
        return title + f"**Not run**: {' '.join(why.split())[:600]}\n"
    result = found[name]
    plots = "\n".join(f"![{text}](benchmarks/{file})" for file, (text, _) in made.items()
                      if file.rsplit("-", 1)[0] in (name, f"{name}-over-time"))
    parts = [what(name), *(group_text(g) for g in result["groups"]), plots, claims_text(result), facts(result), commands(result)]
    return title + "\n\n".join(p for p in parts if p) + "\n"


def machines(found):
    """One line if all was measured on one, as it should be."""
    lines = {f"{m['cpu']}, {m['cores']} cores, Linux {m['kernel']}" for m in (r["machine"] for r in found.values())}
    versions = {}
    for result in found.values():
        versions.update(result["versions"])
    return "; ".join(sorted(lines)) + ".\n\n" + ", ".join(f"{n}: {v}" for n, v in versions.items()) + "."


def document(found):
    made = pictures(found)
    total = sum(r["took_s"] for r in found.values())
    return f"""# Benchmarks

Written by `make bench`; do not edit. {balance(found)} The scenarios took {total / 60:.0f} minutes.

Sluice and each peer run on the same core, are asked by the same client with the same payloads, and take turns, so that what else
the machine does hits all alike. CPU is that of all threads of all processes of a server, divided by the messages it answered. The peers
are Debian's packages.

## What is demanded, and whether it holds

{budget_table(found)}

""" + "\n".join(section(found, name, made) for name in SCENARIOS) + f"""
## Machine and versions

{machines(found) if found else 'Nothing has been measured.'}
"""


def write(folder, docs):
    """The report of what lies in `folder`; the plots of an older one go."""
    found = read(folder)
    (docs / "benchmarks").mkdir(parents=True, exist_ok=True)
    for old in (docs / "benchmarks").glob("*.svg"):
        old.unlink()
    (docs / "benchmarks.md").write_text(document(found))
    for file, (_, svg) in pictures(found).items():
        (docs / "benchmarks" / file).write_text(svg)
    for key, (_, claim) in claims(found).items():
        line, value = BUDGET[key], statistics.median(claim["values"])
        print(f"{verdict(line, value, claim['must'], claim['aim']).strip('*'):27} {key}: "
              f"{spread(claim['values'], line.unit)}, must {limit(claim['must'], line)}")
    print(f"{balance(found)} The report is {docs / 'benchmarks.md'}")
