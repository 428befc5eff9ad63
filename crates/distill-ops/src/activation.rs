//! Activations under the names of Hugging Face's `hidden_act`.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Tensor, activation};

use crate::{gelu, gelu_tanh};

/// An element-wise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: exact, with the error function.
    Gelu,
    /// `gelu_new`: the tanh approximation.
    GeluNew,
    /// `gelu_pytorch_tanh`: the tanh approximation under its newer name.
    GeluPytorchTanh,
    /// `relu`.
    Relu,
    /// `tanh`.
    Tanh,
    /// `silu`.
    Silu,
}

/// A `hidden_act` that is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown activation `{found}`: use one of {}{}", allowed(), did_you_mean(.suggestion))]
pub struct UnknownActivation {
    /// The name as it was written.
    pub found: String,
    /// The closest known name, where one is close.
    pub suggestion: Option<&'static str>,
}

/// Every name, with what it means.
const NAMES: [(&str, Activation); 6] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluNew),
    ("gelu_pytorch_tanh", Activation::GeluPytorchTanh),
    ("relu", Activation::Relu),
    ("tanh", Activation::Tanh),
    ("silu", Activation::Silu),
];

fn allowed() -> String {
    NAMES.map(|(name, _)| format!("`{name}`")).join(", ")
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

impl Activation {
    /// The names that [`FromStr`] takes.
    pub fn names() -> [&'static str; 6] {
        NAMES.map(|(name, _)| name)
    }

    /// The kernel of those that have one.
    #[cfg(feature = "flex")]
    pub(crate) fn curve(self) -> Option<crate::kernels::Curve> {
        match self {
            Self::Gelu => Some(crate::kernels::Curve::Gelu),
            Self::GeluNew | Self::GeluPytorchTanh => Some(crate::kernels::Curve::GeluTanh),
            Self::Silu => Some(crate::kernels::Curve::Silu),
            Self::Relu | Self::Tanh => None,
        }
    }

    /// Applies the activation to every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluNew | Self::GeluPytorchTanh => gelu_tanh(x),
            Self::Relu => activation::relu(x),
            Self::Tanh => x.tanh(),
            Self::Silu => silu(x),
        }
    }
}

/// `x · sigmoid(x)`.
fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return crate::flex_op::apply1(crate::kernels::Curve::Silu, x);
    }
    activation::silu(x)
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, activation)| activation == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Activation {
    type Err = UnknownActivation;

    fn from_str(text: &str) -> Result<Self, UnknownActivation> {
        if let Some((_, activation)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*activation);
        }
        let suggestion = NAMES
            .iter()
            .map(|(name, _)| (strsim::jaro_winkler(name, &text.to_ascii_lowercase()), *name))
            .filter(|(score, _)| *score > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name);
        Err(UnknownActivation { found: text.to_owned(), suggestion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for name in Activation::names() {
            assert_eq!(name.parse::<Activation>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let message = "gleu".parse::<Activation>().unwrap_err().to_string();
        assert_eq!(
            message,
            "unknown activation `gleu`: use one of `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu`, `tanh`, `silu` \
             (did you mean `gelu`?)"
        );
        assert_eq!("quick".parse::<Activation>().unwrap_err().suggestion, None);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn values_of_the_simple_ones() {
        let device = burn::tensor::Device::flex();
        let x = Tensor::<1>::from_data([-1.0f32, 2.0], &device);
        let apply = |a: Activation| a.forward(x.clone()).into_data().as_slice::<f32>().unwrap().to_vec();
        assert_eq!(apply(Activation::Relu), [0.0, 2.0]);
        let close = |found: Vec<f32>, expected: [f32; 2]| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?} {expected:?}");
        };
        close(apply(Activation::Tanh), [(-1f32).tanh(), 2f32.tanh()]);
        close(apply(Activation::Silu), [-1.0 / (1.0 + 1f32.exp()), 2.0 / (1.0 + (-2f32).exp())]);
    }
}
