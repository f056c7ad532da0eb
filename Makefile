# The commands of daily work. `make` alone lists them; `.ci/run` runs `make gate`.
# Each needs Rust only, save where its line names more.

CARGO := cargo
SOAK_MINUTES := 10
KILLS := 500
FUZZ_SECONDS := 60
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: gate
gate: versions check-format lint doc test ## all that a change must pass

.PHONY: format
format: ## format the sources
	$(CARGO) fmt

.PHONY: check-format
check-format: ## fail if a source is not formatted
	$(CARGO) fmt --check

.PHONY: lint
lint: ## clippy over everything, and a check of the fuzz targets, which are a crate of their own
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir target

.PHONY: doc
doc: ## the documentation of the library, without a warning
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --locked --no-deps --document-private-items
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --locked --no-deps

.PHONY: versions
versions: ## fail unless all files name the same version of Rust
	.ci/check-versions

.PHONY: test
test: ## every test; installs what they need beyond Rust (Debian packages, as root or with sudo)
	tests/run

.PHONY: soak
soak: ## report, count, restart and kill for SOAK_MINUTES, and compare every response with a model
	$(CARGO) test --locked --release --test soak -- $(SOAK_MINUTES)

.PHONY: kills
kills: ## kill the server at KILLS random moments while it takes reports
	SUBJOBS_TEST_KILLS=$(KILLS) $(CARGO) test --locked --test it storage::kills

.PHONY: store-faults
store-faults: ## kill PostgreSQL KILLS times, and cut a commit at every byte in both directions
	SUBJOBS_TEST_KILLS=$(KILLS) SUBJOBS_TEST_CUT_STEP=1 $(CARGO) test --locked --test it -- postgres::kills postgres::cuts

.PHONY: bench
bench: ## measure counts and authentication in process, and requests beside a plain axum route
	$(CARGO) bench --locked

.PHONY: fuzz
fuzz: ## fuzz each parser for FUZZ_SECONDS (needs a nightly toolchain and cargo-fuzz)
	set -e; for target in $(FUZZ_TARGETS); do \
	    mkdir -p fuzz/corpus/$$target; \
	    $(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: package
package: ## build the package as cargo would publish it
	$(CARGO) package --locked

.PHONY: deny
deny: ## licences, sources, duplicates and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check

.PHONY: typos
typos: ## spelling (needs typos)
	typos
