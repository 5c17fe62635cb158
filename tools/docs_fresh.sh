#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that docs/options.md is what the binary says about its settings: docs_fresh.sh BINARY [FILE]
set -eu
cd "$(dirname "$0")/.."
binary=$1
page=${2:-docs/options.md}

fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
"$binary" config docs >"$fresh"
if [ ! -s "$fresh" ]; then
    echo "docs_fresh: '$binary config docs' printed nothing" >&2
    exit 1
fi
if ! diff -u "$page" "$fresh" >&2; then
    echo "docs_fresh: $page is stale: run 'make docs'" >&2
    exit 1
fi
echo "docs_fresh: ok"
