//! How fast models answer, measured by turns: what else the machine does hits all of them alike.

use super::Contender;
use super::energy::Rapl;
use crate::bench::Spread;
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::predictor::Predictor;
use crate::rows::Rows;
use distill_data::sequential_batches;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How times are taken. All are at least 1 but `warmup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Texts that each model answers one at a time.
    pub latency_texts: usize,
    /// Texts of a full batch.
    pub batch_size: usize,
    /// Batches of each round, the same in every round and for every model.
    pub batches: usize,
    /// How often the turn goes round the models.
    pub rounds: usize,
    /// Answers at the beginning of each turn that are not timed: another model has just had the caches.
    pub warmup: usize,
}

/// What it takes a model to answer, from text to label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// One text, in milliseconds; tokenising is in it.
    pub latency_ms: Spread,
    /// The part of it that is tokenising.
    pub tokenizing_ms: Spread,
    /// Texts a second in full batches, by the median round of each batch; tokenising is in it.
    pub examples_per_second: f64,
    /// Likewise, from token ids on.
    pub examples_per_second_tokenized: f64,
    /// Energy of all processor packages while full batches are answered, in millijoules a text; `None` where the
    /// system does not tell it.
    pub energy_mj_per_example: Option<f64>,
}

impl Timing {
    /// The same, with no more texts a batch and no more batches than so many rows have.
    pub(super) fn within(&self, rows: usize) -> Self {
        let batch_size = self.batch_size.min(rows).max(1);
        Self { batch_size, batches: self.batches.min(rows / batch_size).max(1), ..self.clone() }
    }

    /// Times every model on texts out of `rows`; `lengths` are tokens of each row, by which batches are made.
    ///
    /// # Errors
    /// [`TrainError::Data`] if a file can no longer be read.
    pub(super) fn measure(
        &self,
        contenders: &[Contender],
        rows: &Rows,
        lengths: &[u32],
        energy: Option<&Rapl>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Speed>, TrainError> {
        let sample = self.sample(rows, lengths)?;
        let mut clocks: Vec<Clock> =
            contenders.iter().map(|_| Clock::new(sample.batches.len(), energy.is_some())).collect();
        let turns = self.rounds * contenders.len();
        for turn in 0..turns {
            let (round, model) = (turn / contenders.len(), turn % contenders.len());
            clocks[model].turn(self, contenders[model].predictor(), &sample, round, energy)?;
            let (done, total) = (turn as u64 + 1, Some(turns as u64));
            observer.event(&Event::Progress { what: "timing the models by turns".to_owned(), done, total });
        }
        Ok(clocks.iter().map(|clock| clock.speed(&sample)).collect())
    }

    /// Texts from all over the data set and batches of all lengths.
    fn sample(&self, rows: &Rows, lengths: &[u32]) -> Result<Sample, TrainError> {
        let singles = spread(rows.len(), self.latency_texts);
        let sorted = sequential_batches(lengths, self.batch_size);
        // A last batch that is not full is less work, and left out.
        let choice = spread(rows.len() / self.batch_size.max(1), self.batches);
        let batches: Vec<&Vec<usize>> = choice.iter().filter_map(|&batch| sorted.get(batch)).collect();
        let mut texts: BTreeMap<usize, String> = BTreeMap::new();
        for &row in singles.iter().chain(batches.iter().copied().flatten()) {
            texts.insert(row, String::new());
        }
        rows.for_each_text(&mut |row, text| {
            if let Some(wanted) = texts.get_mut(&row) {
                text.clone_into(wanted);
            }
            Ok(())
        })?;
        let text = |row: &usize| texts.get(row).cloned().unwrap_or_default();
        Ok(Sample {
            singles: singles.iter().map(text).collect(),
            batches: batches.iter().map(|batch| batch.iter().map(text).collect()).collect(),
        })
    }
}

/// `wanted` of the numbers below `count`, evenly spread; again from the start where there are not so many.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    let count = count.max(1);
    if wanted > count {
        return (0..wanted).map(|number| number % count).collect();
    }
    // The middle of each of `wanted` equal parts.
    (0..wanted).map(|number| (2 * number + 1) * count / (2 * wanted)).collect()
}

/// The texts that every model answers.
struct Sample {
    singles: Vec<String>,
    batches: Vec<Vec<String>>,
}

/// The times of one model.
struct Clock {
    singles: Vec<Answer>,
    /// Of each batch, in every round.
    batches: Vec<Vec<Answer>>,
    /// Of all timed batches; `None` once a counter could not be read.
    joules: Option<f64>,
}

/// How long an answer took.
#[derive(Clone, Copy)]
struct Answer {
    tokenizing: Duration,
    whole: Duration,
}

impl Answer {
    fn time(predictor: &Predictor, texts: &[String]) -> Result<Self, TrainError> {
        let start = Instant::now();
        let tokens = predictor.tokenize(texts)?;
        let tokenizing = start.elapsed();
        let predictions = predictor.predict_tokens(&tokens)?;
        let whole = start.elapsed();
        std::hint::black_box(predictions);
        Ok(Self { tokenizing, whole })
    }
}

impl Clock {
    fn new(batches: usize, energy: bool) -> Self {
        Self { singles: Vec::new(), batches: vec![Vec::new(); batches], joules: energy.then_some(0.0) }
    }

    fn turn(
        &mut self,
        timing: &Timing,
        predictor: &Predictor,
        sample: &Sample,
        round: usize,
        energy: Option<&Rapl>,
    ) -> Result<(), TrainError> {
        for text in sample.singles.iter().cycle().take(timing.warmup) {
            Answer::time(predictor, std::slice::from_ref(text))?;
        }
        for text in sample.singles.iter().skip(round).step_by(timing.rounds) {
            self.singles.push(Answer::time(predictor, std::slice::from_ref(text))?);
        }
        if let (1.., Some(batch)) = (timing.warmup, sample.batches.first()) {
            Answer::time(predictor, batch)?;
        }
        let before = energy.and_then(Rapl::read);
        for (batch, times) in sample.batches.iter().zip(&mut self.batches) {
            times.push(Answer::time(predictor, batch)?);
        }
        let spent = energy.and_then(|rapl| Some(rapl.joules(&before?, &rapl.read()?)));
        self.joules = self.joules.zip(spent).map(|(sum, spent)| sum + spent);
        Ok(())
    }

    fn speed(&self, sample: &Sample) -> Speed {
        let answered: usize =
            sample.batches.iter().zip(&self.batches).map(|(texts, times)| texts.len() * times.len()).sum();
        let per_second = |time: fn(&Answer) -> Duration| {
            let median = |times: &Vec<Answer>| Spread::of(times.iter().map(time)).p50;
            let milliseconds: f64 = self.batches.iter().map(median).sum();
            let texts: usize = sample.batches.iter().map(Vec::len).sum();
            super::ratio(texts as f64 * 1e3, milliseconds)
        };
        Speed {
            latency_ms: Spread::of(self.singles.iter().map(|answer| answer.whole)),
            tokenizing_ms: Spread::of(self.singles.iter().map(|answer| answer.tokenizing)),
            examples_per_second: per_second(|answer| answer.whole),
            examples_per_second_tokenized: per_second(|answer| answer.whole - answer.tokenizing),
            energy_mj_per_example: self.joules.map(|joules| super::ratio(joules * 1e3, answered as f64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_all_rows() {
        assert_eq!(spread(10, 5), [1, 3, 5, 7, 9]);
        assert_eq!(spread(7600, 1), [3800]);
        assert_eq!(spread(3, 3), [0, 1, 2]);
        assert_eq!(spread(3, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(spread(0, 2), [0, 0]);
        let many = spread(7600, 500);
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]) && many.last() < Some(&7600));
    }

    #[test]
    fn few_rows_have_few_batches() {
        let timing = Timing { latency_texts: 500, batch_size: 32, batches: 8, rounds: 10, warmup: 5 };
        let within = |rows| (timing.within(rows).batch_size, timing.within(rows).batches);
        assert_eq!([7600, 100, 40, 20].map(within), [(32, 8), (32, 3), (32, 1), (20, 1)]);
        assert_eq!(within(0), (1, 1));
    }

    #[test]
    fn throughput_is_of_the_median_round_of_each_batch() {
        let answer = |tokenizing, whole| Answer {
            tokenizing: Duration::from_millis(tokenizing),
            whole: Duration::from_millis(whole),
        };
        let texts = |count| vec![String::new(); count];
        let sample = Sample { singles: texts(2), batches: vec![texts(4), texts(4)] };
        let clock = Clock {
            singles: vec![answer(1, 3), answer(1, 5)],
            // The second round was disturbed.
            batches: vec![
                vec![answer(2, 10), answer(2, 900), answer(2, 10)],
                vec![answer(3, 30), answer(3, 30), answer(900, 930)],
            ],
            joules: Some(0.12),
        };
        let speed = clock.speed(&sample);
        assert_eq!([speed.latency_ms.p50, speed.latency_ms.p99].map(f64::round), [3.0, 5.0]);
        assert_eq!(speed.tokenizing_ms.p50.round(), 1.0);
        assert!((speed.examples_per_second - 200.0).abs() < 1e-9, "8 texts in 10 + 30 ms");
        assert!((speed.examples_per_second_tokenized - 8e3 / 35.0).abs() < 1e-9, "and in 8 + 27 ms");
        let energy = speed.energy_mj_per_example.unwrap();
        assert!((energy - 5.0).abs() < 1e-9, "120 mJ for 24 answers: {energy}");
    }
}
