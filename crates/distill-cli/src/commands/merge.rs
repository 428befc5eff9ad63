//! `distill merge`: an adapter and its model made one.

use super::Context;
use crate::failure::Failure;
use crate::output::print;
use clap::{Args, ValueEnum};
use distill_models::{StoredDtype, WeightsFormat};
use distill_train::merge_adapter;
use std::path::PathBuf;

/// Make one model of an adapter and the model that it belongs to
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Merge {
    /// Folder of an adapter in PEFT's layout, or its hub id
    #[arg(value_name = "ADAPTER")]
    adapter: String,
    /// Folder to write; it must not exist, or be empty
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
    /// Largest weights file, such as 500MB or 2GB; beyond it the weights are written in shards
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "50GB")]
    max_shard_size: u64,
    /// What the weights are stored as
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Stored::F32)]
    dtype: Stored,
}

/// What weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stored {
    F32,
    F16,
    Bf16,
}

/// Bytes of `200KB`, `5GB` and the like, powers of 1000 as Hugging Face counts them, or of 1024 for `KiB`.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let found = UNITS.iter().find_map(|(unit, factor)| Some((upper.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.unwrap_or((&upper, 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected a size such as `500MB` or `2GB`".to_owned()),
    }
}

const EXAMPLES: &str = "\
Examples:
  distill merge checkpoints/abstracts-lora checkpoints/abstracts
  distill generate checkpoints/abstracts --prompt \"Background: \"
  distill merge checkpoints/abstracts-lora out --dtype bf16 --max-shard-size 200MB

The model is found by `base_model_name_or_path` of `adapter_config.json`. What is written is an ordinary Hugging Face
folder, that needs neither the adapter nor PEFT.";

impl Merge {
    /// Writes the model.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let mut observer = context.voice.observer();
        let format = WeightsFormat {
            dtype: match self.dtype {
                Stored::F32 => StoredDtype::F32,
                Stored::F16 => StoredDtype::F16,
                Stored::Bf16 => StoredDtype::Bf16,
            },
            max_shard_size: self.max_shard_size,
        };
        let merged = merge_adapter(&self.adapter, &self.output, format, observer.as_mut())?;
        drop(observer);
        let (layers, output) = (merged.layers, self.output.display());
        print(&format!("{layers} adapted layers of `{}` merged into `{output}`\n", merged.base.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_hugging_face_writes_them() {
        assert_eq!(size("200KB"), Ok(200_000));
        assert_eq!(size("5gb"), Ok(5_000_000_000));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(size("12"), Ok(12));
        for bad in ["", "0GB", "five", "-1MB", "99999999999999GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
