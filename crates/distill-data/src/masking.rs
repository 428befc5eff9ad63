//! Dynamic masking for masked language models: which tokens are hidden, and by what.
use crate::IGNORED_LABEL;
use crate::shuffle::{Purpose, Shuffler};
use crate::tokenizer::Tokenizer;

/// Of the chosen tokens, those that become the mask token; Devlin et al. 2018, §3.1.
const MASKED: f64 = 0.8;
/// Up to here a random token is put in (10%); beyond it, the token stays as it is (10%).
const MASKED_OR_RANDOM: f64 = 0.9;

/// How tokens are hidden: BERT's 80/10/10 (Devlin et al. 2018, §3.1, arXiv:1810.04805), drawn anew whenever a row is
/// seen (RoBERTa's dynamic masking; Liu et al. 2019, §4.1, arXiv:1907.11692).
///
/// Each token is chosen on its own with `probability`, as in Transformers' collator: a short row may have no chosen
/// token, and then counts for nothing in a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Masking {
    /// Fraction of the ordinary tokens that are chosen, from 0 to 1; 0.15 in the papers.
    pub probability: f64,
    /// What hides a token.
    pub mask_token_id: u32,
    /// Random tokens are below it.
    pub vocab_size: u32,
    /// Never chosen and never put in: `[CLS]`, `[SEP]`, `[PAD]` and the like, ascending.
    pub special_ids: Vec<u32>,
    /// Seed of all draws.
    pub seed: u64,
}

impl Masking {
    /// Masking with the special tokens of `tokenizer`; `None` if it has no mask token.
    pub fn new(tokenizer: &Tokenizer, probability: f64, seed: u64) -> Option<Self> {
        Some(Self {
            probability,
            mask_token_id: tokenizer.mask_token_id()?,
            vocab_size: u32::try_from(tokenizer.vocab_size()).ok()?,
            special_ids: tokenizer.special_ids(),
            seed,
        })
    }

    /// Masks one row as it is seen in `pass`, and returns its labels: the token that was there where one was chosen,
    /// −100 elsewhere.
    ///
    /// `row` is the row's number in its data set; `pass` the epoch's, or one that does not change, for validation.
    /// What happens to a token is a function of seed, pass, row and its place: neither the batch nor what follows
    /// in the row matters.
    ///
    /// # Shapes
    /// - `input_ids`: `[seq]`, changed in place
    /// - returns `[seq]`
    pub fn mask(&self, input_ids: &mut [u32], row: u64, pass: u64) -> Vec<i64> {
        let mut draws = Shuffler::of_row(self.seed, Purpose::Masking, pass, row);
        input_ids
            .iter_mut()
            .map(|id| {
                // Two draws for every token, used or not, so that a place always meets the same ones.
                let (choice, random) = (draws.fraction(), draws.fraction());
                if choice >= self.probability || self.is_special(*id) {
                    return IGNORED_LABEL;
                }
                let label = i64::from(*id);
                if choice < self.probability * MASKED {
                    *id = self.mask_token_id;
                } else if choice < self.probability * MASKED_OR_RANDOM {
                    *id = self.ordinary(random).unwrap_or(*id);
                }
                label
            })
            .collect()
    }

    fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The token at `fraction` of all that are not special; `None` if there is none.
    fn ordinary(&self, fraction: f64) -> Option<u32> {
        let special = || self.special_ids.iter().copied().filter(|&id| id < self.vocab_size);
        let count = self.vocab_size.checked_sub(special().count() as u32).filter(|&count| count > 0)?;
        let place = (fraction * f64::from(count)) as u32;
        // Every special token at or below moves it one further.
        Some(special().fold(place, |id, special| id + u32::from(special <= id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: u32 = 1000;
    const MASK: u32 = 103;

    fn masking() -> Masking {
        Masking {
            probability: 0.15,
            mask_token_id: MASK,
            vocab_size: VOCAB,
            special_ids: vec![0, 100, 101, 102, MASK, 999],
            seed: 11,
        }
    }

    /// `[CLS]`, ordinary tokens, `[SEP]`, padding.
    fn row(number: u64) -> Vec<u32> {
        let tokens = (0..96).map(|place| 200 + ((number * 31 + place * 17) % 700) as u32);
        std::iter::once(101).chain(tokens).chain([102, 0, 0]).collect()
    }

    /// Whether `found` of `trials` is within four standard deviations of `probability`.
    fn fits(found: u32, trials: u32, probability: f64) -> bool {
        let (found, trials) = (f64::from(found), f64::from(trials));
        let deviation = (trials * probability * (1.0 - probability)).sqrt();
        (found - trials * probability).abs() < 4.0 * deviation
    }

    #[test]
    fn proportions_are_those_of_the_paper() {
        let masking = masking();
        let (mut tokens, mut chosen, mut masked, mut kept, mut random) = (0, 0, 0, 0, 0);
        for number in 0..2000 {
            let original = row(number);
            let mut ids = original.clone();
            let labels = masking.mask(&mut ids, number, 0);
            assert_eq!(labels.len(), ids.len());
            for ((before, after), label) in original.iter().zip(&ids).zip(labels) {
                if masking.is_special(*before) {
                    assert_eq!((after, label), (before, IGNORED_LABEL));
                    continue;
                }
                tokens += 1;
                if label == IGNORED_LABEL {
                    assert_eq!(after, before);
                    continue;
                }
                assert_eq!(label, i64::from(*before));
                chosen += 1;
                if *after == MASK {
                    masked += 1;
                } else if after == before {
                    kept += 1;
                } else {
                    assert!(*after < VOCAB && !masking.is_special(*after));
                    random += 1;
                }
            }
        }
        assert_eq!(tokens, 192_000);
        assert!(fits(chosen, tokens, 0.15), "{chosen} of {tokens}");
        assert!(fits(masked, chosen, 0.8), "{masked} of {chosen}");
        // A random token is the same one in 1 of 994 cases.
        assert!(fits(random, chosen, 0.1 * 993.0 / 994.0), "{random} of {chosen}");
        assert!(fits(kept, chosen, 0.1 + 0.1 / 994.0), "{kept} of {chosen}");
    }

    #[test]
    fn every_ordinary_token_is_put_in_and_no_special_one() {
        let masking = Masking { vocab_size: 12, special_ids: vec![0, 1, 5, 11, 90], ..masking() };
        let found: std::collections::BTreeSet<u32> =
            (0..1000).filter_map(|step| masking.ordinary(f64::from(step) / 1000.0)).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [2, 3, 4, 6, 7, 8, 9, 10]);
        let none = Masking { vocab_size: 2, ..masking };
        assert_eq!(none.ordinary(0.5), None);
        let mut ids = vec![7; 50];
        Masking { probability: 1.0, ..none }.mask(&mut ids, 0, 0);
        assert!(ids.iter().all(|id| [7, MASK].contains(id)));
    }

    #[test]
    fn draws_depend_on_seed_pass_row_and_place() {
        let masking = masking();
        let masked = |masking: &Masking, length: usize, number, pass| {
            let mut ids = row(3);
            ids.truncate(length);
            let labels = masking.mask(&mut ids, number, pass);
            (ids, labels)
        };
        let first = masked(&masking, 97, 3, 0);
        assert_eq!(first, masked(&masking, 97, 3, 0));
        let (ids, labels) = masked(&masking, 40, 3, 0);
        assert_eq!((ids.as_slice(), labels.as_slice()), (&first.0[..40], &first.1[..40]));
        assert_ne!(first, masked(&masking, 97, 3, 1));
        assert_ne!(first, masked(&masking, 97, 4, 0));
        assert_ne!(first, masked(&Masking { seed: 12, ..masking.clone() }, 97, 3, 0));
    }

    /// The masks of a run must not change from one version of this crate to the next.
    #[test]
    fn the_draws_are_pinned() {
        let mut ids = row(5);
        let labels = masking().mask(&mut ids, 5, 2);
        let places: Vec<usize> = (0..labels.len()).filter(|&place| labels[place] != IGNORED_LABEL).collect();
        assert_eq!(places, [1, 2, 3, 4, 29, 57, 64, 77]);
    }

    #[test]
    fn everything_or_nothing() {
        let mut ids = row(1);
        let nothing = Masking { probability: 0.0, ..masking() }.mask(&mut ids, 1, 0);
        assert!(nothing.iter().all(|label| *label == IGNORED_LABEL) && ids == row(1));
        let all = Masking { probability: 1.0, ..masking() }.mask(&mut ids, 1, 0);
        assert_eq!(all.iter().filter(|label| **label != IGNORED_LABEL).count(), 96);
    }

    #[test]
    fn special_tokens_come_from_the_tokenizer() {
        let texts = ["one two three", "two three four"];
        let tokenizer = Tokenizer::train(texts, &crate::tokenizer::TrainConfig::default()).unwrap();
        let masking = Masking::new(&tokenizer, 0.15, 1).unwrap();
        assert_eq!((masking.mask_token_id, masking.special_ids.len()), (4, 5));
        assert_eq!(masking.vocab_size as usize, tokenizer.vocab_size());
    }
}
