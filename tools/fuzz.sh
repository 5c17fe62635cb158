#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Searches for crashes: runs every libFuzzer target for so many seconds each: fuzz.sh [SECONDS]
# New inputs go to build-clang/corpus/TARGET. A crash is written to fuzz/found/ and ends the search.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
tools/install_packages.sh test
CC=clang
export CC
if [ ! -f build-clang/build.ninja ]; then
    meson setup build-clang -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
fi
ninja -C build-clang
found=0
for target in build-clang/fuzz/*; do
    { [ -f "$target" ] && [ -x "$target" ]; } || continue
    found=$((found + 1))
    name=$(basename "$target")
    short=${name%_fuzz}
    short=${short#fuzz_}
    mkdir -p "build-clang/corpus/$short" fuzz/found
    seeds=
    for folder in "fuzz/corpus/$short" fuzz/found; do
        [ ! -d "$folder" ] || seeds="$seeds $folder"
    done
    echo "fuzz: $name for $seconds s"
    # shellcheck disable=SC2086  # a list of folders
    "$target" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="fuzz/found/$short-" \
        "build-clang/corpus/$short" $seeds
done
[ "$found" -gt 0 ] || {
    echo "fuzz: there are no targets" >&2
    exit 1
}
