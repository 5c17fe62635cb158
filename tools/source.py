# SPDX-License-Identifier: Apache-2.0
"""What the source checkers share: which files there are, and C text without comments and strings."""
import pathlib
import re
import sys

FOLDERS = ("src", "fuzz", "bench", "test", "tools")

# Comments, strings and character constants, whichever begins first.
TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)


def files(root, *patterns):
    """Paths below root (relative to it, sorted) whose names match, from the folders that hold sources."""
    found = set()
    for folder in FOLDERS:
        for pattern in patterns:
            found.update(p for p in (root / folder).rglob(pattern) if p.is_file())
    return sorted(p.relative_to(root) for p in found if "__pycache__" not in p.parts)


def strip(text):
    """The same text with comments, strings and characters blanked; line numbers stay."""
    def blank(match):
        token = match[0]
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        return token[0] + re.sub(r"[^\n]", " ", token[1:-1]) + token[-1]
    return TOKEN.sub(blank, text)


def root_of(argv):
    """The tree to check: the first argument, else the one this file lies in."""
    return pathlib.Path(argv[1]) if len(argv) > 1 else pathlib.Path(__file__).resolve().parent.parent


def report(name, problems):
    """Prints what is wrong, or that all is well, and ends the process accordingly."""
    print("\n".join(problems) or f"{name}: ok")
    sys.exit(bool(problems))
