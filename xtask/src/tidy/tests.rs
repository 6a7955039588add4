//! Each rule on a small tree that keeps it, and on one that breaks it.

use super::rust_source::{Function, code_only, functions};
use super::tree::Tree;
use super::*;

/// What a rule says of a tree, as `path:line`.
fn places(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    check(&Tree::of(files)).into_iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn leaves_depend_on_no_other_part() {
    let good = "[dependencies]\nbytes.workspace = true\n[dev-dependencies]\nxpush-testkit.workspace = true\n";
    assert_eq!(places(imports::between_crates, &[("crates/wire/Cargo.toml", good)]), NOTHING);
    let bad = "[dependencies]\nbytes.workspace = true\nxpush-core.workspace = true\n";
    assert_eq!(
        places(imports::between_crates, &[("crates/wire/Cargo.toml", bad)]),
        ["crates/wire/Cargo.toml:3"]
    );
}

#[test]
fn parts_know_only_core_and_the_channel_server_knows_the_wire() {
    let both = "[dependencies]\nxpush-core.workspace = true\nxpush-wire.workspace = true\n";
    assert_eq!(places(imports::between_crates, &[("crates/channel/Cargo.toml", both)]), NOTHING);
    assert_eq!(
        places(imports::between_crates, &[("crates/session/Cargo.toml", both)]),
        ["crates/session/Cargo.toml:3"]
    );
    let backend = "[target.'cfg(unix)'.dependencies]\nxpush-channel = { workspace = true }\n";
    assert_eq!(
        places(imports::between_crates, &[("crates/backends/embedded/Cargo.toml", backend)]),
        ["crates/backends/embedded/Cargo.toml:2"]
    );
}

#[test]
fn the_binary_joins_everything_but_ships_no_testkit() {
    let binary = "[dependencies]\nxpush-embedded.workspace = true\nxpush-testkit.workspace = true\n";
    assert_eq!(
        places(imports::between_crates, &[("crates/xpush/Cargo.toml", binary)]),
        ["crates/xpush/Cargo.toml:3"]
    );
}

#[test]
fn a_part_that_nobody_placed_is_found() {
    assert_eq!(
        places(imports::between_crates, &[("crates/new/Cargo.toml", "")]),
        ["crates/new/Cargo.toml:0"]
    );
}

#[test]
fn one_file_of_the_binary_names_backends() {
    let source = "// xpush_redis is not named here\nuse xpush_embedded::Bus;\n";
    let comment = "// xpush_embedded is wired elsewhere\n";
    let wiring = ("crates/xpush/src/wiring.rs", source);
    let (test, other) = (("crates/xpush/tests/boot.rs", source), ("crates/xpush/src/main.rs", comment));
    assert_eq!(places(imports::in_the_binary, &[wiring, test, other]), NOTHING);
    assert_eq!(
        places(imports::in_the_binary, &[wiring, ("crates/xpush/src/role/all.rs", source)]),
        ["crates/xpush/src/wiring.rs:2", "crates/xpush/src/role/all.rs:2"]
    );
}

#[test]
fn the_leaves_touch_no_world() {
    let good = "// no tokio here\nuse std::net::IpAddr;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let bad = "use std::time::Duration;\nuse std::time::Instant;\nfn f() { std::thread::yield_now() }\n";
    let files = [
        ("crates/core/src/a.rs", good),
        ("crates/wire/src/a/tests.rs", bad),
        ("crates/channel/src/a.rs", bad),
    ];
    assert_eq!(places(imports::leaves_are_pure, &files), NOTHING);
    assert_eq!(
        places(imports::leaves_are_pure, &[("crates/wire/src/a.rs", bad)]),
        ["crates/wire/src/a.rs:2", "crates/wire/src/a.rs:3"]
    );
}

#[test]
fn empty_names_are_found_in_paths_and_inline() {
    let files = [("crates/core/src/ring.rs", "mod utility {}\nmod util;\n"), ("docs/common.md", "")];
    assert_eq!(places(names::say_something, &files), NOTHING);
    let files = [
        ("crates/core/src/utils.rs", ""),
        ("web/src/common/color.ts", ""),
        ("e2e/helpers.test.mjs", ""),
        ("crates/core/src/lib.rs", "pub(crate) mod misc {\n}\n"),
    ];
    assert_eq!(
        places(names::say_something, &files),
        [
            "crates/core/src/utils.rs:0",
            "web/src/common/color.ts:0",
            "e2e/helpers.test.mjs:0",
            "crates/core/src/lib.rs:1"
        ]
    );
}

#[test]
fn files_have_a_length_and_tests_a_longer_one() {
    let (short, long) = ("//\n".repeat(700), "//\n".repeat(701));
    assert_eq!(places(sizes::fit_in_the_head, &[("src/a.rs", &short), ("src/a/tests.rs", &long)]), NOTHING);
    assert_eq!(places(sizes::fit_in_the_head, &[("src/a.rs", &long)]), ["src/a.rs:0"]);
    let longer = "//\n".repeat(1001);
    assert_eq!(
        places(sizes::fit_in_the_head, &[("crates/a/tests/b.rs", &longer)]),
        ["crates/a/tests/b.rs:0"]
    );
}

#[test]
fn functions_have_a_length() {
    let function = |lines: usize| format!("\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(places(sizes::fit_in_the_head, &[("src/a.rs", &function(80))]), NOTHING);
    assert_eq!(places(sizes::fit_in_the_head, &[("src/a.rs", &function(81))]), ["src/a.rs:2"]);
}

#[test]
fn functions_are_measured_by_their_braces() {
    let source = r##"
trait Port {
    fn declared(&self, size: [u8; 2]);
    fn provided(&self) {
        let brace = '}'; let text = "}}"; let raw = r#"}"}"#; // }
        let call: fn(u8) -> u8 = |x| { x };
    }
}
fn outer<'a>(x: &'a str) -> &'a str
where
    for<'b> &'b str: Sized,
{
    fn inner() {}
    /* } /* } */ */
    x
}
"##;
    let function = |name: &str, line, lines| Function { name: name.into(), line, lines };
    assert_eq!(
        functions(&code_only(source)),
        [function("provided", 4, 4), function("inner", 13, 1), function("outer", 9, 8)]
    );
}

#[test]
fn a_declaration_does_not_take_the_next_braces() {
    assert_eq!(functions("trait Port {\n fn declared(&self);\n}\nmod next {\n}\n"), []);
}

#[test]
fn what_is_no_code_is_blanked_and_lines_stay() {
    let source = "let a = \"dbg!(\\\"1\\\")\"; // todo!\nlet b = b'\\'';\nlet c: &'static str = br##\"\"#\"##;\n\"two\nlines\"";
    let code = code_only(source);
    assert_eq!(code.lines().count(), source.lines().count());
    assert!(!code.contains("dbg!") && !code.contains("todo!"));
    assert!(code.contains("let c: &'static str ="));
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(
        words,
        ["let", "a", "=", ";", "let", "b", "=", "b", ";", "let", "c:", "&'static", "str", "=", ";"]
    );
}

#[test]
fn dependencies_are_explained_at_the_root_and_versioned_only_there() {
    let root = "[workspace.dependencies]\nxpush-core = { path = \"crates/core\" }\nbytes = \"1\" # shared buffers\n\n[profile.dev]\ndebug = 1\n";
    let member = "[package]\nversion.workspace = true\n[dependencies]\nbytes.workspace = true\nserde = { workspace = true, optional = true }\n";
    let files = [
        ("Cargo.toml", root),
        ("crates/core/Cargo.toml", member),
        ("fuzz/Cargo.toml", "[dependencies]\na = \"1\"\n"),
    ];
    assert_eq!(places(manifests::dependencies_have_reasons, &files), NOTHING);
    let files = [
        ("Cargo.toml", "[workspace.dependencies]\nbytes = \"1\"\nserde = \"1\" #\n"),
        ("crates/core/Cargo.toml", "[dev-dependencies]\nproptest = \"1\" # cases\n"),
    ];
    assert_eq!(
        places(manifests::dependencies_have_reasons, &files),
        ["Cargo.toml:2", "Cargo.toml:3", "crates/core/Cargo.toml:2"]
    );
}

#[test]
fn dependencies_are_named_in_the_source() {
    let manifest = (
        "crates/core/Cargo.toml",
        "[dependencies]\nserde_json.workspace = true\nrust-embed.workspace = true\n",
    );
    let both = ("crates/core/src/lib.rs", "use serde_json as _;\nuse rust_embed as _;\n");
    assert_eq!(places(manifests::dependencies_are_used, &[manifest, both]), NOTHING);
    let elsewhere = ("crates/wire/src/lib.rs", "use rust_embed as _;\nuse serde_json as _;\n");
    let one = ("crates/core/src/lib.rs", "use serde_json as _;\n");
    assert_eq!(
        places(manifests::dependencies_are_used, &[manifest, one, elsewhere]),
        ["crates/core/Cargo.toml:3"]
    );
}

#[test]
fn lints_are_taken_over() {
    let with = ("crates/core/Cargo.toml", "[lints]\nworkspace = true\n");
    assert_eq!(places(manifests::lints_are_shared, &[with]), NOTHING);
    assert_eq!(
        places(manifests::lints_are_shared, &[with, ("xtask/Cargo.toml", "")]),
        ["xtask/Cargo.toml:0"]
    );
}

#[test]
fn leftovers_are_found_in_code_only() {
    let good =
        "// todo!()\nlet text = \"dbg!\";\nmy_todo!();\n#[ignore = \"needs a kernel that we do not have\"]\n";
    assert_eq!(places(leftovers::none, &[("src/a.rs", good), ("a.test.ts", "test.only.skip\n")]), NOTHING);
    let bad = "fn a() { todo!() }\nfn b() { unimplemented!(\"later\") }\nfn c() { dbg!(1); }\n#[ignore]\n";
    assert_eq!(
        places(leftovers::none, &[("src/a.rs", bad), ("a.test.ts", "\ntest.only('a', f)\n")]),
        ["src/a.rs:1", "src/a.rs:2", "src/a.rs:3", "src/a.rs:4", "a.test.ts:2"]
    );
}

#[test]
fn links_lead_to_files_and_folders() {
    let good = "[a](docs/a.md#part) [b](docs) [c](docs/) [d](https://x.org/y) [e](#here) `[f](no.md)` ![g](/docs/a.md)\n\
                ```\n[h](nowhere.md)\n```\n";
    assert_eq!(
        places(links::lead_somewhere, &[("README.md", good), ("docs/a.md", "[up](../README.md)\n")]),
        NOTHING
    );
    assert_eq!(
        places(links::lead_somewhere, &[("docs/a.md", "[a](a.md)\n[up](README.md) [b](../doc)\n")]),
        ["docs/a.md:2", "docs/a.md:2"]
    );
}

#[test]
fn machine_paths_are_found_but_not_their_look_alikes() {
    let path = concat!("/wo", "rk/main");
    let temporary = concat!("/tm", "p/x");
    let good = format!("https://example.org{path}\n..{path} and $ROOT-{path}\n");
    assert_eq!(places(text::no_machine_paths, &[("README.md", &good), ("src/a.rs", temporary)]), NOTHING);
    let bad = format!("cd {path}\n");
    assert_eq!(places(text::no_machine_paths, &[("a.sh", &bad), ("a.md", temporary)]), ["a.sh:1", "a.md:1"]);
}

#[test]
fn large_files_are_found() {
    let (small, large) = ("x".repeat(1024 * 1024), "x".repeat(1024 * 1024 + 1));
    assert_eq!(places(text::no_large_files, &[("a.bin", &small), ("b.bin", &large)]), ["b.bin:0"]);
}

#[test]
fn white_space_is_clean_where_people_write() {
    let good = [
        ("a.rs", "a\n"),
        ("empty", ""),
        ("web/dist/a.js", "a  "),
        ("wire/corpus/a", "a \r\n"),
        ("b.bin", "\0 "),
    ];
    assert_eq!(places(text::clean_white_space, &good), NOTHING);
    let bad = [("a.rs", "a \nb\t\nc\n"), ("b.md", "a"), ("c.md", "a\n\n"), ("d.md", "a\r\n")];
    assert_eq!(places(text::clean_white_space, &bad), ["a.rs:1", "a.rs:2", "b.md:1", "c.md:2", "d.md:1"]);
}
