//! `xpush develop-image`, as servers start it: it is confined, and says why an image is not taken.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use xpush_testkit::service::wait_until;

const PIXELS: u64 = 1_000_000;

fn decoder(format: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
    command.args(["develop-image", format, &PIXELS.to_string()]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What it says first, and how many bytes come behind.
fn develop(format: &str, bytes: &[u8]) -> (String, usize) {
    let mut child = decoder(format);
    let mut input = child.stdin.take().unwrap();
    // It may have seen enough before the end.
    let _ = input.write_all(bytes);
    drop(input);
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.wait().unwrap();
    let Some((length, rest)) = out.split_first_chunk() else { return (String::new(), 0) };
    let (answer, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
    (String::from_utf8(answer.to_vec()).unwrap(), rest.len())
}

/// A GIF of one pixel (GIF89a, appendix A and F).
const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[test]
fn it_answers_with_a_picture_or_a_reason() {
    let (answer, bytes) = develop("gif", PIXEL);
    assert!(answer.starts_with(r#"{"picture":[{"written":"png","width":1,"height":1,"size":"#), "{answer}");
    assert!(bytes > 100, "the image, and its thumbnail");
    let mut bomb = PIXEL.to_vec();
    (bomb[6..10]).copy_from_slice(&[0xff; 4]);
    for (format, bytes, reason) in [
        ("gif", &bomb[..], "too_many_pixels"),
        ("gif", b"GIF89a", "damaged"),
        ("png", PIXEL, "damaged"),
        ("jpeg", b"", "damaged"),
    ] {
        assert_eq!(develop(format, bytes), (format!(r#"{{"refused":"{reason}"}}"#), 0), "{format}");
    }
    assert_eq!(develop("svg+xml", b"<svg/>"), (String::new(), 0));
}

#[test]
fn it_can_take_little_and_open_nothing() {
    let mut child = decoder("png");
    let limits = || fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let hard = |name: &str| -> String {
        let limits = limits();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    wait_until("it is confined", || hard("Max open files") == "0");
    for (name, most) in
        [("Max cpu time", "30"), ("Max file size", "0"), ("Max core file size", "0"), ("Max processes", "0")]
    {
        assert_eq!(hard(name), most, "{name}");
    }
    let memory: u64 = hard("Max address space").parse().unwrap();
    assert!((200_000_000..2_000_000_000).contains(&memory), "{memory}");
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    assert_eq!(of_process("oom_score_adj").trim(), "1000");
    let stat = of_process("stat");
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("19"), "it is nice");
    child.kill().unwrap();
    child.wait().unwrap();
}
