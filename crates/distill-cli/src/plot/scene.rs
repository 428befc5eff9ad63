//! What a plot is made of: filled shapes, one above the other.

use ab_glyph::{OutlineCurve, Point, point};

/// Red, green, blue.
pub type Colour = [u8; 3];

/// A picture, measured in units of which one is a pixel of an ordinary screen; y goes down.
#[derive(Debug)]
pub struct Scene {
    /// Width and height.
    pub size: [f32; 2],
    /// What the picture shows, in words.
    pub title: String,
    /// Its contents in words, for those who do not see it.
    pub description: String,
    /// The shapes, the lowest first.
    pub shapes: Vec<Shape>,
}

/// Closed curves, filled.
#[derive(Debug)]
pub struct Shape {
    /// The curves, each from where the one before it ended unless another contour begins.
    pub curves: Vec<OutlineCurve>,
    /// What fills them.
    pub colour: Colour,
    /// What the shape stands for; shown where a pointer rests on it.
    pub title: Option<String>,
}

impl Shape {
    /// A shape without a title.
    pub fn new(curves: Vec<OutlineCurve>, colour: Colour) -> Self {
        Self { curves, colour, title: None }
    }

    /// A straight line of some width.
    pub fn line(from: Point, to: Point, width: f32, colour: Colour) -> Self {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let length = dx.hypot(dy).max(f32::EPSILON);
        let (sx, sy) = (-dy / length * width / 2.0, dx / length * width / 2.0);
        let corners = [
            point(from.x + sx, from.y + sy),
            point(to.x + sx, to.y + sy),
            point(to.x - sx, to.y - sy),
            point(from.x - sx, from.y - sy),
        ];
        let sides = (0..4).map(|corner| OutlineCurve::Line(corners[corner], corners[(corner + 1) % 4]));
        Self::new(sides.collect(), colour)
    }

    /// A disc.
    pub fn disc(centre: Point, radius: f32, colour: Colour) -> Self {
        /// Where the handles of a cubic are that is nearest to a quarter of the unit circle.
        const HANDLE: f32 = 0.552_285;
        let at = |x: f32, y: f32| point(centre.x + x * radius, centre.y + y * radius);
        let quarter = |[x, y]: [f32; 2]| {
            // From (x, y) to the same turned by a right angle, (-y, x).
            OutlineCurve::Cubic(
                at(x, y),
                at(x - y * HANDLE, y + x * HANDLE),
                at(-y + x * HANDLE, x + y * HANDLE),
                at(-y, x),
            )
        };
        Self::new([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]].map(quarter).to_vec(), colour)
    }
}

/// The points of a curve, first and last ones and handles.
pub fn points_of(curve: &OutlineCurve) -> Vec<Point> {
    match *curve {
        OutlineCurve::Line(a, b) => vec![a, b],
        OutlineCurve::Quad(a, b, c) => vec![a, b, c],
        OutlineCurve::Cubic(a, b, c, d) => vec![a, b, c, d],
    }
}

/// The curve with each of its points moved.
pub fn map_points(curve: &OutlineCurve, to: impl Fn(Point) -> Point) -> OutlineCurve {
    match *curve {
        OutlineCurve::Line(a, b) => OutlineCurve::Line(to(a), to(b)),
        OutlineCurve::Quad(a, b, c) => OutlineCurve::Quad(to(a), to(b), to(c)),
        OutlineCurve::Cubic(a, b, c, d) => OutlineCurve::Cubic(to(a), to(b), to(c), to(d)),
    }
}
