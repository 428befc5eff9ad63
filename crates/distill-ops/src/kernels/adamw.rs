//! AdamW in one pass over memory; Loshchilov & Hutter 2019, algorithm 2 (arXiv:1711.05101).

use super::isa::for_each_isa;
use super::pieces::{PIECE, each_piece};

/// The numbers of one update that all elements share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamWScalars {
    /// Multiplies the gradient first: one over the accumulated batches, and the clip factor.
    pub(crate) grad_scale: f32,
    /// `1 − β₁`
    pub(crate) share1: f32,
    /// `β₂`
    pub(crate) beta2: f32,
    /// `1 − β₂`
    pub(crate) share2: f32,
    /// `√(1 − β₂ᵗ)`
    pub(crate) root_correction: f32,
    /// Added to the root of the second moment.
    pub(crate) epsilon: f32,
    /// `1 − learning_rate · weight_decay`
    pub(crate) keep: f32,
    /// `learning_rate / (1 − β₁ᵗ)`
    pub(crate) step_size: f32,
}

/// One update of the parameters `p` and their moments `m` and `v` by the gradient `g`, all of one length.
///
/// Nothing is fused, so every instruction set gives the same bits.
pub(crate) fn adamw(scalars: AdamWScalars, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert_eq!([g.len(), m.len(), v.len()], [p.len(); 3]);
    let parameters = p.chunks_mut(PIECE).zip(g.chunks(PIECE));
    let moments = m.chunks_mut(PIECE).zip(v.chunks_mut(PIECE));
    each_piece(parameters.zip(moments), |((p, g), (m, v))| update(scalars, p, g, m, v));
}

for_each_isa! { fn update(scalars: AdamWScalars, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = body }

#[inline(always)]
fn body<const FMA: bool>(s: AdamWScalars, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * s.grad_scale;
        *m += (g - *m) * s.share1;
        *v = *v * s.beta2 + g * g * s.share2;
        *p = *p * s.keep - *m / (v.sqrt() / s.root_correction + s.epsilon) * s.step_size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(t: i32, learning_rate: f64, weight_decay: f64, grad_scale: f64) -> AdamWScalars {
        let (beta1, beta2) = (0.9f64, 0.999f64);
        AdamWScalars {
            grad_scale: grad_scale as f32,
            share1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            share2: (1.0 - beta2) as f32,
            root_correction: (1.0 - beta2.powi(t)).sqrt() as f32,
            epsilon: 1e-8,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            step_size: (learning_rate / (1.0 - beta1.powi(t))) as f32,
        }
    }

    #[test]
    fn follows_the_formula_over_several_steps() {
        for n in [1, 17, 1000, 2 * PIECE + 5] {
            let mut p: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut wide: Vec<[f64; 3]> = p.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            for t in 1..=10 {
                let g: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3 + t as f32).cos()).collect();
                adamw(scalars(t, 1e-2, 0.1, 0.5), &mut p, &g, &mut m, &mut v);
                for ([p, m, v], g) in wide.iter_mut().zip(&g) {
                    let g = f64::from(*g) * 0.5;
                    *p -= 1e-2 * 0.1 * *p;
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.999 * *v + 0.001 * g * g;
                    let (m, v) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                    *p -= 1e-2 * m / (v.sqrt() + 1e-8);
                }
            }
            for (found, [expected, ..]) in p.iter().zip(&wide) {
                assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn first_step_by_hand() {
        // m = 0.1 g, v = 0.001 g²; both corrections undo that, so the step is the learning rate times the sign.
        let (mut p, mut m, mut v) = ([1.0, 1.0], [0.0; 2], [0.0; 2]);
        adamw(scalars(1, 0.1, 0.5, 1.0), &mut p, &[4.0, -4.0], &mut m, &mut v);
        assert!((p[0] - 0.85).abs() < 1e-6 && (p[1] - 1.05).abs() < 1e-6);
    }
}
