//! The likeliest next tokens of a teacher on disk, with what all others have together: a vocabulary's logits would be a
//! hundred times as large.
//!
//! A row of the cache is a token that is learnt. It holds the numbers of `k` tokens, the logarithms of their
//! probabilities, and for each temperature that a loss asks for `log Σ exp(log p / T)` of all others.

use super::cache::{CachedLogits, LogitKey};
use super::live::{Asked, Caching, waiting};
use super::prepared::PreparedTeacher;
use crate::checkpoint::hex;
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::examples::{Examples, LabelledBatch};
use crate::objectives::LikeliestTokens;
use distill_data::IGNORED_LABEL;
use distill_models::{ForwardOptions, Model};
use distill_ops::{Dropout, autocast};
use distill_recipe::CacheDtype;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic;

/// Rows of logits that are in memory at a time.
const ROWS_AT_ONCE: usize = 128;
/// The pass of which examples are read: what is learnt of them is always the same.
const ANY_PASS: u64 = 0;
/// A token's number in two numbers that an f16 holds exactly.
const BASE: u32 = 2048;

/// What is kept of each token.
#[derive(Clone, Debug)]
struct Kept {
    k: usize,
    temperatures: Vec<f64>,
    dtype: CacheDtype,
}

/// The cache of some examples.
#[derive(Debug)]
pub(super) struct LikeliestCache {
    rows: CachedLogits,
    /// How many tokens are learnt before each example.
    first: Vec<usize>,
    kept: Kept,
}

impl LikeliestCache {
    /// The cache of these examples, made or completed where it is not whole.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`]; weights, tokens or files that cannot be read or written.
    pub(super) fn of(
        teacher: &PreparedTeacher,
        examples: &Examples,
        (k, temperatures): (usize, Vec<f64>),
        asked: &Asked,
        start: &dyn Model,
        caching: &Caching<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let vocab = teacher.config.base.vocab_size();
        let kept = Kept { k: k.min(vocab), temperatures, dtype: caching.dtype };
        let (first, content) = learnt_tokens(examples)?;
        let key = LogitKey {
            teacher: if teacher.hash.is_empty() { caching.start.clone() } else { teacher.hash.clone() },
            tokenizer: caching.tokenizer.clone(),
            max_length: asked.max_length,
            content,
            computing: caching.computing.clone(),
            selection: format!("the likeliest {} at {:?}", kept.k, kept.temperatures),
            rows: first.last().copied().unwrap_or_default(),
            classes: kept.width(),
            dtype: kept.dtype,
        };
        if let Some(rows) = CachedLogits::open(caching.folder, &key)? {
            return Ok(Self { rows, first, kept });
        }
        observer.event(&Event::Stage { message: format!("loading the teacher `{}`", teacher.name) });
        let model = teacher.load(true, start, &asked.device.clone().without_autodiff())?;
        let what = format!("asking the teacher `{}`", teacher.name);
        let observer = RefCell::new(observer);
        let mut wait = waiting(&observer, &teacher.name, caching.interrupt);
        let mut reader =
            Reader { model: model.as_ref(), examples, asked, kept: &kept, next: 0, values: Vec::new() };
        let rows = CachedLogits::complete(caching.folder, &key, &mut wait, &mut |rows: Range<usize>| {
            let (done, total) = (rows.end as u64, Some(key.rows as u64));
            let values = reader.read(rows, &first, &mut || match caching
                .interrupt
                .load(atomic::Ordering::Relaxed)
            {
                true => Err(TrainError::Interrupted),
                false => Ok(()),
            })?;
            observer.borrow_mut().event(&Event::Progress { what: what.clone(), done, total });
            Ok(values)
        })?;
        Ok(Self { rows, first, kept })
    }

    /// What the teacher says of the tokens of a batch: of these examples, row by row of its labels.
    pub(super) fn read(
        &self,
        positions: &[usize],
        batch: &LabelledBatch,
    ) -> Result<LikeliestTokens, TrainError> {
        let width = (batch.labels.len() / positions.len().max(1)).max(1);
        let mut found = LikeliestTokens::nothing(self.kept.k, &self.kept.temperatures, batch.labels.len());
        for ((number, &position), labels) in positions.iter().enumerate().zip(batch.labels.chunks(width)) {
            let first = self.first.get(position).copied().unwrap_or_default();
            let learnt = (0..labels.len()).filter(|&place| labels[place] != IGNORED_LABEL);
            for (token, place) in (first..).zip(learnt) {
                self.kept.decode(&self.rows.read(token)?, number * width + place, &mut found);
            }
        }
        Ok(found)
    }
}

/// How many tokens are learnt before each example, and at the end; and a hash of all that is read and learnt.
fn learnt_tokens(examples: &Examples) -> Result<(Vec<usize>, String), TrainError> {
    let (mut first, mut hasher) = (vec![0], Sha256::new());
    for position in 0..examples.len() {
        let batch = examples.batch(&[position], ANY_PASS)?;
        let learnt = batch.labels.iter().filter(|label| **label != IGNORED_LABEL).count();
        first.push(first.last().copied().unwrap_or_default() + learnt);
        let kept =
            batch.batch.input_ids.iter().zip(&batch.batch.attention_mask).filter(|(_, kept)| **kept != 0);
        hasher.update((position as u64).to_le_bytes());
        for (id, _) in kept {
            hasher.update(id.to_le_bytes());
        }
        if let Some((_, segments)) = batch.packed() {
            segments.iter().for_each(|segment| hasher.update(segment.to_le_bytes()));
        }
        let labels = batch.labels.iter().enumerate().filter(|(_, label)| **label != IGNORED_LABEL);
        for (place, label) in labels {
            hasher.update((place as u64).to_le_bytes());
            hasher.update(label.to_le_bytes());
        }
    }
    Ok((first, hex(&hasher.finalize())))
}

/// Asks the teacher for one token after the other.
struct Reader<'a> {
    model: &'a dyn Model,
    examples: &'a Examples,
    asked: &'a Asked,
    kept: &'a Kept,
    /// The example that is asked for next.
    next: usize,
    /// Rows that were answered and are not taken yet: the last examples reach beyond a chunk.
    values: Vec<f32>,
}

impl Reader<'_> {
    /// The rows of these tokens, which follow those that were read before.
    fn read(
        &mut self,
        tokens: Range<usize>,
        first: &[usize],
        go_on: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<Vec<f32>, TrainError> {
        let width = self.kept.width();
        if self.values.is_empty() && first.get(self.next).is_some_and(|first| *first < tokens.start) {
            // What a kill left is completed in the middle of an example.
            let example = first.partition_point(|first| *first <= tokens.start) - 1;
            // In the batches of a run that was not killed: the numbers are the same to the bit.
            self.next = example - example % self.asked.batch_size.max(1);
            let before = tokens.start - first[self.next];
            self.answer(go_on)?;
            self.values.drain(..(before * width).min(self.values.len()));
        }
        while self.values.len() < tokens.len() * width && self.next < self.examples.len() {
            self.answer(go_on)?;
        }
        let rest = self.values.split_off((tokens.len() * width).min(self.values.len()));
        Ok(std::mem::replace(&mut self.values, rest))
    }

    /// Takes the next examples.
    fn answer(&mut self, go_on: &mut dyn FnMut() -> Result<(), TrainError>) -> Result<(), TrainError> {
        go_on()?;
        let end = (self.next + self.asked.batch_size.max(1)).min(self.examples.len());
        let positions: Vec<usize> = (self.next..end).collect();
        self.next = end;
        let batch = self.examples.batch(&positions, ANY_PASS)?;
        let input = batch.input(&self.model.device());
        let learnt: Vec<usize> =
            (0..batch.labels.len()).filter(|&row| batch.labels[row] != IGNORED_LABEL).collect();
        autocast(self.asked.precision, || {
            let output = self.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
            for rows in learnt.chunks(ROWS_AT_ONCE) {
                let logits = output.logits.of_rows(rows);
                let [_, vocab] = logits.dims();
                let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
                let encoded: Vec<Vec<f32>> =
                    logits.par_chunks(vocab.max(1)).map(|row| self.kept.encode(row)).collect();
                self.values.extend(encoded.into_iter().flatten());
            }
        });
        Ok(())
    }
}

impl Kept {
    fn numbers_an_id(&self) -> usize {
        match self.dtype {
            CacheDtype::F32 => 1,
            CacheDtype::F16 => 2,
        }
    }

    /// Numbers of a row.
    fn width(&self) -> usize {
        self.k * (self.numbers_an_id() + 1) + self.temperatures.len()
    }

    /// The row of a token's logits, likeliest class first; of two that are as likely the lower number.
    fn encode(&self, logits: &[f32]) -> Vec<f32> {
        let kept = self.likeliest(logits);
        let max = kept.first().map_or(0.0, |class| logits[*class as usize]);
        let above = |class: &u32| f64::from(logits[*class as usize] - max);
        let mut others = logits.to_vec();
        for class in &kept {
            others[*class as usize] = f32::NEG_INFINITY;
        }
        // The terms of a sum need no more digits than an f32 has; the sum does.
        let rest = |temperature: f64| -> f64 {
            let inverse = temperature.recip() as f32;
            others.iter().map(|x| f64::from(((x - max) * inverse).exp())).sum()
        };
        let log_sum = (kept.iter().map(|class| above(class).exp()).sum::<f64>() + rest(1.0)).ln();
        let mut row = Vec::with_capacity(self.width());
        for class in &kept {
            match self.dtype {
                CacheDtype::F32 => row.push(*class as f32),
                CacheDtype::F16 => row.extend([(class / BASE) as f32, (class % BASE) as f32]),
            }
        }
        row.extend(kept.iter().map(|class| (above(class) - log_sum) as f32));
        let of_rest = |temperature: &f64| (rest(*temperature).ln() - log_sum / temperature) as f32;
        row.extend(self.temperatures.iter().map(of_rest));
        row
    }

    /// The classes of the largest logits.
    fn likeliest(&self, logits: &[f32]) -> Vec<u32> {
        let mut values = logits.to_vec();
        let last = values.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a)).1.to_owned();
        let classes = |wanted: Ordering| {
            (0u32..).zip(logits).filter(move |(_, x)| x.total_cmp(&last) == wanted).map(|(class, _)| class)
        };
        let mut kept: Vec<u32> = classes(Ordering::Greater).chain(classes(Ordering::Equal)).collect();
        kept.truncate(self.k);
        kept.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        kept
    }

    /// Puts a row in its place among those of a batch.
    fn decode(&self, row: &[f32], place: usize, found: &mut LikeliestTokens) {
        let (k, numbers) = (self.k, self.numbers_an_id());
        let classes = row[..k * numbers]
            .chunks(numbers)
            .map(|number| number.iter().fold(0, |id, part| id * BASE + *part as u32));
        for (slot, class) in found.classes[place * k..].iter_mut().zip(classes) {
            *slot = class;
        }
        found.log_probs[place * k..(place + 1) * k].copy_from_slice(&row[k * numbers..k * (numbers + 1)]);
        for (rests, rest) in found.log_rests.iter_mut().zip(&row[k * (numbers + 1)..]) {
            rests[place] = *rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let logits: Vec<f64> = logits.iter().map(|x| f64::from(*x) / temperature).collect();
        let sum: f64 = logits.iter().map(|x| x.exp()).sum();
        logits.iter().map(|x| x - sum.ln()).collect()
    }

    #[test]
    fn a_row_gives_the_probabilities_at_every_temperature() {
        let logits: Vec<f32> = (0..5000).map(|i| 4.0 * (i as f32 * 0.37).sin()).collect();
        for (dtype, tolerance) in [(CacheDtype::F32, 1e-5), (CacheDtype::F16, 1e-2)] {
            let kept = Kept { k: 7, temperatures: vec![1.0, 2.0, 0.5], dtype };
            let mut row = kept.encode(&logits);
            assert_eq!(row.len(), kept.width());
            if dtype == CacheDtype::F16 {
                row = row.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect();
            }
            let mut found = LikeliestTokens::nothing(kept.k, &kept.temperatures, 2);
            kept.decode(&row, 1, &mut found);
            for temperature in &kept.temperatures {
                let expected = log_softmax(&logits, *temperature);
                let classes = found.at(*temperature).expect("it was asked for");
                let mut rest = 1.0;
                for (class, log_prob) in classes.classes[7..].iter().zip(&classes.log_probs[7..]) {
                    let expected = expected[*class as usize];
                    rest -= expected.exp();
                    assert!((f64::from(*log_prob) - expected).abs() < tolerance, "{log_prob} {expected}");
                }
                assert!((f64::from(classes.log_rest[1]) - rest.ln()).abs() < tolerance);
            }
            let largest = (0..5000).max_by(|&a: &usize, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
            assert_eq!(Some(found.classes[7] as usize), largest);
            assert!(found.at(3.0).is_none());
        }
    }

    #[test]
    fn a_whole_vocabulary_leaves_no_rest() {
        let kept = Kept { k: 3, temperatures: vec![1.0], dtype: CacheDtype::F32 };
        let row = kept.encode(&[0.5, 2.0, -1.0]);
        assert_eq!((&row[..3], row[6]), ([1.0, 0.0, 2.0].as_slice(), f32::NEG_INFINITY));
        // As likely: the lower number first.
        assert_eq!(kept.likeliest(&[1.0, 2.0, 1.0, 1.0, 2.0]), [1, 4, 0]);
    }
}
