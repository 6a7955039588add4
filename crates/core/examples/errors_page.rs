//! `cargo run -p xpush-core --example errors_page > docs/errors.md`
#![allow(clippy::print_stdout)]

fn main() {
    print!("{}", xpush_core::error::errors_page());
}
