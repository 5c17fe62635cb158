#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py FILE.json NAME: a C source on standard output that holds the JSON as `const char NAME[]`,
with all blanks between its words taken out. The build runs it; a file that is no JSON stops the build."""
import json
import sys

path, name = sys.argv[1:]
with open(path, encoding="utf-8") as f:
    text = json.dumps(json.load(f), separators=(",", ":"))
print("/* SPDX-License-Identifier: Apache-2.0 */")
print(f"/* Made of {path.rsplit('/', 1)[-1]} by embed.py. */")
print(f"extern const char {name}[];\nconst char {name}[] =")
for at in range(0, len(text), 80):
    line = text[at:at + 80].replace("\\", "\\\\").replace('"', '\\"')
    print(f'    "{line}"')
print("    ;")
