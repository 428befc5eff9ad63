//! A scene as PNG; W3C Portable Network Graphics, third edition.

use super::scene::{Scene, Shape, map_points, points_of};
use ab_glyph::{OutlineCurve, Point, point};
use ab_glyph_rasterizer::Rasterizer;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::{self, Write};

/// Pixels a unit, in both directions: screens and print show more than one.
const DENSITY: f32 = 2.0;
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Eight bits a sample, red, green and blue, the one compression, filter and order that there is for them (§11.2.1).
const TRUE_COLOUR: [u8; 5] = [8, 2, 0, 0, 0];

/// The bytes of a PNG file.
///
/// # Errors
/// Whatever the compression says.
pub fn encode(scene: &Scene) -> io::Result<Vec<u8>> {
    let canvas = Canvas::draw(scene);
    let mut header = Vec::new();
    for side in [canvas.width, canvas.height] {
        header.extend((side as u32).to_be_bytes());
    }
    header.extend(TRUE_COLOUR);
    let mut data = ZlibEncoder::new(Vec::new(), Compression::best());
    for row in canvas.pixels.chunks(canvas.width) {
        // Filter type 0, none: rows of flat colour compress as they are.
        data.write_all(&[0])?;
        data.write_all(row.as_flattened())?;
    }
    let mut bytes = SIGNATURE.to_vec();
    for (kind, contents) in [(b"IHDR", header), (b"IDAT", data.finish()?), (b"IEND", Vec::new())] {
        chunk(&mut bytes, kind, &contents);
    }
    Ok(bytes)
}

/// Length, kind, contents, and the checksum of the latter two (§5.3).
fn chunk(bytes: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8]) {
    bytes.extend((contents.len() as u32).to_be_bytes());
    let mut sum = Crc::new();
    for part in [kind.as_slice(), contents] {
        bytes.extend(part);
        sum.update(part);
    }
    bytes.extend(sum.sum().to_be_bytes());
}

/// Pixels row by row, from the upper left.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    fn draw(scene: &Scene) -> Self {
        let [width, height] = scene.size.map(|side| (side * DENSITY).ceil().max(1.0) as usize);
        let mut canvas = Self { width, height, pixels: vec![[255; 3]; width * height] };
        for shape in &scene.shapes {
            canvas.fill(shape);
        }
        canvas
    }

    /// Fills a shape, on its own part of the canvas; what is beyond the edge is cut away.
    fn fill(&mut self, shape: &Shape) {
        let points = || shape.curves.iter().flat_map(points_of).map(|p| point(p.x * DENSITY, p.y * DENSITY));
        let least =
            |value: fn(&Point) -> f32| points().map(|p| value(&p)).fold(f32::INFINITY, f32::min).floor();
        let most =
            |value: fn(&Point) -> f32| points().map(|p| value(&p)).fold(f32::NEG_INFINITY, f32::max).ceil();
        let (left, top) = (least(|p| p.x), least(|p| p.y));
        let (columns, rows) = (most(|p| p.x) - left, most(|p| p.y) - top);
        // Nothing to draw, or nothing that a plot would have.
        if !(columns >= 0.0 && rows >= 0.0 && columns < 1e5 && rows < 1e5) {
            return;
        }
        let mut coverage = Rasterizer::new(columns as usize + 1, rows as usize + 1);
        for curve in &shape.curves {
            match map_points(curve, |p| point(p.x * DENSITY - left, p.y * DENSITY - top)) {
                OutlineCurve::Line(a, b) => coverage.draw_line(a, b),
                OutlineCurve::Quad(a, b, c) => coverage.draw_quad(a, b, c),
                OutlineCurve::Cubic(a, b, c, d) => coverage.draw_cubic(a, b, c, d),
            }
        }
        coverage.for_each_pixel_2d(|x, y, share| {
            let (x, y) = (f64::from(x) + f64::from(left), f64::from(y) + f64::from(top));
            let inside = x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height;
            if inside && share > 0.0 {
                let pixel = &mut self.pixels[y as usize * self.width + x as usize];
                for (below, above) in pixel.iter_mut().zip(shape.colour) {
                    let mixed = f32::from(*below) + (f32::from(above) - f32::from(*below)) * share.min(1.0);
                    *below = mixed.round() as u8;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn scene(shapes: Vec<Shape>) -> Scene {
        Scene { size: [20.0, 10.0], title: String::new(), description: String::new(), shapes }
    }

    #[test]
    fn shapes_fill_their_pixels() {
        let red = [200, 0, 0];
        let shapes = vec![
            Shape::disc(point(10.0, 5.0), 3.0, red),
            Shape::line(point(-9.0, 1.0), point(99.0, 1.0), 1.0, [0; 3]),
        ];
        let canvas = Canvas::draw(&scene(shapes));
        let at = |x: usize, y: usize| canvas.pixels[y * canvas.width + x];
        assert_eq!((canvas.width, canvas.height), (40, 20));
        assert_eq!(at(20, 10), red, "the middle of the disc");
        assert_eq!(at(20, 17), [255; 3], "below it");
        assert_eq!((at(0, 1), at(39, 2)), ([0; 3], [0; 3]), "the line goes from edge to edge");
        // The line is above the disc, in rows of its own.
        let green = canvas.pixels[4 * canvas.width..].iter().map(|pixel| f32::from(pixel[1]));
        let covered: f32 = green.map(|green| 1.0 - green / 255.0).sum();
        assert!((covered - std::f32::consts::PI * 36.0).abs() < 1.0, "a disc of radius 6 covers {covered}");
    }

    #[test]
    fn the_file_is_made_of_sound_chunks() {
        let bytes = encode(&scene(vec![Shape::disc(point(10.0, 5.0), 3.0, [9, 8, 7])])).unwrap();
        let mut rest = bytes.strip_prefix(&SIGNATURE).unwrap();
        let mut kinds = Vec::new();
        let mut pixels = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let mut sum = Crc::new();
            sum.update(&rest[4..8 + length]);
            assert_eq!(rest[8 + length..12 + length], sum.sum().to_be_bytes());
            if &rest[4..8] == b"IDAT" {
                flate2::read::ZlibDecoder::new(&rest[8..8 + length]).read_to_end(&mut pixels).unwrap();
            }
            kinds.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
            rest = &rest[12 + length..];
        }
        assert_eq!(kinds, ["IHDR", "IDAT", "IEND"]);
        assert_eq!(pixels.len(), 20 * (1 + 40 * 3));
        assert_eq!(pixels[10 * 121 + 1 + 20 * 3..][..3], [9, 8, 7]);
    }
}
