//! `device`: where to compute.

use std::fmt;

use crate::document::Document;
use crate::fault::Fault;
use crate::suggest::did_you_mean;

/// Where to compute, as the recipe asks; whether it is compiled in and there is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best of those that are there.
    Auto,
    /// The CPU, by the default backend.
    Flex,
    /// The CPU, by `ndarray`.
    Ndarray,
    /// The GPU with this number, from 0.
    Cuda(usize),
}

impl Device {
    /// Reads `auto`, `flex`, `ndarray`, `cuda` (the same as `cuda:0`) or `cuda:N`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "flex" => Some(Self::Flex),
            "ndarray" => Some(Self::Ndarray),
            "cuda" => Some(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:")?;
                let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| number.parse().ok())?.map(Self::Cuda)
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
            Self::Ndarray => f.write_str("ndarray"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// What is wrong with the recipe's `device`, if it is a string.
pub(crate) fn device_fault(document: &Document) -> Option<Fault> {
    let node = document.root.get("device")?;
    let found = node.as_str()?;
    if Device::parse(found).is_some() {
        return None;
    }
    let message = format!("`device` must be `auto`, `flex`, `ndarray`, `cuda` or `cuda:N`, found `{found}`");
    let other = ["cpu", "gpu", "mps"].contains(&found);
    let help = match found {
        "cpu" => Some("on the CPU `flex` computes".to_string()),
        "gpu" => Some("did you mean `cuda`?".to_string()),
        _ if found.starts_with("cuda") => Some("for the second GPU write `cuda:1`".to_string()),
        _ if other => None,
        _ => did_you_mean(found, ["auto", "flex", "ndarray", "cuda"])
            .map(|meant| format!("did you mean `{meant}`?")),
    };
    let fault = Fault::new(message, node.label());
    Some(Fault { help, ..fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_four_names_and_a_number() {
        for (text, device) in [
            ("auto", Some(Device::Auto)),
            ("flex", Some(Device::Flex)),
            ("ndarray", Some(Device::Ndarray)),
            ("cuda", Some(Device::Cuda(0))),
            ("cuda:12", Some(Device::Cuda(12))),
            ("cuda:", None),
            ("cuda:+1", None),
            ("cuda:99999999999999999999", None),
            ("CUDA", None),
            ("", None),
        ] {
            assert_eq!(Device::parse(text), device, "{text}");
        }
        assert_eq!(Device::Cuda(1).to_string(), "cuda:1");
    }
}
