//! A content on its way to S3.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use xpush_core::ports::blobs::Upload;
use xpush_core::ports::{Done, Failure, PortError};

use super::request::Bucket;

/// Bytes of a part: S3 wants 5 MiB at least, and 10,000 parts at most.
const PART: usize = 8 << 20;

/// Parts of one upload.
const MOST: usize = 10_000;

pub(crate) struct Writing {
    state: Arc<Mutex<State>>,
    runtime: Handle,
}

struct State {
    bucket: Arc<Bucket>,
    name: String,
    largest: u64,
    written: u64,
    gathered: BytesMut,
    /// The upload in parts, when there is more than one.
    upload: Option<String>,
    tags: Vec<String>,
}

impl Writing {
    pub(crate) fn new(bucket: Arc<Bucket>, name: String, largest: u64, runtime: Handle) -> Self {
        let state = State {
            bucket,
            name,
            largest,
            written: 0,
            gathered: BytesMut::new(),
            upload: None,
            tags: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), runtime }
    }
}

impl Upload for Writing {
    fn write(&mut self, chunk: Bytes, done: Done<()>) {
        let state = self.state.clone();
        self.runtime.spawn(async move { done(state.lock().await.write(&chunk).await) });
    }

    fn finish(self: Box<Self>, done: Done<u64>) {
        let state = self.state.clone();
        // Dropped when it is done: then there is nothing left to abort.
        self.runtime.clone().spawn(async move {
            let finished = state.lock().await.finish().await;
            drop(self);
            done(finished);
        });
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let state = self.state.clone();
        // Behind the part that may be on its way.
        self.runtime.spawn(async move {
            let mut state = state.lock().await;
            let Some(upload) = state.upload.take() else { return };
            if let Err(error) = state.bucket.abort(&state.name, &upload).await {
                tracing::warn!(%error, "an upload to S3 was not aborted");
            }
        });
    }
}

impl State {
    async fn write(&mut self, chunk: &[u8]) -> Result<(), PortError> {
        self.written += chunk.len() as u64;
        if self.written > self.largest {
            return Err(PortError::new(Failure::Invalid, "more bytes than were announced"));
        }
        self.gathered.extend_from_slice(chunk);
        while self.gathered.len() >= PART {
            let part = self.gathered.split_to(PART).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<(), PortError> {
        if self.tags.len() == MOST {
            return Err(PortError::new(Failure::Invalid, "more than S3 takes in parts of this size"));
        }
        if self.upload.is_none() {
            self.upload = Some(self.bucket.begin(&self.name).await?);
        }
        let number = u16::try_from(self.tags.len() + 1).unwrap_or(u16::MAX);
        let upload = self.upload.as_deref().unwrap_or_default();
        let tag = self.bucket.part(&self.name, upload, number, part).await?;
        self.tags.push(tag);
        Ok(())
    }

    async fn finish(&mut self) -> Result<u64, PortError> {
        let rest = self.gathered.split().freeze();
        if self.upload.is_none() {
            self.bucket.put(&self.name, rest).await?;
            return Ok(self.written);
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        let upload = self.upload.clone().unwrap_or_default();
        let completed = self.bucket.complete(&self.name, &upload, &self.tags).await;
        // What may have been joined is no upload any more; who asked deletes it by its name.
        if !matches!(&completed, Err(error) if error.kind != Failure::Unknown) {
            self.upload = None;
        }
        completed.map(|()| self.written)
    }
}
