//! Plots as PNG and SVG files that look the same on every machine: text is drawn as the outlines of a font that comes
//! with the program, so that nothing depends on which fonts are installed where the file is made or seen.

mod axis;
mod font;
mod labels;
mod png;
mod scatter;
mod scene;
mod svg;

pub use scatter::{Dot, Scatter};

use crate::failure::Failure;
use scene::Scene;
use std::path::Path;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pixels.
    Png,
    /// Curves.
    Svg,
}

impl Format {
    /// By the extension of the file's name.
    ///
    /// # Errors
    /// An extension of neither.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("png") => Ok(Self::Png),
            Some("svg") => Ok(Self::Svg),
            _ => Err(Failure::input(format!(
                "`{}` is neither a PNG nor an SVG file by its name",
                path.display()
            ))
            .with_help("let the name end in `.png` or `.svg`")),
        }
    }

    /// The bytes of a file with this scene.
    ///
    /// # Errors
    /// Too little memory to compress it.
    pub fn encode(self, scene: &Scene) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Png => png::encode(scene),
            Self::Svg => Ok(svg::render(scene).into_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_which_format() {
        assert_eq!(Format::of(Path::new("a/b.PNG")).unwrap(), Format::Png);
        assert_eq!(Format::of(Path::new("b.svg")).unwrap(), Format::Svg);
        assert!(Format::of(Path::new("b.jpg")).is_err() && Format::of(Path::new("svg")).is_err());
    }
}
