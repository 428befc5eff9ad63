//! A scene as SVG; W3C Scalable Vector Graphics 1.1, §8.3 for the paths.

use super::scene::{Scene, Shape};
use ab_glyph::{OutlineCurve, Point};
use std::fmt::Write;

/// The text of an SVG file.
pub fn render(scene: &Scene) -> String {
    let [width, height] = scene.size;
    let title = escape(&scene.title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<desc>{}</desc>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escape(&scene.description)
    );
    for shape in scene.shapes.iter().filter(|shape| !shape.curves.is_empty()) {
        let [red, green, blue] = shape.colour;
        // Writing to a string cannot fail.
        let _ = write!(text, "<path fill=\"#{red:02x}{green:02x}{blue:02x}\" d=\"{}\"", path(shape));
        match &shape.title {
            Some(title) => text.push_str(&format!("><title>{}</title></path>\n", escape(title))),
            None => text.push_str("/>\n"),
        }
    }
    text + "</svg>\n"
}

fn path(shape: &Shape) -> String {
    let mut text = String::new();
    let mut end: Option<Point> = None;
    for curve in &shape.curves {
        let (from, letter, rest) = match *curve {
            OutlineCurve::Line(a, b) => (a, 'L', vec![b]),
            OutlineCurve::Quad(a, b, c) => (a, 'Q', vec![b, c]),
            OutlineCurve::Cubic(a, b, c, d) => (a, 'C', vec![b, c, d]),
        };
        if end != Some(from) {
            let _ = write!(text, "{}M{}", if end.is_some() { "Z" } else { "" }, place(from));
        }
        let places: Vec<String> = rest.iter().map(|&point| place(point)).collect();
        let _ = write!(text, "{letter}{}", places.join(" "));
        end = rest.last().copied();
    }
    text + "Z"
}

/// A hundredth of a pixel is enough.
fn place(point: Point) -> String {
    let number = |value: f32| {
        let text = format!("{value:.2}");
        let short = text.trim_end_matches('0').trim_end_matches('.');
        if short == "-0" { "0".to_owned() } else { short.to_owned() }
    };
    format!("{},{}", number(point.x), number(point.y))
}

/// Text between tags; characters that XML 1.0 does not know are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            '\n' | '\t' => escaped.push(' '),
            _ if character.is_control() => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use ab_glyph::point;

    #[test]
    fn shapes_become_paths() {
        let mut dot = Shape::disc(point(10.0, 10.0), 4.0, [0, 114, 178]);
        dot.title = Some("a < b".to_owned());
        let line = Shape::line(point(0.0, 5.5), point(20.0, 5.5), 1.0, [255; 3]);
        let title = "\"a\" & b\u{1}".to_owned();
        let scene = Scene { size: [20.0, 20.0], title, description: "x".to_owned(), shapes: vec![line, dot] };
        insta::assert_snapshot!(render(&scene));
    }

    #[test]
    fn every_contour_is_closed() {
        let mut shape = Shape::line(point(0.0, 0.0), point(4.0, 0.0), 2.0, [0; 3]);
        shape.curves.extend(Shape::line(point(0.0, 9.0), point(4.0, 9.0), 2.0, [0; 3]).curves);
        let path = path(&shape);
        assert_eq!((path.matches('M').count(), path.matches('Z').count()), (2, 2), "{path}");
    }
}
