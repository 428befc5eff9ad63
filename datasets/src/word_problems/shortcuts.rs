//! How far one gets without understanding a problem.

use super::Row;
use std::collections::HashMap;

/// A way to guess an answer, and the share of rows on which it is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortcut {
    /// What is done.
    pub name: &'static str,
    /// Right answers as a fraction of the test rows, 0 to 1.
    pub accuracy: f64,
}

/// Guesses an answer from the numbers that the question has in digits, at least one, in its order.
type Guess = fn(&[usize]) -> Option<usize>;

/// Guesses that look at the numbers alone.
const GUESSES: &[(&str, Guess)] = &[
    ("the first number", |numbers| numbers.first().copied()),
    ("the last number", |numbers| numbers.last().copied()),
    ("the largest number", |numbers| numbers.iter().copied().max()),
    ("add all numbers", |numbers| Some(numbers.iter().sum())),
    ("the largest number minus all others", |numbers| {
        let largest = numbers.iter().max()?;
        (2 * largest).checked_sub(numbers.iter().sum())
    }),
    ("multiply all numbers", |numbers| {
        numbers.iter().try_fold(1_usize, |all, number| all.checked_mul(*number))
    }),
];

/// The answer that is commonest in training, guesses from the numbers, and the training question
/// with the most words in common (numbers count as words).
pub(super) fn shortcuts(train: &[Row], test: &[Row]) -> Vec<Shortcut> {
    let accuracy = |right: usize| right as f64 / test.len() as f64;
    let constant = commonest(train);
    let mut shortcuts = vec![Shortcut {
        name: "the commonest answer",
        accuracy: accuracy(test.iter().filter(|row| row.answer == constant).count()),
    }];
    for (name, guess) in GUESSES {
        let is_right = |row: &&Row| guess(&numbers(&row.question)) == Some(row.answer);
        shortcuts.push(Shortcut { name, accuracy: accuracy(test.iter().filter(is_right).count()) });
    }
    let index = Index::new(train);
    let neighbours = test.iter().filter(|row| train[index.nearest(&row.question)].answer == row.answer);
    shortcuts.push(Shortcut {
        name: "the most similar training question",
        accuracy: accuracy(neighbours.count()),
    });
    shortcuts
}

fn commonest(rows: &[Row]) -> usize {
    let mut counts = HashMap::new();
    for row in rows {
        *counts.entry(row.answer).or_insert(0) += 1;
    }
    // Of equally common ones the smallest.
    counts
        .into_iter()
        .max_by_key(|&(answer, count)| (count, std::cmp::Reverse(answer)))
        .map_or(0, |(answer, _)| answer)
}

/// Numbers in digits, in order.
fn numbers(text: &str) -> Vec<usize> {
    words(text).filter_map(|word| word.parse().ok()).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The rows in which each word occurs.
struct Index<'a> {
    rows: HashMap<&'a str, Vec<usize>>,
    count: usize,
}

impl<'a> Index<'a> {
    fn new(rows: &'a [Row]) -> Self {
        let mut index: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            for word in distinct(&row.question) {
                index.entry(word).or_default().push(number);
            }
        }
        Self { rows: index, count: rows.len() }
    }

    /// The first row of those that share the most, a word counting the more the rarer it is.
    fn nearest(&self, question: &str) -> usize {
        let mut scores = vec![0.0; self.count];
        for word in distinct(question) {
            let rows = self.rows.get(word).map_or(&[][..], Vec::as_slice);
            let weight = (self.count as f64 / rows.len().max(1) as f64).ln();
            for &row in rows {
                scores[row] += weight;
            }
        }
        let mut best = 0;
        for (row, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = row;
            }
        }
        best
    }
}

fn distinct(text: &str) -> Vec<&str> {
    let mut distinct: Vec<&str> = words(text).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(question: &str, answer: usize) -> Row {
        Row { question: question.to_owned(), rationale: String::new(), answer, expression: String::new() }
    }

    #[test]
    fn shortcuts_are_counted() {
        let train = [row("Ann has 7 books.", 7), row("Ben has 7 cards.", 9), row("Ben has 2 coins.", 9)];
        let test = [row("Ann has 7 cards. She gets 3.", 10), row("Ben had 2 coins and 9 more?", 9)];
        let found: Vec<(&str, f64)> =
            shortcuts(&train, &test).into_iter().map(|shortcut| (shortcut.name, shortcut.accuracy)).collect();
        assert_eq!(
            found,
            [
                ("the commonest answer", 0.5),
                ("the first number", 0.0),
                ("the last number", 0.5),
                ("the largest number", 0.5),
                ("add all numbers", 0.5),
                ("the largest number minus all others", 0.0),
                ("multiply all numbers", 0.0),
                ("the most similar training question", 0.5),
            ]
        );
    }
}
