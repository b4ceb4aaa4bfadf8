//! The plot of a front, the same for every format: a scatter plot of two objectives, all pairs of more, and the ordered
//! values of one.

use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::drawing::IntoDrawingArea;
use plotters::style::{FontStyle, register_font};

use crate::axis::{Axis, is_drawable};
use crate::canvas::Canvas;
use crate::error::{Error, Result};
use crate::table::{Front, Row};

/// Colours that the colour-blind tell apart; source: Okabe and Ito 2008. More families than colours begin again.
pub(crate) const COLOURS: [[u8; 3]; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];
/// Points without a family, among others that have one.
const NONE: [u8; 3] = [110, 110, 110];
pub(crate) const INK: [u8; 3] = [40, 40, 40];
pub(crate) const FAINT: [u8; 3] = [228, 228, 228];

/// Letters of a name that are shown.
const LONGEST: usize = 40;
/// Rows from which on dots are small.
const MANY: usize = 500;

/// A rectangle of the plot with its two scales.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Objective along x; None where points are in order.
    x: Option<usize>,
    /// Objective along y.
    y: usize,
    left: i32,
    top: i32,
    width: i32,
    height: i32,
    x_axis: Axis,
    y_axis: Axis,
}

impl Panel {
    fn pixel(&self, x: f64, y: f64) -> (i32, i32) {
        let x = f64::from(self.left) + self.x_axis.place(x) * f64::from(self.width);
        let y = f64::from(self.top) + (1.0 - self.y_axis.place(y)) * f64::from(self.height);
        (x.round() as i32, y.round() as i32)
    }

    /// Where a row stands; None if a value of it has no place on an axis. `order` is its place among the rows.
    fn place(&self, row: &Row, order: usize) -> Option<(i32, i32)> {
        let x = self.x.map_or(order as f64 + 1.0, |x| row.values[x]);
        let y = row.values[self.y];
        (is_drawable(x) && is_drawable(y)).then(|| self.pixel(x, y))
    }
}

/// A plot as laid out: its size, its panels, and where each row stands in each.
pub(crate) struct Layout {
    pub(crate) width: i32,
    pub(crate) height: i32,
    panels: Vec<Panel>,
    /// `[panels, n]`: pixels of the rows.
    pub(crate) places: Vec<Vec<Option<(i32, i32)>>>,
    /// Where families are listed, and how many have room.
    legend: ((i32, i32), usize),
}

/// The plot as SVG, with its layout.
pub(crate) fn svg(front: &Front) -> Result<(String, Layout)> {
    font()?;
    let layout = Layout::of(front);
    let mut text = String::new();
    {
        let backend = SVGBackend::with_string(&mut text, (layout.width as u32, layout.height as u32));
        draw(&Canvas::new(backend.into_drawing_area(), 1), front, &layout)?;
    }
    Ok((text, layout))
}

/// The plot as pixels, `[height, width, 3]`, each `scale` times as fine as the SVG's.
pub(crate) fn pixels(front: &Front, scale: i32) -> Result<(Vec<u8>, u32, u32)> {
    font()?;
    let layout = Layout::of(front);
    let (width, height) = ((layout.width * scale) as u32, (layout.height * scale) as u32);
    let mut pixels = vec![255; width as usize * height as usize * 3];
    {
        let backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
        draw(&Canvas::new(backend.into_drawing_area(), scale), front, &layout)?;
    }
    Ok((pixels, width, height))
}

/// The font of plots, as a `TrueType` file: `DejaVu` Sans with Latin, Greek and Cyrillic letters, digits and common signs.
pub static FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");

/// Makes our font known to plotters, once.
pub(crate) fn font() -> Result<()> {
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    if *IS_KNOWN.get_or_init(|| register_font("sans-serif", FontStyle::Normal, FONT).is_ok()) {
        Ok(())
    } else {
        Err(Error::Draw("the embedded font is damaged".to_owned()))
    }
}

impl Layout {
    fn of(front: &Front) -> Self {
        let m = front.objectives.len();
        let n_columns = m.saturating_sub(1).max(1);
        let (width, height) = if m <= 2 { (640, 460) } else { (250, 210) };
        let (gap_x, gap_y) = (84, 62);
        // Beside one panel; in a matrix where it has no panels.
        let legend = if m > 2 { ((gap_x * 2 + width, 72), 12) } else { ((gap_x + width + 20, 72), 22) };
        let margin = if m > 2 || front.families().is_empty() { 30 } else { 230 };
        let axes: Vec<Axis> = (0..m).map(|k| Axis::of(front.rows.iter().flat_map(|r| extent(r, k)))).collect();
        let mut panels = Vec::new();
        // Below the diagonal: objectives along x from left to right, along y from top to bottom.
        for y in 1.min(m.saturating_sub(1))..m {
            for x in 0..y.max(1) {
                let row = y.saturating_sub(1);
                panels.push(Panel {
                    x: (m > 1).then_some(x),
                    y,
                    left: gap_x + x as i32 * (width + gap_x),
                    top: 64 + row as i32 * (height + gap_y),
                    width,
                    height,
                    x_axis: if m > 1 { axes[x] } else { Axis::of([1.0, front.rows.len().max(1) as f64].into_iter()) },
                    y_axis: axes[y],
                });
            }
        }
        let mut order: Vec<usize> = (0..front.rows.len()).collect();
        if m == 1 {
            order = places_by_value(front);
        }
        let places =
            panels.iter().map(|p| front.rows.iter().zip(&order).map(|(row, order)| p.place(row, *order)).collect());
        Self {
            width: gap_x + n_columns as i32 * (width + gap_x) - gap_x + margin,
            height: 64 + n_columns as i32 * (height + gap_y),
            places: places.collect(),
            legend,
            panels,
        }
    }
}

/// All that a row shows along an objective.
fn extent(row: &Row, k: usize) -> impl Iterator<Item = f64> {
    let interval = row.intervals[k].filter(|_| is_drawable(row.values[k]));
    [Some(row.values[k]), interval.map(|i| i.0), interval.map(|i| i.1)].into_iter().flatten()
}

/// For each row its place in the order from best to worst of one objective; ties stay in the order of rows.
fn places_by_value(front: &Front) -> Vec<usize> {
    let direction = front.objectives[0].direction;
    let mut sorted: Vec<usize> = (0..front.rows.len()).collect();
    sorted
        .sort_by(|a, b| direction.cost(front.rows[*a].values[0]).total_cmp(&direction.cost(front.rows[*b].values[0])));
    let mut places = vec![0; sorted.len()];
    for (place, row) in sorted.into_iter().enumerate() {
        places[row] = place;
    }
    places
}

fn draw(canvas: &Canvas<impl plotters::prelude::DrawingBackend>, front: &Front, layout: &Layout) -> Result<()> {
    canvas.clear()?;
    canvas.text(&headline(front), (24, 12), 17, INK)?;
    canvas.text(&footnote(front, layout), (24, 36), 12, [110, 110, 110])?;
    let families = front.families();
    let colour = |row: &Row| match &row.family {
        Some(family) => COLOURS[families.binary_search(&family.as_str()).unwrap_or(0) % COLOURS.len()],
        None if families.is_empty() => COLOURS[0],
        None => NONE,
    };
    let is_small = front.objectives.len() > 2 || front.rows.len() >= MANY;
    for (panel, places) in layout.panels.iter().zip(&layout.places) {
        frame(canvas, front, panel)?;
        if panel.x.is_some() && front.objectives.len() == 2 {
            staircase(canvas, front, panel)?;
        }
        // What is dominated lies below.
        for is_pareto in [false, true] {
            let radius = if is_small { 2 } else { 3 } + i32::from(is_pareto) * if is_small { 1 } else { 2 };
            for (row, place) in front.rows.iter().zip(places).filter(|(row, _)| row.is_pareto == is_pareto) {
                let Some(at) = *place else { continue };
                let colour = colour(row);
                bars(canvas, panel, row, at, pale(colour))?;
                canvas.dot(at, radius, if is_pareto { colour } else { pale(colour) }, front.rows.len() < MANY)?;
            }
        }
    }
    legend(canvas, front, layout, &families)?;
    canvas.present()
}

/// The colour of what is dominated.
pub(crate) fn pale(colour: [u8; 3]) -> [u8; 3] {
    colour.map(|c| (u16::from(c) / 2 + 118) as u8)
}

fn headline(front: &Front) -> String {
    format!("Pareto front: {} of {} points", front.pareto().count(), front.rows.len())
}

fn footnote(front: &Front, layout: &Layout) -> String {
    let mut parts = Vec::new();
    if let (Some(volume), Some(reference)) = (front.hypervolume, &front.reference) {
        let kind = if front.is_default_reference { "the worst of each" } else { "the reference" };
        let reference: Vec<String> = reference.iter().map(|r| short(*r)).collect();
        parts.push(format!("hypervolume {} up to {kind}: ({})", short(volume), reference.join(", ")));
    }
    let n_hidden = (0..front.rows.len()).filter(|i| layout.places.iter().any(|p| p[*i].is_none())).count();
    if n_hidden > 0 {
        parts.push(format!("{n_hidden} points lie at infinity"));
    }
    if !front.rejected.is_empty() {
        parts.push(format!("{} rejected for want of a value", front.rejected.len()));
    }
    parts.join("; ")
}

/// A number to about five digits.
fn short(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-4..1e7).contains(&value.abs()) {
        return format!("{value:.4e}");
    }
    let text = format!("{value:.4}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A name of at most so many letters: control characters shown as such, the end cut off.
pub(crate) fn name(text: &str, longest: usize) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(longest + 1).collect();
    if name.chars().count() > longest {
        name = name.chars().take(longest - 1).collect();
        name.push('…');
    }
    name
}

fn frame(canvas: &Canvas<impl plotters::prelude::DrawingBackend>, front: &Front, panel: &Panel) -> Result<()> {
    let (right, bottom) = (panel.left + panel.width, panel.top + panel.height);
    for (value, text) in panel.x_axis.ticks(if panel.width > 300 { 7 } else { 4 }) {
        let (x, _) = panel.pixel(value, 0.0);
        canvas.line(&[(x, panel.top), (x, bottom)], 1, FAINT)?;
        canvas.text_below(&text, (x, bottom + 6), 12, INK)?;
    }
    for (value, text) in panel.y_axis.ticks(if panel.height > 300 { 7 } else { 4 }) {
        let y = panel.pixel(0.0, value).1;
        canvas.line(&[(panel.left, y), (right, y)], 1, FAINT)?;
        canvas.text_left_of(&text, (panel.left - 6, y), 12, INK)?;
    }
    canvas.line(&[(panel.left, panel.top), (panel.left, bottom), (right, bottom)], 1, INK)?;
    let size = if panel.width > 300 { 14 } else { 12 };
    let along_x = panel.x.map_or("order, best first".to_owned(), |x| label(front, x));
    canvas.text_below(&along_x, (panel.left + panel.width / 2, bottom + 24), size, INK)?;
    canvas.text_upwards(&label(front, panel.y), (panel.left - 58, panel.top + panel.height / 2), size, INK)
}

fn label(front: &Front, objective: usize) -> String {
    let objective = &front.objectives[objective];
    format!("{} {}", name(&objective.name, LONGEST), objective.direction.sign())
}

/// The edge of what the front dominates: from each point of it to the next, by way of the worse corner.
fn staircase(canvas: &Canvas<impl plotters::prelude::DrawingBackend>, front: &Front, panel: &Panel) -> Result<()> {
    let [x, y] = [0, 1].map(|k| front.objectives[k].direction);
    let mut corners: Vec<(f64, f64)> = front
        .pareto()
        .map(|r| (r.values[0], r.values[1]))
        .filter(|(a, b)| is_drawable(*a) && is_drawable(*b))
        .collect();
    corners.sort_by(|a, b| x.cost(a.0).total_cmp(&x.cost(b.0)));
    corners.dedup();
    let (Some(first), Some(last)) = (corners.first().copied(), corners.last().copied()) else { return Ok(()) };
    // The ends run to the edge of the panel.
    let (x_end, y_end) = (worse_end(x, panel.left, panel.width, false), worse_end(y, panel.top, panel.height, true));
    let mut line = vec![(panel.pixel(first.0, first.1).0, y_end)];
    for pair in corners.windows(2) {
        line.push(panel.pixel(pair[0].0, pair[0].1));
        line.push((panel.pixel(pair[1].0, 0.0).0, panel.pixel(0.0, pair[0].1).1));
    }
    line.push(panel.pixel(last.0, last.1));
    line.push((x_end, panel.pixel(0.0, last.1).1));
    canvas.line(&line, 2, [150, 150, 150])
}

/// The pixel of the edge at which an objective is worst.
fn worse_end(direction: crate::Direction, from: i32, length: i32, is_upwards: bool) -> i32 {
    let is_far = (direction == crate::Direction::Minimise) != is_upwards;
    if is_far { from + length } else { from }
}

fn bars(
    canvas: &Canvas<impl plotters::prelude::DrawingBackend>,
    panel: &Panel,
    row: &Row,
    at: (i32, i32),
    colour: [u8; 3],
) -> Result<()> {
    let ends = |axis: Axis, interval: Option<(f64, f64)>| {
        interval.map(|(low, high)| [low, high].map(|end| axis.place(end.clamp(-1e300, 1e300)).clamp(0.0, 1.0)))
    };
    if let Some(x) = panel.x.and_then(|x| ends(panel.x_axis, row.intervals[x])) {
        let [low, high] = x.map(|x| panel.left + (x * f64::from(panel.width)).round() as i32);
        canvas.line(&[(low, at.1), (high, at.1)], 1, colour)?;
        canvas.line(&[(low, at.1 - 3), (low, at.1 + 3)], 1, colour)?;
        canvas.line(&[(high, at.1 - 3), (high, at.1 + 3)], 1, colour)?;
    }
    if let Some(y) = ends(panel.y_axis, row.intervals[panel.y]) {
        let [low, high] = y.map(|y| panel.top + ((1.0 - y) * f64::from(panel.height)).round() as i32);
        canvas.line(&[(at.0, low), (at.0, high)], 1, colour)?;
        canvas.line(&[(at.0 - 3, low), (at.0 + 3, low)], 1, colour)?;
        canvas.line(&[(at.0 - 3, high), (at.0 + 3, high)], 1, colour)?;
    }
    Ok(())
}

/// The families and their colours.
fn legend(
    canvas: &Canvas<impl plotters::prelude::DrawingBackend>,
    front: &Front,
    layout: &Layout,
    families: &[&str],
) -> Result<()> {
    let ((x, top), most) = layout.legend;
    let mut entries: Vec<(String, Option<[u8; 3]>)> = families
        .iter()
        .zip(COLOURS.iter().cycle())
        .take(most)
        .map(|(family, colour)| (name(family, LONGEST), Some(*colour)))
        .collect();
    if families.len() > most {
        entries.push((format!("and {} more", families.len() - most), None));
    }
    if !families.is_empty() && front.rows.iter().any(|r| r.family.is_none()) {
        entries.push(("no family".to_owned(), Some(NONE)));
    }
    for (i, (text, colour)) in entries.iter().enumerate() {
        let y = top + i as i32 * 18;
        if let Some(colour) = colour {
            canvas.dot((x, y), 5, *colour, false)?;
        }
        canvas.text(text, (x + 12, y - 6), 13, INK)?;
    }
    Ok(())
}
