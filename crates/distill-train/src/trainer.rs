//! The training loop, in the order things happen.

use crate::beside::Beside;
use crate::checkpoint::{Best, CheckpointStore, LoopState, LossWindow};
use crate::error::TrainError;
use crate::evaluate::Batching;
use crate::events::{Event, LoggedRecord, Observer, StepRecord};
use crate::examples::{Examples, LabelledBatch};
use crate::loop_settings::LoopSettings;
use crate::masked_text::{MaskedLmTwin, MaskedText};
use crate::objectives::{Projection, StepCounts};
use crate::optimizer::{Gradients, Optimizer, clip_factor, gradient_norm};
use crate::pass::{Pass, PassInput, PassSettings, pass};
use crate::report::Report;
use crate::run_folder::MetricsLog;
use crate::teacher::Teacher;
use crate::written::OnPolicy;
use distill_data::epoch_order;
use distill_eval::EvalError;
use distill_models::Model;
use distill_ops::Dropout;
use distill_recipe::NanPolicy;
use indexmap::IndexMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Skipped steps in a row that end a run all the same: its weights are beyond repair.
const MOST_SKIPS_IN_A_ROW: u64 = 10;

/// Measures a model: the one in training, and what is learned beside it.
pub type Measure<'a> = dyn Fn(&dyn Model, Option<&Projection>, Batching) -> Result<Report, TrainError> + 'a;

/// What the loop works on.
pub struct Trainer<'a> {
    /// Settings.
    pub settings: &'a LoopSettings,
    /// The model, on a device with gradients.
    pub model: &'a mut dyn Model,
    /// The optimiser.
    pub optimizer: &'a mut Optimizer,
    /// What is learned beside the model.
    pub beside: &'a mut Beside,
    /// Whose hidden tokens are guessed in every step, besides.
    pub masked_text: Option<&'a MaskedText>,
    /// What the model learns from besides labels.
    pub teacher: Option<&'a Teacher>,
    /// Writes the texts of some steps.
    pub(crate) on_policy: Option<&'a OnPolicy>,
    /// Training rows.
    pub train: &'a Examples,
    /// Measures the model on the validation rows; without them the last model is kept.
    pub validate: Option<&'a Measure<'a>>,
    /// Where checkpoints go.
    pub store: &'a CheckpointStore,
    /// What the run is made from, recorded in each checkpoint.
    pub fingerprint: &'a serde_json::Value,
    /// Writes a whole model folder.
    pub save_model: &'a dyn Fn(&dyn Model, &Path) -> Result<(), TrainError>,
    /// `metrics.jsonl`.
    pub metrics_log: &'a mut MetricsLog,
    /// Called after each checkpoint.
    pub on_checkpoint: &'a mut dyn FnMut(&LoopState) -> Result<(), TrainError>,
    /// Set from outside to stop after the current step.
    pub interrupt: &'a AtomicBool,
    /// Whoever watches.
    pub observer: &'a mut dyn Observer,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopEnd {
    /// All steps are done, or early stopping ended it.
    Finished,
    /// Stopped from outside; a checkpoint is saved.
    Interrupted,
}

/// Sums of one optimizer step.
struct StepSums {
    gradients: Gradients,
    loss: f64,
    /// Each loss alone: its mean, and over how many units.
    parts: Vec<(f64, u64)>,
    examples: u64,
    tokens: u64,
}

impl StepSums {
    /// Adds a pass, whose losses are those from the `first` on.
    fn add(&mut self, pass: Pass, first: usize) {
        self.loss += pass.loss;
        for ((sum, _), part) in self.parts[first..].iter_mut().zip(pass.parts) {
            *sum += part;
        }
        for (name, gradient) in pass.gradients {
            let sum = match self.gradients.swap_remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
    }
}

impl Trainer<'_> {
    /// Trains from `state` to the end, or to an interruption.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if the loss is not finite and `on_nan` is `stop`; data and disk errors.
    pub fn run(&mut self, state: &mut LoopState) -> Result<LoopEnd, TrainError> {
        let mut epoch_batches = (u64::MAX, Vec::new());
        let mut saved_at = state.step;
        let mut window_start = Instant::now();
        if self.settings.total_steps == 0 {
            self.evaluate(state)?;
        }
        while state.step < self.settings.total_steps && !state.stopped_early {
            let step_start = Instant::now();
            let epoch = state.step / self.settings.steps_per_epoch;
            if epoch_batches.0 != epoch {
                // The rows of a step do not depend on how it is cut into micro-steps.
                let rows = self.settings.batch_size.saturating_mul(self.settings.gradient_accumulation_steps);
                epoch_batches = (epoch, epoch_order(self.train.lengths(), rows, self.settings.seed, epoch));
            }
            let position = (state.step % self.settings.steps_per_epoch) as usize;
            let rows = epoch_batches.1.get(position).map(Vec::as_slice).unwrap_or_default();

            let learning_rate = self.settings.schedule.at(state.step);
            if let Some(twin) = &mut self.beside.masked_lm {
                twin.follow(self.model);
            }
            let sums = self.forward_backward(state.step, epoch, rows)?;
            let loss = sums.loss;
            let grad_norm = gradient_norm(&sums.gradients);
            let finite = self.check_finite(state, loss, grad_norm, learning_rate)?;
            state.step += 1;
            if finite {
                let scale = clip_factor(grad_norm, self.settings.max_grad_norm);
                self.optimizer.step(self.model, self.beside, sums.gradients, learning_rate, scale);
                state.window.add(loss, &sums.parts, sums.examples, sums.tokens);
                state.total.add(loss, &sums.parts, sums.examples, sums.tokens);
            }
            let seconds = step_start.elapsed().as_secs_f64();
            state.train_seconds += seconds;
            let record = StepRecord {
                step: state.step,
                epoch: self.epoch_of(state.step),
                loss,
                grad_norm,
                learning_rate,
                examples: sums.examples,
                tokens: sums.tokens,
                seconds,
            };
            if finite {
                self.observer.event(&Event::Step(record.clone()));
            }
            let last = state.step == self.settings.total_steps;
            if state.step.is_multiple_of(self.settings.logging_steps) || last {
                self.log(state, &record, &mut window_start)?;
            }
            if state.step.is_multiple_of(self.settings.eval_steps) || last {
                let evaluation_start = Instant::now();
                self.evaluate(state)?;
                window_start += evaluation_start.elapsed();
            }
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            let due = state.step.is_multiple_of(self.settings.save_steps);
            if (due || interrupted || last || state.stopped_early) && state.step != saved_at {
                let saving_start = Instant::now();
                self.save(state)?;
                saved_at = state.step;
                window_start += saving_start.elapsed();
            }
            if interrupted && !last && !state.stopped_early {
                return Ok(LoopEnd::Interrupted);
            }
        }
        Ok(LoopEnd::Finished)
    }

    /// Forward and backward passes of one step, in micro-steps of `batch_size` rows; each loss is a mean over the whole
    /// step.
    fn forward_backward(&self, step: u64, epoch: u64, rows: &[usize]) -> Result<StepSums, TrainError> {
        let own_texts = self.on_policy.filter(|on_policy| on_policy.takes(step));
        let losses = own_texts.map_or(self.settings.losses.as_ref(), |own| &own.losses);
        let settings = PassSettings {
            losses,
            precision: self.settings.precision,
            activations: self.settings.activations,
        };
        let micro_steps: Vec<(&[usize], LabelledBatch)> = rows
            .chunks(self.settings.batch_size)
            .zip(0..)
            .map(|(rows, micro_step)| {
                let batch = match own_texts {
                    Some(own) => own.batch(&*self.model, self.train, rows, [step, micro_step])?,
                    None => self.train.batch(rows, epoch)?,
                };
                Ok((rows, batch))
            })
            .collect::<Result<_, TrainError>>()?;
        let counts = micro_steps.iter().fold(StepCounts::default(), |sum, (_, batch)| sum.plus(batch.counts));
        let units = losses.iter().map(|loss| counts.of(loss.objective.unit()));
        let parts = units.map(|units| (0.0, units)).collect();
        let (examples, tokens) = (counts.examples, counts.tokens);
        let mut sums = StepSums { gradients: Gradients::new(), loss: 0.0, parts, examples, tokens };
        let device = self.model.device();
        for (micro_step, (rows, batch)) in micro_steps.iter().enumerate() {
            let mut dropout = Dropout::new(self.settings.seed, step, micro_step as u64);
            let teacher = self.teacher.map(|teacher| teacher.output(rows, batch)).transpose()?;
            let on = PassInput {
                targets: &batch.targets(self.settings.label_smoothing, &device),
                teacher: teacher.as_ref(),
                projection: self.beside.projection.as_ref(),
                counts: &counts,
            };
            let pass = pass(&settings, self.model, &batch.input(&device), on, &mut dropout);
            sums.add(pass, 0);
        }
        if let (Some(text), Some(twin)) = (self.masked_text, &self.beside.masked_lm) {
            self.guess_hidden(text, twin, [step, epoch], rows, &mut sums)?;
        }
        sums.gradients.sort_keys();
        Ok(sums)
    }

    /// The same of the hidden tokens of these rows: more micro-steps, of a model that shares this one's encoder.
    fn guess_hidden(
        &self,
        text: &MaskedText,
        twin: &MaskedLmTwin,
        [step, epoch]: [u64; 2],
        rows: &[usize],
        sums: &mut StepSums,
    ) -> Result<(), TrainError> {
        let settings = PassSettings {
            losses: &text.losses,
            precision: self.settings.precision,
            activations: self.settings.activations,
        };
        let batches: Vec<LabelledBatch> = rows
            .chunks(self.settings.batch_size)
            .map(|rows| text.examples.batch(rows, epoch))
            .collect::<Result<_, _>>()?;
        let counts = batches.iter().fold(StepCounts::default(), |sum, batch| sum.plus(batch.counts));
        let before = sums.parts.len();
        sums.parts.extend(text.losses.iter().map(|loss| (0.0, counts.of(loss.objective.unit()))));
        sums.tokens += counts.tokens;
        let device = twin.model().device();
        // Masks of dropout that no micro-step of the task has.
        for (micro_step, batch) in (batches.len() as u64..).zip(&batches) {
            let mut dropout = Dropout::new(self.settings.seed, step, micro_step);
            let targets = batch.targets(0.0, &device);
            let on = PassInput { targets: &targets, teacher: None, projection: None, counts: &counts };
            sums.add(pass(&settings, twin.model(), &batch.input(&device), on, &mut dropout), before);
        }
        Ok(())
    }

    fn epoch_of(&self, step: u64) -> f64 {
        step as f64 / self.settings.steps_per_epoch as f64
    }

    /// Whether the step may be taken: an error if it may not and the recipe says `stop`.
    fn check_finite(
        &mut self,
        state: &mut LoopState,
        loss: f64,
        grad_norm: f64,
        learning_rate: f64,
    ) -> Result<bool, TrainError> {
        let (what, value) = if loss.is_finite() { ("gradient norm", grad_norm) } else { ("loss", loss) };
        if value.is_finite() {
            state.skipped_in_a_row = 0;
            return Ok(true);
        }
        let step = state.step + 1;
        let skip = self.settings.on_nan == NanPolicy::Skip && state.skipped_in_a_row < MOST_SKIPS_IN_A_ROW;
        if !skip {
            return Err(self.not_finite(what, step, value, learning_rate));
        }
        state.skipped_steps += 1;
        state.skipped_in_a_row += 1;
        self.observer.event(&Event::StepSkipped { step, loss });
        Ok(false)
    }

    fn not_finite(&self, what: &'static str, step: u64, value: f64, learning_rate: f64) -> TrainError {
        match self.store.latest() {
            Ok((checkpoint, _)) => {
                let last_good = checkpoint.map(|checkpoint| checkpoint.path);
                TrainError::NotFinite { what, step, value, learning_rate, last_good }
            }
            Err(error) => error,
        }
    }

    /// Refuses to keep weights that are not numbers, or so large that a loss cannot be.
    fn check_weights(&self, step: u64) -> Result<(), TrainError> {
        let mut squares = Vec::new();
        self.model.visit(&mut |_, value| {
            squares.push(f64::from((value.clone() * value).sum().into_scalar::<f32>()));
        });
        match first_not_finite(&squares) {
            None => Ok(()),
            Some(value) => {
                let rate = self.settings.schedule.at(step.saturating_sub(1));
                Err(self.not_finite("size of a weight", step, value, rate))
            }
        }
    }

    fn log(
        &mut self,
        state: &mut LoopState,
        last: &StepRecord,
        window_start: &mut Instant,
    ) -> Result<(), TrainError> {
        let window = std::mem::take(&mut state.window);
        let seconds = window_start.elapsed().as_secs_f64().max(f64::EPSILON);
        *window_start = Instant::now();
        let Some(loss) = window.mean() else { return Ok(()) };
        let record = LoggedRecord {
            step: state.step,
            epoch: last.epoch,
            loss,
            losses: self.named(&window),
            grad_norm: last.grad_norm,
            learning_rate: last.learning_rate,
            examples_per_second: window.examples as f64 / seconds,
            tokens_per_second: window.tokens as f64 / seconds,
        };
        self.metrics_log.append("train", &record)?;
        self.observer.event(&Event::Logged(record));
        Ok(())
    }

    /// Each loss alone, where there are several.
    fn named(&self, window: &LossWindow) -> IndexMap<String, f64> {
        match self.settings.loss_names().as_slice() {
            [_] => IndexMap::new(),
            names => window.means(names),
        }
    }

    /// Measures the model on the validation rows, keeps it if it is the best so far.
    fn evaluate(&mut self, state: &mut LoopState) -> Result<(), TrainError> {
        let Some(validate) = self.validate else { return Ok(()) };
        let start = Instant::now();
        let batching = Batching {
            batch_size: self.settings.eval_batch_size,
            pad_token_id: self.settings.pad_token_id,
            max_length: self.settings.max_length,
            precision: self.settings.precision,
        };
        let report = match validate(self.model, self.beside.projection.as_ref(), batching) {
            Err(TrainError::Eval(EvalError::NotFinite { value, .. })) => {
                let rate = self.settings.schedule.at(state.step.saturating_sub(1));
                return Err(self.not_finite(
                    "logit in the validation after",
                    state.step,
                    f64::from(value),
                    rate,
                ));
            }
            report => report?,
        };
        let value = self.settings.metric.value(&report);
        let better = state.best.as_ref().is_none_or(|best| self.settings.metric.improves(value, best.value));
        if better {
            self.store.save_best(state.step, &|folder| (self.save_model)(self.model, folder))?;
            state.best = Some(Best { step: state.step, value, report: report.clone() });
            state.evaluations_without_improvement = 0;
        } else {
            state.evaluations_without_improvement += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        state.evaluate_seconds += seconds;
        let epoch = self.epoch_of(state.step);
        let mut line = serde_json::json!({ "step": state.step, "epoch": epoch, "best": better });
        if let (Some(line), Ok(serde_json::Value::Object(report))) =
            (line.as_object_mut(), serde_json::to_value(&report))
        {
            line.extend(report);
        }
        self.metrics_log.append("validation", &line)?;
        let metric = self.settings.metric.name().to_owned();
        let report = Box::new(report);
        self.observer.event(&Event::Validated {
            step: state.step,
            epoch,
            report,
            metric,
            value,
            best: better,
            seconds,
        });
        if let Some(patience) = self.settings.early_stopping_patience
            && state.evaluations_without_improvement >= patience
            && state.step < self.settings.total_steps
        {
            state.stopped_early = true;
            self.observer.event(&Event::EarlyStopped { step: state.step, patience });
        }
        Ok(())
    }

    fn save(&mut self, state: &LoopState) -> Result<(), TrainError> {
        self.check_weights(state.step)?;
        let model = &*self.model;
        let save_model = |folder: &Path| (self.save_model)(model, folder);
        let keep = self.settings.save_total_limit;
        let path =
            self.store.save(state, self.fingerprint, self.optimizer, self.beside, keep, &save_model)?;
        self.observer.event(&Event::CheckpointSaved { step: state.step, path });
        (self.on_checkpoint)(state)
    }
}

/// The first value that is infinite or not a number, wherever it stands.
fn first_not_finite(values: &[f64]) -> Option<f64> {
    values.iter().copied().find(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::first_not_finite;

    #[test]
    fn a_bad_weight_is_seen_before_good_ones() {
        assert!(first_not_finite(&[1.0, f64::NAN, 2.0]).is_some_and(f64::is_nan));
        assert_eq!(first_not_finite(&[f64::INFINITY, 0.0]), Some(f64::INFINITY));
        assert_eq!(first_not_finite(&[1.0, 0.0]), None);
    }
}
