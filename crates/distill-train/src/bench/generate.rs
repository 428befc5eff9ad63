//! Texts that are continued: how fast a prompt is read, and how fast tokens come after it.

use super::model::Wanted;
use super::{BenchModel, Conditions, RandomBatches, Spread, peak_memory_mib};
use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::next_tokens::NextTokens;
use distill_generate::NextToken as _;
use distill_models::Task;
use distill_ops::{DeviceSpec, resolve};
use distill_recipe::DtypeChoice;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct GenerateBench {
    /// The model.
    pub model: BenchModel,
    /// Rows that are continued together.
    pub batch: usize,
    /// Tokens of a prompt.
    pub prompt_length: usize,
    /// Tokens that are added to it.
    pub new_tokens: usize,
    /// What matrix products multiply in.
    pub dtype: DtypeChoice,
    /// Where to compute.
    pub device: DeviceSpec,
    /// Prompts that are measured.
    pub rounds: usize,
    /// Prompts before them.
    pub warmup: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct GenerateReport {
    /// Tokens of prompts read a second, by the median prompt.
    pub tokens_per_second: f64,
    /// Tokens added a second, by the median of all tokens.
    pub decode_tokens_per_second: f64,
    /// Prompts, in milliseconds, to the first token.
    pub prompt_ms: Spread,
    /// Tokens after the first, in milliseconds each.
    pub token_ms: Spread,
    /// Tokens that were added to each prompt.
    pub new_tokens: usize,
    /// Prompts that were measured.
    pub rounds: usize,
    /// Prompts before them.
    pub warmup: usize,
    /// How it was measured.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// Measures greedy continuation of random prompts, from token ids to token ids.
///
/// # Errors
/// A model that continues no texts, or a device that cannot be used.
pub fn bench_generate(
    bench: &GenerateBench,
    observer: &mut dyn Observer,
) -> Result<GenerateReport, TrainError> {
    let device = resolve(bench.device)?;
    let precision = precision_for(bench.dtype, &device)?;
    let length = bench.prompt_length + bench.new_tokens;
    let wanted = Wanted {
        model: &bench.model,
        length,
        seed: bench.seed,
        dropout: Some(0.0),
        device: device.clone(),
        lora: None,
    };
    let (loaded, sizes) = wanted.load(observer)?;
    if !matches!(loaded.config.task, Task::CausalLm | Task::Seq2SeqLm) {
        return Err(TrainError::Unusable {
            message: format!("a `{}` model continues no texts", loaded.config.architecture.model_type),
            help: "name a `llama`, `qwen2`, `gpt2` or `t5` model by `--model`".to_owned(),
        });
    }
    let model = loaded.model.eval_copy();
    // The weights that were loaded and the ones that are used are the same.
    drop(loaded.model);
    let start = loaded.config.base.decoder_start_token_id();
    let mut rows = NextTokens::new(model.as_ref(), precision, None, start, 0);
    let mut batches = RandomBatches::new(bench.seed, bench.batch, bench.prompt_length, sizes.vocab_size);
    let (mut prompts, mut tokens): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    let total = bench.warmup + bench.rounds;
    for round in 0..total {
        let texts = batches.texts();
        let begin = Instant::now();
        let Ok(logits) = rows.start(&texts, bench.new_tokens);
        let mut next = best_tokens(&logits, bench.batch);
        let of_prompt = begin.elapsed();
        let mut of_tokens = Vec::with_capacity(bench.new_tokens);
        for _ in 1..bench.new_tokens {
            let begin = Instant::now();
            let Ok(logits) = rows.next(&next);
            next = best_tokens(&logits, bench.batch);
            of_tokens.push(begin.elapsed());
        }
        if round >= bench.warmup {
            prompts.push(of_prompt);
            tokens.append(&mut of_tokens);
        }
        let (done, total) = (round as u64 + 1, Some(total as u64));
        observer.event(&Event::Progress { what: "measuring prompts".to_owned(), done, total });
    }
    let (prompt_ms, token_ms) = (Spread::of(prompts.into_iter()), Spread::of(tokens.into_iter()));
    let rate = |tokens: usize, milliseconds: f64| match milliseconds > 0.0 {
        true => tokens as f64 * 1e3 / milliseconds,
        false => 0.0,
    };
    Ok(GenerateReport {
        tokens_per_second: rate(bench.batch * bench.prompt_length, prompt_ms.p50),
        decode_tokens_per_second: rate(bench.batch, token_ms.p50),
        prompt_ms,
        token_ms,
        new_tokens: bench.new_tokens,
        rounds: bench.rounds,
        warmup: bench.warmup,
        conditions: Conditions {
            computing: Computing::new(&device, precision),
            batch: bench.batch,
            length: bench.prompt_length,
            seed: bench.seed,
            model: sizes,
            peak_memory_mib: peak_memory_mib(),
        },
    })
}

/// The most probable token of each row.
fn best_tokens(logits: &[f32], rows: usize) -> Vec<u32> {
    let best = |row: &[f32]| {
        let first_largest = |best: usize, id: usize| if row[id] > row[best] { id } else { best };
        (0..row.len()).fold(0, first_largest) as u32
    };
    logits.chunks((logits.len() / rows.max(1)).max(1)).map(best).collect()
}
