# SPDX-License-Identifier: Apache-2.0
"""What a scenario measured, as a plain dict that any report can be made of:

    groups   tables: {"title", "columns": {key: title}, "bars": key or None, "rows": [{"name", key: [a figure of each round]}]}
    claims   lines of the budget: {"line", "values": [of each round], "must", "aim"}
    undecided  {line of the budget: what was lacking to decide it}
    guards   ratios to something in the same run, for `make bench-quick`: {name: [of each round]}
    plots    lines over time: {"title", "x", "y", "series": {name: [[x, y], ...]}}
    missing  {peer: why it was not measured}
    notes    sentences; settings: {name: value}; commands: what was run
"""
import subprocess
from contextlib import contextmanager

from budget import BUDGET
from peers import Missing


class Result:
    def __init__(self):
        self.dict = {"groups": [], "claims": [], "undecided": {}, "guards": {}, "plots": [], "missing": {}, "notes": [], "settings": {},
                     "commands": []}

    def group(self, title, columns, bars=None):
        group = {"title": title, "columns": columns, "bars": bars, "rows": []}
        self.dict["groups"].append(group)
        return group

    def row(self, group, name, rounds):
        """`rounds`: dicts, of which the group's columns are taken; what a round lacks is left empty."""
        group["rows"].append({"name": name, **{
            key: [r[key] for r in rounds if r.get(key) is not None] for key in group["columns"]}})

    def claim(self, line, values, must=None, aim=None):
        """Without limits here those of the budget count."""
        known = BUDGET[line]
        self.dict["claims"].append({"line": line, "values": list(values), "must": known.must if must is None else must,
                                    "aim": known.aim if aim is None else aim})

    def undecided(self, line, why):
        self.dict["undecided"][line] = why

    def guard(self, name, values):
        self.dict["guards"][name] = list(values)

    def plot(self, title, x, y, series):
        self.dict["plots"].append({"title": title, "x": x, "y": y, "series": series})

    def note(self, text):
        self.dict["notes"].append(text)

    def command(self, text):
        if text not in self.dict["commands"]:
            self.dict["commands"].append(text)

    @contextmanager
    def perhaps(self, peer):
        """A peer that may not be there: the scenario goes on without it, and the report says so."""
        try:
            yield
        except (Missing, AssertionError, OSError, SystemExit, subprocess.SubprocessError) as e:
            self.dict["missing"][peer] = str(e) or type(e).__name__


def ratios(mine, other, what):
    """Of each round to the same round of the other."""
    return [a[what] / b[what] for a, b in zip(mine, other)]
