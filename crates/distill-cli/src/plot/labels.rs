//! Where the names of points go: beside their points, over nothing else.

use ab_glyph::{Point, point};
use std::f32::consts::TAU;

/// Free room around a name.
const MARGIN: f32 = 3.0;
/// Distances from a point to its name.
const DISTANCES: [f32; 10] = [9.0, 14.0, 22.0, 32.0, 44.0, 60.0, 80.0, 105.0, 140.0, 190.0];
/// From here on a line leads from the point to its name.
const LEADER: f32 = 14.0;
/// Directions in sixteenths of a turn, the most readable first: right, left, above, below, between.
const DIRECTIONS: [u8; 16] = [0, 8, 12, 4, 14, 2, 10, 6, 15, 1, 9, 7, 13, 11, 3, 5];
/// How far a name that a line leads to is pushed aside, as shares of its width.
const SLIDES: [f32; 5] = [0.0, -0.25, 0.25, -0.5, 0.5];
/// How often all names are placed; each time every name knows where the others are.
const PASSES: usize = 4;

/// A rectangle with upright sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// Its upper left corner.
    pub min: Point,
    /// Its lower right corner.
    pub max: Point,
}

/// Where a name is.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The room it takes.
    pub area: Area,
    /// The line from its point to it, where it is not beside the point.
    pub leader: Option<[Point; 2]>,
}

impl Area {
    fn grown(self, by: f32) -> Self {
        Self { min: point(self.min.x - by, self.min.y - by), max: point(self.max.x + by, self.max.y + by) }
    }

    /// Size of what two areas have in common.
    fn overlap(self, other: Self) -> f32 {
        let width = self.max.x.min(other.max.x) - self.min.x.max(other.min.x);
        let height = self.max.y.min(other.max.y) - self.min.y.max(other.min.y);
        width.max(0.0) * height.max(0.0)
    }

    /// The point of this area that is nearest to another.
    fn nearest(self, to: Point) -> Point {
        point(to.x.clamp(self.min.x, self.max.x), to.y.clamp(self.min.y, self.max.y))
    }

    fn holds(self, p: Point) -> bool {
        self.nearest(p) == p
    }

    fn size(self) -> f32 {
        (self.max.x - self.min.x) * (self.max.y - self.min.y)
    }
}

/// Finds a place within `frame` for a name of each size: as near as can be where it covers neither a point (discs of
/// `radius`) nor a name nor a line; if there is none, where it covers least.
pub fn place(points: &[Point], sizes: &[[f32; 2]], radius: f32, frame: Area) -> Vec<Placed> {
    let mut placed: Vec<Option<Placed>> = vec![None; points.len()];
    for _ in 0..PASSES {
        let before = placed.clone();
        for (number, (&own, &size)) in points.iter().zip(sizes).enumerate() {
            placed[number] = None;
            let others: Vec<&Placed> = placed.iter().flatten().collect();
            let rated = candidates(own, size, radius).enumerate().map(|(rank, candidate)| {
                // Of two places that cover as much, the first.
                (cost(&candidate, number, points, &others, radius, frame) + rank as f32 * 1e-3, candidate)
            });
            placed[number] = rated.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, best)| best);
        }
        if placed == before {
            break;
        }
    }
    placed.into_iter().flatten().collect()
}

/// Places for a name, the best first as long as nothing else is there.
fn candidates(own: Point, size: [f32; 2], radius: f32) -> impl Iterator<Item = Placed> {
    DISTANCES.into_iter().flat_map(move |distance| {
        let slides = if distance > LEADER { SLIDES.as_slice() } else { &SLIDES[..1] };
        slides.iter().flat_map(move |&slide| {
            DIRECTIONS
                .into_iter()
                .map(move |direction| candidate(own, size, radius, distance, direction, slide))
        })
    })
}

fn candidate(
    own: Point,
    [width, height]: [f32; 2],
    radius: f32,
    distance: f32,
    direction: u8,
    slide: f32,
) -> Placed {
    let (sin, cos) = (f32::from(direction) / 16.0 * TAU).sin_cos();
    let x = own.x + cos * (distance + width / 2.0) + slide * width;
    let y = own.y + sin * (distance + height / 2.0);
    let min = point(x - width / 2.0, y - height / 2.0);
    let area = Area { min, max: point(min.x + width, min.y + height) };
    let leader = (distance > LEADER).then(|| {
        let end = area.nearest(own);
        let (dx, dy) = (end.x - own.x, end.y - own.y);
        let length = dx.hypot(dy).max(f32::EPSILON);
        [point(own.x + dx / length * radius, own.y + dy / length * radius), end]
    });
    Placed { area, leader }
}

/// How much is covered that should not be; 0 for a good place.
fn cost(
    candidate: &Placed,
    number: usize,
    points: &[Point],
    placed: &[&Placed],
    radius: f32,
    frame: Area,
) -> f32 {
    let area = candidate.area.grown(MARGIN);
    let outside = area.size() - area.overlap(frame);
    let disc = |p: &Point| Area { min: *p, max: *p }.grown(radius);
    let over_points: f32 = points.iter().map(|p| area.overlap(disc(p))).sum();
    let over_names: f32 = placed.iter().map(|other| area.overlap(other.area)).sum();
    let lines = placed.iter().filter_map(|other| other.leader);
    let over_lines = lines.filter(|&line| along(line).any(|p| area.holds(p))).count();
    let (through_points, through_names) = candidate.leader.map_or((0, 0), |line| {
        let others = points.iter().enumerate().filter(|(other, _)| *other != number);
        let points = others.filter(|(_, p)| along(line).any(|step| disc(p).grown(1.0).holds(step)));
        let names = placed.iter().filter(|other| along(line).any(|step| other.area.holds(step)));
        (points.count(), names.count())
    });
    // A name beyond the frame may be cut off, which is worse than two that touch. In a heap of points lines pass over
    // some of them whatever is done; over a name is worse.
    4.0 * outside.max(0.0)
        + over_points
        + over_names
        + 300.0 * (over_lines + through_names) as f32
        + 20.0 * through_points as f32
}

/// Points on a line, about a unit apart.
fn along([from, to]: [Point; 2]) -> impl Iterator<Item = Point> {
    let steps = (to.x - from.x).hypot(to.y - from.y).ceil().max(1.0) as u16;
    (0..=steps).map(move |step| {
        let share = f32::from(step) / f32::from(steps);
        point(from.x + (to.x - from.x) * share, from.y + (to.y - from.y) * share)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Area = Area { min: Point { x: 0.0, y: 0.0 }, max: Point { x: 600.0, y: 400.0 } };

    #[track_caller]
    fn check(points: &[Point], size: [f32; 2]) -> Vec<Placed> {
        let placed = place(points, &vec![size; points.len()], 5.0, FRAME);
        assert_eq!(placed.len(), points.len());
        for name in &placed {
            assert!(FRAME.holds(name.area.min) && FRAME.holds(name.area.max), "{name:?}");
            for p in points {
                assert_eq!(
                    name.area.overlap(Area { min: *p, max: *p }.grown(5.0)),
                    0.0,
                    "{name:?} covers {p:?}"
                );
            }
            for other in placed.iter().filter(|&other| !std::ptr::eq(other, name)) {
                assert_eq!(name.area.overlap(other.area), 0.0, "{name:?} covers {other:?}");
                let crossed = other.leader.is_some_and(|line| along(line).any(|p| name.area.holds(p)));
                assert!(!crossed, "the line of {other:?} crosses {name:?}");
            }
        }
        placed
    }

    #[test]
    fn a_lonely_name_is_to_the_right_of_its_point() {
        let placed = check(&[point(300.0, 200.0)], [80.0, 14.0]);
        assert!(placed[0].area.min.x > 305.0 && placed[0].leader.is_none());
    }

    #[test]
    fn names_stay_within_the_frame() {
        let placed = check(&[point(590.0, 5.0), point(8.0, 395.0)], [120.0, 14.0]);
        assert!(placed[0].area.max.x < 590.0);
    }

    #[test]
    fn names_of_a_heap_of_points_go_apart() {
        let heap: Vec<Point> =
            (0..9).map(|n| point(300.0 + (n % 3) as f32 * 4.0, 200.0 + (n / 3) as f32 * 4.0)).collect();
        let placed = check(&heap, [90.0, 14.0]);
        assert!(placed.iter().any(|name| name.leader.is_some()));
        // Long names of a row of points at the upper edge.
        let row: Vec<Point> = [300.0, 340.0, 365.0, 380.0, 400.0, 420.0].map(|x| point(x, 30.0)).to_vec();
        check(&row, [190.0, 14.0]);
        // The very same point several times, as by comparing a model with itself.
        check(&[point(300.0, 200.0); 4], [90.0, 14.0]);
    }
}
