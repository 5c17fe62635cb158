#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds Sluice, starts it with a demo account and shows what it does: run.sh [SECONDS]
# Without SECONDS it serves until Ctrl-C. PORT, MQTT_PORT and OPERATOR_PORT choose other
# ports.
set -eu
cd "$(dirname "$0")/.."
tools/build.sh
exec /usr/bin/python3 tools/demo.py --binary build/src/sluice --data data \
    --port "${PORT:-8080}" --mqtt-port "${MQTT_PORT:-1883}" \
    --operator-port "${OPERATOR_PORT:-9080}" ${1:+--seconds "$1"}
