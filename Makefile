# Everything that README and CONTRIBUTING name. Each target does its own set-up; `make` alone lists them.
#
# What needs root (namespaces, eBPF) is started as root by sudo where make itself is not; building never is.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export CARGO_TARGET_DIR := $(TARGET_DIR)
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test e2e lint deny docs fuzz bench image manifests clean

help: ## list the targets
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | column -t -s '	'

setup: ## install what is missing on this machine (Debian packages, bpf-linker)
	@scripts/setup test

build: ## build every binary into target/release
	@scripts/setup build >&2
	cargo build --release --workspace --bins --locked

demo: ## three nodes on this machine: traffic in clear, encrypted, a lost key, a crash, and back; ARGS="-o json"
	@scripts/setup demo >&2
	@cargo build --release --workspace --bins --locked >&2
	@$(SUDO) $(TARGET_DIR)/release/hauberk demo $(ARGS)

test: ## run all tests; GROUPS="unit fuzz" for some of them (scripts/test says which there are)
	@scripts/setup test
	@scripts/test $(GROUPS)

e2e: ## real kubelets and pods on this machine: in clear, encrypted live, and back
	@scripts/setup test
	@scripts/test e2e

lint: ## formatting, clippy, dependencies, documentation
	@scripts/setup lint
	cargo fmt --all --check
	for lock in $$(git ls-files '*/Cargo.lock'); do cargo fmt --check --manifest-path $${lock%.lock}.toml || exit 1; done
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(MAKE) --no-print-directory deny docs

deny: ## licences, bans and sources of dependencies; advisories where their database can be reached
	@scripts/setup lint
	@scripts/deny

docs: ## the crates' documentation without warnings, and the tests that docs/ names
	@scripts/setup lint
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@scripts/cited-tests

fuzz: ## fuzz every parser of bytes, FUZZ_SECONDS=20 each
	@scripts/setup build
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/test fuzz

bench: build ## throughput of one pair of nodes on this machine; ARGS as for hauberk-bench local
	@scripts/setup demo
	@$(SUDO) $(TARGET_DIR)/release/hauberk-bench local $(ARGS)

image: ## the image as a tar, without a container engine; NAME=registry.example/hauberk:0.1.0 FILE=hauberk.tar
	@scripts/setup demo >&2
	@scripts/image $(or $(NAME),$(error NAME is not set: registry.example/hauberk:0.1.0)) $(or $(FILE),hauberk.tar)

manifests: ## render the chart into deploy/hauberk.yaml and deploy/manifests (needs helm, or Go to build it)
	@scripts/manifests

clean: ## remove what was built
	cargo clean
