//! Colours, only where they are wanted.

use std::fmt::Display;
use std::io::IsTerminal;

/// Wraps words in terminal colours, or leaves them alone.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Leaves everything as it is.
    #[cfg(test)]
    pub const PLAIN: Self = Self { colours: false };

    /// Colours for what goes to stdout.
    pub fn stdout() -> Self {
        Self::for_stream(std::io::stdout().is_terminal())
    }

    /// Colours for what goes to stderr.
    pub fn stderr() -> Self {
        Self::for_stream(std::io::stderr().is_terminal())
    }

    /// Colours on a terminal that is not dumb, unless `NO_COLOR` is set to anything (<https://no-color.org>).
    fn for_stream(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colours: is_terminal && !refused && !dumb }
    }

    /// For headings.
    pub fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    /// For what matters less than its surroundings.
    pub fn dim(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    /// For errors.
    pub fn red(self, text: impl Display) -> String {
        self.wrap("1;91", text)
    }

    /// For warnings.
    pub fn yellow(self, text: impl Display) -> String {
        self.wrap("1;93", text)
    }

    /// For what went well.
    pub fn green(self, text: impl Display) -> String {
        self.wrap("1;92", text)
    }

    /// For hints.
    pub fn cyan(self, text: impl Display) -> String {
        self.wrap("96", text)
    }

    /// For what is merely told.
    pub fn blue(self, text: impl Display) -> String {
        self.wrap("1;94", text)
    }

    /// Whether this adds colours.
    pub fn has_colours(self) -> bool {
        self.colours
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paint_adds_nothing() {
        assert_eq!(Paint::PLAIN.red("error"), "error");
        assert_eq!(Paint { colours: true }.red("error"), "\u{1b}[1;91merror\u{1b}[0m");
    }
}
