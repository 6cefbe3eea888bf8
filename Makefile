# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Recipes in order, each seen as it goes: the lab and the kernel are one for all of them.
.NOTPARALLEL:

bin := .venv/bin
export PATH := $(CURDIR)/$(bin):$(PATH)
export LC_ALL := C.UTF-8
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export MOLECULE_GLOB := molecule/*/molecule.yml

##@ See it work

.PHONY: demo
demo: bootstrap  ## Build the lab, configure it, send traffic, change the inventory, kill a real server, show what happened
	$(bin)/python tests/lab/demo.py

.PHONY: chaos
chaos: export SCENARIO := $(SCENARIO)
chaos: export PYTHONPATH := $(CURDIR)
chaos: bootstrap  ## Break the lab's fleet under load, thing by thing, into docs/operations.md; one: make chaos SCENARIO=process_dead
	$(bin)/python tests/lab/chaos.py $${SCENARIO:+"$$SCENARIO"}

.PHONY: lifecycle
lifecycle: export SCENARIO := $(SCENARIO)
lifecycle: export PYTHONPATH := $(CURDIR)
lifecycle: bootstrap  ## Everything operators do to the lab's fleet, under load, into docs/lifecycle.md; one: make lifecycle SCENARIO=weights
	$(bin)/python tests/lab/lifecycle.py $${SCENARIO:+"$$SCENARIO"}

.PHONY: lifecycle-quick
lifecycle-quick: export PYTHONPATH := $(CURDIR)
lifecycle-quick: bootstrap  ## Some of it, on a machine that may be busy: what breaks and fails counts, pauses do not
	$(bin)/python tests/lab/lifecycle.py --quick

.PHONY: dashboard
dashboard: export PYTHONPATH := $(CURDIR)
dashboard: bootstrap bench-packages  ## Prometheus watches the lab while things break; the dashboard as a picture, docs/dashboard.svg
	$(bin)/python tests/lab/watched.py docs/dashboard.svg

.PHONY: lab-up lab-down lab-shell
lab-up: bootstrap  ## Boot the lab's hosts
	/usr/bin/python3 tests/lab/lab.py up

lab-down:  ## Remove the lab and everything it made
	/usr/bin/python3 tests/lab/lab.py down

lab-shell: export HOST := $(HOST)
lab-shell: bootstrap  ## A shell on a host of the lab: make lab-shell HOST=node1
	@/usr/bin/python3 tests/lab/lab.py shell "$${HOST:?is not given: make lab-shell HOST=node1}"

##@ Test it

# The quick ones first.
tests := lint test-unit test-agent test-dataplane test-tunnels test-sanity test-molecule

.PHONY: test
test: bootstrap  ## Everything below but the fuzzing and other kernels
	@start=$$SECONDS took=; \
	for part in $(tests); do \
	    printf '\n\033[1m== make %s\033[0m\n' $$part; \
	    began=$$SECONDS; \
	    $(MAKE) --no-print-directory $$part || { printf '\n\033[1mFAILED: make %s\033[0m\n' $$part; exit 1; }; \
	    took+="$$part $$((SECONDS - began)) s, "; \
	done; \
	printf '\n\033[1mpassed in %d s: %s\033[0m\n' $$((SECONDS - start)) "$${took%, }"

.PHONY: lint
lint: bootstrap  ## Style, types, licences, lengths
	ruff check
	ruff format --check
	mypy --package ansible_collections.l4lb.xdp.plugins.module_utils
	mypy --package l4lb_agent
	yamllint --strict .
	ansible-lint
	clang-format --dry-run -Werror bpf/*.[ch]
	antsibull-changelog lint
	reuse lint --lines
	tests/file_lengths.sh

.PHONY: test-unit
test-unit: bootstrap  ## Rings, configuration, plans: no kernel, no root
	$(bin)/python -m pytest tests/unit

# These have real daemons, sockets and clocks on a machine that does other things, too: what fails is run once more, and listed.
pytest_twice := $(bin)/python -m pytest --reruns 1 -r aR

.PHONY: test-agent
test-agent: bootstrap  ## Checks against real servers, BIRD, FRR, the gate, metrics, alerts: the agent's parts (root)
	$(pytest_twice) tests/agent

.PHONY: test-dataplane
test-dataplane: bootstrap  ## Packets through the real program, and exact bytes out (root)
	$(pytest_twice) --numprocesses 2 --dist loadfile tests/dataplane

.PHONY: fuzz
fuzz: export PYTHONPATH := .venv/collections
fuzz: bootstrap  ## A million mutated frames through the real program (root)
	$(bin)/python -m tests.dataplane.fuzz

.PHONY: test-tunnels
test-tunnels: bootstrap  ## Debian's kernel in an emulated machine: its tunnels, bonds and VLANs, and its verifier (root)
	$(pytest_twice) tests/uml

.PHONY: test-verifier
test-verifier: bootstrap  ## Debian 13's bcc, and the kernels of Debian 12 and 13, emulated: minutes (root)
	@tests/verifier/packages.sh
	$(bin)/python -m pytest tests/verifier

.PHONY: test-sanity
test-sanity: bootstrap  ## ansible-test: sanity, and the unit tests again in its environment
	$(bin)/python tests/ansible_test.py sanity --python 3.11
	$(bin)/python tests/ansible_test.py units --python 3.11 --venv

# Debian has user-mode Linux for PCs only.
not_here := $(if $(shell command -v linux.uml),,--exclude kernel_tunnel)

.PHONY: test-molecule
test-molecule: export SCENARIO := $(SCENARIO)
test-molecule: bootstrap  ## Each role, and a whole fleet, on hosts of the lab (root); one: make test-molecule SCENARIO=bird
	molecule --base-config .config/molecule/config.yml test $(if $(SCENARIO),--scenario-name "$$SCENARIO",--all $(not_here))

##@ Measure it

.PHONY: bench
bench: export PYTHONPATH := $(CURDIR)/.venv/collections
bench: bootstrap bench-packages  ## Nanoseconds a packet, into docs/performance.md (root); a quick look: make bench ROUNDS=3
	$(bin)/python -m bench.packet $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: bench-guards
bench-guards: export PYTHONPATH := $(CURDIR)/.venv/collections
bench-guards: bootstrap bench-packages  ## What guards and QUIC cost where they are asked for, into docs/performance.md (root); quick: ROUNDS=3
	$(bin)/python -m bench.guards $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: bench-control
bench-control: export PYTHONPATH := $(CURDIR)/.venv/collections
bench-control: bootstrap bench-packages  ## Seconds a change takes in a fleet of 3,000 services, into docs/performance.md (root)
	$(bin)/python -m bench.control

.PHONY: bench-checks
bench-checks: export PYTHONPATH := $(CURDIR)/.venv/collections:$(CURDIR)/roles/agent/files
bench-checks: bootstrap  ## How many health checks one agent makes, and what they cost (root)
	$(bin)/python -m bench.checks

.PHONY: bench-packages
bench-packages: bootstrap
	@$(bin)/python -m pip install --quiet --disable-pip-version-check --requirement bench/requirements.txt

##@ Work on it

.PHONY: bootstrap
bootstrap:  ## Debian packages, kernel headers, .venv; the others do it when it is needed
	@tests/bootstrap.sh

.PHONY: format
format: bootstrap  ## Bring Python and C into the form that lint wants
	ruff check --fix-only
	ruff format
	clang-format -i bpf/*.[ch]

.PHONY: clean
clean:  ## Remove the lab, the caches and .venv
	[[ ! -e .lab ]] || $(MAKE) lab-down
	rm -rf .ansible .cache .hypothesis .lab .mypy_cache .pytest_cache .ruff_cache .venv tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:
	@awk -F ':.*##' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*##/ {printf "  make %-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
