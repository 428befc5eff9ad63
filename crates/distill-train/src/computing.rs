//! What tensor work is done with: the device, the number format of products, the instructions, the threads.

use crate::error::TrainError;
use burn::tensor::Device;
use distill_ops::{Isa, Precision, describe, isa, threads};
use distill_recipe::DtypeChoice;
use serde::Serialize;
use std::fmt;

/// The device whose kernels know bf16.
const BF16_DEVICE: &str = "flex";

/// What tensor work is done with, as it was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Computing {
    /// The device: `flex`, `ndarray` or `cuda:N`.
    pub device: String,
    /// What matrix products multiply in: `f32` or `bf16`.
    pub dtype: String,
    /// The instruction set of the CPU kernels; `None` where they are not used.
    pub instruction_set: Option<String>,
    /// Threads for tensor work on a CPU; results do not depend on it.
    pub threads: usize,
}

impl Computing {
    /// Products in `precision` on `device`, with the instructions and threads of this process.
    pub fn new(device: &Device, precision: Precision) -> Self {
        let device = describe(device);
        let instruction_set = (device == BF16_DEVICE).then(|| isa().to_string());
        Self { device, dtype: precision.to_string(), instruction_set, threads: threads() }
    }

    /// Whether our own kernels compute, not burn's operations alone.
    pub fn has_kernels(&self) -> bool {
        self.instruction_set.is_some()
    }

    /// Whether a processor computes, no accelerator.
    pub fn is_cpu(&self) -> bool {
        !self.device.starts_with("cuda")
    }

    fn without_threads(&self) -> String {
        match &self.instruction_set {
            Some(instructions) => format!("{}, {} ({instructions})", self.device, self.dtype),
            None => format!("{}, {}", self.device, self.dtype),
        }
    }

    /// What is to be said of bf16 on a processor that has no instructions for it.
    pub fn warning(&self) -> Option<String> {
        let emulated = self.dtype == Precision::Bf16.to_string() && !isa().has_bf16();
        emulated.then(|| {
            let instructions = self.instruction_set.as_deref().unwrap_or_default();
            format!(
                "this processor has no bf16 instructions ({instructions}): `dtype = \"bf16\"` rounds as they would \
                 and is not faster than `f32`"
            )
        })
    }
}

impl fmt::Display for Computing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        write!(f, "{}, {} {threads}", self.without_threads(), self.threads)
    }
}

/// bf16 was asked for where it cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoBf16 {
    device: String,
}

impl NoBf16 {
    /// Where it was asked for.
    pub(crate) fn new(device: impl Into<String>) -> Self {
        Self { device: device.into() }
    }

    /// What is wrong.
    pub fn message(&self) -> String {
        format!(
            "`dtype` cannot be `bf16` on the device `{}`: only `{BF16_DEVICE}` multiplies in bf16",
            self.device
        )
    }

    /// The way out.
    pub fn help(&self) -> String {
        format!("take `f32` or `auto`, or the device `{BF16_DEVICE}`")
    }
}

impl From<NoBf16> for TrainError {
    fn from(error: NoBf16) -> Self {
        Self::Unusable { message: error.message(), help: error.help() }
    }
}

/// What `choice` means on `device` with the instruction set in use.
///
/// # Errors
/// [`NoBf16`] if bf16 is asked for on another device than flex.
pub fn precision_for(choice: DtypeChoice, device: &Device) -> Result<Precision, NoBf16> {
    resolve(choice, &describe(device), isa())
}

/// Whether bf16 can be asked for on the device of this name, which is not `auto`.
pub(crate) fn knows_bf16(device: &str) -> bool {
    device == BF16_DEVICE
}

fn resolve(choice: DtypeChoice, device: &str, isa: Isa) -> Result<Precision, NoBf16> {
    match choice {
        DtypeChoice::F32 => Ok(Precision::F32),
        DtypeChoice::Bf16 if knows_bf16(device) => Ok(Precision::Bf16),
        DtypeChoice::Bf16 => Err(NoBf16::new(device)),
        DtypeChoice::Auto if knows_bf16(device) && isa.has_bf16() => Ok(Precision::Bf16),
        DtypeChoice::Auto => Ok(Precision::F32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_bf16_only_where_it_is_fast() {
        let auto = |device, isa| resolve(DtypeChoice::Auto, device, isa).expect("`auto` is always possible");
        assert_eq!(auto("flex", Isa::Amx), Precision::Bf16);
        assert_eq!(auto("flex", Isa::Avx512Bf16), Precision::Bf16);
        assert_eq!(auto("flex", Isa::Avx512), Precision::F32);
        assert_eq!(auto("ndarray", Isa::Amx), Precision::F32);
        assert_eq!(auto("cuda:0", Isa::Amx), Precision::F32);
    }

    #[test]
    fn bf16_is_possible_on_every_processor_and_on_one_device() {
        assert_eq!(resolve(DtypeChoice::Bf16, "flex", Isa::Portable), Ok(Precision::Bf16));
        assert_eq!(resolve(DtypeChoice::F32, "flex", Isa::Amx), Ok(Precision::F32));
        let error = resolve(DtypeChoice::Bf16, "ndarray", Isa::Amx).expect_err("not on ndarray");
        assert!(error.message().contains("on the device `ndarray`"), "{}", error.message());
    }

    #[test]
    fn reads_as_a_line() {
        let computing = Computing {
            device: "flex".to_owned(),
            dtype: "bf16".to_owned(),
            instruction_set: Some("amx".to_owned()),
            threads: 2,
        };
        assert_eq!(computing.to_string(), "flex, bf16 (amx), 2 threads");
        let other = Computing { device: "cuda:0".to_owned(), instruction_set: None, threads: 1, ..computing };
        assert_eq!(other.to_string(), "cuda:0, bf16, 1 thread");
    }
}
