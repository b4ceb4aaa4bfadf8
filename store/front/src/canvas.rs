//! Lines, dots and text in whole pixels, over any backend of plotters.

use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use crate::error::{Error, Result};

/// A place to draw on; all lengths are multiplied by a scale.
pub(crate) struct Canvas<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    scale: i32,
}

type At = (i32, i32);
type Colour = [u8; 3];

impl<B: DrawingBackend> Canvas<B> {
    pub(crate) fn new(area: DrawingArea<B, Shift>, scale: i32) -> Self {
        Self { area, scale }
    }

    pub(crate) fn clear(&self) -> Result<()> {
        self.area.fill(&WHITE).map_err(failed)
    }

    pub(crate) fn present(&self) -> Result<()> {
        self.area.present().map_err(failed)
    }

    pub(crate) fn line(&self, corners: &[At], width: u32, colour: Colour) -> Result<()> {
        let corners: Vec<At> = corners.iter().map(|c| self.at(*c)).collect();
        self.area.draw(&PathElement::new(corners, self.style(width, colour))).map_err(failed)
    }

    /// A filled circle, where wanted with a white edge that tells it from its neighbours.
    pub(crate) fn dot(&self, at: At, radius: i32, colour: Colour, has_edge: bool) -> Result<()> {
        if has_edge {
            let edge = Circle::new(self.at(at), (radius + 1) * self.scale, WHITE.filled());
            self.area.draw(&edge).map_err(failed)?;
        }
        self.area.draw(&Circle::new(self.at(at), radius * self.scale, rgb(colour).filled())).map_err(failed)
    }

    /// Text that begins at its left upper corner.
    pub(crate) fn text(&self, text: &str, at: At, size: i32, colour: Colour) -> Result<()> {
        self.write(text, at, size, colour, (HPos::Left, VPos::Top), FontTransform::None)
    }

    /// Text whose upper edge's middle is given.
    pub(crate) fn text_below(&self, text: &str, at: At, size: i32, colour: Colour) -> Result<()> {
        self.write(text, at, size, colour, (HPos::Center, VPos::Top), FontTransform::None)
    }

    /// Text whose right edge's middle is given.
    pub(crate) fn text_left_of(&self, text: &str, at: At, size: i32, colour: Colour) -> Result<()> {
        self.write(text, at, size, colour, (HPos::Right, VPos::Center), FontTransform::None)
    }

    /// Text that is read from below, about its middle.
    pub(crate) fn text_upwards(&self, text: &str, at: At, size: i32, colour: Colour) -> Result<()> {
        self.write(text, at, size, colour, (HPos::Center, VPos::Center), FontTransform::Rotate270)
    }

    fn write(
        &self,
        text: &str,
        at: At,
        size: i32,
        colour: Colour,
        (h, v): (HPos, VPos),
        turn: FontTransform,
    ) -> Result<()> {
        let font = ("sans-serif", size * self.scale).into_font().transform(turn);
        let colour = rgb(colour);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, v));
        self.area.draw(&Text::new(text.to_owned(), self.at(at), style)).map_err(failed)
    }

    fn at(&self, (x, y): At) -> At {
        (x * self.scale, y * self.scale)
    }

    fn style(&self, width: u32, colour: Colour) -> ShapeStyle {
        rgb(colour).stroke_width(width * self.scale as u32)
    }
}

fn rgb([r, g, b]: Colour) -> RGBColor {
    RGBColor(r, g, b)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Draw(error.to_string())
}
