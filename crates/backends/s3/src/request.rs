//! What S3 is asked, one request a method.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ETAG, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use rusty_s3::{Credentials, S3Action, UrlStyle};
use xpush_core::ports::blobs::BlobId;
use xpush_core::ports::{Failure, PortError};

use super::Options;

/// For how long a signature is good: longer than any request takes, and clocks differ.
const GOOD_FOR: Duration = Duration::from_secs(900);

/// Until a request is answered, a part of 8 MiB included.
const PATIENCE: Duration = Duration::from_secs(60);

const CONNECT: Duration = Duration::from_secs(5);

/// How often something is asked that may be asked again.
const TRIES: u32 = 3;

/// Bytes of an answer that is not a content.
const LARGEST_ANSWER: usize = 1 << 20;

/// A bucket, and who asks it.
pub(crate) struct Bucket {
    client: Client,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    prefix: String,
}

impl Bucket {
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let endpoint = Url::parse(&options.endpoint).map_err(|error| format!("the endpoint: {error}"))?;
        let style = if options.in_path { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(endpoint, style, options.bucket.clone(), options.region.clone())
            .map_err(|error| format!("the bucket: {error}"))?;
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("xpush/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let credentials = Credentials::new(&options.access_key, &options.secret_key);
        Ok(Self { client, bucket, credentials, prefix: options.prefix.trim_matches('/').to_owned() })
    }

    /// The object of a content.
    pub(crate) fn name(&self, id: &BlobId) -> String {
        match &*self.prefix {
            "" => id.to_string(),
            prefix => format!("{prefix}/{id}"),
        }
    }

    /// Bytes of an object; `None` when it is not there, or has no such bytes. The caller reads it as slowly as it likes.
    pub(crate) async fn get(&self, name: &str, range: &Range<u64>) -> Result<Option<Response>, PortError> {
        let url = self.bucket.get_object(Some(&self.credentials), name).sign(GOOD_FOR);
        let range = format!("bytes={}-{}", range.start, range.end - 1);
        let answer = self.again(|| self.client.get(url.clone()).header(RANGE, &range)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            _ => good(answer).await.map(Some),
        }
    }

    /// Bytes of an object, if it is there.
    pub(crate) async fn size(&self, name: &str) -> Result<Option<u64>, PortError> {
        let url = self.bucket.head_object(Some(&self.credentials), name).sign(GOOD_FOR);
        let answer = self.again(|| self.client.head(url.clone()).timeout(PATIENCE)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            // The length of what is not sent stands in the headers alone.
            _ => {
                let answer = good(answer).await?;
                let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok());
                length.and_then(|length| length.parse().ok()).map(Some).ok_or_else(|| odd("no length"))
            }
        }
    }

    pub(crate) async fn put(&self, name: &str, body: Bytes) -> Result<(), PortError> {
        let url = self.bucket.put_object(Some(&self.credentials), name).sign(GOOD_FOR);
        let put = || self.client.put(url.clone()).timeout(PATIENCE).body(body.clone());
        good(self.again(put).await?).await.map(drop)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), PortError> {
        let url = self.bucket.delete_object(Some(&self.credentials), name).sign(GOOD_FOR);
        let answer = self.again(|| self.client.delete(url.clone()).timeout(PATIENCE)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            _ => good(answer).await.map(drop),
        }
    }

    /// Begins an upload in parts; its id.
    pub(crate) async fn begin(&self, name: &str) -> Result<String, PortError> {
        let url = self.bucket.create_multipart_upload(Some(&self.credentials), name).sign(GOOD_FOR);
        let answer = self.again(|| self.client.post(url.clone()).timeout(PATIENCE)).await?;
        let text = text(good(answer).await?).await?;
        let begun = CreateMultipartUpload::parse_response(&text).map_err(|_| odd("no upload"))?;
        Ok(begun.upload_id().to_owned())
    }

    /// Sends a part, the first one is 1; its tag.
    pub(crate) async fn part(
        &self,
        name: &str,
        upload: &str,
        number: u16,
        body: Bytes,
    ) -> Result<String, PortError> {
        let url = self.bucket.upload_part(Some(&self.credentials), name, number, upload).sign(GOOD_FOR);
        let put = || self.client.put(url.clone()).timeout(PATIENCE).body(body.clone());
        let answer = good(self.again(put).await?).await?;
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        tag.map(str::to_owned).ok_or_else(|| odd("a part without a tag"))
    }

    /// Joins the parts with these tags. Not asked again: whether it has happened is not known when it was not answered.
    pub(crate) async fn complete(&self, name: &str, upload: &str, tags: &[String]) -> Result<(), PortError> {
        let tags = tags.iter().map(String::as_str);
        let complete = self.bucket.complete_multipart_upload(Some(&self.credentials), name, upload, tags);
        let url = complete.sign(GOOD_FOR);
        let request = self.client.post(url).timeout(PATIENCE).body(complete.body());
        let unknown = |error: PortError| PortError { kind: Failure::Unknown, ..error };
        let answer = request.send().await.map_err(failed).map_err(unknown)?;
        let text = text(good(answer).await?).await.map_err(unknown)?;
        // An answer that takes long begins with 200, whatever comes of it.
        CompleteMultipartUploadResponse::parse(&text).map(drop).map_err(|_| odd(code(&text)))
    }

    pub(crate) async fn abort(&self, name: &str, upload: &str) -> Result<(), PortError> {
        let url = self.bucket.abort_multipart_upload(Some(&self.credentials), name, upload).sign(GOOD_FOR);
        let answer = self.again(|| self.client.delete(url.clone()).timeout(PATIENCE)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            _ => good(answer).await.map(drop),
        }
    }

    /// Uploads in parts of this very object that were begun and not ended (ListMultipartUploads).
    pub(crate) async fn unfinished(&self, name: &str) -> Result<Vec<String>, PortError> {
        // The bucket itself is what has no name in it.
        let mut list = self.bucket.get_object(Some(&self.credentials), "");
        list.query_mut().insert("uploads", "");
        list.query_mut().insert("prefix", name.to_owned());
        let url = list.sign(GOOD_FOR);
        let answer = self.again(|| self.client.get(url.clone()).timeout(PATIENCE)).await?;
        let text = text(good(answer).await?).await?;
        Ok(uploads(&text, name))
    }

    /// Asks, and asks again when nobody answers or the server has trouble.
    async fn again(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, PortError> {
        let mut tries = 1;
        loop {
            let answer = request().send().await;
            let trouble = answer.as_ref().map_or(true, |answer| answer.status().is_server_error());
            if !trouble || tries == TRIES {
                return answer.map_err(failed);
            }
            tokio::time::sleep(Duration::from_millis(200 << tries)).await;
            tries += 1;
        }
    }
}

/// The answer, when it is one; else what went wrong.
async fn good(answer: Response) -> Result<Response, PortError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = text(answer).await.unwrap_or_default();
    let code = code(&text);
    let kind = match (status.as_u16(), code) {
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "EntityTooLarge") => Failure::Full,
        (429 | 503, _) => Failure::Overloaded,
        _ => Failure::NotApplied,
    };
    Err(PortError::new(kind, format!("S3 answered with {status} {code}")))
}

/// An answer's text, as far as it is looked at.
async fn text(mut answer: Response) -> Result<String, PortError> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if text.len() + chunk.len() > LARGEST_ANSWER {
            return Err(odd("a very long answer"));
        }
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).map_err(|_| odd("no text"))
}

/// The error's name in an answer; nothing else of it, as it may repeat what was asked.
fn code(answer: &str) -> &str {
    let code = within(answer, "Code").unwrap_or_default();
    if code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) { code } else { "" }
}

/// The ids of an object's uploads in a ListMultipartUploadsResult.
fn uploads(answer: &str, name: &str) -> Vec<String> {
    let uploads = answer.split("<Upload>").skip(1);
    let own = uploads.filter(|upload| within(upload, "Key") == Some(name));
    own.filter_map(|upload| within(upload, "UploadId").map(unescaped)).collect()
}

fn within<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>")).map(|(content, _)| content)
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

fn odd(what: &str) -> PortError {
    PortError::new(Failure::NotApplied, format!("S3 has given an odd answer: {what}"))
}

/// Without its URL, which holds a signature.
pub(crate) fn failed(error: reqwest::Error) -> PortError {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    PortError::new(Failure::NotApplied, format!("S3 cannot be reached: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_of_other_objects_are_not_ours() {
        let answer = "<ListMultipartUploadsResult><Bucket>b</Bucket><Prefix>a</Prefix>\
            <Upload><Key>a</Key><UploadId>x&amp;y</UploadId></Upload>\
            <Upload><Key>ab</Key><UploadId>other</UploadId></Upload>\
            <Upload><UploadId>z</UploadId><Key>a</Key></Upload></ListMultipartUploadsResult>";
        assert_eq!(uploads(answer, "a"), ["x&y", "z"]);
        assert!(uploads("", "a").is_empty() && uploads("<Upload><Key>a</Key>", "a").is_empty());
    }

    #[test]
    fn of_an_error_only_its_name_is_told() {
        assert_eq!(
            code("<Error><Code>AccessDenied</Code><Message>key AKIA</Message></Error>"),
            "AccessDenied"
        );
        assert_eq!((code("<Code>a b</Code>"), code("nonsense")), ("", ""));
    }
}
