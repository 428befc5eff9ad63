//! The loop: logits in, tokens out, until every row has ended.

use crate::beam_search;
use crate::chance::draw;
use crate::processors::{History, LogitsProcessor, LogitsProcessors};
use crate::scores::most_probable;
use crate::{FinishReason, GenerateError, Generated, GenerationConfig, NextToken, Piece, TextStream};

/// How prompts are continued.
#[derive(Clone, Copy)]
pub struct Generation<'a> {
    /// The settings.
    pub config: &'a GenerationConfig,
    /// The text of tokens, without special ones.
    pub decode: &'a dyn Fn(&[u32]) -> String,
    /// The number of the first prompt among all that are to be continued. It is part of the key of draws,
    /// so that texts do not depend on how many prompts are continued together.
    pub first_prompt: usize,
}

/// A prompt as the model sees it.
pub(crate) struct Written {
    /// The tokens that its continuation is appended to.
    pub tokens: Vec<u32>,
    /// Most tokens to append.
    pub limit: usize,
}

/// A continuation that grows.
struct Row {
    /// Its place among the results.
    number: usize,
    tokens: Vec<u32>,
    prompt_length: usize,
    limit: usize,
    text: TextStream,
}

impl Generation<'_> {
    /// Continues the prompts; the continuations of the first prompt first, those of a beam search best
    /// first. `on_piece` hears of each text as it grows.
    ///
    /// # Errors
    /// Settings that cannot be, prompts that are empty or leave no room, and a model that fails or gives
    /// logits that are not numbers.
    pub fn run<M: NextToken>(
        &self,
        model: &mut M,
        prompts: &[Vec<u32>],
        on_piece: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Vec<Generated>, GenerateError<M::Error>> {
        self.config.check()?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.written(model, prompts)?;
        let longest = written.iter().map(|written| written.limit).max().unwrap_or_default();
        let logits = model.start(prompts, longest).map_err(GenerateError::Model)?;
        let processors = LogitsProcessors::new(self.config);
        if self.config.num_beams > 1 {
            beam_search::run(self, &processors, model, written, logits, on_piece)
        } else {
            self.run_rows(&processors, model, written, logits, on_piece)
        }
    }

    fn written<M: NextToken>(
        &self,
        model: &M,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Written>, GenerateError<M::Error>> {
        let most = self.config.max_new_tokens();
        let write = |(number, prompt): (usize, &Vec<u32>)| {
            if prompt.is_empty() {
                return Err(GenerateError::EmptyPrompt { prompt: number });
            }
            let tokens = model.written(prompt);
            let allowed = model.max_length().unwrap_or(usize::MAX);
            if tokens.len() >= allowed {
                return Err(GenerateError::PromptTooLong { prompt: number, found: tokens.len(), allowed });
            }
            let limit = most.min(allowed - tokens.len());
            Ok(Written { tokens, limit })
        };
        prompts.iter().enumerate().map(write).collect()
    }

    /// One token a row and step, drawn or the most probable one.
    fn run_rows<M: NextToken>(
        &self,
        processors: &LogitsProcessors,
        model: &mut M,
        written: Vec<Written>,
        mut logits: Vec<f32>,
        on_piece: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Vec<Generated>, GenerateError<M::Error>> {
        let copies = self.config.num_return_sequences;
        if copies > 1 {
            // Prompts are read once; only then do their continuations part.
            let vocab = vocab_size(&logits, written.len())?;
            let rows: Vec<usize> = (0..written.len() * copies).map(|row| row / copies).collect();
            model.select(&rows).map_err(GenerateError::Model)?;
            logits = rows.iter().flat_map(|row| &logits[row * vocab..][..vocab]).copied().collect();
        }
        let mut rows: Vec<Row> = (0..written.len() * copies)
            .map(|number| {
                let Written { tokens, limit } = &written[number / copies];
                let text = TextStream::default();
                Row { number, tokens: tokens.clone(), prompt_length: tokens.len(), limit: *limit, text }
            })
            .collect();
        let mut results: Vec<Option<Generated>> = rows.iter().map(|_| None).collect();
        loop {
            let vocab = vocab_size(&logits, rows.len())?;
            let mut open = Vec::new();
            for (place, (row, scores)) in rows.iter_mut().zip(logits.chunks_exact_mut(vocab)).enumerate() {
                let prompt = row.number / copies;
                check_finite(scores, prompt, row.tokens.len())?;
                processors.process(row.history(), scores);
                let token = self
                    .choose(scores, row)
                    .ok_or(GenerateError::NoToken { prompt, length: row.tokens.len() })?;
                let ended = self.append(row, token);
                let text = row.text.give(&self.config.stop_strings, ended.is_some());
                on_piece(Piece { row: row.number, token_ids: &[token], text });
                match ended {
                    Some(reason) => results[row.number] = Some(self.result(row, reason)),
                    None => open.push(place),
                }
            }
            if open.is_empty() {
                break;
            }
            if open.len() < rows.len() {
                model.select(&open).map_err(GenerateError::Model)?;
                let mut place = 0..;
                rows.retain(|_| place.next().is_some_and(|place| open.binary_search(&place).is_ok()));
            }
            let tokens: Vec<u32> = rows.iter().filter_map(|row| row.tokens.last().copied()).collect();
            logits = model.next(&tokens).map_err(GenerateError::Model)?;
        }
        Ok(results.into_iter().flatten().collect())
    }

    fn choose(&self, scores: &[f32], row: &Row) -> Option<u32> {
        if !self.config.do_sample {
            return most_probable(scores);
        }
        let first_row = self.first_prompt * self.config.num_return_sequences;
        let step = row.tokens.len() - row.prompt_length;
        draw(scores, self.config.seed, (first_row + row.number) as u64, step as u64)
    }

    /// Appends a token; why the text has ended with it, if it has.
    fn append(&self, row: &mut Row, token: u32) -> Option<FinishReason> {
        let stops = &self.config.stop_strings;
        row.tokens.push(token);
        if self.config.eos_token_id.contains(&token) {
            let stopped = row.text.finish(stops, self.decode);
            return Some(if stopped { FinishReason::StopString } else { FinishReason::Eos });
        }
        if row.text.push(token, stops, self.decode) {
            return Some(FinishReason::StopString);
        }
        if row.tokens.len() - row.prompt_length < row.limit {
            return None;
        }
        let stopped = row.text.finish(stops, self.decode);
        Some(if stopped { FinishReason::StopString } else { FinishReason::Length })
    }

    fn result(&self, row: &Row, finish_reason: FinishReason) -> Generated {
        let token_ids = row.tokens[row.prompt_length..].to_vec();
        let text = self.whole_text(&token_ids, finish_reason, &row.text);
        Generated { token_ids, text, finish_reason, score: None }
    }

    /// The text of a continuation that has ended: all tokens decoded together, unless it was cut.
    pub(crate) fn whole_text(&self, tokens: &[u32], reason: FinishReason, stream: &TextStream) -> String {
        match (reason, tokens.split_last()) {
            (FinishReason::StopString, _) => stream.text().to_owned(),
            (FinishReason::Eos, Some((_, tokens))) => (self.decode)(tokens),
            _ => (self.decode)(tokens),
        }
    }
}

impl Row {
    fn history(&self) -> History<'_> {
        History { tokens: &self.tokens, prompt_length: self.prompt_length }
    }
}

/// Logits of a row.
pub(crate) fn vocab_size<E: std::error::Error>(
    logits: &[f32],
    rows: usize,
) -> Result<usize, GenerateError<E>> {
    let found = logits.len();
    if rows == 0 || found == 0 || !found.is_multiple_of(rows) {
        return Err(GenerateError::LogitShape { found, rows });
    }
    Ok(found / rows)
}

/// Refuses what no probability can be made of. −∞ is a token that the model never says.
pub(crate) fn check_finite<E: std::error::Error>(
    logits: &[f32],
    prompt: usize,
    length: usize,
) -> Result<(), GenerateError<E>> {
    match logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        None => Ok(()),
        Some(token) => Err(GenerateError::NotFinite { prompt, length, token, value: logits[token] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy_model::ToyModel;
    use std::collections::BTreeMap;
    use std::slice;

    /// Token 1 is `a`, 2 is `b` and so on; 0 has no text.
    fn letters(tokens: &[u32]) -> String {
        tokens.iter().filter(|&&token| token > 0).map(|&token| char::from(b'`' + token as u8)).collect()
    }

    fn run(model: &mut ToyModel, prompts: &[Vec<u32>], config: &GenerationConfig) -> Vec<Generated> {
        let generation = Generation { config, decode: &letters, first_prompt: 0 };
        let mut pieces: BTreeMap<usize, (Vec<u32>, String)> = BTreeMap::new();
        let results = generation
            .run(model, prompts, &mut |piece| {
                let (tokens, text) = pieces.entry(piece.row).or_default();
                tokens.extend(piece.token_ids);
                text.push_str(piece.text);
            })
            .unwrap();
        let told: Vec<_> = pieces.into_values().collect();
        let given: Vec<_> = results.iter().map(|row| (row.token_ids.clone(), row.text.clone())).collect();
        assert_eq!(told, given, "what is told while it grows is the result");
        results
    }

    /// Says the alphabet: after `a` comes `b`.
    fn alphabet() -> ToyModel {
        ToyModel::new(|tokens| {
            let mut logits = vec![0.0; 27];
            logits[(tokens[tokens.len() - 1] as usize + 1) % 27] = 5.0;
            logits
        })
    }

    fn greedy(max_new_tokens: usize) -> GenerationConfig {
        GenerationConfig { max_new_tokens: Some(max_new_tokens), ..GenerationConfig::default() }
    }

    #[test]
    fn the_most_probable_tokens_until_the_length() {
        let results = run(&mut alphabet(), &[vec![1], vec![9, 3]], &greedy(3));
        let texts: Vec<_> = results.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["bcd", "def"]);
        assert!(results.iter().all(|row| row.finish_reason == FinishReason::Length && row.score.is_none()));
    }

    #[test]
    fn rows_that_end_leave_the_batch() {
        let config = GenerationConfig { eos_token_id: vec![0, 12], ..greedy(6) };
        let mut model = alphabet();
        let results = run(&mut model, &[vec![24], vec![1], vec![9]], &config);
        assert_eq!(results[0].token_ids, [25, 26, 0]);
        assert_eq!((results[0].text.as_str(), results[0].finish_reason), ("yz", FinishReason::Eos));
        assert_eq!((results[1].text.as_str(), results[1].finish_reason), ("bcdefg", FinishReason::Length));
        assert_eq!((results[2].text.as_str(), results[2].finish_reason), ("jk", FinishReason::Eos));
        assert_eq!(model.calls, [3, 3, 3, 1, 1, 1]);
    }

    #[test]
    fn stop_strings_cut_the_text() {
        let config = GenerationConfig { stop_strings: vec!["xyz".into(), "de".into()], ..greedy(9) };
        let results = run(&mut alphabet(), &[vec![1], vec![21], vec![4]], &config);
        let found: Vec<_> = results.iter().map(|row| (row.text.as_str(), row.finish_reason)).collect();
        assert_eq!(
            found,
            [
                ("bc", FinishReason::StopString),
                ("vw", FinishReason::StopString),
                ("efghijklm", FinishReason::Length)
            ]
        );
        assert_eq!(results[0].token_ids, [2, 3, 4, 5]);
    }

    #[test]
    fn the_beginning_of_a_stop_string_is_text_if_no_more_comes() {
        let config =
            GenerationConfig { stop_strings: vec!["def".into()], eos_token_id: vec![6], ..greedy(9) };
        let results = run(&mut alphabet(), &[vec![1]], &config);
        assert_eq!((results[0].text.as_str(), results[0].finish_reason), ("bcde", FinishReason::Eos));
    }

    #[test]
    fn texts_end_where_the_model_does() {
        let mut model = alphabet();
        model.max_length = Some(5);
        let results = run(&mut model, &[vec![1, 2, 3], vec![1]], &greedy(9));
        assert_eq!((results[0].text.as_str(), results[0].finish_reason), ("de", FinishReason::Length));
        assert_eq!(results[1].text, "bcde");
        let config = greedy(9);
        let generation = Generation { config: &config, decode: &letters, first_prompt: 0 };
        let error = generation.run(&mut model, &[vec![1], vec![1; 5]], &mut |_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "prompt 1 has `5` tokens, the model takes `5` with the new ones; shorten the prompt to at most 4 tokens"
        );
    }

    #[test]
    fn the_prompt_of_an_encoder_is_no_history() {
        let config = GenerationConfig { no_repeat_ngram_size: 1, ..greedy(4) };
        let mut decoder = ToyModel::new(|_| vec![0.0, 4.0, 3.0, 2.0, 1.0, -1.0]);
        assert_eq!(run(&mut decoder, &[vec![1, 3]], &config)[0].token_ids, [2, 4, 0, 5]);
        let mut encoder_decoder = ToyModel::new(|_| vec![0.0, 4.0, 3.0, 2.0, 1.0, -1.0]);
        encoder_decoder.decoder_start_token_id = Some(0);
        assert_eq!(run(&mut encoder_decoder, &[vec![1, 3]], &config)[0].token_ids, [1, 2, 3, 4]);
    }

    fn sampled(seed: u64) -> GenerationConfig {
        GenerationConfig { do_sample: true, seed, eos_token_id: vec![0], top_k: 0, ..greedy(12) }
    }

    #[test]
    fn the_same_seed_gives_the_same_text() {
        let prompts: Vec<Vec<u32>> = (1..6).map(|token| vec![token; 3]).collect();
        let texts = |seed| run(&mut ToyModel::chaotic(20, 4.0), &prompts, &sampled(seed));
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
    }

    #[test]
    fn rows_do_not_depend_on_the_rest_of_the_batch() {
        let prompts: Vec<Vec<u32>> = (1..8).map(|token| vec![token; token as usize]).collect();
        for (sequences, config) in [(1, sampled(3)), (3, sampled(4)), (1, greedy(9))] {
            let config = GenerationConfig { num_return_sequences: sequences, top_p: 0.9, ..config };
            let together = run(&mut ToyModel::chaotic(20, 4.0), &prompts, &config);
            assert_eq!(together.len(), prompts.len() * sequences);
            for (first_prompt, prompt) in prompts.iter().enumerate() {
                let generation = Generation { config: &config, decode: &letters, first_prompt };
                let alone = generation
                    .run(&mut ToyModel::chaotic(20, 4.0), slice::from_ref(prompt), &mut |_| ())
                    .unwrap();
                assert_eq!(alone, together[first_prompt * sequences..][..sequences]);
            }
        }
    }

    #[test]
    fn continuations_of_one_prompt_differ_and_share_its_reading() {
        let config = GenerationConfig { num_return_sequences: 4, eos_token_id: vec![], ..sampled(5) };
        let mut model = ToyModel::chaotic(20, 4.0);
        let results = run(&mut model, &[vec![1], vec![2]], &config);
        for (number, row) in results.iter().enumerate() {
            assert!(!results[..number].contains(row), "{results:?}");
        }
        assert_eq!(model.calls[..2], [2, 8]);
    }

    #[test]
    fn a_cold_draw_is_the_most_probable_token() {
        let prompts = [vec![1, 2], vec![3]];
        let best = run(
            &mut ToyModel::chaotic(20, 4.0),
            &prompts,
            &GenerationConfig { do_sample: false, ..sampled(0) },
        );
        for (temperature, top_k, top_p) in [(1e-4, 0, 1.0), (1.0, 1, 1.0), (1.0, 0, 0.0)] {
            let config = GenerationConfig { temperature, top_k, top_p, ..sampled(7) };
            assert_eq!(run(&mut ToyModel::chaotic(20, 4.0), &prompts, &config), best);
        }
    }

    fn failure(logits: impl Fn(&[u32]) -> Vec<f32> + 'static, config: &GenerationConfig) -> String {
        let generation = Generation { config, decode: &letters, first_prompt: 0 };
        generation
            .run(&mut ToyModel::new(logits), &[vec![1, 2], vec![3]], &mut |_| ())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_continued_is_told() {
        assert_eq!(
            failure(|tokens| vec![0.0, if tokens.len() == 3 { f32::NAN } else { 1.0 }], &greedy(5)),
            "the logit of token `1` after 3 tokens of prompt 0 is `NaN`, which is not finite; the model has diverged \
             or its weights are damaged"
        );
        assert_eq!(
            failure(|tokens| vec![0.0; tokens.len()], &greedy(5)),
            "the model gave `3` logits for `2` rows; expected the same number, above 0, for each row"
        );
        assert!(failure(|_| Vec::new(), &greedy(5)).starts_with("the model gave `0` logits"));
        let config = GenerationConfig { no_repeat_ngram_size: 1, ..greedy(5) };
        assert!(
            failure(|_| vec![0.0; 4], &config).starts_with("no token is allowed after 4 tokens of prompt 0")
        );
        assert!(failure(|_| vec![0.0; 4], &greedy(0)).starts_with("`max_new_tokens` must be at least 1"));
        let config = greedy(1);
        let generation = Generation { config: &config, decode: &letters, first_prompt: 0 };
        let error = generation.run(&mut alphabet(), &[vec![1], vec![]], &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "prompt 1 has no token; give every prompt at least one");
        assert_eq!(generation.run(&mut alphabet(), &[], &mut |_| ()).unwrap(), []);
    }
}
