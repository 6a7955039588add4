# One-liners for every day; `just` alone lists them.

_default:
    @just --list --unsorted

# the whole platform on http://127.0.0.1:8000
run *flags:
    cargo run --release -- {{flags}}

# everything that CI runs; `just test --only tidy` for one step
test *flags:
    cargo xtask test {{flags}}

# the edit loop: one part, for example `just part wire`
part name *flags:
    cargo test -p xpush-{{name}} {{flags}}

# format, and the checks that take seconds
tidy:
    cargo fmt --all
    cargo xtask tidy

# rebuild the pages that the binary embeds
web:
    cargo xtask web

# side by side with other servers; writes docs/benchmarks.md
bench *flags:
    cargo xtask bench {{flags}}

# fuzz one parser; needs a nightly toolchain and cargo-fuzz
fuzz target *flags:
    cargo +nightly fuzz run {{target}} {{flags}}

# licences, advisories and sources of all dependencies; needs cargo-deny
deny:
    cargo deny check
