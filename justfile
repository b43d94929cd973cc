# Shortcuts for contributors: `just` lists them. Each is one command, so none needs just.

[private]
default:
    @just --list --unsorted

# Run everything that must pass before a change lands
check:
    .ci/run

# Run the tests of the workspace, or of one crate: `just test -p zswap`
test *ARGS="--workspace":
    cargo test --locked {{ARGS}}

# Format the code
fmt:
    cargo fmt --all

# Run clippy as the checks do
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Build the documentation
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked

# Check the examples in the documentation, and build it as docs.rs does
docs:
    ci/docs.sh

# Write the generated parts of README.md
readme:
    ci/readme.sh

# Build the packages from their files alone, and a user's crate against them
packages:
    ci/packages.sh

# Check the English of a path, and measure it
prose *PATHS:
    ci/prose.sh {{PATHS}}
    ci/words.sh {{PATHS}}

# Run the loom models
loom:
    ci/loom.sh

# Run the tests under a sanitizer, asan or tsan (needs nightly)
sanitize SANITIZER="asan":
    ci/{{SANITIZER}}.sh

# Fuzz all targets for some seconds each (needs nightly)
fuzz SECONDS="60":
    ci/fuzz.sh {{SECONDS}}

# Run a report program: `just bench overhead FILE --codec lz4`
bench PROGRAM *ARGS:
    cargo run --release --locked -p benches --bin {{PROGRAM}} -- {{ARGS}}

# Compare the report programs with another checkout: `just compare --pages FILE BASE`
compare *ARGS:
    ci/compare.sh {{ARGS}}
