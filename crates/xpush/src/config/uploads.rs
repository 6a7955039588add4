//! `[files]`, `[s3]` and `[[apps.NAME.files]]`: what may be uploaded, and where it is kept.

use std::path::{Path, PathBuf};

use xpush_core::files::FileRule;

use super::rules::pattern;
use super::section::{Reading, Section};
use super::shared::Hidden;
use super::tree::Place;
use super::values::{boolean, count, duration, shortened, size, text};

/// Bytes of one file, when nothing is said; and at most, as S3 takes no more in parts of the size that we send.
const SIZE: u64 = 25_000_000;
const LARGEST: u64 = 80_000_000_000;
/// Rules of an app.
const MOST: usize = 64;
const DAY: u64 = 86_400_000;

/// What holds for all files.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    /// Where contents are kept; `None`: `files` in the data folder.
    pub(crate) folder: Option<PathBuf>,
    /// Several servers have that folder.
    pub(crate) folder_is_shared: bool,
    /// Bytes that files leave to others on the disk.
    pub(crate) keep_free: u64,
    /// At the same time.
    pub(crate) at_once: usize,
    /// Pixels of an image.
    pub(crate) image_pixels: u64,
    /// Instead of a folder.
    pub(crate) s3: Option<S3>,
}

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    pub(crate) endpoint: Box<str>,
    pub(crate) bucket: Box<str>,
    pub(crate) region: Box<str>,
    pub(crate) access_key: Box<str>,
    pub(crate) secret_key: Hidden,
    pub(crate) prefix: Box<str>,
    /// The bucket's name is in the path.
    pub(crate) in_path: bool,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            folder: None,
            folder_is_shared: false,
            keep_free: 1_000_000_000,
            at_once: 64,
            image_pixels: 50_000_000,
            s3: None,
        }
    }
}

impl Uploads {
    /// The folder of files' contents, where they are in one.
    pub(crate) fn folder_in(&self, data_dir: &Path) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| data_dir.join("files"))
    }

    /// Reads `[files]` and `[s3]`.
    pub(super) fn read([mut files, s3]: [Section<'_>; 2], several_servers: bool) -> Self {
        let usual = Self::default();
        let at_once = files.read("uploads", count(1..=10_000));
        let uploads = Self {
            folder: files.folder("folder"),
            folder_is_shared: files.read("folder_is_shared", boolean).unwrap_or(false),
            keep_free: files.read("keep_free", size(0..=1 << 60)).unwrap_or(usual.keep_free),
            at_once: at_once.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual.at_once),
            image_pixels: files
                .read("image_pixels", count(1_000_000..=500_000_000))
                .unwrap_or(usual.image_pixels),
            s3: S3::read(s3),
        };
        if several_servers && uploads.s3.is_none() && !uploads.folder_is_shared {
            files.complain(
                "folder",
                "is on this server alone, and the others would not find what is in it: name a bucket in [s3], or say `folder_is_shared = true` if it is the same folder on every server",
            );
        }
        if uploads.folder_is_shared && uploads.folder.is_none() {
            files.complain(
                "folder_is_shared",
                "needs `files.folder` beside it: the data folder is each server's own",
            );
        }
        files.finish();
        uploads
    }
}

impl S3 {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let endpoint = section.read("endpoint", |value| endpoint(&text(value)?));
        let bucket = section.read("bucket", |value| bucket(&text(value)?));
        let region = section.read("region", |value| filled(&text(value)?));
        let access_key = section.read("access_key", |value| filled(&text(value)?));
        let secret_key = section.file("secret_key_file").map(Hidden::from);
        let prefix = section.read("prefix", |value| prefix(&text(value)?));
        let in_path = section.read("path_style", boolean).unwrap_or(true);
        let needed = ["endpoint", "bucket", "access_key", "secret_key_file"];
        let missing: Vec<_> = needed.iter().filter(|key| section.place(key).is_none()).collect();
        if missing.len() < needed.len() {
            for key in &missing {
                let given =
                    needed.iter().find(|key| section.place(key).is_some()).copied().unwrap_or_default();
                section.complain(given, &format!("needs `{}` beside it", section.name(key)));
            }
        }
        section.finish();
        Some(Self {
            endpoint: endpoint?,
            bucket: bucket?,
            region: region.unwrap_or_else(|| "us-east-1".into()),
            access_key: access_key?,
            secret_key: secret_key?,
            prefix: prefix.unwrap_or_else(|| "xpush".into()),
            in_path,
        })
    }
}

/// Reads an app's rules for files, in their order.
pub(super) fn read_files(given: Vec<(&Place, Section<'_>)>, reading: &Reading) -> Vec<FileRule> {
    let mut rules: Vec<FileRule> = Vec::new();
    for (place, mut section) in given {
        let channels = section.read("channels", |value| pattern(&text(value)?));
        if section.place("channels").is_none() {
            reading
                .complain(place, "must say into which `channels` files may be uploaded, such as \"chat:*\"");
        }
        let rule = FileRule {
            channels: channels.unwrap_or_default(),
            size: section.read("size", size(1..=LARGEST)).unwrap_or(SIZE),
            types: section.list("types", media_type).unwrap_or_else(|| vec!["*/*".into()]),
            keep_ms: section.read("keep", duration(60_000..=36_500 * DAY)),
            per_day: section.read("per_day", size(1..=1 << 50)),
        };
        section.finish();
        if rules.len() == MOST {
            reading.complain(place, format!("is one too many: an app has at most {MOST} rules for files"));
        }
        if !rule.channels.is_empty() {
            rules.push(rule);
        }
    }
    rules
}

/// `image/png`, `image/*`, `*/*`.
fn media_type(text: &str) -> Result<Box<str>, String> {
    let word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let good = match text.split_once('/') {
        Some(("*", "*")) => true,
        Some((first, "*")) => word(first),
        Some((first, second)) => word(first) && word(second),
        None => false,
    };
    if good {
        return Ok(text.to_ascii_lowercase().into());
    }
    Err(format!(
        "must be a media type such as \"image/png\", \"image/*\" or \"*/*\", not \"{}\"",
        shortened(text)
    ))
}

fn filled(text: &str) -> Result<Box<str>, String> {
    match text.trim() {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.into()),
    }
}

fn endpoint(text: &str) -> Result<Box<str>, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(rest) if xpush_session::is_authority(rest) => Ok(text.into()),
        _ => Err(format!(
            "must be a URL such as \"https://s3.eu-central-1.amazonaws.com\", not \"{}\"",
            shortened(text)
        )),
    }
}

fn bucket(text: &str) -> Result<Box<str>, String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if (3..=63).contains(&text.len()) && text.bytes().all(good) {
        return Ok(text.into());
    }
    Err(format!("must be a bucket's name: 3 to 63 of a-z 0-9 - . and not \"{}\"", shortened(text)))
}

fn prefix(text: &str) -> Result<Box<str>, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    if text.len() <= 128 && text.bytes().all(good) {
        return Ok(text.trim_matches('/').into());
    }
    Err(format!("must be up to 128 of a-z A-Z 0-9 - _ /, not \"{}\"", shortened(text)))
}
