//! Beam search: the most probable texts rather than the most probable tokens.
//!
//! Each prompt has up to `num_beams` open sequences. A step scores every continuation of every one of them
//! by the sum of its log-probabilities and looks at the best, as many as it takes for `num_beams` of them
//! not to end in a token of `eos_token_id`. Those that end and are among the first `num_beams` become
//! results, if they are among the `num_beams` best results by score over length; the best others stay open.
//! The rules, and when a search ends, are those of Hugging Face's `generate`, so that the sequences are the
//! same; here each prompt ends by itself and leaves the batch.

use crate::generate::{Generation, Written, check_finite, vocab_size};
use crate::processors::{History, LogitsProcessor, LogitsProcessors};
use crate::scores::log_softmax;
use crate::{EarlyStopping, FinishReason, GenerateError, Generated, NextToken, Piece, TextStream};

/// An open sequence.
struct Beam {
    /// Its row in the model.
    row: usize,
    tokens: Vec<u32>,
    /// Sum of the log-probabilities of the new tokens, in nats.
    score: f32,
    /// Its text, if there are stop strings to look for.
    text: TextStream,
}

/// A sequence that has ended.
struct Ended {
    tokens: Vec<u32>,
    /// Sum of the log-probabilities over `tokens ^ length_penalty`.
    score: f32,
    reason: FinishReason,
    text: TextStream,
}

/// A token after an open sequence.
#[derive(Clone, Copy)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f32,
}

/// The search for the continuations of one prompt.
struct Search {
    prompt: usize,
    prompt_length: usize,
    limit: usize,
    /// Best first.
    open: Vec<Beam>,
    /// Best first.
    ended: Vec<Ended>,
}

/// Searches for the continuations of all prompts, whose first logits are `logits`.
pub(crate) fn run<M: NextToken>(
    generation: &Generation<'_>,
    processors: &LogitsProcessors,
    model: &mut M,
    written: Vec<Written>,
    mut logits: Vec<f32>,
    on_piece: &mut dyn FnMut(Piece<'_>),
) -> Result<Vec<Generated>, GenerateError<M::Error>> {
    let mut searches: Vec<Search> = written.into_iter().enumerate().map(Search::new).collect();
    let mut results: Vec<Vec<Generated>> = searches.iter().map(|_| Vec::new()).collect();
    loop {
        let rows = searches.iter().map(|search| search.open.len()).sum();
        let vocab = vocab_size(&logits, rows)?;
        let mut open = Vec::new();
        for mut search in searches {
            if search.step(generation, processors, &mut logits, vocab)? {
                open.push(search);
            } else {
                let prompt = search.prompt;
                results[prompt] = search.results(generation, on_piece)?;
            }
        }
        searches = open;
        let beams: Vec<&mut Beam> = searches.iter_mut().flat_map(|search| &mut search.open).collect();
        if beams.is_empty() {
            break;
        }
        let tokens: Vec<u32> = beams.iter().filter_map(|beam| beam.tokens.last().copied()).collect();
        let mut parents = Vec::new();
        for (row, beam) in beams.into_iter().enumerate() {
            parents.push(std::mem::replace(&mut beam.row, row));
        }
        if parents.len() != rows || parents.iter().enumerate().any(|(row, &parent)| row != parent) {
            model.select(&parents).map_err(GenerateError::Model)?;
        }
        logits = model.next(&tokens).map_err(GenerateError::Model)?;
    }
    Ok(results.into_iter().flatten().collect())
}

impl Search {
    fn new((prompt, written): (usize, Written)) -> Self {
        let prompt_length = written.tokens.len();
        // One sequence to begin with: copies of it would have the same continuations.
        let first = Beam { row: prompt, tokens: written.tokens, score: 0.0, text: TextStream::default() };
        Self { prompt, prompt_length, limit: written.limit, open: vec![first], ended: Vec::new() }
    }

    /// Continues the open sequences by a token; whether the search goes on.
    fn step<E: std::error::Error>(
        &mut self,
        generation: &Generation<'_>,
        processors: &LogitsProcessors,
        logits: &mut [f32],
        vocab: usize,
    ) -> Result<bool, GenerateError<E>> {
        let config = generation.config;
        let mut best = Best::new(config.num_beams.saturating_mul((1 + config.eos_token_id.len()).max(2)));
        for (number, beam) in self.open.iter().enumerate() {
            let scores = &mut logits[beam.row * vocab..][..vocab];
            check_finite(scores, self.prompt, beam.tokens.len())?;
            log_softmax(scores);
            processors.process(History { tokens: &beam.tokens, prompt_length: self.prompt_length }, scores);
            for (token, score) in (0_u32..).zip(scores) {
                best.offer(Candidate { beam: number, token, score: beam.score + *score });
            }
        }
        self.advance(generation, &best.candidates);
        Ok(!self.is_over(generation))
    }

    /// Sorts the best continuations into those that have ended and those that stay open.
    fn advance(&mut self, generation: &Generation<'_>, candidates: &[Candidate]) {
        let config = generation.config;
        let mut open = Vec::new();
        for (rank, candidate) in candidates.iter().enumerate() {
            let parent = &self.open[candidate.beam];
            let length = parent.tokens.len() + 1 - self.prompt_length;
            let mut text = parent.text.clone();
            let reason = self.reason(generation, candidate.token, length, &mut text);
            let is_wanted =
                if reason.is_some() { rank < config.num_beams } else { open.len() < config.num_beams };
            if !is_wanted {
                continue;
            }
            let mut tokens = parent.tokens.clone();
            tokens.push(candidate.token);
            match reason {
                None => open.push(Beam { row: parent.row, tokens, score: candidate.score, text }),
                Some(reason) => {
                    let score = penalised(candidate.score, length, config.length_penalty);
                    self.ended.push(Ended { tokens, score, reason, text });
                }
            }
        }
        self.open = open;
        self.ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.ended.truncate(config.num_beams);
    }

    /// Why a sequence of `length` new tokens has ended with `token`, if it has.
    fn reason(
        &self,
        generation: &Generation<'_>,
        token: u32,
        length: usize,
        text: &mut TextStream,
    ) -> Option<FinishReason> {
        let stops = &generation.config.stop_strings;
        let is_eos = generation.config.eos_token_id.contains(&token);
        let is_full = length >= self.limit;
        if !stops.is_empty() {
            let pushed = !is_eos && text.push(token, stops, generation.decode);
            if pushed || ((is_eos || is_full) && text.finish(stops, generation.decode)) {
                return Some(FinishReason::StopString);
            }
        }
        if is_eos {
            return Some(FinishReason::Eos);
        }
        is_full.then_some(FinishReason::Length)
    }

    fn is_over(&self, generation: &Generation<'_>) -> bool {
        let config = generation.config;
        let Some(best) = self.open.first() else { return true };
        let Some(worst) = self.ended.get(config.num_beams - 1) else { return false };
        let length = match config.early_stopping {
            EarlyStopping::Full => return true,
            EarlyStopping::Never if config.length_penalty > 0.0 => self.limit,
            EarlyStopping::Never | EarlyStopping::Unlikely => best.tokens.len() - self.prompt_length,
        };
        penalised(best.score, length, config.length_penalty) <= worst.score
    }

    /// The best sequences that have ended.
    fn results<E: std::error::Error>(
        self,
        generation: &Generation<'_>,
        on_piece: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Vec<Generated>, GenerateError<E>> {
        let wanted = generation.config.num_return_sequences;
        if self.ended.len() < wanted {
            let length = self.open.first().map_or(self.prompt_length, |beam| beam.tokens.len());
            return Err(GenerateError::NoToken { prompt: self.prompt, length });
        }
        let mut results = Vec::new();
        for (number, ended) in self.ended.into_iter().take(wanted).enumerate() {
            let token_ids = ended.tokens[self.prompt_length..].to_vec();
            let text = generation.whole_text(&token_ids, ended.reason, &ended.text);
            on_piece(Piece { row: self.prompt * wanted + number, token_ids: &token_ids, text: &text });
            results.push(Generated {
                token_ids,
                text,
                finish_reason: ended.reason,
                score: Some(ended.score),
            });
        }
        Ok(results)
    }
}

/// The score of a sequence of `length` new tokens; Wu et al. 2016, §7 (arXiv:1609.08144), without its constant.
fn penalised(score: f32, length: usize, length_penalty: f64) -> f32 {
    score / (length as f64).powf(length_penalty) as f32
}

/// The best of many candidates, best first; of equal ones the earlier.
struct Best {
    most: usize,
    candidates: Vec<Candidate>,
}

impl Best {
    fn new(most: usize) -> Self {
        Self { most, candidates: Vec::new() }
    }

    fn offer(&mut self, candidate: Candidate) {
        let is_full = self.candidates.len() == self.most;
        let floor = self.candidates.last().filter(|_| is_full).map_or(f32::NEG_INFINITY, |last| last.score);
        if candidate.score > floor {
            let place = self.candidates.partition_point(|known| known.score >= candidate.score);
            self.candidates.insert(place, candidate);
            self.candidates.truncate(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GenerationConfig;
    use crate::toy_model::ToyModel;
    use std::slice;

    fn no_text(_: &[u32]) -> String {
        String::new()
    }

    fn search(model: &mut ToyModel, prompts: &[Vec<u32>], config: &GenerationConfig) -> Vec<Generated> {
        let generation = Generation { config, decode: &no_text, first_prompt: 0 };
        generation.run(model, prompts, &mut |_| ()).unwrap()
    }

    /// `num_beams` beams, the end is token 0.
    fn beams(num_beams: usize, max_new_tokens: usize) -> GenerationConfig {
        GenerationConfig {
            num_beams,
            num_return_sequences: num_beams,
            max_new_tokens: Some(max_new_tokens),
            eos_token_id: vec![0],
            ..GenerationConfig::default()
        }
    }

    /// The probabilities of the end, of 1 and of 2, by the token before; a prompt is `[1]` or `[2]`.
    fn table() -> ToyModel {
        ToyModel::new(|tokens| {
            let probabilities: [f32; 3] = match *tokens {
                [_] => [0.1, 0.5, 0.4],
                [.., 1] => [0.3, 0.3, 0.4],
                _ => [0.9, 0.06, 0.04],
            };
            probabilities.map(f32::ln).to_vec()
        })
    }

    fn assert_score(found: &Generated, expected: f32) {
        let score = found.score.unwrap();
        assert!((score - expected).abs() < 1e-6, "{score} for {expected}");
    }

    #[test]
    fn the_most_probable_text_need_not_begin_with_the_most_probable_token() {
        let config = GenerationConfig { length_penalty: 0.0, ..beams(2, 2) };
        let found = search(&mut table(), &[vec![1]], &config);
        assert_eq!(found[0].token_ids, [2, 0]);
        assert_eq!(found[0].finish_reason, FinishReason::Eos);
        assert_score(&found[0], (0.4_f32 * 0.9).ln());
        assert_eq!(found[1].token_ids, [1, 2]);
        assert_eq!(found[1].finish_reason, FinishReason::Length);
        assert_score(&found[1], (0.5_f32 * 0.4).ln());
    }

    #[test]
    fn an_end_that_is_not_among_the_first_beams_is_no_result() {
        // After one token the candidates are 1 (0.5), 2 (0.4) and the end (0.1), which comes third.
        let config = GenerationConfig { length_penalty: 0.0, ..beams(2, 1) };
        let found = search(&mut table(), &[vec![1]], &config);
        assert_eq!([&found[0].token_ids[..], &found[1].token_ids], [&[1], &[2]]);
    }

    #[test]
    fn the_penalty_decides_between_short_and_long() {
        // Long texts: every token costs ln 0.9. The end costs ln 0.1 at once.
        let model = || ToyModel::new(|_| [0.1_f32, 0.9].map(f32::ln).to_vec());
        let of = |length_penalty| {
            let config = GenerationConfig {
                length_penalty,
                num_return_sequences: 1,
                early_stopping: EarlyStopping::Never,
                ..beams(2, 30)
            };
            search(&mut model(), &[vec![1]], &config).remove(0)
        };
        let short = of(0.0);
        assert_eq!(short.token_ids, [0]);
        assert_score(&short, 0.1_f32.ln());
        let long = of(1.0);
        assert_eq!(long.token_ids, [1; 30]);
        assert_score(&long, 0.9_f32.ln());
    }

    #[test]
    fn a_search_ends_when_it_is_told_to() {
        // Two sequences have ended after two steps; `false` and `"never"` look on.
        let model = || ToyModel::new(|_| [0.4_f32, 0.6].map(f32::ln).to_vec());
        let calls = |early_stopping, length_penalty| {
            let mut model = model();
            search(
                &mut model,
                &[vec![1]],
                &GenerationConfig { early_stopping, length_penalty, ..beams(2, 30) },
            );
            model.calls.len()
        };
        assert_eq!(calls(EarlyStopping::Full, 1.0), 2);
        // The open sequence has ln 0.6 a token, which is more than any that has ended.
        assert_eq!(calls(EarlyStopping::Unlikely, 1.0), 30);
        assert_eq!(calls(EarlyStopping::Never, 1.0), 30);
        // Without a penalty the second, 0.6 · 0.4, is better than 0.6³ from the third step on.
        assert_eq!(calls(EarlyStopping::Unlikely, 0.0), 3);
        assert_eq!(calls(EarlyStopping::Never, 0.0), 3);
    }

    /// All texts of at most `length` tokens with their scores, best first.
    fn all_texts(vocab: u32, length: usize, length_penalty: f64) -> Vec<(Vec<u32>, f32)> {
        let mut model = ToyModel::chaotic(vocab, 3.0);
        let mut open = vec![(Vec::new(), 0.0_f32)];
        let mut all = Vec::new();
        while let Some((text, score)) = open.pop() {
            let prompt = [&[1][..], &text].concat();
            let mut scores = model.start(&[prompt], 1).unwrap();
            log_softmax(&mut scores);
            for token in 0..vocab {
                let text = [&text[..], &[token]].concat();
                let score = score + scores[token as usize];
                if token == 0 || text.len() == length {
                    let score = penalised(score, text.len(), length_penalty);
                    all.push((text, score));
                } else {
                    open.push((text, score));
                }
            }
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    #[test]
    fn as_many_beams_as_texts_find_the_best_ones() {
        for length_penalty in [0.0, 1.0, 2.0, -0.5] {
            let all = all_texts(5, 3, length_penalty);
            let config = GenerationConfig {
                length_penalty,
                num_return_sequences: 10,
                early_stopping: EarlyStopping::Never,
                ..beams(all.len(), 3)
            };
            let found = search(&mut ToyModel::chaotic(5, 3.0), &[vec![1]], &config);
            for (found, (text, score)) in found.iter().zip(&all) {
                assert_eq!(&found.token_ids, text);
                assert_score(found, *score);
            }
        }
    }

    #[test]
    fn one_beam_is_greedy() {
        for token in 0..20 {
            let config = GenerationConfig { length_penalty: 0.0, ..beams(1, 8) };
            let generation = Generation { config: &config, decode: &no_text, first_prompt: 0 };
            let greedy = search(&mut ToyModel::chaotic(6, 4.0), &[vec![token]], &config).remove(0);
            let mut model = ToyModel::chaotic(6, 4.0);
            let logits = model.start(&[vec![token]], 8).unwrap();
            let written = vec![Written { tokens: vec![token], limit: 8 }];
            let beam =
                run(&generation, &LogitsProcessors::new(&config), &mut model, written, logits, &mut |_| ())
                    .unwrap()
                    .remove(0);
            assert_eq!(beam.token_ids, greedy.token_ids);
        }
    }

    #[test]
    fn prompts_do_not_depend_on_the_rest_of_the_batch() {
        let prompts: Vec<Vec<u32>> = (1..7).map(|token| vec![token; token as usize]).collect();
        for early_stopping in [EarlyStopping::Unlikely, EarlyStopping::Full, EarlyStopping::Never] {
            let config = GenerationConfig { early_stopping, repetition_penalty: 1.3, ..beams(3, 9) };
            let together = search(&mut ToyModel::chaotic(9, 4.0), &prompts, &config);
            for (prompt, together) in prompts.iter().zip(together.chunks(3)) {
                assert_eq!(
                    search(&mut ToyModel::chaotic(9, 4.0), slice::from_ref(prompt), &config),
                    together
                );
            }
        }
    }

    #[test]
    fn a_stop_string_ends_a_sequence() {
        let decode = |tokens: &[u32]| tokens.iter().map(u32::to_string).collect::<String>();
        let config = GenerationConfig {
            stop_strings: vec!["12".to_owned()],
            length_penalty: 0.0,
            num_return_sequences: 2,
            ..beams(3, 4)
        };
        let generation = Generation { config: &config, decode: &decode, first_prompt: 0 };
        let mut told = Vec::new();
        let found = generation
            .run(&mut table(), &[vec![1]], &mut |piece| told.push((piece.row, piece.text.to_owned())))
            .unwrap();
        assert_eq!(found[0].token_ids, [2, 0]);
        assert_eq!(found[0].text, "2");
        assert_eq!(found[1].token_ids, [1, 2]);
        assert_eq!((found[1].text.as_str(), found[1].finish_reason), ("", FinishReason::StopString));
        assert_eq!(told, [(0, "2".to_owned()), (1, String::new())]);
    }

    #[test]
    fn fewer_texts_than_wanted_are_told() {
        let config = GenerationConfig { eos_token_id: vec![], ..beams(4, 1) };
        let generation = Generation { config: &config, decode: &no_text, first_prompt: 0 };
        let error = generation.run(&mut table(), &[vec![1]], &mut |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("no token is allowed after 1 tokens of prompt 0"), "{error}");
    }

    #[test]
    fn the_best_are_kept_and_of_equal_ones_the_earlier() {
        let mut best = Best::new(3);
        for (token, score) in (0..).zip([1.0, 3.0, f32::NEG_INFINITY, 1.0, 3.0, 0.0]) {
            best.offer(Candidate { beam: 0, token, score });
        }
        let tokens: Vec<u32> = best.candidates.iter().map(|candidate| candidate.token).collect();
        assert_eq!(tokens, [1, 4, 0]);
    }
}
