//! Changed copies of a text.

use super::AugmentSettings;
use super::places::{Row, Vocabulary};
use distill_data::shuffle::{Purpose, Shuffler};

/// The changed copies of `row`, at most `settings.copies`: those that equal the text or an earlier copy are left out.
///
/// `candidates` has one list for each of the row's places. Each place takes the same two draws whether or not it is
/// replaced: whether it is, and by which candidate.
pub(super) fn copies(
    row: &Row,
    candidates: &[Vec<u32>],
    vocabulary: &Vocabulary,
    settings: &AugmentSettings,
) -> Vec<String> {
    let mut copies: Vec<String> = Vec::new();
    for copy in 0..settings.copies as u64 {
        let mut draws = Shuffler::of_row(settings.seed, Purpose::Augmentation, copy, row.number as u64);
        let mut text = String::with_capacity(row.text.len() + 32);
        let mut written = 0;
        for (place, candidates) in row.places.iter().zip(candidates) {
            let replaced = draws.fraction() < settings.probability;
            let choice = draws.below(candidates.len() as u64) as usize;
            let word = candidates.get(choice).and_then(|id| vocabulary.word(*id));
            if let Some(word) = word.filter(|_| replaced) {
                text.push_str(&row.text[written..place.start]);
                push_as_written(&mut text, word, &row.text[place.start..place.end]);
                written = place.end;
            }
        }
        text.push_str(&row.text[written..]);
        if text != row.text && !copies.contains(&text) {
            copies.push(text);
        }
    }
    copies
}

/// Appends `word`, with a capital where the word that it replaces has one.
fn push_as_written(text: &mut String, word: &str, replaced: &str) {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) if replaced.starts_with(char::is_uppercase) => {
            text.extend(first.to_uppercase());
            text.push_str(letters.as_str());
        }
        _ => text.push_str(word),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{settings, tokenizer};
    use super::*;

    const TEXT: &str = "The  bank (the BANK) broke; again and again";

    fn made(settings: &AugmentSettings, number: usize) -> Vec<String> {
        let tokenizer = tokenizer();
        let vocabulary = Vocabulary::new(&tokenizer, tokenizer.vocab_size()).expect("a vocabulary");
        let row = Row::new(number, TEXT, &tokenizer, &vocabulary, 64).expect("a row");
        let printer = tokenizer.token_to_id("printer").expect("a word");
        let candidates = vec![vec![printer]; row.places.len()];
        copies(&row, &candidates, &vocabulary, settings)
    }

    #[test]
    fn what_is_around_a_word_stays() {
        let all = made(&AugmentSettings { probability: 1.0, ..settings() }, 0);
        // Every copy would be the same.
        assert_eq!(all, ["Printer  printer (printer Printer) printer; printer printer printer"]);
        assert!(made(&AugmentSettings { probability: 0.0, ..settings() }, 0).is_empty());
    }

    #[test]
    fn copies_are_a_function_of_seed_row_and_copy() {
        let five = AugmentSettings { copies: 5, ..settings() };
        let first = made(&five, 3);
        assert_eq!(first, made(&five, 3));
        assert_ne!(first, made(&five, 4));
        assert_ne!(first, made(&AugmentSettings { seed: 9, ..five.clone() }, 3));
        let more = made(&AugmentSettings { copies: 8, ..five }, 3);
        assert_eq!(first, more[..first.len()]);
        assert!(first.len() > 1 && first.iter().all(|copy| copy != TEXT));
    }

    #[test]
    fn words_are_replaced_with_their_probability() {
        let one = AugmentSettings { copies: 1, probability: 0.4, ..settings() };
        let (mut places, mut replaced) = (0.0, 0.0);
        for number in 0..400 {
            for copy in made(&one, number) {
                replaced += copy.to_lowercase().matches("printer").count() as f64;
            }
            places += 8.0;
        }
        let deviation = (places * 0.4_f64 * 0.6).sqrt();
        assert!((replaced - places * 0.4).abs() < 4.0 * deviation, "{replaced} of {places}");
    }
}
