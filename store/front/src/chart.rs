//! Charts of lines and dots over two axes, as SVG: learning curves, curves over a grid, fits.

use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::DrawingBackend;

use crate::axis::{Axis, is_drawable};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::plot::{COLOURS, FAINT, INK, font, name, pale};

/// How the numbers of an axis are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// By their differences.
    #[default]
    Linear,
    /// By their ratios; what is not above 0 has no place.
    Log,
}

/// How the points of a series are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// Joined, in the order given.
    #[default]
    Line,
    /// Joined, and each marked.
    LineDots,
    /// Each by itself.
    Dots,
}

/// A point with its interval, if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Both ends of an interval of `y`.
    pub interval: Option<(f64, f64)>,
}

/// Points of one colour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What the legend calls it; without a name it is not in there, and has the colour of the series before it.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// Its points.
    pub points: Vec<Point>,
}

/// Series over two axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What is across, with its unit.
    pub x_label: String,
    /// What is up, with its unit.
    pub y_label: String,
    /// Spacing across.
    pub x: Scale,
    /// Spacing up.
    pub y: Scale,
    /// The series, drawn in this order.
    pub series: Vec<Series>,
}

/// The rectangle of the axes, in pixels: left, top, width, height.
const PANEL: (i32, i32, i32, i32) = (84, 44, 520, 300);
/// The width of the legend, and how many names have room in it.
const LEGEND: (i32, usize) = (250, 16);

impl Scale {
    fn on(self, value: f64) -> Option<f64> {
        let at = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        };
        (at.is_finite() && is_drawable(at)).then_some(at)
    }

    /// Marks, where they stand and what they say.
    fn ticks(self, axis: Axis, wanted: u32) -> Vec<(f64, String)> {
        match self {
            Self::Linear => axis.ticks(wanted),
            Self::Log => log_ticks(axis),
        }
    }
}

/// Powers of ten, with twice and five times these where there are few.
fn log_ticks(axis: Axis) -> Vec<(f64, String)> {
    let (low, high) = axis.ends();
    let decades = (high - low).ceil().clamp(1.0, 600.0) as i32;
    let every = (decades / 8).max(1);
    let within: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let first = low.floor() as i32;
    let mut all = Vec::new();
    for power in (first..=first + decades + 1).filter(|power| power.rem_euclid(every) == 0) {
        for digit in within {
            let at = f64::from(power) + digit.log10();
            if (low..=high).contains(&at) {
                let text = if (-4..6).contains(&power) {
                    format!("{:.*}", (-power).max(0) as usize, digit * 10_f64.powi(power))
                } else {
                    format!("{digit}e{power}")
                };
                all.push((at, text));
            }
        }
    }
    all
}

impl Chart {
    /// The chart as SVG: lines and text of `sans-serif`, nothing loaded from elsewhere. Equal charts give equal bytes. Points that
    /// have no place on an axis are left out, and counted under the title.
    ///
    /// # Errors
    /// `Draw`.
    pub fn svg(&self) -> Result<String> {
        font()?;
        let (left, top, width, height) = PANEL;
        let has_legend = self.series.iter().any(|series| !series.name.is_empty());
        let size = (left + width + if has_legend { LEGEND.0 } else { 24 }, top + height + 56);
        let mut text = String::new();
        {
            let backend = SVGBackend::with_string(&mut text, (size.0 as u32, size.1 as u32));
            self.draw(&Canvas::new(backend.into_drawing_area(), 1))?;
        }
        Ok(text)
    }

    fn draw(&self, canvas: &Canvas<impl DrawingBackend>) -> Result<()> {
        let (left, top, width, height) = PANEL;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let is_placed = |point: &&Point| self.x.on(point.x).is_some() && self.y.on(point.y).is_some();
        let ys = |point: &Point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high].map(|y| self.y.on(y))
        };
        let x_axis = Axis::of(points().filter(is_placed).filter_map(|point| self.x.on(point.x)));
        let y_axis = Axis::of(points().filter(is_placed).flat_map(ys).flatten());
        let across = |x: f64| left + (x_axis.place(x) * f64::from(width)).round() as i32;
        let up = |y: f64| top + ((1.0 - y_axis.place(y)) * f64::from(height)).round() as i32;

        canvas.clear()?;
        canvas.text(&name(&self.title, 90), (24, 10), 15, INK)?;
        let n_hidden = points().filter(|point| !is_placed(point)).count();
        if n_hidden > 0 {
            canvas.text(&format!("{n_hidden} points have no place on these axes"), (left, top - 16), 11, INK)?;
        }
        for (at, text) in self.x.ticks(x_axis, 7) {
            canvas.line(&[(across(at), top), (across(at), top + height)], 1, FAINT)?;
            canvas.text_below(&text, (across(at), top + height + 6), 12, INK)?;
        }
        for (at, text) in self.y.ticks(y_axis, 6) {
            canvas.line(&[(left, up(at)), (left + width, up(at))], 1, FAINT)?;
            canvas.text_left_of(&text, (left - 6, up(at)), 12, INK)?;
        }
        canvas.line(&[(left, top), (left, top + height), (left + width, top + height)], 1, INK)?;
        canvas.text_below(&name(&self.x_label, 60), (left + width / 2, top + height + 28), 13, INK)?;
        canvas.text_upwards(&name(&self.y_label, 40), (left - 62, top + height / 2), 13, INK)?;

        let mut n_named = 0;
        for series in &self.series {
            if !series.name.is_empty() {
                n_named += 1;
            }
            let colour = COLOURS[(n_named.max(1) - 1) % COLOURS.len()];
            let place = |point: &Point| Some((across(self.x.on(point.x)?), up(self.y.on(point.y)?)));
            for point in &series.points {
                if let (Some((x, _)), Some((low, high))) = (place(point), point.interval)
                    && let (Some(low), Some(high)) = (self.y.on(low), self.y.on(high))
                {
                    canvas.line(&[(x, up(low)), (x, up(high))], 1, pale(colour))?;
                }
            }
            let places: Vec<(i32, i32)> = series.points.iter().filter_map(place).collect();
            if series.mark != Mark::Dots && places.len() > 1 {
                canvas.line(&places, 2, colour)?;
            }
            if series.mark != Mark::Line || places.len() == 1 {
                for at in &places {
                    canvas.dot(*at, 3, colour, true)?;
                }
            }
            if !series.name.is_empty() && n_named <= LEGEND.1 {
                let at = (left + width + 22, top + 18 * (n_named as i32 - 1));
                canvas.dot((at.0, at.1 + 7), 4, colour, false)?;
                canvas.text(&name(&series.name, 34), (at.0 + 10, at.1), 12, INK)?;
            }
        }
        if n_named > LEGEND.1 {
            let at = (left + width + 22, top + 18 * LEGEND.1 as i32);
            canvas.text(&format!("and {} more", n_named - LEGEND.1), at, 12, INK)?;
        }
        canvas.present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Series {
        let points = points.iter().map(|(x, y)| Point { x: *x, y: *y, interval: Some((y * 0.9, y * 1.1)) }).collect();
        Series { name: "loss".into(), mark: Mark::LineDots, points }
    }

    fn chart(scale: Scale, points: &[(f64, f64)]) -> Chart {
        Chart { title: "a < b & c".into(), x: scale, y: scale, series: vec![line(points)], ..Chart::default() }
    }

    #[test]
    fn a_curve_is_drawn_with_its_dots_and_what_it_is_called() {
        let svg = chart(Scale::Linear, &[(0.0, 1.0), (1.0, 2.0), (2.0, 1.5)]).svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("loss") && svg.contains("a &lt; b &amp; c"), "{svg}");
        assert_eq!(svg.matches("#0072B2").count(), 1 + 3 + 1, "{svg}");
        assert_eq!(svg, chart(Scale::Linear, &[(0.0, 1.0), (1.0, 2.0), (2.0, 1.5)]).svg().unwrap());
    }

    #[test]
    fn ratios_are_spaced_evenly_and_what_has_none_is_counted() {
        let svg = chart(Scale::Log, &[(1.0, 1.0), (10.0, 10.0), (100.0, 100.0), (0.0, 5.0)]).svg().unwrap();
        assert!(svg.contains("1 points have no place"), "{svg}");
        assert_eq!(svg.matches("#0072B2").count(), 1 + 3 + 1, "{svg}");
        let ticks = log_ticks(Axis::of([0.0, 2.0].into_iter()));
        let texts: Vec<&str> = ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "2", "5", "10", "20", "50", "100"]);
        let wide = log_ticks(Axis::of([-30.0, 30.0].into_iter()));
        assert!((4..=10).contains(&wide.len()), "{wide:?}");
    }

    #[test]
    fn nothing_and_wild_numbers_are_drawn_too() {
        let wild = [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1e308, -1e308), (0.0, 0.0)];
        for points in [&wild[..], &wild[3..], &[]] {
            for scale in [Scale::Linear, Scale::Log] {
                assert!(chart(scale, points).svg().unwrap().contains("</svg>"));
            }
        }
    }
}
