//! Tensor operations of the models; the only crate that names concrete backends.
//!
//! Every operation is a plain function over burn tensors. The bodies are differentiable primitives, so they run on
//! every backend; faster ones go under the same names.

mod activation;
mod adamw;
mod allocator;
mod append_rows;
mod attention;
mod attention_bias;
mod cosine;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda_driver;
#[cfg(feature = "flex")]
mod curve;
mod device;
mod divergence;
mod dropout;
mod embedding;
#[cfg(feature = "flex")]
mod flex_op;
mod forward_kl;
mod gated;
mod gelu;
mod kernels;
mod layer_norm;
mod linear;
mod linear_cross_entropy;
mod low_rank;
#[cfg(feature = "flex")]
mod packed;
mod philox;
mod precision;
mod relation_kl;
mod rms_norm;
mod rotary;
mod squared_error;
mod sum_of_squares;
#[cfg(all(test, feature = "flex"))]
mod test_support;

pub use activation::{Activation, UnknownActivation};
pub use adamw::{AdamW, AdamWState};
pub use allocator::keep_large_temporaries;
pub use append_rows::append_rows;
pub use attention::{AttentionOutput, Scores, attention, scaled_attention};
pub use attention_bias::AttentionBias;
pub use cosine::cosine_distance;
pub use cross_entropy::{CrossEntropy, IGNORED_LABEL, cross_entropy};
pub use device::{DeviceError, DeviceSpec, describe, resolve, threads};
pub use divergence::{Divergence, LikeliestClasses, TeacherRows, VocabularyRows, divergence_sum};
pub use dropout::Dropout;
pub use embedding::embedding;
pub use forward_kl::forward_kl;
pub use gated::silu_gated;
pub use gelu::{gelu, gelu_tanh};
pub use kernels::{ISA_VARIABLE, Isa, UnknownIsa, check_isa_variable, isa};
pub use layer_norm::{add_layer_norm, dropout_add_layer_norm, layer_norm};
pub use linear::{Addend, activation_linear, linear, linear_in_out, linear_onto, linear_onto_in_out};
pub use linear_cross_entropy::{TokenLoss, linear_cross_entropy, linear_token_losses};
pub use low_rank::{LowRank, low_rank_linear, low_rank_linear_in_out};
pub use precision::{Precision, autocast, precision};
pub use relation_kl::relation_kl;
pub use rms_norm::rms_norm;
pub use rotary::{RotaryTable, rotary};
pub use squared_error::{score_squared_error, squared_error};
pub use sum_of_squares::sum_of_squares;
