//! From an image file to the numbers a vision tower reads, as Hugging Face's `CLIPImageProcessor` does it: the shortest side resized, the
//! centre cut out, values scaled and normalised.
//!
//! Resizing is bicubic with a = −1/2, its kernel widened when an image is made smaller, as Pillow's is; results are rounded to whole values once
//! more or less than there, which moves a pixel by a step or two of 255.

use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, RgbImage};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The file in a model's folder.
pub const FILE: &str = "preprocessor_config.json";

/// How images are prepared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// The length that the shortest side is resized to, if it is.
    pub shortest: Option<u32>,
    /// How pixels are put between others.
    filter: FilterType,
    /// Pixels of a side of the centre.
    pub side: u32,
    /// What values are multiplied by.
    factor: f32,
    /// What is taken from each channel, and what it is divided by then.
    mean: [f32; 3],
    std: [f32; 3],
}

fn wrong(key: &str, expected: &str, got: Option<&Value>) -> Error {
    let got = got.map_or_else(|| "nothing".into(), Value::to_string);
    Error::Input { what: format!("{FILE}, key `{key}`: expected {expected}, got {got}"), hint: None }
}

/// Whether a step is done; it is unless the file says no.
fn does(map: &Map<String, Value>, key: &str) -> Result<bool> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(does)) => Ok(*does),
        other => Err(wrong(key, "true or false", other)),
    }
}

/// A length, as such or under one of these names, all of which agree.
fn length(map: &Map<String, Value>, key: &str, names: &[&str]) -> Result<u32> {
    let value = map.get(key);
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let found = match value {
        Some(Value::Object(sizes)) => {
            let all: Vec<Option<u32>> = names.iter().filter_map(|name| sizes.get(*name)).map(number).collect();
            let is_one = !all.is_empty() && all.windows(2).all(|pair| pair[0] == pair[1]);
            all.first().copied().flatten().filter(|_| is_one)
        }
        other => other.and_then(number),
    };
    found.ok_or_else(|| wrong(key, &format!("a length, or one as {}", names.join(" and ")), value))
}

fn three(map: &Map<String, Value>, key: &str) -> Result<[f32; 3]> {
    let list = map.get(key).and_then(Value::as_array).filter(|list| list.len() == 3);
    let numbers = list.and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
    let numbers = numbers.filter(|numbers| key != "image_std" || numbers.iter().all(|x| *x != 0.0));
    let numbers = numbers.ok_or_else(|| wrong(key, "three numbers", map.get(key)))?;
    Ok([0, 1, 2].map(|at| numbers[at] as f32))
}

impl Preprocessing {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// `Input` naming the key that is malformed, or asks for what is not built.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let Ok(Value::Object(map)) = serde_json::from_slice(json) else {
            return Err(Error::Input { what: format!("{FILE}: expected a JSON object"), hint: None });
        };
        let resample = if does(&map, "do_resize")? { map.get("resample") } else { None };
        let filter = match resample.map(|value| (value, value.as_u64())) {
            None | Some((_, Some(3))) => FilterType::CatmullRom,
            Some((_, Some(2))) => FilterType::Triangle,
            Some((_, Some(0))) => FilterType::Nearest,
            Some((other, _)) => return Err(wrong("resample", "3 (bicubic), 2 (bilinear) or 0 (nearest)", Some(other))),
        };
        let shortest = if does(&map, "do_resize")? {
            Some(length(&map, "size", &["shortest_edge", "height", "width"])?)
        } else {
            None
        };
        if !does(&map, "do_center_crop")? {
            return Err(wrong("do_center_crop", "true", map.get("do_center_crop")));
        }
        let side = length(&map, "crop_size", &["height", "width", "shortest_edge"])?;
        if shortest.is_some_and(|shortest| shortest < side) {
            let expected = format!("at most the length of the shortest side, {}", shortest.unwrap_or_default());
            return Err(wrong("crop_size", &expected, map.get("crop_size")));
        }
        let factor = match (does(&map, "do_rescale")?, map.get("rescale_factor")) {
            (false, _) => 1.0,
            (true, None) => 1.0 / 255.0,
            (true, value) => {
                value.and_then(Value::as_f64).ok_or_else(|| wrong("rescale_factor", "a number", value))? as f32
            }
        };
        let (mean, std) = if does(&map, "do_normalize")? {
            (three(&map, "image_mean")?, three(&map, "image_std")?)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        Ok(Self { shortest, filter, side, factor, mean, std })
    }

    /// What it is in words, as it is recorded.
    #[must_use]
    pub fn settings(&self) -> String {
        let Self { shortest, filter, side, factor, mean, std } = self;
        format!(
            "shortest = {shortest:?}\nfilter = {filter:?}\nside = {side}\nfactor = {factor}\nmean = {mean:?}\nstd = {std:?}\n"
        )
    }

    /// The numbers of an image, f32 `[3, side, side]`.
    ///
    /// # Errors
    /// `Input` for an image smaller than what is cut out of it.
    pub fn pixels(&self, image: &DynamicImage) -> Result<Vec<f32>> {
        let mut image: RgbImage = image.to_rgb8();
        if let Some(shortest) = self.shortest {
            let (width, height) = image.dimensions();
            let least = width.min(height);
            // The longest side is rounded down.
            let scaled = |n: u32| (u64::from(n) * u64::from(shortest) / u64::from(least.max(1))) as u32;
            image = resize(&image, scaled(width).max(1), scaled(height).max(1), self.filter);
        }
        let (width, height) = image.dimensions();
        if width < self.side || height < self.side {
            let what = format!("expected an image of at least {0} × {0} pixels, got {width} × {height}", self.side);
            return Err(Error::Input { what, hint: None });
        }
        let (left, top) = ((width - self.side) / 2, (height - self.side) / 2);
        let image = crop_imm(&image, left, top, self.side, self.side).to_image();
        let mut pixels = Vec::with_capacity(3 * (self.side * self.side) as usize);
        for channel in 0..3 {
            let one = |pixel: &image::Rgb<u8>| {
                (f32::from(pixel.0[channel]) * self.factor - self.mean[channel]) / self.std[channel]
            };
            pixels.extend(image.pixels().map(one));
        }
        Ok(pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../gpu/lm/tests/golden/clip");
        std::fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn pixels_are_those_of_the_processor_to_a_step_or_two() {
        let preprocessing = Preprocessing::from_json(&golden(FILE)).unwrap();
        let photo = image::load_from_memory(&golden("photo.png")).unwrap();
        let found = preprocessing.pixels(&photo).unwrap();
        // The tensor `pixels`, f16 `[1, 3, 32, 32]`; the file's header says where.
        let bytes = golden("expected.safetensors");
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let at = header["pixels"]["data_offsets"][0].as_u64().unwrap() as usize + 8 + n;
        let half = |bytes: &[u8]| {
            let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
            let (sign, exponent, part) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let size = if exponent == 0 { part * 2f32.powi(-24) } else { (1024.0 + part) * 2f32.powi(exponent - 25) };
            if sign == 1 { -size } else { size }
        };
        let expected: Vec<f32> = bytes[at..at + 2 * found.len()].chunks_exact(2).map(half).collect();
        let gaps: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() * 0.26 * 255.0).collect();
        let worst = gaps.iter().copied().fold(0.0, f32::max);
        let mean = gaps.iter().sum::<f32>() / gaps.len() as f32;
        assert!(worst < 2.5 && mean < 0.35, "in steps of 255: {worst} at most, {mean} on average");
    }

    #[test]
    fn the_shortest_side_is_resized_and_the_centre_cut_out() {
        let plain = r#"{"do_resize": true, "size": 4, "crop_size": 4, "do_normalize": false, "rescale_factor": 1.0}"#;
        let preprocessing = Preprocessing::from_json(plain.as_bytes()).unwrap();
        // Twelve columns of 10, 20, …: of these the middle third.
        let wide = RgbImage::from_fn(12, 4, |x, _| image::Rgb([10 * (x as u8 + 1), 0, 7]));
        let found = preprocessing.pixels(&wide.into()).unwrap();
        assert_eq!(found[..4], [50.0, 60.0, 70.0, 80.0]);
        assert_eq!((found[16], found[32], found.len()), (0.0, 7.0, 48));
        let error = Preprocessing { shortest: None, ..preprocessing }.pixels(&RgbImage::new(3, 9).into()).unwrap_err();
        assert!(error.to_string().contains("at least 4 × 4"), "{error}");
    }

    #[test]
    fn what_is_not_built_is_refused_by_key() {
        for (json, key) in [
            (r#"{"size": 4}"#, "crop_size"),
            (r#"{"size": {"height": 4, "width": 5}, "crop_size": 4}"#, "size"),
            (r#"{"size": 4, "crop_size": 5, "do_normalize": false}"#, "crop_size"),
            (r#"{"size": 4, "crop_size": 4}"#, "image_mean"),
            (r#"{"size": 4, "crop_size": 4, "resample": 1}"#, "resample"),
            (r#"{"size": 4, "crop_size": 4, "do_center_crop": false}"#, "do_center_crop"),
        ] {
            let error = Preprocessing::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
        assert!(Preprocessing::from_json(b"[]").is_err());
    }
}
