//! Images of words: black letters on white, drawn by a program, as PNG.
//!
//! Invariant: equal words and sizes give equal bytes, on every machine. A letter the font has no shape for is an error, never an
//! empty box.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use image::{GrayImage, ImageFormat, Luma};

use crate::error::{Error, Result};

/// Name and version of the program that draws, as it is recorded; a change of what is drawn changes it.
pub const PROGRAM: (&str, &str) = ("typography", "1");
/// The largest letters, as a share of the image's height.
const TALLEST: f32 = 0.4;
/// What is left free at each side, as a share of the image's width.
const MARGIN: f32 = 0.05;

fn font() -> Result<&'static FontRef<'static>> {
    static READ: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let font = READ.get_or_init(|| FontRef::try_from_slice(tracker_front::FONT).ok());
    font.as_ref().ok_or_else(|| Error::Internal("the embedded font is damaged".into()))
}

/// Draws `text` in the middle of a square of `side` pixels, in lines of as many words as fit, as large as they fit.
///
/// # Errors
/// `Input` if there is nothing to draw, or a letter has no shape in the font; `Value` for a side below 16.
pub fn draw(text: &str, side: u32) -> Result<GrayImage> {
    if side < 16 {
        return Err(Error::Value { key: "side".into(), message: format!("expected at least 16 pixels, got `{side}`") });
    }
    let font = font()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Err(Error::Input { what: "expected a text to draw, got a blank one".into(), hint: None });
    }
    if let Some(letter) = words.iter().flat_map(|word| word.chars()).find(|letter| font.glyph_id(*letter).0 == 0) {
        return Err(Error::Input {
            what: format!("`{text}` cannot be drawn: the embedded font has no shape for `{letter}`"),
            hint: Some(
                "it has Latin, Greek and Cyrillic letters; leave such answers out, or paint them (`painter.url`)"
                    .into(),
            ),
        });
    }
    let room = side as f32 * (1.0 - 2.0 * MARGIN);
    // The fewest lines whose letters are largest: one more line is taken only where it lets letters grow.
    let (scale, lines) = (1..=words.len())
        .map(|n_lines| {
            let lines = broken(&words, n_lines);
            let widest = lines.iter().map(|line| width(font, line, 1.0)).fold(f32::EPSILON, f32::max);
            let tall = (side as f32 * TALLEST).min(room / lines.len() as f32);
            ((room / widest).min(tall), lines)
        })
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .ok_or_else(|| Error::Internal("no line to draw".into()))?;
    let mut image = GrayImage::from_pixel(side, side, Luma([255]));
    let of_size = font.as_scaled(PxScale::from(scale));
    let mut baseline = (side as f32 - scale * lines.len() as f32) / 2.0 + of_size.ascent();
    for line in &lines {
        let mut left = (side as f32 - width(font, line, scale)) / 2.0;
        for letter in line.chars() {
            let id = font.glyph_id(letter);
            let glyph = id.with_scale_and_position(scale, point(left, baseline));
            left += of_size.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, cover| {
                let (x, y) = (corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y));
                let inside = u32::try_from(x).ok().zip(u32::try_from(y).ok()).filter(|(x, y)| *x < side && *y < side);
                if let Some((x, y)) = inside {
                    let Luma([ground]) = *image.get_pixel(x, y);
                    let ink = (255.0 * (1.0 - cover.clamp(0.0, 1.0))).round() as u8;
                    image.put_pixel(x, y, Luma([ground.min(ink)]));
                }
            });
        }
        baseline += scale;
    }
    Ok(image)
}

/// The image as a PNG file.
///
/// # Errors
/// `Internal` if it cannot be encoded.
pub fn png(image: &GrayImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = image.write_to(&mut bytes, ImageFormat::Png);
    written.map_err(|error| Error::Internal(format!("an image cannot be encoded: {error}")))?;
    Ok(bytes.into_inner())
}

/// Words in at most `n_lines` lines of about equal length.
fn broken(words: &[&str], n_lines: usize) -> Vec<String> {
    let n_letters: usize = words.iter().map(|word| word.chars().count() + 1).sum();
    let room = n_letters.div_ceil(n_lines);
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push((*word).to_owned()),
        }
    }
    lines
}

fn width(font: &FontRef<'_>, line: &str, scale: f32) -> f32 {
    let of_size = font.as_scaled(PxScale::from(scale));
    line.chars().map(|letter| of_size.h_advance(font.glyph_id(letter))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(image: &GrayImage) -> usize {
        image.pixels().filter(|Luma([value])| *value < 128).count()
    }

    #[test]
    fn equal_words_give_equal_bytes_and_others_do_not() {
        let png = |text: &str| png(&draw(text, 96).unwrap()).unwrap();
        assert_eq!(png("red"), png("red"));
        assert_eq!(png("New\nYork"), png("New York"));
        assert_ne!(png("red"), png("bed"));
        assert_ne!(png("4"), png("14"));
        let read = image::load_from_memory(&png("red")).unwrap();
        assert_eq!((read.width(), read.height()), (96, 96));
    }

    #[test]
    fn words_are_within_the_image_and_have_ink() {
        for text in ["4", "red", "a hippopotamus", "Nikolaus Kopernikus of Frauenburg in Warmia", "Київ"] {
            let image = draw(text, 112).unwrap();
            assert!(ink(&image) > 40, "{text}: {}", ink(&image));
            let is_edge = |x: u32, y: u32| x == 0 || y == 0 || x == 111 || y == 111;
            let at_edge = image.enumerate_pixels().filter(|(x, y, Luma([v]))| is_edge(*x, *y) && *v < 128).count();
            assert_eq!(at_edge, 0, "{text}");
        }
    }

    #[test]
    fn long_texts_are_broken_so_that_letters_stay_large() {
        assert_eq!(broken(&["a", "b", "c"], 1), ["a b c"]);
        assert_eq!(broken(&["aaaa", "bbbb", "cc"], 2), ["aaaa", "bbbb cc"]);
        let tall = |text: &str| {
            let image = draw(text, 200).unwrap();
            let rows: Vec<u32> =
                image.enumerate_pixels().filter(|(.., Luma([v]))| *v < 128).map(|(_, y, _)| y).collect();
            rows.iter().max().unwrap() - rows.iter().min().unwrap()
        };
        assert!(tall("the great wall of china") > tall("the_great_wall_of_china"));
    }

    #[test]
    fn what_the_font_cannot_show_is_refused() {
        let error = draw("赤", 96).unwrap_err().to_string();
        assert!(error.contains('赤'), "{error}");
        assert!(draw(" \n", 96).is_err() && draw("a", 4).is_err());
    }
}
