//! Kernels for the CPU: slices in, slices out, nothing of burn.
//!
//! The only place with `unsafe` code. Each kernel runs in the best instruction set that the processor has
//! ([`isa`]), and gives the same bytes whatever the number of threads: work is cut into pieces of fixed size, and sums
//! over pieces are taken in order.

mod activation;
mod adamw;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod amx_emulated;
mod attention;
mod attention_backward;
mod attention_decode;
mod attention_packing;
mod attention_pairs;
mod attention_products;
mod attention_rows;
mod attention_scratch;
mod cosine;
mod cross_entropy;
mod divergence;
mod dropout;
mod embedding;
mod isa;
mod linear_cross_entropy;
mod linear_divergence;
mod matrix;
mod micro_kernels;
mod norm;
mod packed_right;
mod packing;
#[cfg(target_arch = "x86_64")]
mod packing_avx512;
mod pieces;
mod product;
mod random_mask;
mod reduce;
mod relations;
mod rotary;
mod squared_error;
mod table;
mod vector_math;

pub(crate) use activation::{Curve, silu_gated, silu_gated_backward};
pub(crate) use adamw::{AdamWScalars, adamw};
pub(crate) use attention::{AttentionArgs, AttentionForward, AttentionShape, HeadRows, ScoreBias, attention};
pub(crate) use attention_backward::{AttentionGradientArgs, attention_backward};
pub(crate) use attention_decode::{FEW_QUERIES, attention_decode};
pub(crate) use cosine::{cosine_distance, cosine_distance_backward};
pub(crate) use cross_entropy::{
    SoftmaxRow, cross_entropy, cross_entropy_backward, forward_kl, forward_kl_backward,
};
pub(crate) use dropout::{dropout, dropout_in_place};
pub(crate) use embedding::{embedding, embedding_backward};
pub use isa::{ISA_VARIABLE, Isa, UnknownIsa, check_isa_variable, isa};
pub(crate) use isa::{for_each_isa, mul_add};
pub(crate) use linear_cross_entropy::{LinearLossArgs, linear_cross_entropy, linear_token_losses};
#[cfg(feature = "flex")]
pub(crate) use linear_divergence::{DivergenceArgs, DivergenceSum, LogitRows, TeacherLogits, divergence_sum};
pub(crate) use matrix::Matrix;
pub(crate) use norm::{NormInput, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub(crate) use packed_right::{PackedRight, with_packed};
pub(crate) use pieces::zeros;
pub(crate) use product::{Activated, Onto, Term, product, product_packed, product_sum};
pub(crate) use random_mask::RandomMask;
pub(crate) use reduce::{column_sums, scale_all, sum_of_squares};
pub(crate) use relations::{RelationShape, relation_kl, relation_kl_and_gradient};
pub(crate) use rotary::RotaryAngles;
#[cfg(feature = "flex")]
pub(crate) use rotary::{Turn, rotate};
pub(crate) use squared_error::{
    CountedScores, score_error, score_error_backward, squared_error, squared_error_backward,
};
pub(crate) use table::times_table;
