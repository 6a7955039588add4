//! The port's contract, over two handles on one bucket of a real server.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use tokio::runtime::Runtime;
use xpush_core::ports::Failure;
use xpush_core::ports::blobs::Blobs;
use xpush_s3::{Options, S3Blobs};
use xpush_testkit::service::s3::S3;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::blobs::BlobStore;
use xpush_testkit::suite::blobs::content::{blob, read, write};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn options(server: &S3) -> Options {
    Options {
        endpoint: server.endpoint(),
        bucket: S3::BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        access_key: S3::ACCESS_KEY.to_owned(),
        secret_key: S3::SECRET_KEY.to_owned(),
        prefix: "files/".to_owned(),
        in_path: true,
    }
}

fn open(options: &Options) -> Arc<S3Blobs> {
    Arc::new(S3Blobs::open(options, RUNTIME.handle().clone()).unwrap())
}

fn fixture() -> BlobStore {
    let server = S3::start();
    let options = options(&server);
    let handles: [Arc<dyn Blobs>; 2] = [open(&options), open(&options)];
    BlobStore { handles, kept: Box::new(move || server.kept("files")) }
}

xpush_testkit::blobs_suite!(fixture);

#[test]
fn a_wrong_key_is_told_without_what_was_shown() {
    let server = S3::start();
    let wrong = open(&Options { secret_key: "another secret".to_owned(), ..options(&server) });
    let refused = write(&*wrong, &blob(1), &[b"x"]).unwrap_err();
    assert_eq!(refused.kind, Failure::NotApplied);
    assert!(refused.detail.contains("SignatureDoesNotMatch"), "{refused}");
    assert!(!refused.detail.contains("X-Amz") && !refused.detail.contains(S3::ACCESS_KEY), "{refused}");
    assert!(RUNTIME.block_on(wrong.check()).is_err());
    assert_eq!(RUNTIME.block_on(open(&options(&server)).check()), Ok(()));
}

#[test]
fn a_server_that_is_gone_is_told() {
    let server = S3::start();
    let blobs = open(&options(&server));
    write(&*blobs, &blob(1), &[b"kept"]).unwrap();
    assert_eq!(read(&*blobs, &blob(1), 0..9).as_deref(), Some(&b"kept"[..]));
    drop(server);
    let gone = answer(|done| blobs.open(&blob(1), 0..9, done)).err().map(|error| error.kind);
    assert_eq!(gone, Some(Failure::NotApplied));
}
