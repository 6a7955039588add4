//! Files' contents in a bucket of S3, or of anything that speaks its protocol.
//!
//! - A content is an object, `PREFIX/NAME`, whose name is a [`BlobId`]. S3 shows an object when it is whole, and answers when it is durable.
//! - What is larger than a part is sent in parts (a multipart upload). One that is dropped is aborted; one that a crash has left is found and aborted when its
//!   content is deleted.
//! - Requests are signed in their URLs (SigV4), bodies are not: what keeps them whole is TLS.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod request;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use xpush_core::ports::blobs::{BlobId, Blobs, Content, Opened, Upload};
use xpush_core::ports::{Done, PortError};

use request::Bucket;
use upload::Writing;

/// How a bucket is reached. Not `Debug`: it holds a secret.
#[derive(Clone)]
pub struct Options {
    /// `https://s3.eu-central-1.amazonaws.com`, without the bucket.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// Which region signatures are for.
    pub region: String,
    /// Who asks.
    pub access_key: String,
    /// What signatures are made with.
    pub secret_key: String,
    /// What objects' names begin with, up to a `/`.
    pub prefix: String,
    /// The bucket stands in the path of URLs, not in front of the host's name.
    pub in_path: bool,
}

/// [`Blobs`] in a bucket. The work is done on a runtime.
pub struct S3Blobs {
    bucket: Arc<Bucket>,
    runtime: Handle,
}

struct Reading {
    /// `None` at the end.
    response: Arc<Mutex<Option<Response>>>,
    runtime: Handle,
}

impl S3Blobs {
    /// In the bucket that `options` name, if they can be used; whether it is there turns out with the first request.
    pub fn open(options: &Options, runtime: Handle) -> Result<Self, String> {
        Ok(Self { bucket: Arc::new(Bucket::new(options)?), runtime })
    }

    /// Whether the bucket can be reached, and answers to these keys.
    pub async fn check(&self) -> Result<(), PortError> {
        self.bucket.unfinished("?").await.map(drop)
    }
}

impl Blobs for S3Blobs {
    fn create(&self, id: &BlobId, largest: u64, done: Done<Box<dyn Upload>>) {
        let name = self.bucket.name(id);
        done(Ok(Box::new(Writing::new(self.bucket.clone(), name, largest, self.runtime.clone()))));
    }

    fn open(&self, id: &BlobId, range: Range<u64>, done: Done<Option<Opened>>) {
        let (bucket, name, runtime) = (self.bucket.clone(), self.bucket.name(id), self.runtime.clone());
        self.runtime.spawn(async move { done(open(&bucket, &name, range, runtime).await) });
    }

    fn delete(&self, id: &BlobId, done: Done<()>) {
        let (bucket, name) = (self.bucket.clone(), self.bucket.name(id));
        self.runtime.spawn(async move { done(delete(&bucket, &name).await) });
    }
}

async fn open(
    bucket: &Bucket,
    name: &str,
    range: Range<u64>,
    runtime: Handle,
) -> Result<Option<Opened>, PortError> {
    if !range.is_empty()
        && let Some(response) = bucket.get(name, &range).await?
    {
        let size = match response.status() {
            StatusCode::PARTIAL_CONTENT => whole_size(&response),
            _ => response.content_length(),
        };
        if let Some(size) = size {
            let response = Arc::new(Mutex::new(Some(response)));
            return Ok(Some(Opened { size, content: Box::new(Reading { response, runtime }) }));
        }
    }
    // It has no such bytes, or is not there.
    let size = bucket.size(name).await?;
    let empty = || Box::new(Reading { response: Arc::default(), runtime });
    Ok(size.map(|size| Opened { size, content: empty() }))
}

/// What comes first is the object: whoever asks again finds the uploads.
async fn delete(bucket: &Bucket, name: &str) -> Result<(), PortError> {
    bucket.delete(name).await?;
    for upload in bucket.unfinished(name).await? {
        bucket.abort(name, &upload).await?;
    }
    Ok(())
}

/// `bytes 0-9/1234` (RFC 9110, 14.4).
fn whole_size(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

impl Content for Reading {
    fn read(&mut self, done: Done<Option<Bytes>>) {
        let response = self.response.clone();
        self.runtime.spawn(async move {
            let mut response = response.lock().await;
            let Some(reading) = response.as_mut() else { return done(Ok(None)) };
            loop {
                match reading.chunk().await.map_err(request::failed) {
                    Ok(Some(chunk)) if chunk.is_empty() => {}
                    Ok(None) => {
                        *response = None;
                        return done(Ok(None));
                    }
                    chunk => return done(chunk),
                }
            }
        });
    }
}
