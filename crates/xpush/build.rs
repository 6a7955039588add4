//! The pages are embedded when the binary is built: build it again when they change, also when a file is added.
fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
}
