//! Text as outlines.

use super::scene::{Colour, Shape, map_points};
use ab_glyph::{Font as _, FontRef, InvalidFont, Point, point};

/// The font of plots.
#[derive(Debug)]
pub struct Font {
    font: FontRef<'static>,
}

/// Which part of a line of text is where it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

impl Font {
    /// The font that comes with the program.
    ///
    /// # Errors
    /// Never, unless the program was built with another font.
    pub fn new() -> Result<Self, InvalidFont> {
        Ok(Self { font: FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)? })
    }

    /// Width of a line of text whose font has this size.
    pub fn width(&self, text: &str, size: f32) -> f32 {
        let mut width = 0.0;
        self.walk(text, size, |_, _| (), &mut width);
        width
    }

    /// A line of text; `at` is on its base line.
    pub fn text(&self, text: &str, size: f32, at: Point, anchor: Anchor, colour: Colour) -> Shape {
        let share = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        };
        let start = at.x - share * self.width(text, size);
        let mut curves = Vec::new();
        let scale = self.scale(size);
        let draw = |glyph, advance: f32| {
            if let Some(outline) = self.font.outline(glyph) {
                let place = |p: Point| point(start + advance + p.x * scale, at.y - p.y * scale);
                curves.extend(outline.curves.iter().map(|curve| map_points(curve, place)));
            }
        };
        self.walk(text, size, draw, &mut 0.0);
        Shape::new(curves, colour)
    }

    /// Shows each glyph and where it begins; `advance` grows to the width of the text.
    fn walk(&self, text: &str, size: f32, mut glyph: impl FnMut(ab_glyph::GlyphId, f32), advance: &mut f32) {
        let scale = self.scale(size);
        let mut last = None;
        for character in text.chars().filter(|character| !character.is_control()) {
            let id = self.font.glyph_id(character);
            *advance += last.map_or(0.0, |last| self.font.kern_unscaled(last, id)) * scale;
            glyph(id, *advance);
            *advance += self.font.h_advance_unscaled(id) * scale;
            last = Some(id);
        }
    }

    fn scale(&self, size: f32) -> f32 {
        size / self.font.units_per_em().unwrap_or(1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::points_of;
    use super::*;

    #[test]
    fn text_is_where_it_is_put() {
        let font = Font::new().unwrap();
        let width = font.width("accuracy", 20.0);
        assert!((50.0..110.0).contains(&width), "{width}");
        for (anchor, left) in
            [(Anchor::Start, 100.0), (Anchor::Middle, 100.0 - width / 2.0), (Anchor::End, 100.0 - width)]
        {
            let shape = font.text("accuracy", 20.0, point(100.0, 50.0), anchor, [0; 3]);
            let points: Vec<Point> = shape.curves.iter().flat_map(points_of).collect();
            assert!(points.iter().all(|p| p.x > left - 2.0 && p.x < left + width + 2.0));
            assert!(points.iter().all(|p| p.y > 30.0 && p.y < 57.0));
        }
    }

    #[test]
    fn what_labels_are_made_of_has_glyphs() {
        let font = Font::new().unwrap();
        let missing = font.font.glyph_id('\u{10ffff}');
        for character in ('!'..='~').chain("…–×äßøЖλ".chars()) {
            assert_ne!(font.font.glyph_id(character), missing, "{character}");
        }
        assert!(font.text("世界", 12.0, point(0.0, 0.0), Anchor::Start, [0; 3]).title.is_none(), "no panic");
    }
}
