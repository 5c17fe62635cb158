#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that a purpose needs: install_packages.sh [run|test|bench|incident]
#
# Asks nothing, installs only what is missing, says what it does; a second run does nothing.
# promtool, the peers of the benchmarks, PostgreSQL and RabbitMQ come with packages that also start (and, at every boot,
# start again) a daemon.
# We need only the programs, so they are unpacked to build-tools and nothing is installed.
# SLUICE_PACKAGES=skip leaves the machine alone: then what is missing shows in the build.
set -eu
cd "$(dirname "$0")/.."

# What the binary is built from, and what `make run` itself uses.
RUN="gcc meson ninja-build pkg-config python3 libc6-dev libuv1-dev libssl-dev libcrypt-dev libjansson-dev
     librocksdb-dev libsqlite3-dev libyaml-dev zlib1g-dev libisal-dev libxxhash-dev libpq-dev librabbitmq-dev
     libcurl4-openssl-dev librdkafka-dev libgoogle-perftools-dev libdw-dev
     curl ca-certificates tzdata"
# The second compiler, sanitizers, test frameworks and clients.
TEST="clang libclang-rt-14-dev clang-format libcmocka-dev python3-pytest python3-pytest-xdist
      python3-requests python3-websockets python3-jsonschema python3-cryptography
      mosquitto-clients python3-paho-mqtt strace jq
      google-perftools libjemalloc2 libjemalloc-dev maven default-jre-headless python3-confluent-kafka python3-pika python3-psycopg2 libicu72 libxml2 libldap-2.5-0 libgssapi-krb5-2"
# npm, which one of those clients is installed with, comes with some builds of nodejs and beside Debian's.
command -v npm >/dev/null || TEST="$TEST nodejs npm"
# What the peers that are unpacked below want beside what is everywhere. redis-tools holds the server's program
# too, and starts no daemon.
BENCH="wrk redis-tools liblua5.3-0 libopentracing-c-wrapper0 libpcre2-8-0 libcjson1 libdlt2 libwrap0"
PEERS="nginx:nginx haproxy:haproxy caddy:caddy mosquitto:mosquitto nats-server:nats-server"
# The incident's gateway.
INCIDENT="golang-go golang-golang-x-crypto-dev golang-golang-x-sync-dev golang-github-gomodule-redigo-dev
          redis-tools"

purpose=${1:-run}
case $purpose in
run) wanted=$RUN programs= ;;
test) wanted="$RUN $TEST" programs="promtool:prometheus" ;;
bench) wanted="$RUN $TEST $BENCH" programs="promtool:prometheus $PEERS" ;;
incident) wanted="$RUN $INCIDENT" programs= ;;
*)
    echo "usage: $0 [run|test|bench|incident]" >&2
    exit 2
    ;;
esac

say() {
    echo "packages: $*"
}

die() {
    echo "packages: $*" >&2
    exit 1
}

is_installed() {
    dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# The environment goes through `env` because sudo clears it. NEEDRESTART_SUSPEND: restarting the
# services of this machine is not our business.
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes NEEDRESTART_SUSPEND=1 apt-get -qq \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@" </dev/null
}

# Whether we may install at all; else ends with what the reader can do about it.
need_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "not root and no sudo here. As root, run: apt-get install $*"
    sudo -n true 2>/dev/null || [ -t 0 ] ||
        die "sudo wants a password and there is no terminal to ask. As root, run: apt-get install $*"
}

lists_updated=
update_lists() {
    [ -n "$lists_updated" ] && return
    say "updating the package lists"
    apt update || say "some package lists could not be updated; trying with what is there"
    lists_updated=yes
}

install_packages() {
    missing=
    for package in $wanted; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    need_root $missing
    say "this needs Debian packages that are not installed:$missing"
    update_lists
    say "installing them (apt-get install --no-install-recommends)"
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing >/dev/null || die "apt-get could not install them"
    say "installed"
}

# The whole of postgresql-15, to build-tools/postgresql: initdb wants what lies around it.
unpack_postgresql() {
    [ "$purpose" = test ] || [ "$purpose" = bench ] || return 0
    [ -x build-tools/postgresql/usr/lib/postgresql/15/bin/postgres ] && return
    [ -x /usr/lib/postgresql/15/bin/postgres ] && return
    say "unpacking the package postgresql-15 to build-tools/postgresql (not installed: no daemon is wanted)"
    fetch_package postgresql-15
    rm -rf build-tools/postgresql
    mv build-tools/unpack/root build-tools/postgresql
    rm -rf build-tools/unpack
}

# RabbitMQ and the parts of Erlang it wants, to build-tools/rabbitmq. What these want themselves is in every
# Debian, or in TEST.
RABBITMQ="rabbitmq-server erlang-asn1 erlang-base erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia
          erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl
          erlang-syntax-tools erlang-tftp erlang-tools erlang-xmerl"
unpack_rabbitmq() {
    [ "$purpose" = test ] || [ "$purpose" = bench ] || return 0
    [ -d build-tools/rabbitmq ] && return
    [ -d /usr/lib/rabbitmq ] && return
    say "unpacking the package rabbitmq-server to build-tools/rabbitmq (not installed: no daemon is wanted)"
    # shellcheck disable=SC2086  # a list of words
    fetch_package $RABBITMQ
    mv build-tools/unpack/root build-tools/rabbitmq
    rm -rf build-tools/unpack
}

download() {
    (cd build-tools/unpack && apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root download "$@")
}

# What the packages hold, in build-tools/unpack/root.
fetch_package() {
    rm -rf build-tools/unpack
    mkdir -p build-tools/unpack
    if ! download "$@" 2>/dev/null; then # no package lists yet, or old ones
        need_root "$@"
        update_lists
        download "$@" || die "apt-get could not download $*"
    fi
    for package in build-tools/unpack/*.deb; do
        dpkg-deb -x "$package" build-tools/unpack/root
    done
}

# unpack_program PROGRAM PACKAGE: puts one program of a package into build-tools/bin.
unpack_program() {
    [ -x "build-tools/bin/$1" ] && return
    PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null && return
    say "unpacking $1 from the package $2 to build-tools/bin (not installed: no daemon is wanted)"
    fetch_package "$2"
    mkdir -p build-tools/bin
    mv "$(find build-tools/unpack/root -path "*bin/$1" -type f)" "build-tools/bin/$1"
    rm -rf build-tools/unpack
}

[ "${SLUICE_PACKAGES:-}" != skip ] || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    die "this is no Debian. Install by hand what these packages hold: $wanted." \
        "Then run again with SLUICE_PACKAGES=skip"
fi
install_packages
for pair in $programs; do
    unpack_program "${pair%%:*}" "${pair##*:}"
done
unpack_postgresql
unpack_rabbitmq
if [ "$purpose" = test ] || [ "$purpose" = bench ]; then
    tools/fetch_kafka.sh || say "Apache Kafka cannot be had: what needs a broker of it says so and is skipped"
fi
