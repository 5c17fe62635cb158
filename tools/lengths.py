#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the sizes of CONTRIBUTING.md: functions of at most 70 lines, files of at most 1,000.

A function begins where a brace opens at the outermost level behind a parameter list and ends with
the matching brace; its lines are counted from its name to that brace.
"""
import re
import sys
import source

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1000


def without_directives(text):
    """The text without preprocessor lines (and what they continue on), line numbers unchanged."""
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: "\n" * m[0].count("\n"), text, flags=re.M)


def function_name(head):
    """Where in `head`, the text before an opening brace, the function's name is; None: it is none."""
    head = head.rstrip()
    if not head.endswith(")") or "=" in head:
        return None
    depth, at = 0, len(head)
    while at > 0:
        at -= 1
        depth += (head[at] == ")") - (head[at] == "(")
        if depth == 0:
            break
    return re.search(r"(\w+)\s*$", head[:at])


def functions(text):
    """(name, first line, lines) of each function; name None: the braces do not match."""
    text = without_directives(source.strip(text))
    depth, begin, start = 0, 0, None
    for match in re.finditer(r"[{};]", text):
        at = match.start()
        if match[0] == "{":
            if depth == 0:
                name = function_name(text[begin:at])
                start = name and (name[1], text.count("\n", 0, begin + name.start()) + 1)
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0 and start:
                yield start[0], start[1], text.count("\n", 0, at) + 2 - start[1]
        if depth == 0:
            begin = at + 1
        if depth < 0:
            break
    if depth != 0:
        yield None, text.count("\n", 0, begin) + 1, 0


def check(root):
    problems = []
    for path in source.files(root, "*.c", "*.h", "*.def", "*.py", "*.sh"):
        text = (root / path).read_text()
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            problems.append(f"{path}: {lines} lines, at most {FILE_LINES_MAX}")
        if path.suffix not in (".c", ".h"):
            continue
        for name, line, length in functions(text):
            if name is None:
                problems.append(f"{path}:{line}: braces do not match: functions cannot be counted")
            elif length > FUNCTION_LINES_MAX:
                problems.append(f"{path}:{line}: {name} has {length} lines, at most {FUNCTION_LINES_MAX}")
    return problems


if __name__ == "__main__":
    source.report("lengths", check(source.root_of(sys.argv)))
