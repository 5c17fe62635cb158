#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every test and ends with one line "N passed, M failed": test.sh [STAGE...]
#
#   static  layers, lengths, forbidden calls, format
#   unit    gcc with ASan and UBSan: build, unit tests, generated documents
#   e2e     the real binary of that build, driven by pytest; the tests of the tools too
#   clang   everything again with clang, its warnings as errors; replay of the fuzz targets
#   tsan    the unit tests that have threads, under the thread sanitizer
#
# Everything counts as a test: a case, a check, a build. What a runner wrote for machines is counted,
# never its exit status alone. Logs and the list of results are in build-results/.
set -u
cd "$(dirname "$0")/.."
root=$PWD
out=$root/build-results
results=$out/results
jobs=${JOBS:-$(nproc)}
PATH="$root/build-tools/bin:$PATH:/usr/sbin"
export PATH

case " $* " in
*" -h "* | *" --help "*)
    sed -n '3,12s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

# ---- results ---------------------------------------------------------------------------------

started=$(date +%s)
mkdir -p "$out"
: >"$results"

result() { # pass|fail NAME
    printf '%s\t%s\n' "$1" "$2" >>"$results"
    [ "$1" != fail ] || echo "  FAILED: $2"
}

count() {
    awk -F '\t' -v verdict="$1" '$1 == verdict { n++ } END { print n + 0 }' "$results"
}

finish() {
    status=$?
    trap - EXIT
    [ "$ended" = yes ] || result fail "test.sh: ended early, status $status"
    echo
    if [ "$(count skip)" != 0 ]; then
        echo "$(count skip) skipped:"
        sed -n 's/^skip\t/  /p' "$results"
    fi
    if [ "$(count fail)" != 0 ]; then
        echo "$(count fail) failed:"
        sed -n 's/^fail\t/  /p' "$results"
    fi
    echo "took $(($(date +%s) - started)) s; logs in build-results/"
    echo "$(count pass) passed, $(count fail) failed"
    # A plain `exit` in a trap would give the status from before it.
    if [ "$(count fail)" = 0 ]; then exit 0; else exit 1; fi
}
ended=no
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- steps -----------------------------------------------------------------------------------

# Runs a command as one test: NAME, then the command. Its output is shown only when it fails.
step() {
    name=$1
    shift
    log=$out/$(echo "$name" | tr -c 'a-zA-Z0-9\n' '_').log
    begun=$(date +%s)
    if "$@" >"$log" 2>&1; then
        echo "  $name ($(($(date +%s) - begun)) s)"
        result pass "$name"
    else
        tail -n 40 "$log"
        result fail "$name"
        return 1
    fi
}

# build DIRECTORY MESON-OPTION...: configures if need be (a directory that was configured otherwise
# or is broken is made anew) and compiles everything, the tests too.
build() {
    directory=$1
    shift
    echo "$*" | cmp -s - "$directory/.configured" || rm -rf "$directory"
    if [ ! -f "$directory/build.ninja" ]; then
        meson setup "$directory" "$@" || return
        echo "$*" >"$directory/.configured"
    fi
    ninja -C "$directory" -j "$jobs" all meson-test-prereq
}

# Addresses that are not random: with much randomness in them (vm.mmap_rnd_bits above 28, as newer
# kernels have) the sanitizers of these compilers die now and then before main.
steady=
setarch "$(uname -m)" -R true 2>/dev/null && steady="setarch $(uname -m) -R"

# run_suite DIRECTORY LABEL SUITE [!PATTERN...]: runs the tests of a suite and counts their cases.
run_suite() {
    directory=$1 label=$2 suite=$3
    shift 3
    log=$out/$label.log
    names=$(tools/results.py tests "$directory" "$suite" "$@" 2>"$log")
    if [ -z "$names" ]; then
        cat "$log"
        result fail "$label: there are no tests in suite $suite"
        return
    fi
    rm -f "$directory/meson-logs/$label.json"
    # shellcheck disable=SC2086  # lists of words
    CMOCKA_MESSAGE_OUTPUT=TAP $steady meson test -C "$directory" --no-rebuild --logbase "$label" \
        --num-processes "$jobs" --print-errorlogs --suite "$suite" $names >"$log" 2>&1 ||
        grep -v '^ *[0-9]*/[0-9]* .* OK ' "$log" | tail -n 100
    tools/results.py meson "$label" "$directory/meson-logs/$label.json" >"$out/$label.results"
    cat "$out/$label.results" >>"$results"
    echo "  $label: $(grep -c '^pass' "$out/$label.results") passed," \
        "$(grep -c '^fail' "$out/$label.results") failed"
}

# ---- stages ----------------------------------------------------------------------------------

check_format() {
    find src fuzz bench -name '*.[ch]' -exec clang-format --dry-run -Werror {} +
}

stage_static() {
    step "static: layers" tools/layers.py
    step "static: lengths" tools/lengths.py
    step "static: banned" tools/banned.py
    step "static: format" check_format
}

# gcc sees null pointers and overflows that are none in code that UBSan has instrumented (its manual
# says so): what gcc warns of stops the build in stage tsan, what clang warns of in stage clang.
build_test() {
    [ -n "${built_test:-}" ] && return "$built_test"
    step "build: gcc, ASan, UBSan" build build-test -Db_sanitize=address,undefined -Dwerror=false
    built_test=$?
    return "$built_test"
}

stage_unit() {
    build_test || return
    run_suite build-test unit unit
    step "docs: options.md is fresh" tools/docs_fresh.sh build-test/src/sluice
}

# run_pytest LABEL OPTION...: the tests that the options choose.
run_pytest() {
    label=$1
    shift
    folders=tools
    [ ! -d test ] || folders="test tools"
    rm -f "$out/$label.xml"
    # shellcheck disable=SC2086
    SLUICE_BIN=$root/build-test/src/sluice $steady /usr/bin/python3 -m pytest -p no:cacheprovider \
        -q --color=no --durations=15 --junitxml="$out/$label.xml" "$@" $folders >"$out/$label.log" 2>&1 ||
        tail -n 150 "$out/$label.log"
    tools/results.py pytest "$label" "$out/$label.xml" >"$out/$label.results"
    cat "$out/$label.results" >>"$results"
    echo "  $label: $(tail -n 1 "$out/$label.log")"
}

# Most tests wait more than they compute, so a file for each core at a time; what measures time or
# fills the machine (`pytestmark = pytest.mark.alone`) has it to itself.
stage_e2e() {
    build_test || return
    run_pytest e2e -n "$jobs" --dist loadfile -m "not alone"
    run_pytest e2e-alone -p no:xdist -m alone
}

stage_clang() {
    CC=clang step "build: clang, fuzz targets" build build-clang -Dfuzz=true \
        -Db_sanitize=address,undefined -Db_lundef=false || return
    # Before the first target is written there is nothing to replay; later a missing suite is a fault.
    if [ -n "$(find fuzz -name '*.c')" ]; then
        run_suite build-clang fuzz fuzz
    fi
}

# Left out: what has no threads (and takes long here), and RocksDB, which is not built with the thread
# sanitizer, so that it takes the order its atomics make for a race; nor is librdkafka. Profiles: it puts the
# signals off that they are made of. A new test is in until it is left out. tools/tsan.supp has single functions.
stage_tsan() {
    step "build: gcc, TSan" build build-tsan -Db_sanitize=thread || return
    run_suite build-tsan tsan unit '!codec/*' '!flow/*' '!load/*' '!cli/*' '!*_oracle' \
        '!journal/recover' '!catalog/load' '!view/history*' '!view/rollup' '!view/row' '!sink/kafka' '!prof/prof'
}

# A report ends the test that caused it, so that no finding passes unseen.
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}"
export TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tools/tsan.supp:${TSAN_OPTIONS:-}"

step "packages" tools/install_packages.sh test || exit 1
for stage in ${*:-static unit e2e clang tsan}; do
    echo "== $stage"
    begun_stage=$(date +%s)
    case $stage in
    static | unit | e2e | clang | tsan) "stage_$stage" ;;
    *) result fail "there is no stage $stage" ;;
    esac
    echo "== $stage took $(($(date +%s) - begun_stage)) s"
done
ended=yes
