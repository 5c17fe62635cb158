# SPDX-License-Identifier: Apache-2.0
# Short names for what tools/ does. The build itself is Meson's.
.DEFAULT_GOAL := help
.PHONY: help run test check build bench bench-quick incident fuzz format docs clean

# `make run SECONDS=20` ends by itself. The name means something to shells, so it travels as an
# argument and not in the environment.
SECONDS ?=
unexport SECONDS
export PORT MQTT_PORT OPERATOR_PORT

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-18s %s\n' "$$name" "$$text"; done

run: ## build, start on 127.0.0.1:8080 with a demo account and a small fleet [SECONDS=20 PORT=8080 MQTT_PORT=1883]
	@tools/run.sh $(SECONDS)

test: ## everything, with sanitizers; ends with "N passed, M failed" [STAGES="static unit e2e clang tsan"]
	@tools/test.sh $(STAGES)

check: ## the checks that need no build: layers, lengths, forbidden calls, format
	@tools/test.sh static

build: ## the optimised binary: build/src/sluice
	@tools/build.sh

bench: ## each claim beside its peers, 45 minutes; writes docs/benchmarks.md [ARGS="--only http,mqtt --rounds 3"]
	@tools/install_packages.sh bench
	@tools/build.sh
	@ninja -C build --quiet benchmarks
	@/usr/bin/python3 bench/bench.py --bin build/src/sluice $(ARGS)

bench-quick: ## has something become slower? ratios to peers, 3 minutes; status 1 if so
	@tools/install_packages.sh bench
	@tools/build.sh
	@ninja -C build --quiet benchmarks
	@/usr/bin/python3 bench/bench.py --bin build/src/sluice --quick $(ARGS)

incident: ## the incident replayed beside Sluice, ten minutes; writes docs/incident.md and README's table [ARGS=--quick]
	@tools/install_packages.sh incident
	@tools/build.sh
	@/usr/bin/python3 bench/incident.py --bin build/src/sluice $(ARGS)

fuzz: ## search for crashes with every fuzz target [SECONDS=60 each]
	@tools/fuzz.sh $(or $(SECONDS),60)

format: ## clang-format on all C sources
	@tools/install_packages.sh test
	@find src fuzz bench -name '*.[ch]' -exec clang-format -i {} +

docs: build ## write docs/options.md anew from src/options.def
	@build/src/sluice config docs > build/options.md && mv build/options.md docs/options.md

clean: ## remove what was built (not ./data)
	@rm -rf build build-test build-clang build-tsan build-results build-tools
