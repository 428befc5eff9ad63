//! BLEU, the precision of word n-grams.

use crate::generated_text::GeneratedText;
use crate::text::ngrams::{Ngrams, shared, union};
use crate::text::tokenizer_13a::tokenizer_13a;
use crate::text::vocabulary::Vocabulary;

/// Longest n-grams that count.
const MAX_ORDER: usize = 4;

/// BLEU of a corpus, 0 to 100, as sacrebleu computes it by default: tokenizer `13a`, exponential
/// smoothing, case kept.
///
/// `BLEU = 100 · min(1, e^(1 − r/c)) · exp(Σ_n ln p_n / 4)`, n = 1 to 4; Papineni et al. 2002,
/// section 2.3. `p_n` is the share of the predictions' n-grams that occur in a reference, each at
/// most as often as in the reference that has most of it; `c` counts the words of all predictions, `r`
/// those of the reference of each that is closest in length, the shorter of two. The i-th order
/// without a match counts half a match to the power of i (sacrebleu's `exp`; Post 2018,
/// arXiv:1804.08771). 0 if no word matches, or if no prediction has four words.
pub fn bleu(texts: &[GeneratedText]) -> f64 {
    let mut corpus = Counts::default();
    for text in texts {
        corpus.add(text);
    }
    corpus.score()
}

/// What BLEU counts in a corpus; index `n` holds the n-grams of `n + 1` words.
#[derive(Default)]
struct Counts {
    matches: [usize; MAX_ORDER],
    totals: [usize; MAX_ORDER],
    prediction_length: usize,
    reference_length: usize,
}

impl Counts {
    fn add(&mut self, text: &GeneratedText) {
        let mut vocabulary = Vocabulary::default();
        let mut ids = |text: &str| vocabulary.ids(tokenizer_13a(text));
        let prediction = ids(&text.prediction);
        let references: Vec<_> = text.references.iter().map(|reference| ids(reference)).collect();

        let closest = |length: &usize| (length.abs_diff(prediction.len()), *length);
        self.prediction_length += prediction.len();
        self.reference_length += references.iter().map(Vec::len).min_by_key(closest).unwrap_or(0);

        let prediction = Ngrams::new(&prediction, MAX_ORDER);
        let references: Vec<_> = references.iter().map(|ids| Ngrams::new(ids, MAX_ORDER)).collect();
        for order in 1..=MAX_ORDER {
            let found = prediction.of_order(order);
            let of_references = references.iter().map(|reference| reference.of_order(order));
            let allowed = of_references.reduce(|left, right| union(&left, &right)).unwrap_or_default();
            self.totals[order - 1] += found.len();
            self.matches[order - 1] += shared(&found, &allowed);
        }
    }

    fn score(&self) -> f64 {
        if self.matches[0] == 0 || self.totals[MAX_ORDER - 1] == 0 {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let log_precision = |(&matches, &total): (&usize, &usize)| {
            let matches = if matches == 0 {
                smoothing /= 2.0;
                smoothing
            } else {
                matches as f64
            };
            (100.0 * matches / total as f64).ln()
        };
        let log_precisions: f64 = self.matches.iter().zip(&self.totals).map(log_precision).sum();
        self.brevity_penalty() * (log_precisions / MAX_ORDER as f64).exp()
    }

    fn brevity_penalty(&self) -> f64 {
        if self.prediction_length < self.reference_length {
            (1.0 - self.reference_length as f64 / self.prediction_length as f64).exp()
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "found {found}, expected {expected}");
    }

    #[test]
    fn a_copy_scores_100() {
        close(bleu(&[GeneratedText::new("one two three four", "one two three four")]), 100.0);
    }

    /// Of 5 words 4 match, of 4 pairs 2, of 3 triples 1, of 2 quadruples none: half of one.
    #[test]
    fn an_order_without_a_match_counts_half_a_match() {
        let texts = [GeneratedText::new("a b c x d", "a b c d e")];
        close(bleu(&texts), 100.0 * (0.8 * 0.5 * (1.0 / 3.0) * (0.5 / 2.0_f64)).powf(0.25));
    }

    /// 4 words against 8: `e^(1 − 2)`.
    #[test]
    fn short_predictions_are_penalised() {
        let texts = [GeneratedText::new("a b c d", "a b c d e f g h")];
        close(bleu(&texts), 100.0 * (-1.0_f64).exp());
    }

    /// Lengths 3 and 5 are as close to 4; the shorter counts, so nothing is penalised.
    #[test]
    fn the_closest_reference_gives_the_length() {
        let references = vec!["a b c".to_owned(), "b c d e f".to_owned()];
        let text = GeneratedText { prediction: "a b c d".to_owned(), references };
        // Words 4 of 4, pairs 3 of 3, triples 2 of 2, no quadruple.
        close(bleu(&[text]), 100.0 * 0.5_f64.powf(0.25));
    }

    #[test]
    fn repeating_a_word_does_not_pay() {
        let texts = [GeneratedText::new("the the the the", "the cat sat down")];
        // 1 of 4 words, then halves, quarters and eighths of a match.
        let precisions = [1.0 / 4.0, 0.5 / 3.0, 0.25 / 2.0, 0.125 / 1.0_f64];
        close(bleu(&texts), 100.0 * precisions.iter().product::<f64>().powf(0.25));
    }

    #[test]
    fn nothing_to_count_is_0() {
        assert_eq!(bleu(&[]), 0.0);
        assert_eq!(bleu(&[GeneratedText::new("", "a b c d")]), 0.0);
        assert_eq!(bleu(&[GeneratedText::new("a b c d", "e f g h")]), 0.0);
        assert_eq!(bleu(&[GeneratedText::new("a b c", "a b c")]), 0.0);
        assert_eq!(bleu(&[GeneratedText::new("a b c d", "")]), 0.0);
    }
}
