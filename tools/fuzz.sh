#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Searches for crashes: runs every fuzz target for so many seconds, or only those named:
# fuzz.sh [SECONDS [NAME...]]
# Seeds are fuzz/corpus/NAME; what the search adds stays in build-clang/corpus/NAME. A crash is
# written to fuzz/found/NAME and ends the search.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# = 0 ] || shift
if [ $# = 0 ]; then
    for source in fuzz/*_fuzz.c; do
        name=${source#fuzz/}
        set -- "$@" "${name%_fuzz.c}"
    done
fi
tools/install_packages.sh test
if [ ! -f build-clang/build.ninja ]; then
    CC=clang meson setup build-clang -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
fi
# What the undefined behaviour sanitizer says ends the run too, or nobody would read it.
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}"
for name in "$@"; do
    ninja -C build-clang "fuzz/${name}_fuzz"
    mkdir -p "build-clang/corpus/$name" "fuzz/found/$name"
    seeds=fuzz/found/$name
    [ ! -d "fuzz/corpus/$name" ] || seeds="$seeds fuzz/corpus/$name"
    echo "fuzz: $name for $seconds s"
    # shellcheck disable=SC2086  # a list of folders
    "build-clang/fuzz/${name}_fuzz" -max_len=4096 -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="fuzz/found/$name/" "build-clang/corpus/$name" $seeds
    rmdir "fuzz/found/$name" 2>/dev/null || true # nothing was found
done
