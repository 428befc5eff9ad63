//! Points with names over two axes.

use super::axis::Axis;
use super::font::{Anchor, Font};
use super::labels::{Area, place};
use super::scene::{Colour, Scene, Shape};
use crate::failure::Failure;
use crate::terminal::table::shorten;
use ab_glyph::{Point, point};
use std::ops::RangeInclusive;

const SIZE: [f32; 2] = [880.0, 560.0];
/// The frame within the picture.
const LEFT: f32 = 64.0;
const RIGHT: f32 = 856.0;
const TOP: f32 = 76.0;
const BOTTOM: f32 = 492.0;

const TITLE_SIZE: f32 = 18.0;
const AXIS_SIZE: f32 = 14.0;
const NAME_SIZE: f32 = 14.0;
const RADIUS: f32 = 5.5;
/// Height of letters through the size of their font, and how far they go below the base line.
const ASCENT: f32 = 0.78;
const DESCENT: f32 = 0.22;
/// Characters of a name, at most.
const NAME_LENGTH: usize = 40;
/// Characters of the title, at most.
const TITLE_LENGTH: usize = 90;

const INK: Colour = [34, 34, 34];
const QUIET: Colour = [96, 96, 96];
const GRID: Colour = [226, 226, 226];
const EDGE: Colour = [150, 150, 150];
/// A blue that is told apart from grey by everybody; Okabe and Ito 2008, <https://jfly.uni-koeln.de/color/>.
const DOT: Colour = [0, 114, 178];

/// A point.
#[derive(Clone, Debug)]
pub struct Dot {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub x: f64,
    /// Where it is.
    pub y: f64,
}

/// A scatter plot.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// Above all.
    pub title: String,
    /// Name and unit of x.
    pub x_name: String,
    /// Name and unit of y.
    pub y_name: String,
    /// Values of y that there can be.
    pub y_allowed: RangeInclusive<f64>,
    /// The points. x is never negative.
    pub dots: Vec<Dot>,
}

impl Scatter {
    /// Lays the plot out: x on a logarithmic scale if its values differ widely.
    ///
    /// # Errors
    /// The font of this program is damaged.
    pub fn scene(&self) -> Result<Scene, Failure> {
        let font = Font::new().map_err(|error| Failure::other(format!("cannot read the font: {error}")))?;
        let (x, y) = (
            Axis::of_wide(self.dots.iter().map(|dot| dot.x)),
            Axis::linear(self.dots.iter().map(|dot| dot.y)),
        );
        let mut shapes = Vec::new();
        self.draw_axes(&font, &x, &y, &mut shapes);
        let points: Vec<Point> =
            self.dots.iter().map(|dot| point(across(&x, dot.x), up(&y, dot.y))).collect();
        self.draw_dots(&font, &points, &mut shapes);
        let dots: Vec<String> = self.dots.iter().map(|dot| self.in_words(dot)).collect();
        Ok(Scene { size: SIZE, title: self.title.clone(), description: dots.join("; "), shapes })
    }

    fn draw_axes(&self, font: &Font, x: &Axis, y: &Axis, shapes: &mut Vec<Shape>) {
        for tick in x.ticks(0.0..=f64::MAX) {
            let at = across(x, tick.value);
            shapes.push(Shape::line(point(at, TOP), point(at, BOTTOM), 1.0, GRID));
            let below = point(at, BOTTOM + 8.0 + AXIS_SIZE * ASCENT);
            shapes.push(font.text(&tick.name, AXIS_SIZE, below, Anchor::Middle, QUIET));
        }
        for tick in y.ticks(self.y_allowed.clone()) {
            let at = up(y, tick.value);
            shapes.push(Shape::line(point(LEFT, at), point(RIGHT, at), 1.0, GRID));
            let beside = point(LEFT - 8.0, at + AXIS_SIZE * (ASCENT - DESCENT) / 2.0);
            shapes.push(font.text(&tick.name, AXIS_SIZE, beside, Anchor::End, QUIET));
        }
        shapes.push(Shape::line(point(LEFT, BOTTOM), point(RIGHT, BOTTOM), 1.5, EDGE));
        shapes.push(Shape::line(point(LEFT, TOP), point(LEFT, BOTTOM), 1.5, EDGE));
        let title = shorten(&self.title, TITLE_LENGTH);
        shapes.push(font.text(&title, TITLE_SIZE, point(20.0, 32.0), Anchor::Start, INK));
        // The name of y is above its axis, where it reads without turning the head.
        shapes.push(font.text(&self.y_name, AXIS_SIZE, point(20.0, TOP - 14.0), Anchor::Start, INK));
        let end = point(RIGHT, BOTTOM + 28.0 + AXIS_SIZE + 4.0);
        shapes.push(font.text(&self.x_name, AXIS_SIZE, end, Anchor::End, INK));
    }

    fn draw_dots(&self, font: &Font, points: &[Point], shapes: &mut Vec<Shape>) {
        let names: Vec<String> = self.dots.iter().map(|dot| shorten(&dot.name, NAME_LENGTH)).collect();
        let height = NAME_SIZE * (ASCENT + DESCENT);
        let sizes: Vec<[f32; 2]> = names.iter().map(|name| [font.width(name, NAME_SIZE), height]).collect();
        let frame = Area { min: point(LEFT, TOP), max: point(SIZE[0] - 4.0, BOTTOM) };
        let placed = place(points, &sizes, RADIUS, frame);
        for [from, to] in placed.iter().filter_map(|name| name.leader) {
            shapes.push(Shape::line(from, to, 1.0, EDGE));
        }
        for (&at, dot) in points.iter().zip(&self.dots) {
            // A white rim tells points apart that overlap.
            shapes.push(Shape::disc(at, RADIUS + 1.0, [255; 3]));
            shapes.push(Shape { title: Some(self.in_words(dot)), ..Shape::disc(at, RADIUS, DOT) });
        }
        for (name, room) in names.iter().zip(&placed) {
            let at = point(room.area.min.x, room.area.max.y - NAME_SIZE * DESCENT);
            shapes.push(font.text(name, NAME_SIZE, at, Anchor::Start, INK));
        }
    }

    fn in_words(&self, dot: &Dot) -> String {
        format!("{}: {} {:.2}, {} {:.3}", dot.name, self.y_name, dot.y, self.x_name, dot.x)
    }
}

fn across(axis: &Axis, value: f64) -> f32 {
    LEFT + (RIGHT - LEFT) * axis.share(value) as f32
}

fn up(axis: &Axis, value: f64) -> f32 {
    BOTTOM - (BOTTOM - TOP) * axis.share(value) as f32
}

#[cfg(test)]
mod tests {
    use super::super::scene::points_of;
    use super::*;

    fn plot(dots: &[(&str, f64, f64)]) -> Scene {
        let dots = dots.iter().map(|&(name, x, y)| Dot { name: name.to_owned(), x, y }).collect();
        let scatter = Scatter {
            title: "accuracy against latency".to_owned(),
            x_name: "latency (ms)".to_owned(),
            y_name: "accuracy (%)".to_owned(),
            y_allowed: 0.0..=100.0,
            dots,
        };
        scatter.scene().unwrap()
    }

    fn titled(scene: &Scene) -> Vec<(&str, [f32; 2])> {
        let with_title = scene.shapes.iter().filter_map(|shape| Some((shape.title.as_deref()?, shape)));
        with_title
            .map(|(title, shape)| {
                let points: Vec<Point> = shape.curves.iter().flat_map(points_of).collect();
                let mean =
                    |value: fn(&Point) -> f32| points.iter().map(value).sum::<f32>() / points.len() as f32;
                (title, [mean(|p| p.x), mean(|p| p.y)])
            })
            .collect()
    }

    #[test]
    fn faster_is_further_left_and_better_is_higher() {
        let scene = plot(&[("teacher", 8.0, 90.2), ("student", 0.5, 89.8)]);
        let dots = titled(&scene);
        assert_eq!(dots[0].0, "teacher: accuracy (%) 90.20, latency (ms) 8.000");
        let ([teacher_x, teacher_y], [student_x, student_y]) = (dots[0].1, dots[1].1);
        assert!(teacher_x > student_x && teacher_y < student_y, "{dots:?}");
    }

    #[test]
    fn everything_is_within_the_picture() {
        for dots in [
            vec![
                ("a", 1.0, 100.0),
                ("a name that is far too long for any plot that people look at", 1.0, 100.0),
            ],
            vec![("a", 0.01, 3.0), ("b", 900.0, 99.99)],
            vec![("nothing", 0.0, 0.0)],
            (0..12).map(|_| ("student", 2.0, 88.0)).collect(),
        ] {
            let scene = plot(&dots);
            for p in scene.shapes.iter().flat_map(|shape| &shape.curves).flat_map(points_of) {
                assert!(
                    (0.0..=SIZE[0]).contains(&p.x) && (0.0..=SIZE[1]).contains(&p.y),
                    "{p:?} in {dots:?}"
                );
            }
        }
    }
}
