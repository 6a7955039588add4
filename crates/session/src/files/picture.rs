//! Images, decoded and written anew: what is in the new file is what was seen, and nothing else. Where and when it was taken, by which camera, and whatever was hidden
//! in it or hung behind it, is gone.

use std::io::Cursor;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    AnimationDecoder as _, DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};
use tokio::sync::oneshot;
use xpush_core::{Code, Problem};

/// Pixels of a thumbnail's longer side.
const THUMBNAIL: u32 = 320;

/// Of JPEG, 1 to 100: what is lost by writing it once more is hardly seen.
const QUALITY: u8 = 88;

/// Pictures of an animation.
const MOST_FRAMES: usize = 1_000;

/// A colour profile that is kept: real ones of cameras and screens have less.
const LARGEST_PROFILE: usize = 4_096;

/// An image that was written anew, with its thumbnail.
pub(crate) struct Picture {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: &'static str,
    /// What a file of this type ends with.
    pub(crate) ending: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) thumbnail: Vec<u8>,
    pub(crate) thumbnail_kind: &'static str,
    pub(crate) thumbnail_width: u32,
    pub(crate) thumbnail_height: u32,
}

type Work = Box<dyn FnOnce() + Send>;

/// One thread of the lowest priority that does this, one image at a time.
pub(crate) struct Studio {
    queue: SyncSender<Work>,
    /// Pixels that an image may have.
    most: u64,
}

impl Studio {
    pub(crate) fn start(most: u64) -> std::io::Result<Self> {
        // Who sends waits for a permit before: see `Filing`.
        let (queue, work) = sync_channel(1);
        thread::Builder::new().name("images".to_owned()).spawn(move || run(&work))?;
        Ok(Self { queue, most })
    }

    pub(crate) async fn develop(&self, bytes: Vec<u8>, format: ImageFormat) -> Result<Picture, Problem> {
        let (answer, answered) = oneshot::channel();
        let most = self.most;
        let work = move || {
            if !answer.is_closed() {
                drop(answer.send(develop(&bytes, format, most)));
            }
        };
        self.queue.try_send(Box::new(work)).map_err(|_| Code::Overloaded)?;
        answered.await.map_err(|_| Code::Internal)?
    }
}

fn run(work: &Receiver<Work>) {
    // On Linux this is about the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "cannot lower the priority of the images' thread");
    }
    while let Ok(work) = work.recv() {
        work();
    }
}

/// Decodes an image of at most `most` pixels, and writes it anew.
pub(crate) fn develop(bytes: &[u8], format: ImageFormat, most: u64) -> Result<Picture, Problem> {
    let (image, profile) = decode(bytes, format, most)?;
    let small = image.thumbnail(THUMBNAIL.min(image.width()), THUMBNAIL.min(image.height()));
    let (thumbnail, thumbnail_kind, _) = encode(&small, profile.as_deref())?;
    let animation = if format == ImageFormat::Gif { animation(bytes, most)? } else { None };
    let (bytes, kind, ending) = match animation {
        Some(bytes) => (bytes, "image/gif", "gif"),
        // PNG is what drawings and screens are, and stays what it is; everything else is a photograph unless something shows through.
        None if matches!(format, ImageFormat::Png | ImageFormat::Gif) => as_png(&image, profile.as_deref())?,
        None => encode(&image, profile.as_deref())?,
    };
    Ok(Picture {
        bytes,
        kind,
        ending,
        width: image.width(),
        height: image.height(),
        thumbnail,
        thumbnail_kind,
        thumbnail_width: small.width(),
        thumbnail_height: small.height(),
    })
}

/// The image upright, and its colour profile. Its size is looked at before anything is decoded.
fn decode(bytes: &[u8], format: ImageFormat, most: u64) -> Result<(DynamicImage, Option<Vec<u8>>), Problem> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(most));
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions();
    bounded(width, height, most)?;
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| is_profile(profile));
    let orientation = decoder.orientation().map_err(|error| damaged(&error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    image.apply_orientation(orientation);
    Ok((image, profile))
}

/// All pictures of a GIF, if there are several: each is decoded, written and forgotten before the next one. Together they have no more than 16 times the pixels of one image.
fn animation(bytes: &[u8], most: u64) -> Result<Option<Vec<u8>>, Problem> {
    let decoder = || {
        let mut decoder = GifDecoder::new(Cursor::new(bytes))?;
        decoder.set_limits(limits(most))?;
        Ok(decoder)
    };
    if decoder().map_err(|error| damaged(&error))?.into_frames().take(2).filter(Result::is_ok).count() < 2 {
        return Ok(None);
    }
    let mut written = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut written, 30);
    encoder.set_repeat(Repeat::Infinite).map_err(|error| damaged(&error))?;
    let mut pixels = 0_u64;
    for (number, frame) in decoder().map_err(|error| damaged(&error))?.into_frames().enumerate() {
        let frame = frame.map_err(|error| damaged(&error))?;
        pixels += u64::from(frame.buffer().width()) * u64::from(frame.buffer().height());
        if number >= MOST_FRAMES || pixels > most.saturating_mul(16) {
            return Err(Problem::new(
                Code::BadImage,
                "the animation has more pictures than the server looks at",
            ));
        }
        encoder.encode_frame(frame).map_err(|error| damaged(&error))?;
    }
    drop(encoder);
    Ok(Some(written))
}

/// As JPEG, and as PNG when something shows through.
fn encode(
    image: &DynamicImage,
    profile: Option<&[u8]>,
) -> Result<(Vec<u8>, &'static str, &'static str), Problem> {
    if image.color().has_alpha() && shows_through(image) {
        return as_png(image, profile);
    }
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    if let Some(profile) = profile.filter(|_| image.color().has_color()) {
        let _ = encoder.set_icc_profile(profile.to_vec());
    }
    let written = match image {
        DynamicImage::ImageLuma8(grey) => grey.write_with_encoder(encoder),
        other => other.to_rgb8().write_with_encoder(encoder),
    };
    written.map_err(|error| damaged(&error))?;
    Ok((bytes, "image/jpeg", "jpg"))
}

fn as_png(
    image: &DynamicImage,
    profile: Option<&[u8]>,
) -> Result<(Vec<u8>, &'static str, &'static str), Problem> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    if let Some(profile) = profile {
        let _ = encoder.set_icc_profile(profile.to_vec());
    }
    image.write_with_encoder(encoder).map_err(|error| damaged(&error))?;
    Ok((bytes, "image/png", "png"))
}

fn shows_through(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] < 255),
        other => other.to_rgba8().pixels().any(|pixel| pixel.0[3] < 255),
    }
}

fn limits(most: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(65_535);
    limits.max_image_height = Some(65_535);
    // Four bytes a pixel, and what a decoder needs beside them.
    limits.max_alloc = Some(most.saturating_mul(6));
    limits
}

fn bounded(width: u32, height: u32, most: u64) -> Result<(), Problem> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > most {
        return Err(Problem::new(Code::BadImage, format!("an image has 1 to {most} pixels")));
    }
    Ok(())
}

/// ICC.1:2022, 7.2: its length, and `acsp` at its place.
fn is_profile(profile: &[u8]) -> bool {
    profile.len() <= LARGEST_PROFILE
        && profile.get(36..40) == Some(b"acsp")
        && profile.first_chunk().is_some_and(|size| u32::from_be_bytes(*size) as usize == profile.len())
}

/// What the decoder says of it may repeat what is in it.
fn damaged(error: &image::ImageError) -> Problem {
    tracing::debug!(%error, "an image cannot be read");
    match error {
        image::ImageError::Limits(_) => {
            Problem::new(Code::BadImage, "the image has more pixels than the server looks at")
        }
        _ => Problem::new(Code::BadImage, "the image is damaged"),
    }
}

#[cfg(test)]
mod tests;
