//! An adapter and its model made one.

use crate::checkpoint::write_file;
use crate::error::TrainError;
use crate::events::Observer;
use crate::finished_model::FinishedModel;
use distill_data::tokenizer::Tokenizer;
use distill_models::{WeightsFormat, save_merged};
use distill_ops::{DeviceSpec, resolve};
use std::path::{Path, PathBuf};

/// What was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The model that the adapter belongs to.
    pub base: PathBuf,
    /// How many layers it adapts.
    pub layers: usize,
}

/// Files beside the weights that a model keeps.
const KEPT: [&str; 1] = ["generation_config.json"];

/// Writes `W + scaling · B A` for every adapted layer, with everything else of the model, into a new folder.
///
/// # Errors
/// If `adapter` is none, or does not fit its model; if `output` is there and not empty.
pub fn merge_adapter(
    adapter: &str,
    output: &Path,
    format: WeightsFormat,
    observer: &mut dyn Observer,
) -> Result<Merged, TrainError> {
    let finished = FinishedModel::find(adapter, observer)?;
    let Some(base) = finished.base.clone() else {
        return Err(TrainError::Unusable {
            message: format!("`{adapter}` is no adapter: it has no `adapter_config.json`"),
            help: "name the output folder of a run with `[lora]`, or a folder that PEFT has written"
                .to_owned(),
        });
    };
    let taken = std::fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some());
    if taken || output.is_file() {
        return Err(TrainError::Unusable {
            message: format!("`{}` is there already", output.display()),
            help: "choose another folder".to_owned(),
        });
    }
    finished.announce(adapter, observer);
    let config = finished.config()?;
    let device = [DeviceSpec::Flex, DeviceSpec::NdArray].into_iter().find_map(|spec| resolve(spec).ok());
    let device = device.map_or_else(|| resolve(DeviceSpec::Auto), Ok)?;
    let loaded = finished.load(config.task.clone(), device)?;
    let tokenizer = Tokenizer::load(finished.tokenizer_folder())?;
    save_merged(&loaded, &config, output, format)?;
    tokenizer.save(output)?;
    keep_files([Some(finished.folder.as_path()), Some(base.as_path())], output)?;
    Ok(Merged { base, layers: loaded.report.adapted.len() })
}

/// Copies what belongs to a model beside its weights and is not made anew, from the first folder that has it.
pub(crate) fn keep_files<'a>(
    from: impl IntoIterator<Item = Option<&'a Path>> + Clone,
    to: &Path,
) -> Result<(), TrainError> {
    for name in KEPT {
        let found =
            from.clone().into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.is_file());
        let target = to.join(name);
        if let Some(source) = found.filter(|source| *source != target) {
            let bytes = std::fs::read(&source).map_err(TrainError::io(&source))?;
            write_file(&target, &bytes)?;
        }
    }
    Ok(())
}
