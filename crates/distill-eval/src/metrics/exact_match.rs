//! Share of generated texts that are a reference, letter by letter.

use super::ratio;
use crate::generated_text::GeneratedText;
use crate::text::whitespace::trim;

/// Fraction of predictions that equal one of their references, whitespace around both aside; 0 to 1,
/// and 0 if there is no text.
pub fn exact_match(texts: &[GeneratedText]) -> f64 {
    let matches = |text: &&GeneratedText| {
        text.references.iter().any(|reference| trim(reference) == trim(&text.prediction))
    };
    ratio(texts.iter().filter(matches).count() as f64, texts.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_reference_will_do_and_case_counts() {
        let of = |prediction: &str, references: &[&str]| GeneratedText {
            prediction: prediction.to_owned(),
            references: references.iter().map(|&reference| reference.to_owned()).collect(),
        };
        let texts =
            [of(" yes\n", &["no", "yes"]), of("Yes", &["yes"]), of("", &["  "]), of("a b", &["a  b"])];
        assert_eq!(exact_match(&texts), 0.5);
        assert_eq!(exact_match(&[]), 0.0);
    }
}
