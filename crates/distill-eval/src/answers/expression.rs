//! Sums by their value.

use super::sum_tokens::{Token, tokens};

/// Two values are the same if they differ by at most this part of the larger.
const RELATIVE: f64 = 1e-6;

/// Differences that rounding alone makes, where the values themselves are next to nothing.
const ABSOLUTE: f64 = 1e-9;

/// The value of a sum: `( 84.0 / 2.0 )`, `7 x 30`, `-2 * (3 + 4)`, `50% * 1,200`; none if the text is
/// no sum, divides by zero or leaves the range of 64-bit floats.
///
/// Of an equation it is the value of the last side, the result that is claimed: `84 / 2 = 42` has
/// value 42, and so has `84 / 2 = 41 = 42`. Left sides are not looked at. `%` divides what stands before
/// it by 100. Powers, names and products without a sign (`2 (3)`) are not read. A full stop behind the sum
/// and white space around it do not matter; round and square brackets are not told apart. Nesting costs memory in proportion to the text and no stack.
pub fn value(text: &str) -> Option<f64> {
    let text = text.trim();
    let tokens = tokens(text.strip_suffix('.').unwrap_or(text));
    tokens.rsplit(|token| *token == Token::Equals).next().and_then(evaluate)
}

/// Whether two values are equal within 1e-6 of the larger (1e-9 near zero).
pub fn same_value(one: f64, other: f64) -> bool {
    (one - other).abs() <= (RELATIVE * one.abs().max(other.abs())).max(ABSOLUTE)
}

/// What waits for its right operand, or for its bracket.
#[derive(Clone, Copy)]
enum Waiting {
    Bracket,
    Negation,
    Sum(Token),
}

impl Waiting {
    /// How tightly it binds; a bracket never gives way to a sign.
    fn strength(self) -> u8 {
        match self {
            Self::Bracket => 0,
            Self::Sum(Token::Plus | Token::Minus) => 1,
            Self::Sum(_) => 2,
            Self::Negation => 3,
        }
    }
}

/// The value of tokens without an equals sign: Dijkstra's shunting yard, with a stack of its own.
pub(super) fn evaluate(tokens: &[Token]) -> Option<f64> {
    let (mut values, mut waiting) = (Vec::new(), Vec::new());
    let mut wants_operand = true;
    for &token in tokens {
        match token {
            Token::Number(number) if wants_operand => {
                values.push(number);
                wants_operand = false;
            }
            Token::Open if wants_operand => waiting.push(Waiting::Bracket),
            Token::Minus if wants_operand => waiting.push(Waiting::Negation),
            Token::Plus if wants_operand => {}
            Token::Percent if !wants_operand => *values.last_mut()? /= 100.0,
            Token::Close if !wants_operand => {
                reduce(&mut values, &mut waiting, 1)?;
                let Waiting::Bracket = waiting.pop()? else { return None };
            }
            Token::Plus | Token::Minus | Token::Times | Token::Over if !wants_operand => {
                let sign = Waiting::Sum(token);
                reduce(&mut values, &mut waiting, sign.strength())?;
                waiting.push(sign);
                wants_operand = true;
            }
            _ => return None,
        }
    }
    if wants_operand {
        return None;
    }
    reduce(&mut values, &mut waiting, 1)?;
    // A bracket that was never closed.
    waiting.is_empty().then(|| values.pop())?
}

/// Works off all that binds at least as tightly as `strength`.
fn reduce(values: &mut Vec<f64>, waiting: &mut Vec<Waiting>, strength: u8) -> Option<()> {
    while let Some(top) = waiting.pop_if(|top| top.strength() >= strength) {
        let right = values.pop()?;
        let value = match top {
            Waiting::Negation => -right,
            Waiting::Sum(Token::Plus) => values.pop()? + right,
            Waiting::Sum(Token::Minus) => values.pop()? - right,
            Waiting::Sum(Token::Times) => values.pop()? * right,
            Waiting::Sum(Token::Over) if right != 0.0 => values.pop()? / right,
            Waiting::Sum(_) | Waiting::Bracket => return None,
        };
        // An infinity in the middle could come out as a finite 0.
        values.push(value.is_finite().then_some(value)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    #[test]
    fn sums_have_their_value() {
        let cases = [
            ("42", 42.0),
            (" 42. ", 42.0),
            ("( 84.0 / 2.0 )", 42.0),
            ("(7 * 30)", 210.0),
            ("( 10.0 - ( 6.0 + 3.0 ) )", 1.0),
            ("2 + 3 * 4", 14.0),
            ("(2 + 3) * 4", 20.0),
            ("20 - 5 - 3", 12.0),
            ("24 / 4 / 2", 3.0),
            ("24 / 4 * 2", 12.0),
            ("-3 + 5", 2.0),
            ("-(3 + 5)", -8.0),
            ("2 - -3", 5.0),
            ("2 * -3", -6.0),
            ("--4", 4.0),
            ("+4", 4.0),
            ("-2 - 3", -5.0),
            ("1,234.5 + .5", 1235.0),
            ("50% * 30", 15.0),
            ("-50%", -0.5),
            ("(20 + 30)%", 0.5),
            ("6 x 7", 42.0),
            ("6x7", 42.0),
            ("6 × 7 ÷ 2", 21.0),
            ("$84 / 2", 42.0),
            ("7 − 3", 4.0),
            ("[(1 + 2) * 3]", 9.0),
        ];
        for (text, expected) in cases {
            let found = value(text);
            assert!(found.is_some_and(|found| same_value(found, expected)), "`{text}` is {found:?}");
        }
    }

    #[test]
    fn an_equation_has_the_value_of_its_last_side() {
        assert_eq!(value("84 / 2 = 42"), Some(42.0));
        assert_eq!(value("84 / 2 = 43"), Some(43.0));
        assert_eq!(value("1 + 1 = 2 = 3"), Some(3.0));
        assert_eq!(value("= 8"), Some(8.0));
        assert_eq!(value("apples = 4 + 4"), Some(8.0));
        assert_eq!(value("8 ="), None);
        assert_eq!(value("8 = eight"), None);
    }

    #[test]
    fn what_is_no_sum_has_no_value() {
        let cases = [
            "",
            " ",
            ".",
            "-",
            "()",
            "( )",
            "+",
            "3 +",
            "3 + * 4",
            "* 3",
            "3 4",
            "2 (3)",
            "(3) 4",
            "(3 + 4",
            "3 + 4)",
            ")3(",
            "3..",
            "1.2.3",
            "42 apples",
            "forty",
            "1/0",
            "5 / (3 - 3)",
            "1e3",
            "2 ^ 3",
            "% 3",
            "5 % 3",
            "3, 4",
            "1,23",
            "1\n2",
            "=",
            "==",
            "x",
            "3 x",
            "NaN",
            "inf",
            "- 5",
            "(1 + 2]) + 3",
            "٣",
        ];
        for text in cases {
            assert_eq!(value(text), None, "`{text}`");
        }
    }

    #[test]
    fn neither_depth_nor_size_matters() {
        let deep = format!("{}7{}", "(".repeat(200_000), ")".repeat(200_000));
        assert_eq!(value(&deep), Some(7.0));
        assert_eq!(value(&deep[..300_000]), None);
        assert_eq!(value(&format!("{}7", "-".repeat(100_001))), Some(-7.0));
        let big = "9".repeat(300);
        assert_eq!(value(&format!("{big} * {big}")), None);
        assert_eq!(value(&format!("1 / ({big} * {big})")), None);
    }

    #[test]
    fn values_are_equal_up_to_rounding() {
        assert!(same_value(10.0 / 3.0, 3.333_333_3));
        assert!(!same_value(10.0 / 3.0, 3.333));
        assert!(same_value(0.1 + 0.2 - 0.3, 0.0));
        assert!(!same_value(0.001, 0.0));
        assert!(same_value(-0.0, 0.0));
        assert!(!same_value(-5.0, 5.0));
        assert!(same_value(123_456_789.0, 123_456_788.9));
    }

    /// SplitMix64 (Steele et al. 2014): numbers for the tests below.
    fn draws(seed: u64) -> impl FnMut(usize) -> usize {
        let mut state = seed;
        move |below| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % below as u64) as usize
        }
    }

    /// A sum as it is printed, its value if it has one, and how tightly its outermost sign binds.
    fn sum(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> (String, Option<f64>, u8) {
        if depth == 0 || draw(5) == 0 {
            let number = draw(2000) as f64 / [1.0, 4.0][draw(2)];
            let thousands = number >= 1000.0 && number.fract() == 0.0 && draw(2) == 0;
            let text = if thousands {
                format!("{},{:03}", number as u64 / 1000, number as u64 % 1000)
            } else {
                [number.to_string(), format!("{number:.2}")][draw(2)].clone()
            };
            return (text, Some(number), 4);
        }
        if draw(8) == 0 {
            let (text, value, strength) = sum(draw, depth - 1);
            return (
                format!("-{}", bracketed(text, strength < 3 || draw(4) == 0)),
                value.map(|value| -value),
                3,
            );
        }
        let (left, one, left_strength) = sum(draw, depth - 1);
        let (right, other, right_strength) = sum(draw, depth - 1);
        let operands = one.zip(other);
        let (sign, value, strength) = match draw(4) {
            0 => ("+", operands.map(|(one, other)| one + other), 1),
            1 => (["-", "−"][draw(2)], operands.map(|(one, other)| one - other), 1),
            2 => (["*", "×", "x"][draw(3)], operands.map(|(one, other)| one * other), 2),
            _ => {
                let quotient = |(one, other): (f64, f64)| (other != 0.0).then(|| one / other);
                (["/", "÷"][draw(2)], operands.and_then(quotient), 2)
            }
        };
        // Equal signs group from the left, so that the right side needs its brackets.
        let left = bracketed(left, left_strength < strength || draw(4) == 0);
        let right = bracketed(right, right_strength <= strength || draw(4) == 0);
        let space = if draw(3) == 0 { "" } else { " " };
        (format!("{left}{space}{sign}{space}{right}"), value, strength)
    }

    fn bracketed(text: String, brackets: bool) -> String {
        if brackets { format!("({text})") } else { text }
    }

    #[test]
    fn printed_sums_are_read_back() {
        let mut draw = draws(7);
        let mut without = 0;
        for _ in 0..20_000 {
            let (text, expected, _) = sum(&mut draw, 5);
            let found = value(&text);
            match expected {
                Some(expected) => {
                    assert!(
                        found.is_some_and(|found| same_value(found, expected)),
                        "`{text}`: {found:?}, {expected}"
                    );
                }
                None => {
                    without += 1;
                    assert_eq!(found, None, "`{text}`");
                }
            }
        }
        assert!((1..2000).contains(&without), "{without} sums divide by zero");
    }

    #[test]
    fn no_text_is_too_odd() {
        let marks =
            ["(", ")", "[", "-", "–", "+", "*", "/", "%", "=", ".", ",", "1", "20", "x", "é", "$", " ", "\n"];
        let mut draw = draws(11);
        let mut sums = 0;
        for _ in 0..50_000 {
            let length = draw(10);
            let text: String = iter::repeat_with(|| marks[draw(marks.len())]).take(length).collect();
            sums += usize::from(value(&text).inspect(|value| assert!(value.is_finite())).is_some());
            super::super::stated_value(&text);
        }
        assert!(sums > 100, "{sums}");
    }
}
