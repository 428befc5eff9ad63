//! chrF, an F-score of character n-grams.

use super::ratio;
use crate::generated_text::GeneratedText;
use crate::text::ngrams::{Ngrams, shared};
use crate::text::whitespace::visible_chars;

/// Longest n-grams that count.
const MAX_ORDER: usize = 6;

/// How many times more recall weighs than precision.
const BETA: f64 = 2.0;

/// chrF2 of a corpus, 0 to 100, as sacrebleu computes it by default: character n-grams of one to six,
/// whitespace left out, case kept.
///
/// `chrF = 100 · (1 + β²) P R / (β² P + R)`, β = 2; `P` and `R` are precision and recall of the corpus'
/// n-grams, averaged over the orders that predictions and references both have; Popović 2015,
/// section 2. Of several references the one with the best score counts. 0 if nothing matches.
pub fn chrf(texts: &[GeneratedText]) -> f64 {
    let mut corpus = Counts::default();
    for text in texts {
        let prediction = ngrams(&text.prediction);
        let counted = text.references.iter().map(|reference| Counts::new(&prediction, &ngrams(reference)));
        // The first of equals, which `max_by` would not give.
        let best = counted.reduce(|best, next| if next.score() > best.score() { next } else { best });
        corpus.add(&best.unwrap_or_default());
    }
    corpus.score()
}

fn ngrams(text: &str) -> Ngrams {
    // From 1 on, since 0 is nobody's.
    let symbols: Vec<_> = visible_chars(text).map(|c| c as u32 + 1).collect();
    Ngrams::new(&symbols, MAX_ORDER)
}

/// What chrF counts; index `n` holds the n-grams of `n + 1` characters.
#[derive(Default)]
struct Counts {
    prediction: [usize; MAX_ORDER],
    reference: [usize; MAX_ORDER],
    matches: [usize; MAX_ORDER],
}

impl Counts {
    fn new(prediction: &Ngrams, reference: &Ngrams) -> Self {
        let mut counts = Self::default();
        for order in 1..=MAX_ORDER {
            let (found, expected) = (prediction.of_order(order), reference.of_order(order));
            // As in sacrebleu, a reference too short for an order leaves the prediction's uncounted.
            counts.prediction[order - 1] = if expected.is_empty() { 0 } else { found.len() };
            counts.reference[order - 1] = expected.len();
            counts.matches[order - 1] = shared(&found, &expected);
        }
        counts
    }

    fn add(&mut self, other: &Self) {
        for order in 0..MAX_ORDER {
            self.prediction[order] += other.prediction[order];
            self.reference[order] += other.reference[order];
            self.matches[order] += other.matches[order];
        }
    }

    fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for order in 0..MAX_ORDER {
            let (found, expected) = (self.prediction[order], self.reference[order]);
            if found > 0 && expected > 0 {
                precision += self.matches[order] as f64 / found as f64;
                recall += self.matches[order] as f64 / expected as f64;
                orders += 1.0;
            }
        }
        let (precision, recall) = (ratio(precision, orders), ratio(recall, orders));
        let factor = BETA * BETA;
        100.0 * ratio((1.0 + factor) * precision * recall, factor * precision + recall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "found {found}, expected {expected}");
    }

    #[test]
    fn a_copy_scores_100_whatever_its_spaces() {
        close(chrf(&[GeneratedText::new("a long word", " along\tword\n")]), 100.0);
    }

    /// Characters 2 of 2 and of 3, pairs 1 of 1 and of 2; the prediction has no triple.
    #[test]
    fn orders_that_one_side_lacks_do_not_count() {
        let (precision, recall) = (1.0, (2.0 / 3.0 + 1.0 / 2.0) / 2.0);
        close(chrf(&[GeneratedText::new("ab", "abc")]), 100.0 * 5.0 * precision * recall / (4.0 + recall));
    }

    #[test]
    fn recall_weighs_more() {
        let (long, short) = ("abcdefgh", "abcd");
        assert!(chrf(&[GeneratedText::new(long, short)]) > chrf(&[GeneratedText::new(short, long)]));
    }

    #[test]
    fn the_best_reference_counts() {
        let references = vec!["xyz".to_owned(), "abc".to_owned(), "abd".to_owned()];
        close(chrf(&[GeneratedText { prediction: "abc".to_owned(), references }]), 100.0);
    }

    #[test]
    fn characters_are_code_points() {
        // 1 of 2 characters, and no pair in common.
        close(chrf(&[GeneratedText::new("\u{4e2d}\u{1f642}", "\u{4e2d}\u{6587}")]), 25.0);
    }

    #[test]
    fn nothing_to_count_is_0() {
        assert_eq!(chrf(&[]), 0.0);
        assert_eq!(chrf(&[GeneratedText::new("", "abc")]), 0.0);
        assert_eq!(chrf(&[GeneratedText::new("abc", "")]), 0.0);
        assert_eq!(chrf(&[GeneratedText::new("abc", "xyz")]), 0.0);
    }
}
