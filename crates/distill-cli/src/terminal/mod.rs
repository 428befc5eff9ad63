//! What people see: progress on stderr, as bars, plain lines, JSON or hardly at all.

mod bars;
mod json_lines;
mod paint;
mod plain_lines;
mod quiet;
pub mod sentences;
mod smoothing;
pub mod table;
pub mod units;
mod voice;

pub use paint::Paint;
pub use voice::{Manner, Voice};

/// Columns of the terminal on stderr or stdout; 80 where there is none, as for a file.
pub fn width() -> usize {
    [console::Term::stderr(), console::Term::stdout()]
        .iter()
        .filter(|term| term.is_term())
        .find_map(console::Term::size_checked)
        .map_or(80, |(_, columns)| usize::from(columns).max(40))
}
