//! Where images are decoded and written anew: in a process of its own for each, a few at a time.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Bytes;
use image::ImageFormat;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use xpush_core::ports::blobs::Content;
use xpush_core::{Code, Problem};

use super::developer::Answer;
use super::picture::{LARGEST, Shape};
use super::store;
use crate::api::Refusal;

/// Images that are decoded at the same time: each may take much memory.
const AT_ONCE: usize = 2;

/// How long an upload may wait for its image's turn.
const TURN: Duration = Duration::from_secs(60);

/// How long a decoder may be silent. It has the lowest priority, so on a busy machine seconds of computing take longer.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of what a decoder says first.
const LONGEST_ANSWER: u32 = 4_096;

/// Bytes that are passed on at once.
const CHUNK: usize = 256 << 10;

/// The program that decodes one image: `PROGRAM ARGUMENTS… FORMAT PIXELS`, as [`super::develop_image`] does it.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Where it is.
    pub program: PathBuf,
    /// What it is told first.
    pub arguments: Vec<OsString>,
}

/// Decodes images.
pub(crate) struct Studio {
    decoder: Decoder,
    /// Pixels that an image may have.
    most: u64,
    silence: Duration,
    turns: Semaphore,
}

/// An image that was written anew, to be read: its bytes, and then those of its thumbnail. Dropped before, its decoder is killed.
pub(crate) struct Developed<'a> {
    pub(crate) shape: Shape,
    pub(crate) small: Shape,
    from: Box<dyn AsyncRead + Send + Unpin>,
    silence: Duration,
    _decoder: Option<Child>,
    _turn: SemaphorePermit<'a>,
}

impl Studio {
    pub(crate) const fn new(decoder: Decoder, most: u64) -> Self {
        Self { decoder, most, silence: SILENCE, turns: Semaphore::const_new(AT_ONCE) }
    }

    /// Gives an image to a decoder.
    pub(crate) async fn develop(
        &self,
        mut content: Box<dyn Content>,
        format: ImageFormat,
    ) -> Result<Developed<'_>, Refusal> {
        let turn = timeout(TURN, self.turns.acquire()).await.map_err(|_| Code::Overloaded)?;
        let turn = turn.map_err(|_| Code::Internal)?;
        #[cfg(test)]
        if self.decoder.program.as_os_str().is_empty() {
            return tests::in_process(content, format, self.most, turn).await;
        }
        let mut decoder = self.start(format).map_err(|error| {
            tracing::error!(%error, "no image can be decoded: the program does not start");
            Problem::new(Code::Unavailable, "images cannot be looked at now")
        })?;
        let (Some(mut into), Some(mut from)) = (decoder.stdin.take(), decoder.stdout.take()) else {
            return Err(Code::Internal.into());
        };
        self.feed(&mut into, &mut *content).await?;
        // By its end it knows that it has all of it.
        drop((into, content));
        let answer = match timeout(self.silence, answer(&mut from)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err(died(&mut decoder).await.into()),
            Err(_) => return Err(too_slow().into()),
        };
        match answer {
            Answer::Refused(flaw) => Err(Problem::from(flaw).into()),
            Answer::Picture(shape, small) => Ok(Developed {
                shape,
                small,
                from: Box::new(from),
                silence: self.silence,
                _decoder: Some(decoder),
                _turn: turn,
            }),
        }
    }

    /// It has nothing of the server's: no environment, no folder, no file but these two.
    fn start(&self, format: ImageFormat) -> io::Result<Child> {
        let kind = format.to_mime_type().trim_start_matches("image/");
        Command::new(&self.decoder.program)
            .args(&self.decoder.arguments)
            .args([kind, &self.most.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }

    /// A decoder that has ended already takes no more: what it has said is to be read.
    async fn feed(&self, into: &mut ChildStdin, content: &mut dyn Content) -> Result<(), Refusal> {
        while let Some(chunk) = store(|done| content.read(done)).await? {
            match timeout(self.silence, into.write_all(&chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(too_slow().into()),
            }
        }
        Ok(())
    }
}

impl Developed<'_> {
    /// The next bytes, of at most `left`.
    pub(crate) async fn next(&mut self, left: u64) -> Result<Bytes, Problem> {
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        match timeout(self.silence, self.from.read_exact(&mut chunk)).await {
            Ok(Ok(_)) => Ok(chunk.into()),
            Ok(Err(_)) => Err(unreadable()),
            Err(_) => Err(too_slow()),
        }
    }
}

/// What the decoder says first. It is believed in what cannot harm: nothing follows but bytes.
async fn answer(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let length = from.read_u32().await?;
    if length > LONGEST_ANSWER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length as usize];
    from.read_exact(&mut text).await?;
    let answer = serde_json::from_slice(&text)?;
    match answer {
        Answer::Picture(shape, small) if shape.size.max(small.size) > LARGEST as u64 => {
            Err(io::ErrorKind::InvalidData.into())
        }
        answer => Ok(answer),
    }
}

/// Its output has ended before it has said anything.
async fn died(decoder: &mut Child) -> Problem {
    // One that lives on without an output is of no use.
    let _ = decoder.start_kill();
    let status = decoder.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    tracing::warn!(%status, "an image's decoder has died; its upload is refused");
    unreadable()
}

fn unreadable() -> Problem {
    Problem::new(Code::BadImage, "the image cannot be read with the memory and the time that one may take")
}

fn too_slow() -> Problem {
    tracing::warn!("an image's decoder has come to no end; its upload is refused");
    Problem::new(Code::BadImage, "it takes too long to read the image")
}

#[cfg(test)]
pub(crate) mod tests;
