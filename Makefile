# The commands of a developer. `make test` is all that a fresh clone needs: it installs what is missing for the guests,
# builds them and runs every test. The tests run in the release profile, so that the dependencies, of which the wasm
# compiler is most, are built once for the tests and for the server.

.DELETE_ON_ERROR:
.PHONY: all test guests unit sdk model differential fuzz soak fmt lint docs deny bench clean

CARGO ?= cargo
SDK = --locked --manifest-path guest-sdk/rust/Cargo.toml --target-dir tests/guests/target/native
MODEL = --locked --manifest-path tests/model/Cargo.toml --target-dir target/model
DIFFERENTIAL = --locked --manifest-path tests/differential/Cargo.toml --target-dir target/differential
FUZZ = --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz
ACCEPT = --release --locked --manifest-path benches/accept/Cargo.toml --target-dir target/benches
# Packages that stand alone: those that are built for wasm, and those that look at the server from outside.
APART = guest-sdk/rust examples/hello examples/echo tests/guests tests/model tests/differential fuzz benches/accept

CARGO_DENY_VERSION = 0.20.2
CARGO_DENY = .tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

all:
	$(CARGO) build --release --locked

test: guests unit sdk model differential

guests:
	tests/guests/build all

unit: guests
	$(CARGO) test --release --locked --no-fail-fast

sdk:
	$(CARGO) test $(SDK)

model:
	$(CARGO) test $(MODEL)

# Beside hyper, and nginx where it is installed.
differential:
	$(CARGO) test $(DIFFERENTIAL) --test differential -- --nocapture

# FUZZ_SECONDS for each target, all of them at the same time.
fuzz:
	fuzz/run

# `make test` has the short one.
soak: guests
	SOAK=long $(CARGO) test --release --locked --test soak -- --nocapture

fmt:
	$(CARGO) fmt --check
	for package in $(APART); do $(CARGO) fmt --check --manifest-path $$package/Cargo.toml || exit; done

lint:
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	$(CARGO) clippy $(SDK) --all-targets -- -D warnings
	$(CARGO) clippy $(MODEL) --all-targets -- -D warnings
	$(CARGO) clippy $(DIFFERENTIAL) --lib --test differential -- -D warnings
	$(CARGO) clippy $(FUZZ) --lib --bins -- -D warnings
	$(CARGO) clippy $(ACCEPT) --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --release --locked --no-deps

deny: $(CARGO_DENY)
	$(CARGO_DENY) --locked check bans licenses sources
	@# The advisories are a git repository; where it cannot be had, nothing can be said about them.
	@if $(CARGO_DENY) --locked fetch db >/dev/null 2>&1; then \
	    $(CARGO_DENY) --locked check --disable-fetch advisories; \
	else \
	    echo 'deny: advisories not checked: their database cannot be fetched here'; \
	fi

$(CARGO_DENY):
	$(CARGO) install cargo-deny@$(CARGO_DENY_VERSION) --locked --quiet --root $(dir $(@D)) --target-dir .tools/build

bench: guests
	benches/serve
	$(CARGO) run $(ACCEPT)

clean:
	rm -rf target tests/guests/target
