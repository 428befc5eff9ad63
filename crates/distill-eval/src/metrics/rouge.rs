//! ROUGE, the overlap of words with a reference.

use super::ratio;
use crate::generated_text::GeneratedText;
use crate::text::longest_common_subsequence::{length, reference_positions};
use crate::text::ngrams::{Ngrams, shared};
use crate::text::rouge_tokens::rouge_tokens;
use crate::text::vocabulary::Vocabulary;

pub use crate::text::rouge_tokens::Stemming;

/// One of the ROUGE measures; fractions, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RougeScore {
    /// Fraction of the prediction that the reference has too.
    pub precision: f64,
    /// Fraction of the reference that the prediction has too.
    pub recall: f64,
    /// Harmonic mean of the two; 0 if both are.
    pub f_measure: f64,
}

/// The ROUGE measures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RougeScores {
    /// Words.
    pub rouge1: RougeScore,
    /// Pairs of neighbouring words.
    pub rouge2: RougeScore,
    /// Longest common subsequence of words, over the whole text.
    pub rouge_l: RougeScore,
    /// Longest common subsequences of sentences; each line is one.
    pub rouge_lsum: RougeScore,
}

/// ROUGE of a text against one reference; Lin 2004, as Google's `rouge_score` computes it.
///
/// ROUGE-N counts the n-grams of both, each as often as the text that has fewer of it; ROUGE-L the
/// longest common subsequence. ROUGE-Lsum gives each line of the reference the union of its
/// subsequences with every line of the prediction, and counts a word at most as often as the
/// prediction has it.
pub fn rouge(prediction: &str, reference: &str, stemming: Stemming) -> RougeScores {
    let mut vocabulary = Vocabulary::default();
    let prediction = Text::new(prediction, stemming, &mut vocabulary);
    let reference = Text::new(reference, stemming, &mut vocabulary);
    compare(&prediction, &reference)
}

/// ROUGE of a text against several references: for each measure, that of the reference with the best
/// F-measure, the first of equals. Zeros without references.
pub fn rouge_of_best(prediction: &str, references: &[String], stemming: Stemming) -> RougeScores {
    let mut vocabulary = Vocabulary::default();
    let prediction = Text::new(prediction, stemming, &mut vocabulary);
    let scores = references.iter().map(|reference| {
        let reference = Text::new(reference, stemming, &mut vocabulary);
        compare(&prediction, &reference)
    });
    let better = |left: RougeScore, right: RougeScore| {
        if right.f_measure > left.f_measure { right } else { left }
    };
    scores.reduce(|best, next| best.with(next, better)).unwrap_or_default()
}

/// Mean ROUGE of texts, each against its best references; zeros if there is no text.
pub fn mean_rouge(texts: &[GeneratedText], stemming: Stemming) -> RougeScores {
    let scores = texts.iter().map(|text| rouge_of_best(&text.prediction, &text.references, stemming));
    let sum = scores.fold(RougeScores::default(), |sum, next| sum.with(next, RougeScore::plus));
    sum.with(sum, |sum, _| sum.divided_by(texts.len()))
}

impl RougeScore {
    /// From what was found, and how much of it there is in either text.
    fn new(hits: usize, in_prediction: usize, in_reference: usize) -> Self {
        let precision = ratio(hits as f64, in_prediction as f64);
        let recall = ratio(hits as f64, in_reference as f64);
        Self { precision, recall, f_measure: ratio(2.0 * precision * recall, precision + recall) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            precision: self.precision + other.precision,
            recall: self.recall + other.recall,
            f_measure: self.f_measure + other.f_measure,
        }
    }

    fn divided_by(self, count: usize) -> Self {
        let divided = |sum| ratio(sum, count as f64);
        Self {
            precision: divided(self.precision),
            recall: divided(self.recall),
            f_measure: divided(self.f_measure),
        }
    }
}

impl RougeScores {
    /// Joins each measure with the other's.
    fn with(self, other: Self, join: impl Fn(RougeScore, RougeScore) -> RougeScore) -> Self {
        Self {
            rouge1: join(self.rouge1, other.rouge1),
            rouge2: join(self.rouge2, other.rouge2),
            rouge_l: join(self.rouge_l, other.rouge_l),
            rouge_lsum: join(self.rouge_lsum, other.rouge_lsum),
        }
    }
}

/// The words of a text as numbers.
struct Text {
    words: Vec<u32>,
    /// The lines that have words.
    sentences: Vec<Vec<u32>>,
}

impl Text {
    fn new(text: &str, stemming: Stemming, vocabulary: &mut Vocabulary) -> Self {
        let sentences = text.split('\n').map(|line| vocabulary.ids(rouge_tokens(line, stemming)));
        let sentences: Vec<_> = sentences.filter(|sentence| !sentence.is_empty()).collect();
        Self { words: sentences.concat(), sentences }
    }
}

fn compare(prediction: &Text, reference: &Text) -> RougeScores {
    let of_words = |hits| RougeScore::new(hits, prediction.words.len(), reference.words.len());
    let (ngrams, expected) = (Ngrams::new(&prediction.words, 2), Ngrams::new(&reference.words, 2));
    let of_order = |order| {
        let (found, expected) = (ngrams.of_order(order), expected.of_order(order));
        RougeScore::new(shared(&found, &expected), found.len(), expected.len())
    };
    let common = length(&reference.words, &prediction.words);
    // A union of one subsequence is that subsequence.
    let one_sentence_each = prediction.sentences.len() <= 1 && reference.sentences.len() <= 1;
    RougeScores {
        rouge1: of_order(1),
        rouge2: of_order(2),
        rouge_l: of_words(common),
        rouge_lsum: of_words(if one_sentence_each { common } else { hits_of_unions(prediction, reference) }),
    }
}

/// Words in the unions of all sentences of the reference, each at most as often as in the prediction.
fn hits_of_unions(prediction: &Text, reference: &Text) -> usize {
    let mut in_unions = Vec::new();
    for sentence in &reference.sentences {
        let mut in_union = vec![false; sentence.len()];
        for candidate in &prediction.sentences {
            for position in reference_positions(sentence, candidate) {
                in_union[position] = true;
            }
        }
        in_unions.extend(sentence.iter().zip(in_union).filter(|(_, hit)| *hit).map(|(&word, _)| word));
    }
    in_unions.sort_unstable();
    let mut in_prediction = prediction.words.clone();
    in_prediction.sort_unstable();
    shared(&in_unions, &in_prediction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(precision: f64, recall: f64) -> RougeScore {
        RougeScore { precision, recall, f_measure: 2.0 * precision * recall / (precision + recall) }
    }

    /// The example of Lin 2004, section 3.1.
    #[test]
    fn word_order_counts_for_the_subsequence_only() {
        let reference = "police killed the gunman";
        let kept = rouge("police kill the gunman", reference, Stemming::Off);
        let turned = rouge("the gunman kill police", reference, Stemming::Off);
        assert_eq!((kept.rouge_l, turned.rouge_l), (score(0.75, 0.75), score(0.5, 0.5)));
        assert_eq!(kept.rouge1, turned.rouge1);
        assert_eq!(kept.rouge2, turned.rouge2);
    }

    #[test]
    fn stems_match_where_words_do_not() {
        let reference = "police killed the gunman";
        assert_eq!(rouge("Police kill the gunman.", reference, Stemming::Porter).rouge1, score(1.0, 1.0));
    }

    #[test]
    fn precision_is_of_the_prediction() {
        // 2 of 3 words and 1 of 2 pairs of the prediction; 2 of 4 and 1 of 3 of the reference.
        let scores = rouge("a b x", "a b c d", Stemming::Off);
        assert_eq!(scores.rouge1, score(2.0 / 3.0, 0.5));
        assert_eq!(scores.rouge2, score(0.5, 1.0 / 3.0));
    }

    #[test]
    fn a_repeated_word_counts_as_often_as_both_have_it() {
        assert_eq!(rouge("a a a a", "a b a", Stemming::Off).rouge1, score(0.5, 2.0 / 3.0));
    }

    /// The example of Lin 2004, section 3.2: the union of `w1 w3 w5` and `w1 w2` has four of five words;
    /// the prediction has ten. Over the whole text `w1 w3 w5` is the longest.
    #[test]
    fn the_summary_level_takes_the_union() {
        let scores = rouge("w1 w3 w8 w9 w5\nw1 w2 w6 w7 w8", "w1 w2 w3 w4 w5", Stemming::Off);
        assert_eq!(scores.rouge_lsum, score(0.4, 0.8));
        assert_eq!(scores.rouge_l, score(0.3, 0.6));
    }

    /// Both lines of the reference match the one `a`; it counts once.
    #[test]
    fn the_summary_level_counts_a_word_once() {
        assert_eq!(rouge("a", "a\na", Stemming::Off).rouge_lsum, score(1.0, 0.5));
    }

    #[test]
    fn the_best_reference_counts_for_each_measure() {
        let references = ["a x b y".to_owned(), "b a".to_owned()];
        let scores = rouge_of_best("a b", &references, Stemming::Off);
        assert_eq!(scores.rouge1, score(1.0, 1.0));
        assert_eq!(scores.rouge2, RougeScore::default());
        assert_eq!(scores.rouge_l, score(1.0, 0.5));
        assert_eq!(rouge_of_best("a", &[], Stemming::Off), RougeScores::default());
    }

    #[test]
    fn empty_texts_score_0() {
        for (prediction, reference) in [("", "a"), ("a", ""), ("", ""), ("...", "\n\n")] {
            assert_eq!(rouge(prediction, reference, Stemming::Porter), RougeScores::default());
        }
    }

    #[test]
    fn the_mean_weighs_texts_alike() {
        let texts =
            [GeneratedText::new("a", "a"), GeneratedText::new("a", "a b c"), GeneratedText::new("", "a")];
        let scores = mean_rouge(&texts, Stemming::Off);
        assert_eq!(scores.rouge1, RougeScore { precision: 2.0 / 3.0, recall: 4.0 / 9.0, f_measure: 0.5 });
        assert_eq!(mean_rouge(&[], Stemming::Off), RougeScores::default());
    }
}
