#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the optimised binary in build/. Warnings are errors in `make test`, not for who only wants
# to run it with another compiler.
set -eu
cd "$(dirname "$0")/.."
tools/install_packages.sh run
if [ ! -f build/build.ninja ]; then
    echo "build: configuring"
    rm -rf build
    log=$(meson setup build --buildtype=debugoptimized -Db_lto=true -Dwerror=false) || {
        echo "$log" >&2
        exit 1
    }
fi
echo "build: compiling build/src/sluice (optimised)"
ninja -C build src/sluice
