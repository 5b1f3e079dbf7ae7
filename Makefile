# Everything a person or a CI does with a checkout. The work is in scripts/, which can also be called one by one.
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help setup build quickstart test conformance sdk-test crash-test chaos fuzz simulate bench fmt lint coverage docs bare-machine

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## Install what is missing on a bare Debian or Ubuntu machine; says what and why
	@scripts/setup

build: ## Build the release binary; the last line printed is its path
	@scripts/build

quickstart: setup ## Watch an agent write and run a program in a sandbox
	@scripts/quickstart

test: setup ## Format, lints, licences, all Rust tests, both SDKs against the real binary
	@scripts/test

sdk-test: setup ## Only the acceptance with the official SDKs, the quickstart and the crash campaign
	@scripts/test sdk

conformance: setup ## Run every call of the official clients and write docs/compatibility.md
	@scripts/conformance

crash-test: setup ## Only the crash campaign and 60 random kills; MANYHANDS_CRASH_SEED and MANYHANDS_CHAOS_SEED repeat a run
	@scripts/test crash

chaos: setup ## Kill servers and sandboxes KILLS times (1,000) and check after each; goes on when it was cut off
	@scripts/chaos

fuzz: setup ## Search SECONDS (60) on each reader of outside bytes for what it gets wrong; goes on when it was cut off
	@scripts/fuzz $(SECONDS)

simulate: setup ## Live SEEDS seeded worlds (100,000) from seed FROM on, in virtual time; goes on when it was cut off
	@scripts/simulate

bench: setup ## Measure speed and size, each figure beside its floor
	@scripts/bench

fmt: ## Format the Rust code
	@. scripts/env && cargo fmt --all

lint: ## Format check, clippy without warnings, licences and sources of dependencies, rules without a test
	@scripts/test lint

coverage: ## Write docs/coverage.md: which rule is proven by which test
	@. scripts/env && cargo run --locked --quiet --package manyhands-coverage

docs: ## Build the book into target/book and the API docs of the crates
	@scripts/docs

bare-machine: ## Prove quickstart and test on a fresh Debian 12 root of its own (needs root)
	@scripts/bare-machine
