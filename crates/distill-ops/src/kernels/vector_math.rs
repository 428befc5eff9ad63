//! Elementary functions without branches or calls, so that loops over them become vectors; and sums by lanes.
//!
//! Errors are measured against f64 by the tests below, with and without fused multiply-add. A result is NaN where the
//! argument is.

use std::f32::consts::{FRAC_2_SQRT_PI, LOG2_E};

use super::isa::mul_add;

/// `c[0] + c[1]·x + c[2]·x² + ...`
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for c in coefficients[..N - 1].iter().rev() {
        sum = mul_add::<FMA>(sum, x, *c);
    }
    sum
}

/// `min(x, limit)`, but NaN stays NaN.
#[inline(always)]
fn at_most(x: f32, limit: f32) -> f32 {
    if x > limit { limit } else { x }
}

/// `e^x`, relative error below 1.5e-7 (2 units in the last place); 0 below −86.9, infinite above 88.73.
///
/// `e^x = 2^n · e^r`, `|r| ≤ ln 2 / 2`; the polynomial for `e^r` is a minimax fit (error 3e-9).
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding it leaves no bits for fractions: the sum is rounded, and its low bits hold the integer.
    const ROUND: f32 = 12_582_912.0;
    // Their sum is ln 2; the first has so few bits that its product with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = at_most(x, 89.0);
    let rounded = mul_add::<FMA>(bounded, LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FMA>(n, -LN_2_LOW, mul_add::<FMA>(n, -LN_2_HIGH, bounded));
    // Twice e^r, so that the power below can be 2^(n − 1): 2^128 is no float.
    let twice = polynomial::<FMA, 7>(
        r,
        [2.0, 2.0, 0.999_999_9, 0.333_330_4, 0.083_336_78, 0.016_737_49, 0.002_762_908],
    );
    let power = f32::from_bits(rounded.to_bits().wrapping_add(126) << 23);
    if x < -86.9 { 0.0 } else { twice * power }
}

/// `1 / (1 + e^−x)`, relative error below 3e-7.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// [`sigmoid`] and its derivative, both with a relative error below 6e-7: neither is a difference of like numbers.
#[inline(always)]
pub(crate) fn sigmoid_and_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    let small = exp::<FMA>(-x.abs());
    let large = 1.0 / (1.0 + small);
    (if x < 0.0 { small * large } else { large }, small * large * large)
}

/// The natural logarithm of a positive normal number, error below 2e-7 relative or 2e-7 absolute near 1.
///
/// `x = m · 2^n`, `√½ ≤ m < √2`; the polynomial for `ln m` is that of Cephes' `logf`.
#[inline(always)]
pub(crate) fn ln<const FMA: bool>(x: f32) -> f32 {
    // As in `exp`: their sum is ln 2, and the product of the first with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // The exponent of x / √½, so that the fraction below begins at √½.
    let above = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32 >> 23;
    let n = above as f32;
    let m = f32::from_bits(x.to_bits().wrapping_sub((above << 23) as u32)) - 1.0;
    let square = m * m;
    let fraction = polynomial::<FMA, 9>(
        m,
        [
            0.333_333_3,
            -0.25,
            0.200_007_15,
            -0.166_680_58,
            0.142_493_23,
            -0.124_201_41,
            0.116_769_984,
            -0.115_146_1,
            0.070_376_84,
        ],
    );
    let curved = mul_add::<FMA>(fraction * m, square, n * LN_2_LOW);
    mul_add::<FMA>(n, LN_2_HIGH, m + mul_add::<FMA>(-0.5, square, curved))
}

/// The error function, relative error below 5e-7; ±1 beyond ±3.92.
///
/// `x · P(x²) / Q(x²)`, a minimax fit of both polynomials (error 2e-8).
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let bounded = at_most(x.abs(), 3.92);
    let t = bounded * bounded;
    let p = polynomial::<FMA, 6>(
        t,
        [FRAC_2_SQRT_PI, 0.190_783_36, 0.052_790_22, 0.003_779_588_6, 2.848_080_5e-4, 2.041_973_4e-6],
    );
    let q = polynomial::<FMA, 6>(
        t,
        [1.0, 0.502_410_07, 0.114_257_33, 0.014_997_396, 0.001_165_207_5, 3.800_407_3e-5],
    );
    let value = if x.abs() > 3.92 { 1.0 } else { at_most(bounded * p / q, 1.0) };
    value.copysign(x)
}

/// The hyperbolic tangent, relative error below 5e-7; ±1 beyond ±9.01.
///
/// `x · P(x²) / Q(x²)`, a minimax fit of both polynomials (error 2e-8).
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let bounded = at_most(x.abs(), 9.01);
    let t = bounded * bounded;
    let p = polynomial::<FMA, 5>(t, [1.0, 0.133_797_2, 0.003_494_037_5, 2.058_352_7e-5, 1.331_912_8e-8]);
    let q = polynomial::<FMA, 5>(t, [1.0, 0.467_130_36, 0.025_871_085, 3.283_097_5e-4, 7.762_044e-7]);
    let value = if x.abs() > 9.01 { 1.0 } else { at_most(bounded * p / q, 1.0) };
    value.copysign(x)
}

/// The derivative of `x · Φ(x)`, error below 4e-7; 1 above 5.7, 0 below −5.7.
///
/// `½ + x · P(x²) / Q(x²)`, since `Φ(x) + x φ(x) − ½` is odd; a minimax fit (error 8e-8), cheaper than `erf` and `exp`.
#[inline(always)]
pub(crate) fn gelu_slope<const FMA: bool>(x: f32) -> f32 {
    let bounded = at_most(x.abs(), 5.7);
    let t = bounded * bounded;
    let p = polynomial::<FMA, 6>(
        t,
        [0.797_885_1, -0.032_954_525, 0.014_224_003, -9.380_633e-6, 3.438_550_8e-5, 1.160_850_6e-7],
    );
    let q = polynomial::<FMA, 7>(
        t,
        [1.0, 0.292_036_74, 0.040_158_775, 0.003_391_958_6, 1.820_343_4e-4, 7.913_544e-6, -8.033_778e-9],
    );
    let half = if x.abs() > 5.7 { 0.5 } else { bounded * p / q };
    0.5 + half.copysign(x)
}

/// Lanes that a sum is taken in: two vectors of AVX-512.
pub(crate) const LANES: usize = 32;

/// The sum of the lanes, in a fixed tree.
#[inline(always)]
pub(crate) fn sum_of_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ term(x)` over a slice, by lanes.
///
/// `term` takes part in the vectors only if it is inlined: hand over a small closure.
#[inline(always)]
pub(crate) fn sum_by_lanes(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += term(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += term(*x);
    }
    sum_of_lanes(lanes)
}

/// The largest element, NaN left out; −∞ of nothing.
#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |best, lane| if lane > best { lane } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `e^−z²`'s integral from the Taylor series about 0 with f64 terms; from the continued fraction beyond 2.5.
    pub(crate) fn erf_f64(x: f64) -> f64 {
        let a = x.abs();
        let value = if a < 2.5 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while term.abs() > 1e-18 {
                n += 1.0;
                term *= -a * a / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
            1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        value.copysign(x)
    }

    fn grid(limit: f32) -> impl Iterator<Item = f32> {
        (-200_000..=200_000).map(move |i| limit * i as f32 / 200_000.0)
    }

    #[test]
    fn exp_is_close() {
        for exp in [exp::<true>, exp::<false>] {
            for x in grid(86.8) {
                let expected = f64::from(x).exp();
                assert!((f64::from(exp(x)) / expected - 1.0).abs() < 1.5e-7, "{x}: {} {expected}", exp(x));
            }
            assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!((exp(-87.0), exp(-1e4), exp(f32::MIN)), (0.0, 0.0, 0.0));
            assert_eq!(
                (exp(88.8), exp(f32::MAX), exp(f32::INFINITY)),
                (f32::INFINITY, f32::INFINITY, f32::INFINITY)
            );
            assert!((f64::from(exp(88.7)) / f64::from(88.7f32).exp() - 1.0).abs() < 2e-7);
            assert!(exp(f32::NAN).is_nan());
        }
    }

    #[test]
    fn ln_is_close() {
        for ln in [ln::<true>, ln::<false>] {
            for exponent in -120..=120 {
                for step in 0..64 {
                    let x = (1.0 + step as f32 / 64.0) * 2f32.powi(exponent);
                    let expected = f64::from(x).ln();
                    let error = (f64::from(ln(x)) - expected).abs();
                    assert!(error <= 2e-7 * expected.abs().max(1.0), "{x}: {} {expected}", ln(x));
                }
            }
            assert_eq!(ln(1.0), 0.0);
            assert!((f64::from(ln(1.0001)) / f64::from(1.0001f32).ln() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn sigmoid_is_close() {
        for sigmoid in [sigmoid::<true>, sigmoid::<false>] {
            for x in grid(80.0) {
                let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
                assert!((f64::from(sigmoid(x)) / expected - 1.0).abs() < 3e-7);
            }
            assert_eq!((sigmoid(f32::NEG_INFINITY), sigmoid(f32::INFINITY), sigmoid(0.0)), (0.0, 1.0, 0.5));
            assert!(sigmoid(f32::NAN).is_nan());
        }
    }

    #[test]
    fn the_slope_of_sigmoid_is_close_in_both_tails() {
        for both in [sigmoid_and_slope::<true>, sigmoid_and_slope::<false>] {
            for x in grid(80.0) {
                let [up, down] = [1.0, -1.0].map(|sign| 1.0 / (1.0 + (sign * f64::from(x)).exp()));
                let (value, slope) = both(x);
                assert!((f64::from(value) / down - 1.0).abs() < 6e-7);
                assert!((f64::from(slope) / (up * down) - 1.0).abs() < 6e-7);
            }
            assert!(both(f32::NAN).0.is_nan() && both(f32::NAN).1.is_nan());
        }
    }

    fn odd(f: fn(f32) -> f32, expected: fn(f64) -> f64, limit: f32) {
        for x in grid(limit).chain(grid(1e-3)) {
            let (found, expected) = (f64::from(f(x)), expected(f64::from(x)));
            assert!((found - expected).abs() <= 5e-7 * expected.abs(), "{x}: {found} {expected}");
            assert!(found.abs() <= 1.0);
        }
        assert_eq!((f(f32::INFINITY), f(f32::NEG_INFINITY), f(50.0), f(-50.0)), (1.0, -1.0, 1.0, -1.0));
        assert!(f(f32::NAN).is_nan());
    }

    #[test]
    fn erf_and_tanh_are_close() {
        for erf in [erf::<true>, erf::<false>] {
            odd(erf, erf_f64, 5.0);
        }
        for tanh in [tanh::<true>, tanh::<false>] {
            odd(tanh, f64::tanh, 10.0);
        }
    }

    #[test]
    fn gelu_slope_is_close() {
        for slope in [gelu_slope::<true>, gelu_slope::<false>] {
            for x in grid(8.0) {
                let wide = f64::from(x);
                let density = (-0.5 * wide * wide).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let expected = 0.5 + 0.5 * erf_f64(wide * std::f64::consts::FRAC_1_SQRT_2) + wide * density;
                assert!((f64::from(slope(x)) - expected).abs() < 4e-7, "{x}: {} {expected}", slope(x));
            }
            assert_eq!((slope(f32::INFINITY), slope(f32::NEG_INFINITY), slope(9.0)), (1.0, 0.0, 1.0));
            assert!(slope(f32::NAN).is_nan());
        }
    }

    #[test]
    fn lanes_hold_everything() {
        for len in [0, 1, 31, 32, 33, 100, 1000] {
            let x: Vec<f32> = (0..len).map(|i| (i * 7 % 101) as f32 - 50.0).collect();
            assert_eq!(sum_by_lanes(&x, |v| 2.0 * v), 2.0 * x.iter().sum::<f32>());
            assert_eq!(maximum(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
