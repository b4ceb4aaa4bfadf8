//! Handwritten digits in colours that go with their label, more or less.
//!
//! The digits are the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI, CC BY 4.0; `data/README.md`).
//! Of k digits and k colours a label y is the digit with probability `p_inv`, else another digit, and the colour is that of y with
//! probability `p_spu`, else another (`MultiColoredMNIST` of arXiv 2403.11497).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const BYTES: &[u8] = include_bytes!("../../data/digits.bin");
/// Pixels of an image.
const N_PIXELS: usize = 64;
/// The brightest pixel.
const BRIGHTEST: f64 = 16.0;

/// Numbers of a coloured image: pixels, each red, green and blue.
pub const N_INPUTS: usize = 3 * N_PIXELS;
/// How many digits, and colours, there are.
pub const N_DIGITS: usize = 10;

/// Red, green and blue of each label's colour.
const COLOURS: [[f64; 3]; N_DIGITS] = [
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, 0.0, 1.0],
    [1.0, 1.0, 0.0],
    [1.0, 0.0, 1.0],
    [0.0, 1.0, 1.0],
    [1.0, 0.5, 0.0],
    [0.5, 0.0, 1.0],
    [0.0, 0.5, 0.5],
    [1.0, 1.0, 1.0],
];

/// A digit as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Its place in the published set.
    pub place: u32,
    /// Which digit it is.
    pub digit: u8,
    /// Its pixels, row by row, 0 to 16.
    pub pixels: &'static [u8],
}

/// The first `k` digits' images, in published order.
#[must_use]
pub fn digits(k: usize) -> Vec<Digit> {
    let one = |(place, record): (u32, &'static [u8])| Digit { place, digit: record[0], pixels: &record[1..] };
    let all = (0..).zip(BYTES.chunks_exact(N_PIXELS + 1)).map(one);
    all.filter(|digit| usize::from(digit.digit) < k).collect()
}

/// A digit with a label and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Painted {
    /// The digit.
    pub digit: Digit,
    /// What it is labelled.
    pub label: u8,
    /// The label its colour is that of.
    pub colour: u8,
}

impl Painted {
    /// Labels a digit and paints it, of `k`.
    #[must_use]
    pub fn draw(digit: Digit, k: usize, p_inv: f64, p_spu: f64, stream: &mut ChaCha8Rng) -> Self {
        let label = keep(digit.digit, k, p_inv, stream);
        Self { digit, label, colour: keep(label, k, p_spu, stream) }
    }

    /// The same digit and label in another colour, which is the label's with probability `p_spu`.
    #[must_use]
    pub fn repainted(self, k: usize, p_spu: f64, stream: &mut ChaCha8Rng) -> Self {
        Self { colour: keep(self.label, k, p_spu, stream), ..self }
    }

    /// Its numbers in [0, 1], pixel by pixel, f64 `[N_INPUTS]`.
    #[must_use]
    pub fn inputs(&self) -> Vec<f64> {
        let colour = COLOURS[usize::from(self.colour) % N_DIGITS];
        self.digit.pixels.iter().flat_map(|pixel| colour.map(|part| f64::from(*pixel) / BRIGHTEST * part)).collect()
    }
}

/// `value` with probability `p`, else another of `k`, each as likely.
fn keep(value: u8, k: usize, p: f64, stream: &mut ChaCha8Rng) -> u8 {
    if stream.random::<f64>() < p || k < 2 {
        return value;
    }
    let other = stream.random_range(0..k as u32 - 1) as u8;
    other + u8::from(other >= value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn the_digits_are_those_published() {
        let all = digits(10);
        assert_eq!(all.len(), 1797);
        let counts: Vec<usize> = (0..10).map(|digit| all.iter().filter(|of| of.digit == digit).count()).collect();
        // `numpy.bincount(sklearn.datasets.load_digits().target)` and `.data.sum()`.
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(all.iter().flat_map(|of| of.pixels).map(|pixel| u64::from(*pixel)).sum::<u64>(), 561_718);
        assert_eq!(all[0].pixels[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(digits(2).len(), 360);
    }

    #[test]
    fn labels_and_colours_agree_as_often_as_they_are_to() {
        let mut stream = ChaCha8Rng::seed_from_u64(1);
        let all = digits(5);
        let drawn: Vec<Painted> =
            (0..20_000).map(|at| Painted::draw(all[at % all.len()], 5, 0.75, 0.9, &mut stream)).collect();
        let share = |is: &dyn Fn(&Painted) -> bool| drawn.iter().filter(|of| is(of)).count() as f64 / 20_000.0;
        assert!((share(&|of| of.label == of.digit.digit) - 0.75).abs() < 0.01);
        assert!((share(&|of| of.colour == of.label) - 0.9).abs() < 0.01);
        // What is not right is any other, as often.
        assert!((share(&|of| of.digit.digit == 2 && of.label == 4) - 0.2 * 0.25 / 4.0).abs() < 0.005);
        assert!(drawn.iter().all(|of| of.label < 5 && of.colour < 5));
        let reversed: Vec<Painted> = drawn.iter().map(|of| of.repainted(5, 0.1, &mut stream)).collect();
        let n = reversed.iter().filter(|of| of.colour == of.label).count() as f64 / 20_000.0;
        assert!((n - 0.1).abs() < 0.01, "{n}");
    }

    #[test]
    fn inputs_are_pixels_times_colours() {
        let digit = digits(10)[0];
        let inputs = Painted { digit, label: 3, colour: 6 }.inputs();
        assert_eq!(inputs.len(), N_INPUTS);
        // The fourth pixel is 13 of 16; the colour is orange.
        assert_eq!(inputs[9..12], [13.0 / 16.0, 13.0 / 32.0, 0.0]);
    }
}
