#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gets an Apache Kafka broker for tests and benchmarks: the jars that tools/kafka/pom.xml names, from
# wherever Maven is set up to get them (else Maven Central), into build-tools/kafka. Needs mvn.
# test/kafka.py starts it. A second run does nothing.
set -eu
cd "$(dirname "$0")/.."
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

cmp -s tools/kafka/pom.xml build-tools/kafka/pom.xml && exit 0
rm -rf build-tools/kafka build-tools/kafka.tmp
mkdir -p build-tools/kafka.tmp
mvn --batch-mode --quiet --file tools/kafka/pom.xml "$plugin:copy-dependencies" -DincludeScope=runtime \
    -DoutputDirectory="$PWD/build-tools/kafka.tmp"
# The mark that it is whole comes last.
cp tools/kafka/pom.xml build-tools/kafka.tmp/
mv build-tools/kafka.tmp build-tools/kafka
