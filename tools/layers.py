#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that src/ includes only what the table in ARCHITECTURE.md grants.

It is the table whose head begins    | folder | may include |
and its rows look like               | `gate` | base flow |
A folder may be granted folders that stand above it, and files of src/ itself by name (`config.h`).
The files of src/ itself may include everything.
"""
import re
import source

INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')


def read_table(text):
    """{folder: set of what it may include}, in the order of the table, and what is wrong with it."""
    grants, problems = {}, []
    table = re.search(r"^\|\s*folder\s*\|\s*may include\s*\|.*\n((?:\|.*\n)*)", text, re.M)
    for name, allowed in re.findall(r"^\|\s*`(\w+)`\s*\|([^|]*)\|", table[1] if table else "", re.M):
        words = set(re.findall(r"[\w.]+", allowed))
        problems += [f"ARCHITECTURE.md: {name} may not be granted {word}: it does not stand above"
                     for word in sorted(words) if word not in grants and not word.endswith(".h")]
        grants[name] = words
    if not grants:
        problems.append("ARCHITECTURE.md: the table of who may include whom was not found")
    return grants, problems


def check_file(root, path, grants):
    here = path.parent.name
    for number, line in enumerate((root / path).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match[1]
        there = target.split("/")[0] if "/" in target else None
        if ".." in target.split("/"):
            yield f"{path}:{number}: name the folder instead of going up: {target}"
        elif there is None:
            if (root / "src" / here / target).exists():
                yield f'{path}:{number}: write the folder too: "{here}/{target}"'
            elif target not in grants[here]:
                yield f"{path}:{number}: {here} may not include {target}"
        elif there != here and there not in grants[here]:
            yield f"{path}:{number}: {here} may not include {there}"


def check(root):
    grants, problems = read_table((root / "ARCHITECTURE.md").read_text())
    unknown = set()
    for path in source.files(root, "*.c", "*.h", "*.def"):
        if path.parts[0] != "src" or len(path.parts) == 2:
            continue
        if len(path.parts) > 3:
            problems.append(f"{path}: folders of src/ have no folders of their own")
        elif path.parent.name in grants:
            problems += check_file(root, path, grants)
        else:
            unknown.add(path.parent.name)
    problems += [f"src/{name}: is not in the table of ARCHITECTURE.md" for name in sorted(unknown)]
    return problems


if __name__ == "__main__":
    import sys
    source.report("layers", check(source.root_of(sys.argv)))
