//! The process that decodes images: it is handed one by its standard input, writes it anew to its standard output, and ends. Whatever becomes of it, the server
//! that has started it lives: a decoder that panics, takes all memory or never comes to an end concerns one upload.
//!
//! What it answers: four bytes, big-endian, with the length of a JSON text; this text, an [`Answer`]; and behind a picture its bytes, and those of its thumbnail.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use image::ImageFormat;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use serde::{Deserialize, Serialize};

use super::picture::{Flaw, LARGEST, Shape, develop};

/// Seconds of computing that one image may take. A photograph of 50 million pixels takes two.
const SECONDS: u64 = 30;

/// Memory for each pixel that an image may have: of a turned photograph there are two copies for a moment, of an animation three, of four bytes a pixel and more.
const PER_PIXEL: u64 = 20;

/// What it says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It follows: so many bytes, and those of its thumbnail.
    Picture(Shape, Shape),
    /// It is not taken.
    Refused(Flaw),
}

/// Decodes one image of at most `most` pixels, which `format` names by its media type's second half: what `xpush develop-image` does.
pub fn develop_image(format: &str, most: u64) -> ExitCode {
    let Some(format) = super::sniff::format(&format!("image/{format}")) else { return ExitCode::FAILURE };
    match confine(most).and_then(|()| answer(format, most)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// From now on this process can take little, and open nothing.
fn confine(most: u64) -> io::Result<()> {
    // On Linux this is about the calling thread, which is the only one.
    setpriority_process(None, 19)?;
    // When memory is short, it is this process that goes, not the server.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let room = most.saturating_mul(PER_PIXEL).saturating_add(3 * LARGEST as u64);
    for (resource, bound) in [
        (Resource::As, taken()?.saturating_add(room)),
        (Resource::Cpu, SECONDS),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Nofile, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })?;
    }
    Ok(())
}

/// The address space that the program itself takes, in bytes (proc_pid_status(5)).
fn taken() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer(format: ImageFormat, most: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    let mut out = io::stdout().lock();
    match develop(&bytes, format, most) {
        Ok(picture) => {
            begin(&mut out, Answer::Picture(picture.shape, picture.small))?;
            out.write_all(&picture.bytes)?;
            out.write_all(&picture.thumbnail)?;
        }
        Err(flaw) => begin(&mut out, Answer::Refused(flaw))?,
    }
    out.flush()
}

fn begin(out: &mut impl io::Write, answer: Answer) -> io::Result<()> {
    let text = serde_json::to_vec(&answer)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&text)
}
