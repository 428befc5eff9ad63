//! Every metric of generated texts.

use crate::error::EvalError;
use crate::generated_text::GeneratedText;
use crate::metrics::bleu::bleu;
use crate::metrics::chrf::chrf;
use crate::metrics::exact_match::exact_match;
use crate::metrics::rouge::{Stemming, mean_rouge};
use crate::text::whitespace::words;
use serde::{Deserialize, Serialize};

/// What generated texts score against their references. The ROUGE values are mean F-measures, 0 to 1,
/// those with `_stemmed` after stemming; BLEU and chrF are of the corpus, 0 to 100. All are finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Number of generated texts.
    pub rows: u64,
    /// Fraction of texts that are a reference.
    pub exact_match: f64,
    /// ROUGE-1: words.
    pub rouge1: f64,
    /// ROUGE-2: pairs of words.
    pub rouge2: f64,
    /// ROUGE-L: longest common subsequence.
    #[serde(rename = "rougeL")]
    pub rouge_l: f64,
    /// ROUGE-Lsum: the same, line by line.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: f64,
    /// ROUGE-1 of stems.
    pub rouge1_stemmed: f64,
    /// ROUGE-2 of stems.
    pub rouge2_stemmed: f64,
    /// ROUGE-L of stems.
    #[serde(rename = "rougeL_stemmed")]
    pub rouge_l_stemmed: f64,
    /// ROUGE-Lsum of stems.
    #[serde(rename = "rougeLsum_stemmed")]
    pub rouge_lsum_stemmed: f64,
    /// BLEU as sacrebleu computes it by default.
    pub bleu: f64,
    /// chrF as sacrebleu computes it by default.
    pub chrf: f64,
    /// Mean length of the generated texts, words between whitespace.
    pub mean_prediction_words: f64,
    /// Mean length of all references, words between whitespace.
    pub mean_reference_words: f64,
}

impl GenerationReport {
    /// Scores generated texts.
    ///
    /// # Errors
    /// - [`EvalError::Empty`] if there is none
    /// - [`EvalError::NoReference`] if one has nothing to be held against
    pub fn from_texts(texts: &[GeneratedText]) -> Result<Self, EvalError> {
        if texts.is_empty() {
            return Err(EvalError::Empty);
        }
        if let Some(row) = texts.iter().position(|text| text.references.is_empty()) {
            return Err(EvalError::NoReference { row });
        }
        let plain = mean_rouge(texts, Stemming::Off);
        let stemmed = mean_rouge(texts, Stemming::Porter);
        Ok(Self {
            rows: texts.len() as u64,
            exact_match: exact_match(texts),
            rouge1: plain.rouge1.f_measure,
            rouge2: plain.rouge2.f_measure,
            rouge_l: plain.rouge_l.f_measure,
            rouge_lsum: plain.rouge_lsum.f_measure,
            rouge1_stemmed: stemmed.rouge1.f_measure,
            rouge2_stemmed: stemmed.rouge2.f_measure,
            rouge_l_stemmed: stemmed.rouge_l.f_measure,
            rouge_lsum_stemmed: stemmed.rouge_lsum.f_measure,
            bleu: bleu(texts),
            chrf: chrf(texts),
            mean_prediction_words: mean_words(texts.iter().map(|text| text.prediction.as_str())),
            mean_reference_words: mean_words(texts.iter().flat_map(|t| &t.references).map(String::as_str)),
        })
    }
}

/// Mean number of words of one or more texts.
fn mean_words<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let (count, total) = texts.fold((0, 0), |(count, total), text| (count + 1, total + words(text).count()));
    total as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_score_the_most_and_lengths_are_in_words() {
        let texts = [
            GeneratedText::new("one two three four", "one two three four"),
            GeneratedText {
                prediction: "five".to_owned(),
                references: vec!["five".to_owned(), "6".to_owned()],
            },
        ];
        let report = GenerationReport::from_texts(&texts).unwrap();
        assert_eq!((report.rows, report.exact_match, report.rouge1, report.rouge_lsum), (2, 1.0, 1.0, 1.0));
        // One word has no pair.
        assert_eq!((report.rouge2, report.rouge2_stemmed), (0.5, 0.5));
        assert!((report.bleu - 100.0).abs() < 1e-9 && (report.chrf - 100.0).abs() < 1e-9);
        assert_eq!((report.mean_prediction_words, report.mean_reference_words), (2.5, 2.0));
    }

    #[test]
    fn survives_a_round_trip_through_json() {
        let texts =
            [GeneratedText::new("cats and dogs", "a cat, a dog\nand more"), GeneratedText::new("", "b")];
        let report = GenerationReport::from_texts(&texts).unwrap();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<GenerationReport>(&json).unwrap(), report);
        assert!(json.contains("\"rougeL\":") && json.contains("\"rougeLsum_stemmed\":"));
    }

    #[test]
    fn stemming_finds_more() {
        let report = GenerationReport::from_texts(&[GeneratedText::new("cats running", "cat runs")]).unwrap();
        assert_eq!((report.rouge1, report.rouge1_stemmed, report.rouge_l_stemmed), (0.0, 1.0, 1.0));
    }

    #[test]
    fn asks_for_texts_and_references() {
        assert_eq!(GenerationReport::from_texts(&[]), Err(EvalError::Empty));
        let lonely = GeneratedText { prediction: "a".to_owned(), references: Vec::new() };
        let error = GenerationReport::from_texts(&[GeneratedText::new("a", "a"), lonely]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 1 has no reference text to compare the generated one with; give at least one"
        );
    }
}
