//! Images, decoded and written anew: what is in the new file is what was seen, and nothing else. Where and when it was taken, by which camera, and whatever was hidden
//! in it or hung behind it, is gone.

use std::io::{self, Cursor, Write};

use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    AnimationDecoder as _, DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};
use serde::{Deserialize, Serialize};
use xpush_core::{Code, Problem};

/// Pixels of a thumbnail's longer side.
const THUMBNAIL: u32 = 320;

/// Of JPEG, 1 to 100: what is lost by writing it once more is hardly seen.
const QUALITY: u8 = 88;

/// Pictures of an animation.
const MOST_FRAMES: usize = 1_000;

/// A colour profile that is kept: real ones of cameras and screens have less.
const LARGEST_PROFILE: usize = 4_096;

/// Bytes of an image that was written anew: a small one can hold much that is written at length.
pub(crate) const LARGEST: usize = 64_000_000;

/// As what an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Written {
    Jpeg,
    Png,
    Gif,
}

/// What is known of an image that was written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) written: Written,
    /// In pixels.
    pub(crate) width: u32,
    /// In pixels.
    pub(crate) height: u32,
    /// In bytes.
    pub(crate) size: u64,
}

/// An image that was written anew, with its thumbnail.
pub(crate) struct Picture {
    pub(crate) shape: Shape,
    pub(crate) bytes: Vec<u8>,
    pub(crate) small: Shape,
    pub(crate) thumbnail: Vec<u8>,
}

/// Why an image is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flaw {
    Damaged,
    /// Or none.
    TooManyPixels,
    /// Of an animation.
    TooManyPictures,
    /// When it is written anew.
    TooManyBytes,
}

impl Written {
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
        }
    }

    /// What files of this type end with, the usual one first.
    pub(crate) const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Self::Png => &["png"],
            Self::Gif => &["gif"],
        }
    }
}

impl From<Flaw> for Problem {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Damaged => Self::new(Code::BadImage, "the image is damaged"),
            Flaw::TooManyPixels => {
                Self::new(Code::BadImage, "the image has more pixels than the server looks at")
            }
            Flaw::TooManyPictures => {
                Self::new(Code::BadImage, "the animation has more pictures than the server looks at")
            }
            Flaw::TooManyBytes => Self::new(Code::TooLarge, "the image is too large when it is written anew"),
        }
    }
}

/// Decodes an image of at most `most` pixels, and writes it anew.
pub(crate) fn develop(bytes: &[u8], format: ImageFormat, most: u64) -> Result<Picture, Flaw> {
    let (image, profile) = decode(bytes, format, most)?;
    let (width, height) = (image.width(), image.height());
    let small = image.thumbnail(THUMBNAIL.min(width), THUMBNAIL.min(height));
    let (thumbnail, as_what) = encode(&small, profile.as_deref())?;
    let small = Shape {
        written: as_what,
        width: small.width(),
        height: small.height(),
        size: thumbnail.len() as u64,
    };
    let animation = if format == ImageFormat::Gif { animation(bytes, most)? } else { None };
    let (bytes, written) = match animation {
        Some(bytes) => (bytes, Written::Gif),
        // PNG is what drawings and screens are, and stays what it is; everything else is a photograph unless something shows through.
        None if matches!(format, ImageFormat::Png | ImageFormat::Gif) => as_png(&image, profile.as_deref())?,
        None => encode(&image, profile.as_deref())?,
    };
    Ok(Picture { shape: Shape { written, width, height, size: bytes.len() as u64 }, bytes, small, thumbnail })
}

/// The image upright, and its colour profile. Its size is looked at before anything is decoded.
fn decode(bytes: &[u8], format: ImageFormat, most: u64) -> Result<(DynamicImage, Option<Vec<u8>>), Flaw> {
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
fn animation(bytes: &[u8], most: u64) -> Result<Option<Vec<u8>>, Flaw> {
    let decoder = || {
        let mut decoder = GifDecoder::new(Cursor::new(bytes))?;
        decoder.set_limits(limits(most))?;
        Ok(decoder)
    };
    if decoder().map_err(|error| damaged(&error))?.into_frames().take(2).filter(Result::is_ok).count() < 2 {
        return Ok(None);
    }
    let mut written = Bounded::default();
    let mut encoder = GifEncoder::new_with_speed(&mut written, 30);
    encoder.set_repeat(Repeat::Infinite).map_err(|error| damaged(&error))?;
    let mut pixels = 0_u64;
    for (number, frame) in decoder().map_err(|error| damaged(&error))?.into_frames().enumerate() {
        let frame = frame.map_err(|error| damaged(&error))?;
        pixels += u64::from(frame.buffer().width()) * u64::from(frame.buffer().height());
        if number >= MOST_FRAMES || pixels > most.saturating_mul(16) {
            return Err(Flaw::TooManyPictures);
        }
        encoder.encode_frame(frame).map_err(|error| damaged(&error))?;
    }
    drop(encoder);
    Ok(Some(written.0))
}

/// As JPEG, and as PNG when something shows through.
fn encode(image: &DynamicImage, profile: Option<&[u8]>) -> Result<(Vec<u8>, Written), Flaw> {
    if image.color().has_alpha() && shows_through(image) {
        return as_png(image, profile);
    }
    let mut bytes = Bounded::default();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    if let Some(profile) = profile.filter(|_| image.color().has_color()) {
        let _ = encoder.set_icc_profile(profile.to_vec());
    }
    let written = match image {
        DynamicImage::ImageLuma8(grey) => grey.write_with_encoder(encoder),
        other => other.to_rgb8().write_with_encoder(encoder),
    };
    written.map_err(|error| damaged(&error))?;
    Ok((bytes.0, Written::Jpeg))
}

fn as_png(image: &DynamicImage, profile: Option<&[u8]>) -> Result<(Vec<u8>, Written), Flaw> {
    let mut bytes = Bounded::default();
    let mut encoder = PngEncoder::new(&mut bytes);
    if let Some(profile) = profile {
        let _ = encoder.set_icc_profile(profile.to_vec());
    }
    image.write_with_encoder(encoder).map_err(|error| damaged(&error))?;
    Ok((bytes.0, Written::Png))
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

fn bounded(width: u32, height: u32, most: u64) -> Result<(), Flaw> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > most {
        return Err(Flaw::TooManyPixels);
    }
    Ok(())
}

/// ICC.1:2022, 7.2: its length, and `acsp` at its place.
fn is_profile(profile: &[u8]) -> bool {
    profile.len() <= LARGEST_PROFILE
        && profile.get(36..40) == Some(b"acsp")
        && profile.first_chunk().is_some_and(|size| u32::from_be_bytes(*size) as usize == profile.len())
}

fn damaged(error: &image::ImageError) -> Flaw {
    match error {
        image::ImageError::Limits(_) => Flaw::TooManyPixels,
        image::ImageError::IoError(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Flaw::TooManyBytes
        }
        _ => Flaw::Damaged,
    }
}

/// What is written, of [`LARGEST`] bytes at most.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
