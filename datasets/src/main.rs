//! Writes every data set of the registry: `distill-datasets [--out FOLDER] [--seed N]`.
//!
//! For those who change a generator; users have `distill datasets write`.

use distill_datasets::{DATASETS, SEED};
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut out, mut seed) = (PathBuf::from("datasets"), SEED);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--out" => out = value.into(),
            "--seed" => {
                seed = value
                    .parse()
                    .map_err(|_| format!("`--seed` is a whole number from 0, found `{value}`"))?;
            }
            _ => {
                return Err(format!("unknown argument `{argument}`; allowed are `--out` and `--seed`").into());
            }
        }
    }
    for (_, generate) in DATASETS {
        generate(seed).write(&out)?;
    }
    Ok(())
}
