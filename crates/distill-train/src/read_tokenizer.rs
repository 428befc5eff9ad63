//! The tokeniser of a run: the model's, one of another folder, or one that is trained on the training texts.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::read_model::model_folder;
use crate::rows::Rows;
use distill_data::tokenizer::{Tokenizer, TokenizerKind, TrainConfig};
use distill_recipe::{Recipe, TokenizerTraining};
use std::path::Path;

/// The tokeniser that the recipe asks for, or that of the folder `model`.
///
/// # Errors
/// [`TrainError`] if there is none, or if it cannot be read.
pub(crate) fn read_tokenizer(
    recipe: &Recipe,
    model: Option<&Path>,
    train: &Rows,
    observer: &mut dyn Observer,
) -> Result<Tokenizer, TrainError> {
    let table = recipe.tokenizer.as_ref();
    if let Some(training) = table.and_then(|table| table.train.as_ref()) {
        if model.is_some() {
            let help = "remove `[tokenizer]`: a pretrained model has its own".to_owned();
            let message = "a pretrained model cannot be used with a new tokenizer";
            let fault = recipe.fault_at("tokenizer.train", message, Some(help));
            return Err(recipe.faults(vec![fault]).into());
        }
        observer.event(&Event::Stage { message: "training the tokenizer".to_owned() });
        let max_length = recipe.data.max_length;
        let mut texts = Vec::with_capacity(train.len());
        train.for_each_text(&mut |_, text| {
            texts.push(text.to_owned());
            Ok(())
        })?;
        return Ok(Tokenizer::train(&texts, &train_config(training))?.with_model_max_length(max_length));
    }
    if let Some(path) = table.and_then(|table| table.path.as_deref()) {
        return Ok(Tokenizer::load(&model_folder(path, observer)?)?);
    }
    match model {
        Some(folder) => Ok(Tokenizer::load(folder)?),
        None => {
            let help =
                "add `[tokenizer]` with `train = { vocab_size = 4000 }` or `path = \"...\"`".to_owned();
            let message = "a model from scratch needs a tokenizer";
            Err(recipe.faults(vec![recipe.fault_at("model.architecture", message, Some(help))]).into())
        }
    }
}

fn train_config(training: &TokenizerTraining) -> TrainConfig {
    TrainConfig {
        kind: match training.kind {
            distill_recipe::TokenizerKind::Wordpiece => TokenizerKind::WordPiece,
            distill_recipe::TokenizerKind::Bpe => TokenizerKind::Bpe,
            distill_recipe::TokenizerKind::Gpt2 => TokenizerKind::Gpt2,
        },
        vocab_size: training.vocab_size,
        min_frequency: training.min_frequency,
        lowercase: training.lowercase(),
    }
}
