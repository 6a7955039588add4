use super::*;

use image::{Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

const MOST: u64 = 1_000_000;

/// Red on the left, blue on the right.
fn two_halves(width: u32, height: u32) -> DynamicImage {
    let colour = |x, _| if x < width / 2 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) };
    RgbImage::from_fn(width, height, colour).into()
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// A JPEG with EXIF: this orientation, and a place in words.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x02".to_vec();
    tiff.extend([1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    // ImageDescription, in words.
    tiff.extend([1, 0x0e, 0, 2, 0, 0, 0, 16, 0, 0, 0, 38, 0, 0, 0, 0]);
    tiff.extend(b"GPS 48.858 2.294");
    let length = u16::try_from(tiff.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
}

fn loaded(bytes: &[u8]) -> RgbaImage {
    image::load_from_memory(bytes).unwrap().to_rgba8()
}

fn is_red(image: &RgbaImage, x: u32, y: u32) -> bool {
    let Rgba([red, _, blue, _]) = *image.get_pixel(x, y);
    red > 150 && blue < 100
}

#[test]
fn a_photograph_is_upright_and_says_nothing_of_where_it_was_taken() {
    let camera = with_exif(&written(&two_halves(640, 320), ImageFormat::Jpeg), 6);
    assert!(camera.windows(3).any(|part| part == b"GPS"));
    let picture = develop(&camera, ImageFormat::Jpeg, MOST).unwrap();
    // A quarter turn to the right: what was left is on top.
    assert_eq!((picture.shape.width, picture.shape.height, picture.shape.written), (320, 640, Written::Jpeg));
    assert_eq!((picture.small.width, picture.small.height), (160, 320));
    for bytes in [&picture.bytes, &picture.thumbnail] {
        assert!(!bytes.windows(4).any(|part| part == b"Exif" || part == b"GPS "));
        let image = loaded(bytes);
        let (middle, below) = (image.width() / 2, image.height() - 9);
        assert!(is_red(&image, middle, 9) && !is_red(&image, middle, below));
    }
}

#[test]
fn every_format_is_taken_and_what_shows_through_still_does() {
    let glass: DynamicImage = RgbaImage::from_pixel(40, 20, Rgba([9, 9, 9, 100])).into();
    for (format, kind) in [(ImageFormat::Png, Written::Png), (ImageFormat::WebP, Written::Png)] {
        let picture = develop(&written(&glass, format), format, MOST).unwrap();
        assert_eq!(picture.shape.written, kind);
        assert_eq!(loaded(&picture.bytes).get_pixel(5, 5).0[3], 100);
        assert_eq!((picture.small.written, picture.small.width), (Written::Png, 40), "never made larger");
    }
    let opaque = two_halves(40, 20);
    for (format, kind) in [
        (ImageFormat::Png, Written::Png),
        (ImageFormat::WebP, Written::Jpeg),
        (ImageFormat::Gif, Written::Png),
        (ImageFormat::Jpeg, Written::Jpeg),
    ] {
        let picture = develop(&written(&opaque, format), format, MOST).unwrap();
        assert_eq!((picture.shape.written, picture.shape.width), (kind, 40), "{format:?}");
        assert!(is_red(&loaded(&picture.bytes), 5, 5));
    }
}

fn animated(pictures: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for number in 0..pictures {
        let frame = RgbaImage::from_pixel(10, 10, Rgba([number * 7, 0, 0, 255]));
        encoder.encode_frame(image::Frame::new(frame)).unwrap();
    }
    drop(encoder);
    bytes
}

#[test]
fn an_animation_moves_on() {
    let picture = develop(&animated(3), ImageFormat::Gif, MOST).unwrap();
    assert_eq!(picture.shape.written, Written::Gif);
    let frames = GifDecoder::new(Cursor::new(&picture.bytes)).unwrap().into_frames();
    assert_eq!(frames.filter(Result::is_ok).count(), 3);
    let refused = |pictures, most| develop(&animated(pictures), ImageFormat::Gif, most).map(|_| ()).err();
    assert_eq!(refused(3, 99), Some(Flaw::TooManyPixels));
    assert_eq!((refused(32, 200), refused(33, 200)), (None, Some(Flaw::TooManyPictures)));
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    // A PNG that says it has 65,000 × 65,000 pixels, with next to nothing in it.
    let mut bomb = written(&two_halves(2, 2), ImageFormat::Png);
    bomb[16..20].copy_from_slice(&65_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&65_000_u32.to_be_bytes());
    // Its checksum is right.
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(develop(&bomb, ImageFormat::Png, MOST).map(|_| ()).unwrap_err(), Flaw::TooManyPixels);
    let large = written(&two_halves(1_001, 1_000), ImageFormat::Gif);
    assert_eq!(develop(&large, ImageFormat::Gif, MOST).map(|_| ()).unwrap_err(), Flaw::TooManyPixels);
    assert!(develop(&large, ImageFormat::Gif, 1_001_000).is_ok());
}

/// PNG, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 },
        )
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn a_profile_is_one() {
    let mut profile = vec![0; 200];
    profile[..4].copy_from_slice(&200_u32.to_be_bytes());
    assert!(!is_profile(&profile));
    profile[36..40].copy_from_slice(b"acsp");
    assert!(is_profile(&profile) && !is_profile(&profile[..199]) && !is_profile(&[]));
}

#[test]
fn what_is_written_anew_has_an_end() {
    let mut bounded = Bounded(vec![0; LARGEST - 2]);
    assert!(bounded.write_all(b"12").is_ok());
    let error = image::ImageError::IoError(bounded.write_all(b"3").unwrap_err());
    assert_eq!(damaged(&error), Flaw::TooManyBytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_images_are_refused_or_read(cut in 0..2_000_usize, at in 0..2_000_usize, byte in any::<u8>(), which in 0..4_usize) {
        let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP][which];
        let mut bytes = written(&two_halves(30, 20), format);
        bytes.truncate(cut.max(1));
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = develop(&bytes, format, MOST);
    }
}
