//! Settings of generation on the command line, laid over a model's own.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use distill_generate::{EarlyStopping, GenerationConfig};

/// New tokens a text where neither the command line nor the model says.
const DEFAULT_MAX_NEW_TOKENS: usize = 256;

/// What is given here goes before the model's `generation_config.json`; the names are the same.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generation, by default as the model's generation_config.json says")]
pub struct GenerationArguments {
    /// Most tokens of a text [default: the model's, else 256]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Fewest tokens of a text
    #[arg(long, value_name = "N")]
    min_new_tokens: Option<usize>,
    /// Draw tokens by chance, or with `=false` take the most probable ones
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    do_sample: Option<bool>,
    /// Below 1 draws are more careful, above bolder; turns draws on
    #[arg(long, value_name = "X")]
    temperature: Option<f64>,
    /// Draw among this many most probable tokens, 0 is all; turns draws on
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw among the fewest most probable tokens that have this probability together; turns draws on
    #[arg(long, value_name = "FRACTION")]
    top_p: Option<f64>,
    /// Draw among tokens at least this probable, as a fraction of the most probable one's; turns draws on
    #[arg(long, value_name = "FRACTION")]
    min_p: Option<f64>,
    /// Above 1 makes tokens that occurred less likely
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// No sequence of this many tokens occurs twice
    #[arg(long, value_name = "N")]
    no_repeat_ngram_size: Option<usize>,
    /// Search with this many beams; turns draws off
    #[arg(long, value_name = "N")]
    num_beams: Option<usize>,
    /// Above 0 a beam search favours long texts, below short ones
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// When a beam search ends
    #[arg(long, value_enum, value_name = "WHEN")]
    early_stopping: Option<Early>,
    /// Texts for each prompt
    #[arg(long, value_name = "N")]
    num_return_sequences: Option<usize>,
    /// Token that ends a text; may be given more than once
    #[arg(long, value_name = "ID")]
    eos_token_id: Vec<u32>,
    /// Text that ends a text, which is cut before it; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop_strings: Vec<String>,
    /// Where draws begin: the same texts for the same seed, however many are generated together
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// `early_stopping` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Early {
    /// At once when there are as many texts as beams
    True,
    /// When there are as many texts as beams and none is likely to improve on them
    False,
    /// When no beam can improve on the texts
    Never,
}

impl From<Early> for EarlyStopping {
    fn from(early: Early) -> Self {
        match early {
            Early::True => Self::Full,
            Early::False => Self::Unlikely,
            Early::Never => Self::Never,
        }
    }
}

impl GenerationArguments {
    /// The settings: those given here, else those of the model.
    ///
    /// # Errors
    /// Settings that cannot be, all of them.
    pub fn over(&self, model: GenerationConfig) -> Result<GenerationConfig, Failure> {
        let config = GenerationConfig {
            max_new_tokens: self.max_new_tokens.or(model.max_new_tokens).or(Some(DEFAULT_MAX_NEW_TOKENS)),
            min_new_tokens: self.min_new_tokens.unwrap_or(model.min_new_tokens),
            do_sample: self.do_sample(model.do_sample),
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.or(model.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(model.repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(model.no_repeat_ngram_size),
            num_beams: self.num_beams.unwrap_or(model.num_beams),
            length_penalty: self.length_penalty.unwrap_or(model.length_penalty),
            early_stopping: self.early_stopping.map_or(model.early_stopping, EarlyStopping::from),
            num_return_sequences: self.num_return_sequences.unwrap_or(model.num_return_sequences),
            eos_token_id: given(&self.eos_token_id, model.eos_token_id),
            stop_strings: given(&self.stop_strings, model.stop_strings),
            seed: self.seed.unwrap_or(model.seed),
        };
        config.check().map_err(|faults| {
            let messages: Vec<String> = faults.0.into_iter().map(|fault| fault.message).collect();
            Failure::input(messages.join("\n"))
        })?;
        Ok(config)
    }

    /// A setting of draws asks for draws, one of beams for none.
    fn do_sample(&self, model: bool) -> bool {
        let shapes_draws = self.temperature.is_some()
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some();
        let searches = self.num_beams.is_some_and(|beams| beams > 1);
        self.do_sample.unwrap_or(shapes_draws || (model && !searches))
    }
}

fn given<T: Clone>(here: &[T], model: Vec<T>) -> Vec<T> {
    if here.is_empty() { model } else { here.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: GenerationArguments,
    }

    fn over(model: GenerationConfig, arguments: &[&str]) -> Result<GenerationConfig, Failure> {
        Line::parse_from([&["generate"], arguments].concat()).settings.over(model)
    }

    #[test]
    fn what_is_not_given_is_the_models() {
        let model = GenerationConfig { top_k: 7, eos_token_id: vec![2], ..GenerationConfig::default() };
        let expected = GenerationConfig { max_new_tokens: Some(256), ..model.clone() };
        assert_eq!(over(model.clone(), &[]).unwrap(), expected);
        let model = GenerationConfig { max_new_tokens: Some(9), ..model };
        assert_eq!(over(model.clone(), &[]).unwrap(), model);
    }

    #[test]
    fn what_is_given_goes_before_the_models() {
        let model = GenerationConfig { eos_token_id: vec![2], seed: 3, ..GenerationConfig::default() };
        let arguments = "--max-new-tokens 5 --eos-token-id 7 --eos-token-id 8 --stop-strings a --seed 4 --length-penalty -0.5 \
             --early-stopping never --num-beams 3 --num-return-sequences 2";
        let expected = GenerationConfig {
            max_new_tokens: Some(5),
            eos_token_id: vec![7, 8],
            stop_strings: vec!["a".to_owned()],
            seed: 4,
            length_penalty: -0.5,
            early_stopping: EarlyStopping::Never,
            num_beams: 3,
            num_return_sequences: 2,
            ..GenerationConfig::default()
        };
        assert_eq!(over(model, &arguments.split(' ').collect::<Vec<_>>()).unwrap(), expected);
    }

    #[test]
    fn settings_of_draws_turn_draws_on_and_beams_turn_them_off() {
        let greedy = GenerationConfig::default;
        let drawn = || GenerationConfig { do_sample: true, ..greedy() };
        assert!(over(greedy(), &["--do-sample"]).unwrap().do_sample);
        assert!(over(greedy(), &["--top-p", "0.9"]).unwrap().do_sample);
        assert!(!over(greedy(), &["--top-p", "0.9", "--do-sample=false"]).unwrap().do_sample);
        assert!(over(drawn(), &[]).unwrap().do_sample);
        assert!(!over(drawn(), &["--do-sample=false"]).unwrap().do_sample);
        assert!(!over(drawn(), &["--num-beams", "4"]).unwrap().do_sample);
        assert!(over(drawn(), &["--num-beams", "4", "--do-sample"]).is_err());
    }

    #[test]
    fn all_faults_are_told() {
        let failure = over(GenerationConfig::default(), &["--temperature", "0", "--top-p", "2"]).unwrap_err();
        assert_eq!(
            failure.render(Paint::PLAIN, 120),
            "error: `temperature` must be above 0, found `0`; for the most probable tokens write `do_sample = \
             false`\n`top_p` must be between 0 and 1, found `2`\n"
        );
    }
}
