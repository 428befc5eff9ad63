//! Activation functions of one pass over memory: Gaussian error linear units, Hendrycks & Gimpel 2016
//! (arXiv:1606.08415), and SiLU, Elfwing et al. 2018 (arXiv:1702.03118), alone and as a gate.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::mem::MaybeUninit;

use super::isa::{for_each_isa, mul_add};
use super::pieces::{PIECE, each_piece, filled};
use super::vector_math::{erf, gelu_slope, sigmoid, sigmoid_and_slope, tanh};

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    /// `x · Φ(x)`
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    GeluTanh,
    /// `x · sigmoid(x)`
    Silu,
}

impl Curve {
    /// `f(x)`.
    #[allow(unsafe_code)]
    pub(crate) fn forward(self, x: &[f32]) -> Vec<f32> {
        // SAFETY: `fill` writes one element for each one of `x`.
        unsafe { filled(x.len(), |out| self.fill(x, out)) }
    }

    /// [`forward`](Self::forward) on this thread, into `out`: for values that are in its cache.
    #[allow(unsafe_code)]
    pub(crate) fn forward_serial(self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        // SAFETY: a slice of numbers is one of numbers that may be missing, and `values` writes numbers only.
        let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<f32>]) };
        values(self, x, out);
    }

    /// [`backward`](Self::backward) on this thread.
    pub(crate) fn backward_serial(self, x: &[f32], dy: &mut [f32]) {
        assert_eq!(x.len(), dy.len());
        slopes(self, x, dy);
    }

    fn fill(self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        assert_eq!(x.len(), out.len());
        each_piece(x.chunks(PIECE).zip(out.chunks_mut(PIECE)), |(x, out)| values(self, x, out));
    }

    /// `dy · f′(x)`, in place of `dy`.
    pub(crate) fn backward(self, x: &[f32], dy: &mut [f32]) {
        assert_eq!(x.len(), dy.len());
        each_piece(x.chunks(PIECE).zip(dy.chunks_mut(PIECE)), |(x, dy)| slopes(self, x, dy));
    }
}

/// `silu(gate) · up`; the feed-forward gate of Shazeer 2020 (arXiv:2002.05202).
#[allow(unsafe_code)]
pub(crate) fn silu_gated(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len());
    // SAFETY: the pieces cover `out`, and `gated` writes each of their elements.
    unsafe {
        filled(gate.len(), |out| {
            let inputs = gate.chunks(PIECE).zip(up.chunks(PIECE));
            each_piece(inputs.zip(out.chunks_mut(PIECE)), |((gate, up), out)| gated(gate, up, out));
        })
    }
}

/// Gradients of [`silu_gated`]: that of `up` takes the place of `dy`, that of `gate` is returned.
#[allow(unsafe_code)]
pub(crate) fn silu_gated_backward(gate: &[f32], up: &[f32], dy: &mut [f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len());
    assert_eq!(gate.len(), dy.len());
    // SAFETY: the pieces cover `dgate`, and `gated_slopes` writes each of their elements.
    unsafe {
        filled(gate.len(), |dgate| {
            let inputs = gate.chunks(PIECE).zip(up.chunks(PIECE));
            let outputs = dy.chunks_mut(PIECE).zip(dgate.chunks_mut(PIECE));
            each_piece(inputs.zip(outputs), |((gate, up), (dy, dgate))| gated_slopes(gate, up, dy, dgate));
        })
    }
}

for_each_isa! { fn values(curve: Curve, x: &[f32], out: &mut [MaybeUninit<f32>]) = values_body }
for_each_isa! { fn slopes(curve: Curve, x: &[f32], dy: &mut [f32]) = slopes_body }
for_each_isa! { fn gated(gate: &[f32], up: &[f32], out: &mut [MaybeUninit<f32>]) = gated_body }
for_each_isa! {
    fn gated_slopes(gate: &[f32], up: &[f32], dy: &mut [f32], dgate: &mut [MaybeUninit<f32>]) = gated_slopes_body
}

#[inline(always)]
fn values_body<const FMA: bool>(curve: Curve, x: &[f32], out: &mut [MaybeUninit<f32>]) {
    match curve {
        Curve::Gelu => write_each(x, out, gelu::<FMA>),
        Curve::GeluTanh => write_each(x, out, gelu_tanh::<FMA>),
        Curve::Silu => write_each(x, out, silu::<FMA>),
    }
}

#[inline(always)]
fn slopes_body<const FMA: bool>(curve: Curve, x: &[f32], dy: &mut [f32]) {
    match curve {
        Curve::Gelu => multiply_each(x, dy, gelu_slope::<FMA>),
        Curve::GeluTanh => multiply_each(x, dy, gelu_tanh_slope::<FMA>),
        Curve::Silu => multiply_each(x, dy, silu_slope::<FMA>),
    }
}

#[inline(always)]
fn write_each(x: &[f32], out: &mut [MaybeUninit<f32>], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        out.write(f(*x));
    }
}

#[inline(always)]
fn multiply_each(x: &[f32], dy: &mut [f32], slope: impl Fn(f32) -> f32) {
    for (dy, x) in dy.iter_mut().zip(x) {
        *dy *= slope(*x);
    }
}

#[inline(always)]
fn gated_body<const FMA: bool>(gate: &[f32], up: &[f32], out: &mut [MaybeUninit<f32>]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        out.write(silu::<FMA>(*gate) * up);
    }
}

#[inline(always)]
fn gated_slopes_body<const FMA: bool>(
    gate: &[f32],
    up: &[f32],
    dy: &mut [f32],
    dgate: &mut [MaybeUninit<f32>],
) {
    for (((dy, dgate), gate), up) in dy.iter_mut().zip(dgate).zip(gate).zip(up) {
        let (share, slope) = sigmoid_and_slope::<FMA>(*gate);
        dgate.write(*dy * up * mul_add::<FMA>(*gate, slope, share));
        *dy *= gate * share;
    }
}

#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    let half = 0.5 * x;
    mul_add::<FMA>(half, erf::<FMA>(x * FRAC_1_SQRT_2), half)
}

/// √(2/π)
const INNER: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    let half = 0.5 * x;
    let inner = INNER * x * mul_add::<FMA>(CUBIC * x, x, 1.0);
    mul_add::<FMA>(half, tanh::<FMA>(inner), half)
}

#[inline(always)]
fn gelu_tanh_slope<const FMA: bool>(x: f32) -> f32 {
    // Far out the slope of the sigmoid is 0; the other factor must not overflow on the way there.
    let near = x.clamp(-100.0, 100.0);
    let square = near * near;
    // (1 + tanh z) / 2 = sigmoid(2z), whose slope keeps its digits where tanh is near ±1.
    let (share, slope) = sigmoid_and_slope::<FMA>(2.0 * INNER * near * mul_add::<FMA>(CUBIC, square, 1.0));
    let inner_slope = 2.0 * INNER * mul_add::<FMA>(3.0 * CUBIC, square, 1.0);
    mul_add::<FMA>(near * inner_slope, slope, share)
}

#[inline(always)]
fn silu<const FMA: bool>(x: f32) -> f32 {
    x * sigmoid::<FMA>(x)
}

#[inline(always)]
fn silu_slope<const FMA: bool>(x: f32) -> f32 {
    let (share, slope) = sigmoid_and_slope::<FMA>(x);
    mul_add::<FMA>(x, slope, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVES: [Curve; 3] = [Curve::Gelu, Curve::GeluTanh, Curve::Silu];
    const LENGTHS: [usize; 6] = [0, 1, 15, 17, 1000, 2 * PIECE + 37];

    /// The definitions in f64, with `Φ` as an integral of its density by Simpson's rule.
    fn value(curve: Curve, x: f64) -> f64 {
        match curve {
            Curve::Gelu => {
                let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let step = x / 200.0;
                let inner: f64 =
                    (1..200).map(|i| f64::from(2 + 2 * (i % 2)) * density(step * f64::from(i))).sum();
                x * (0.5 + step / 3.0 * (density(0.0) + inner + density(x)))
            }
            Curve::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Curve::Silu => x / (1.0 + (-x).exp()),
        }
    }

    fn slope(curve: Curve, x: f64) -> f64 {
        (value(curve, x + 1e-5) - value(curve, x - 1e-5)) / 2e-5
    }

    fn wave(len: usize, scale: f32, phase: f32) -> Vec<f32> {
        (0..len).map(|i| scale * (i as f32 * 0.37 + phase).sin()).collect()
    }

    fn close(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(0.1), "{found} {expected}");
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definitions() {
        for curve in CURVES {
            for len in LENGTHS {
                let (x, dy) = (wave(len, 7.0, 0.1), wave(len, 2.0, 1.3));
                let y = curve.forward(&x);
                let mut dx = dy.clone();
                curve.backward(&x, &mut dx);
                let mut on_one_thread = vec![f32::NAN; len];
                curve.forward_serial(&x, &mut on_one_thread);
                assert_eq!((y.len(), &y), (len, &on_one_thread));
                let mut slopes = dy.clone();
                curve.backward_serial(&x, &mut slopes);
                assert_eq!(slopes, dx);
                for i in (0..len).step_by(1 + len / 997) {
                    close(y[i], value(curve, f64::from(x[i])));
                    close(dx[i], f64::from(dy[i]) * slope(curve, f64::from(x[i])));
                }
            }
        }
    }

    #[test]
    fn far_out_they_are_the_identity_or_nothing() {
        for curve in CURVES {
            for far in [60.0, 1e4, 1e30] {
                assert_eq!(curve.forward(&[far]), [far]);
                assert!(curve.forward(&[-far])[0].abs() < 1e-20);
                let mut dy = [1.0, 1.0];
                curve.backward(&[far, -far], &mut dy);
                assert!((dy[0] - 1.0).abs() < 1e-6 && dy[1].abs() < 1e-20, "{curve:?} {far} {dy:?}");
            }
            assert!(curve.forward(&[f32::NAN])[0].is_nan());
            let mut dy = [1.0];
            curve.backward(&[f32::NAN], &mut dy);
            assert!(dy[0].is_nan());
        }
    }

    #[test]
    fn the_gate_gives_both_gradients() {
        for len in LENGTHS {
            let (gate, up, dy) = (wave(len, 5.0, 0.2), wave(len, 3.0, 0.9), wave(len, 1.5, 2.0));
            let y = silu_gated(&gate, &up);
            let mut dup = dy.clone();
            let dgate = silu_gated_backward(&gate, &up, &mut dup);
            for i in (0..len).step_by(1 + len / 997) {
                let [g, u, d] = [gate[i], up[i], dy[i]].map(f64::from);
                close(y[i], value(Curve::Silu, g) * u);
                close(dup[i], d * value(Curve::Silu, g));
                close(dgate[i], d * u * slope(Curve::Silu, g));
            }
        }
    }
}
