//! `--dtype`, alike for all commands that compute.

use clap::ValueEnum;
use distill_recipe::DtypeChoice;

/// Number format of matrix products, as on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// bf16 where the processor has instructions for it, else f32
    #[default]
    Auto,
    /// 32-bit floats
    F32,
    /// Operands rounded to bfloat16, sums in 32-bit floats; on the CPU
    Bf16,
}

impl From<Dtype> for DtypeChoice {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Auto => Self::Auto,
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}
