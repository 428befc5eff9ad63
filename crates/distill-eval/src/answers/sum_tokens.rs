//! Sums taken apart into numbers and signs.

/// A piece of a sum, or what is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Plus,
    Minus,
    Times,
    Over,
    Percent,
    Open,
    Close,
    Equals,
    /// A word, a line's end or a mark that belongs to no sum.
    Other,
}

impl Token {
    /// Whether a sum could stop here, so that a sign may follow.
    fn ends_an_operand(self) -> bool {
        matches!(self, Self::Number(_) | Self::Close | Self::Percent)
    }
}

/// The tokens of a text.
///
/// Numbers are digits with a decimal point (`84`, `84.0`, `.5`) and perhaps thousands separated by
/// commas (`1,234.5`); a currency sign before them is left out. Products are `*`, `×`, `·` or an `x`
/// between two numbers, quotients `/` or `÷`. A dash with a space behind it that follows no number is
/// a dash, not a sign: lists begin with it.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let behind = &rest[first.len_utf8()..];
        let may_follow = tokens.last().is_some_and(|last: &Token| last.ends_an_operand());
        let starts_a_number =
            |text: &str| text.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
        let (token, left) = match first {
            '\n' | '\r' => (Some(Token::Other), behind),
            c if c.is_whitespace() => (None, behind),
            '$' | '€' | '£' if starts_a_number(behind) => (None, behind),
            '+' => (Some(Token::Plus), behind),
            '-' | '−' | '–' if !may_follow && behind.starts_with(char::is_whitespace) => {
                (Some(Token::Other), behind)
            }
            '-' | '−' | '–' => (Some(Token::Minus), behind),
            '*' | '×' | '·' | '⋅' => (Some(Token::Times), behind),
            'x' | 'X' if may_follow && starts_an_operand(behind) => (Some(Token::Times), behind),
            '/' | '÷' => (Some(Token::Over), behind),
            '%' => (Some(Token::Percent), behind),
            '(' | '[' => (Some(Token::Open), behind),
            ')' | ']' => (Some(Token::Close), behind),
            '=' => (Some(Token::Equals), behind),
            _ => match number(rest) {
                Some((number, left)) => (Some(Token::Number(number)), left),
                None if first.is_alphanumeric() => {
                    (Some(Token::Other), behind.trim_start_matches(char::is_alphanumeric))
                }
                None => (Some(Token::Other), behind),
            },
        };
        tokens.extend(token);
        rest = left;
    }
    tokens
}

fn starts_an_operand(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(|c: char| {
        c.is_ascii_digit() || matches!(c, '.' | '(' | '[' | '-' | '−' | '$' | '€' | '£')
    })
}

/// The number that a text begins with, and what follows it; none if a letter does (`3rd`).
fn number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if (1..=3).contains(&end) {
        while bytes.get(end) == Some(&b',') && digits(end + 1) == 3 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if end == 0 {
        return None;
    }
    let (number, left) = text.split_at(end);
    let next = left.chars().next();
    let is_product = matches!(next, Some('x' | 'X')) && starts_an_operand(&left[1..]);
    if next.is_some_and(char::is_alphanumeric) && !is_product {
        return None;
    }
    let number: f64 = number.replace(',', "").parse().ok()?;
    number.is_finite().then_some((number, left))
}

#[cfg(test)]
mod tests {
    use super::Token::{Close, Equals, Minus, Number, Open, Other, Over, Percent, Plus, Times};
    use super::*;

    #[test]
    fn signs_have_several_shapes() {
        let sum = [Open, Number(7.0), Times, Number(3.5), Close, Over, Number(2.0)];
        for text in ["(7*3.5)/2", "( 7 x 3.5 ) ÷ 2", "[7 × 3.5] / 2", "(7x3.5)/2.0", "($7 X $3.50)/2"] {
            assert_eq!(tokens(text), sum, "{text}");
        }
        assert_eq!(
            tokens("5 − 3 + 50% ="),
            [Number(5.0), Minus, Number(3.0), Plus, Number(50.0), Percent, Equals]
        );
    }

    #[test]
    fn commas_part_thousands_alone() {
        assert_eq!(tokens("1,234,567.25"), [Number(1_234_567.25)]);
        assert_eq!(tokens("1,23"), [Number(1.0), Other, Number(23.0)]);
        assert_eq!(tokens("1234,567"), [Number(1234.0), Other, Number(567.0)]);
        assert_eq!(tokens("1, 234"), [Number(1.0), Other, Number(234.0)]);
    }

    #[test]
    fn words_and_what_is_stuck_to_letters_are_no_numbers() {
        assert_eq!(tokens("3rd, A4"), [Other, Other, Other]);
        assert_eq!(tokens("x 5 x"), [Other, Number(5.0), Other]);
        assert_eq!(tokens("4 extra"), [Number(4.0), Other]);
        assert_eq!(tokens("- 5 pens"), [Other, Number(5.0), Other]);
        assert_eq!(tokens("-5"), [Minus, Number(5.0)]);
        assert_eq!(tokens("23. 5"), [Number(23.0), Other, Number(5.0)]);
        assert_eq!(tokens("a\nb"), [Other, Other, Other]);
        assert_eq!(tokens(&"9".repeat(400)), [Other]);
    }
}
