//! Where tensors live: from the words of a recipe to a device that is known to answer.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// A device as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// The first of: CUDA where it is compiled in and present, flex, ndarray.
    #[default]
    Auto,
    /// burn's pure-Rust CPU backend.
    Flex,
    /// burn's ndarray CPU backend.
    NdArray,
    /// The CUDA GPU with this index, from 0.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The name is not one of ours.
    #[error(
        "unknown device `{found}`: use `auto`, `flex`, `ndarray`, `cuda` or `cuda:N` (the GPU with index N)"
    )]
    Unknown {
        /// The name as it was written.
        found: String,
    },
    /// The backend was left out of this binary.
    #[error(
        "device `{device}` is not compiled in: build with the cargo feature `{feature}` (`cargo build --release \
         --features {feature}`)"
    )]
    NotCompiledIn {
        /// The device that was asked for.
        device: DeviceSpec,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// No backend at all was compiled in.
    #[error("no device is compiled in: build with one of the cargo features `flex`, `ndarray`, `cuda`")]
    NoneCompiledIn,
    /// CUDA is compiled in, but its driver or hardware is not there.
    #[error("device `{device}` cannot be used: {reason}")]
    Unavailable {
        /// The device that was asked for.
        device: DeviceSpec,
        /// What is missing and what to do about it.
        reason: String,
    },
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { found: text.to_owned() };
        match text {
            "auto" => Ok(Self::Auto),
            "flex" => Ok(Self::Flex),
            "ndarray" => Ok(Self::NdArray),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                // `parse` alone would take `+1`.
                if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(unknown());
                }
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

/// The device for `spec`, without autodiff.
///
/// # Errors
/// [`DeviceError::NotCompiledIn`] and [`DeviceError::NoneCompiledIn`] name the cargo feature;
/// [`DeviceError::Unavailable`] if CUDA has no driver, no compiler library or no GPU with that index.
pub fn resolve(spec: DeviceSpec) -> Result<Device, DeviceError> {
    match spec {
        DeviceSpec::Auto => auto(),
        DeviceSpec::Flex => flex(),
        DeviceSpec::NdArray => ndarray(),
        DeviceSpec::Cuda(index) => cuda(index),
    }
}

/// A device's name for people: `flex`, `ndarray` or `cuda:N`.
pub fn describe(device: &Device) -> String {
    let plain = device.clone().without_autodiff();
    #[cfg(feature = "flex")]
    if plain == Device::flex() {
        return DeviceSpec::Flex.to_string();
    }
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)] // the project keeps burn-ndarray as the second implementation
    if plain == Device::ndarray() {
        return DeviceSpec::NdArray.to_string();
    }
    #[cfg(feature = "cuda")]
    for index in 0..64 {
        if plain == Device::cuda(index as usize) {
            return format!("cuda:{index}");
        }
    }
    format!("{plain:?}")
}

/// Where a device keeps its tensors.
pub(crate) enum Memory {
    /// In this process: slices are at hand.
    Host,
    /// Across a bus.
    Device,
}

pub(crate) fn memory_of(device: &Device) -> Memory {
    match describe(device).as_str() {
        "flex" | "ndarray" => Memory::Host,
        _ => Memory::Device,
    }
}

fn auto() -> Result<Device, DeviceError> {
    for candidate in [cuda(0), flex(), ndarray()] {
        if candidate.is_ok() {
            return candidate;
        }
    }
    Err(DeviceError::NoneCompiledIn)
}

#[cfg(feature = "flex")]
fn flex() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn flex() -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn { device: DeviceSpec::Flex, feature: "flex" })
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)] // the project keeps burn-ndarray as the second implementation
fn ndarray() -> Result<Device, DeviceError> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn { device: DeviceSpec::NdArray, feature: "ndarray" })
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    let device = DeviceSpec::Cuda(index);
    let count =
        crate::cuda_driver::device_count().map_err(|reason| DeviceError::Unavailable { device, reason })?;
    if index >= count {
        let reason = match count {
            0 => "the NVIDIA driver sees no GPU; use `flex` to run on the CPU".to_owned(),
            1 => "this machine has 1 GPU, with index 0".to_owned(),
            _ => format!("this machine has {count} GPUs, with the indices 0 to {}", count - 1),
        };
        return Err(DeviceError::Unavailable { device, reason });
    }
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn { device: DeviceSpec::Cuda(index), feature: "cuda" })
}

/// Threads that tensor work on a CPU is spread over.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, spec) in [
            ("auto", DeviceSpec::Auto),
            ("flex", DeviceSpec::Flex),
            ("ndarray", DeviceSpec::NdArray),
            ("cuda", DeviceSpec::Cuda(0)),
            ("cuda:1", DeviceSpec::Cuda(1)),
        ] {
            assert_eq!(text.parse::<DeviceSpec>(), Ok(spec));
            assert_eq!(spec.to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CUDA", "cuda:99999999999999999999"]
        {
            let error = text.parse::<DeviceSpec>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_names_its_feature() {
        let error = resolve(DeviceSpec::Cuda(1)).unwrap_err();
        assert_eq!(error, DeviceError::NotCompiledIn { device: DeviceSpec::Cuda(1), feature: "cuda" });
        assert!(error.to_string().starts_with("device `cuda:1` is not compiled in"));
    }

    #[cfg(all(feature = "flex", not(feature = "cuda")))]
    #[test]
    fn auto_is_flex_on_a_cpu_build() {
        assert_eq!(describe(&resolve(DeviceSpec::Auto).unwrap()), "flex");
        assert_eq!(describe(&resolve(DeviceSpec::Flex).unwrap().autodiff()), "flex");
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_is_described() {
        assert_eq!(describe(&resolve(DeviceSpec::NdArray).unwrap()), "ndarray");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_answers_or_says_why_not() {
        match resolve(DeviceSpec::Cuda(1_000)) {
            Err(DeviceError::Unavailable { reason, .. }) => assert!(!reason.is_empty()),
            other => panic!("expected `Unavailable`, found {other:?}"),
        }
    }
}
