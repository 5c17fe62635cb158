#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds TimescaleDB for tests, which Debian has no package of: build_timescaledb.sh [SOURCE]
#
# SOURCE: its sources or a git repository of them; by default its own on GitHub. What is under the Apache License is built,
# by cmake and postgresql-server-dev-15, which must be there, and put into build-tools/timescaledb: nothing is
# installed. test/test_sink_timescaledb.py uses it from then on; where it is missing, a stand-in.
set -eu
cd "$(dirname "$0")/.."
version=2.28.3 # the last line for PostgreSQL 15
source=${1:-https://github.com/timescale/timescaledb.git}
built=$PWD/build-tools/timescaledb
work=$PWD/build-tools/timescaledb.tmp

[ ! -e "$built" ] || exit 0
rm -rf "$work"
mkdir -p "$work"
if [ -f "$source/CMakeLists.txt" ]; then
    cp -R "$source" "$work/source"
    rm -rf "$work/source/build"
else
    git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$version" "$source" "$work/source"
fi
cmake -S "$work/source" -B "$work/build" -DPG_CONFIG=/usr/lib/postgresql/15/bin/pg_config -DCMAKE_BUILD_TYPE=Release \
    -DAPACHE_ONLY=1 -DREGRESS_CHECKS=OFF -DTAP_CHECKS=OFF -DWARNINGS_AS_ERRORS=OFF -DUSE_OPENSSL=0 \
    -DSEND_TELEMETRY_DEFAULT=NO
make -C "$work/build" -j "${JOBS:-$(nproc)}"
make -C "$work/build" install DESTDIR="$work/root"
# The mark that it is whole comes last.
mv "$work/root" "$built"
rm -rf "$work"
