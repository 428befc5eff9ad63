//! The value that a text comes to in the end.

use super::expression::evaluate;
use super::sum_tokens::{Token, tokens};

/// The value that free text comes to: the result of its last sum, or else its last number; none if
/// there is no number.
///
/// A sum is at least two numbers with signs between them, or anything with an equals sign: of
/// `14 + 9 = 23` it is 23, whether that is right or not, of `so 10 * 45 seeds` it is 450. A number
/// behind the last sum does not count ("23 - 6 = 17 on day 2" is 17). Numbers within words (`3rd`) are
/// not seen, and number words are not read. Taking the last number of a text is how GSM8K is scored
/// where no answer is marked (`flexible-extract` of EleutherAI's lm-evaluation-harness).
pub fn stated_value(text: &str) -> Option<f64> {
    let tokens = tokens(text);
    let (mut result, mut number) = (None, None);
    for run in tokens.split(|token| *token == Token::Other) {
        match last_of(run) {
            Some(Stated::Result(value)) => result = Some(value),
            Some(Stated::Number(value)) => number = Some(value),
            None => {}
        }
    }
    result.or(number)
}

/// What a run of numbers and signs states.
enum Stated {
    Result(f64),
    Number(f64),
}

/// Of the last side of an equation that holds a number, which "9 + 5 =" does not end with.
fn last_of(run: &[Token]) -> Option<Stated> {
    let is_number = |token: &&Token| matches!(token, Token::Number(_));
    let side = run
        .rsplit(|token| *token == Token::Equals)
        .find(|side| side.iter().any(|token| is_number(&token)))?;
    let equation = run.contains(&Token::Equals);
    match evaluate(side).or_else(|| evaluate(without_ends(side))) {
        Some(value) if equation || side.iter().filter(is_number).count() > 1 => Some(Stated::Result(value)),
        Some(value) => Some(Stated::Number(value)),
        None => {
            let Some(Token::Number(last)) = side.iter().rfind(is_number) else { return None };
            Some(if equation { Stated::Result(*last) } else { Stated::Number(*last) })
        }
    }
}

/// Without the half brackets and signs that the sentence around it left: `(9 + 5 = 14)` ends with `14)`.
fn without_ends(mut side: &[Token]) -> &[Token] {
    while let [Token::Open | Token::Times | Token::Over | Token::Plus, rest @ ..] = side {
        side = rest;
    }
    while let [
        rest @ ..,
        Token::Close | Token::Open | Token::Times | Token::Over | Token::Plus | Token::Minus,
    ] = side
    {
        side = rest;
    }
    side
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_result_counts() {
        let cases = [
            ("She starts with 14. 14 + 9 = 23. 23 - 6 = 17.", 17.0),
            ("So he scored 84 points in 2 rounds. 84 / 2 = 42.", 42.0),
            ("They put 10 in each of 45 beds, so they planted 10 * 45 seeds.", 450.0),
            ("So they planted 10 * 45 seeds. 10 * 45 is 450.", 450.0),
            ("he received 10 - (3 + 6) = 1 emails in the evening on 2 days", 1.0),
            ("She had (9 + 5 = 14) pens of 20.", 14.0),
            ("2 + 2 = 5", 5.0),
            ("x = 7, of 9", 7.0),
            ("9 + 5 = fourteen", 14.0),
            ("It costs $1,200 x 2 = $2,400.", 2400.0),
            ("That is 5 - 8 = -3 degrees.", -3.0),
            ("1 + 1 = 2, then 2 * 3 * = 6 *", 6.0),
        ];
        for (text, expected) in cases {
            assert_eq!(stated_value(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn without_a_sum_the_last_number_does() {
        let cases = [
            ("There are 11 groups with 2 eggs. So there are 2 eggs.", 2.0),
            ("The answer is 42.", 42.0),
            ("- 5 red pens\n- 6 blue pens", 6.0),
            ("It is -5 degrees on the 3rd.", -5.0),
            ("Of 8 pens (4)", 4.0),
            ("about 50%", 0.5),
        ];
        for (text, expected) in cases {
            assert_eq!(stated_value(text), Some(expected), "{text}");
        }
        for text in ["", "none", "the 3rd of May", "= + ="] {
            assert_eq!(stated_value(text), None, "{text}");
        }
    }
}
