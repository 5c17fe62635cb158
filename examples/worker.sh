#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A worker of a consumer group, with curl and jq: worker.sh URL GROUP COMMAND [ARGUMENT...], with the account's
# key in SLUICE_KEY. Runs the command for each message: its value on standard input, SLUICE_FEED, SLUICE_OFFSET
# and SLUICE_DELIVERY in the environment. Status 0: the message is done. Else it comes again, after ten seconds.
set -eu
group=$1/v1/consume/$2
shift 2

ask() {
    # The key is not for the list of processes.
    printf 'header = "X-AIO-Key: %s"\n' "$SLUICE_KEY" | curl --silent --show-error --fail --max-time 60 --config - "$@"
}

while :; do
    if ! message=$(ask "$group?max=1&wait=20&lease=60"); then
        sleep 2
        continue
    fi
    message=$(printf '%s' "$message" | jq -c '.messages[0] // empty')
    [ -n "$message" ] || continue
    field() { printf '%s' "$message" | jq -j ".$1 // empty"; }
    token=$(field token)
    if field value | SLUICE_FEED=$(field feed) SLUICE_OFFSET=$(field offset) SLUICE_DELIVERY=$(field delivery) "$@"; then
        ask --output /dev/null --data "{\"tokens\":[\"$token\"]}" "$group/ack" || :
    else
        ask --output /dev/null --data "{\"tokens\":[\"$token\"],\"delay\":10}" "$group/nack" || :
    fi
done
