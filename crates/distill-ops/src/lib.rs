//! Tensor operations of the models; the only crate that names concrete backends.
//!
//! Every operation is a plain function over burn tensors. The bodies are differentiable primitives, so they run on
//! every backend; faster ones go under the same names.

mod activation;
mod adamw;
mod allocator;
mod attention;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda_driver;
mod device;
mod dropout;
mod embedding;
mod gelu;
mod layer_norm;
mod linear;
mod philox;

pub use activation::{Activation, UnknownActivation};
pub use adamw::{AdamW, AdamWState};
pub use allocator::keep_large_temporaries;
pub use attention::{AttentionBias, AttentionOutput, Scores, attention};
pub use cross_entropy::{CrossEntropy, IGNORED_LABEL, cross_entropy};
pub use device::{DeviceError, DeviceSpec, describe, resolve, threads};
pub use dropout::Dropout;
pub use embedding::embedding;
pub use gelu::{gelu, gelu_tanh};
pub use layer_norm::{add_layer_norm, layer_norm};
pub use linear::linear;
