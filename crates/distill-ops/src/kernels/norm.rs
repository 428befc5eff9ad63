//! Layer normalisation, Ba et al. 2016 (arXiv:1607.06450), and root mean square normalisation, Zhang & Sennrich 2019
//! (arXiv:1910.07467), with the dropout and the residual sum that stand before them.
//!
//! A row is read from memory once and stays in the first cache for its reductions. That fuses three passes of a block
//! (dropout, sum, norm) into one; alone, the norm is bound by memory as well.

use std::mem::MaybeUninit;

use super::isa::{for_each_isa, mul_add};
use super::pieces::{each_piece, filled, rows_per_piece};
use super::random_mask::{GROUP, RandomMask};
use super::reduce::in_order;
use super::vector_math::{LANES, sum_by_lanes, sum_of_lanes};

/// What is normalised: the rows of `h = dropout(x) + residual`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormInput<'a> {
    /// `[rows, width]`
    pub(crate) x: &'a [f32],
    /// `[rows, width]`
    pub(crate) residual: Option<&'a [f32]>,
    /// The mask numbers the elements of `x` as they lie.
    pub(crate) dropout: Option<RandomMask>,
}

/// Which norm, and its parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Norm<'a> {
    /// `(h − mean) / √(variance + eps) · weight + bias`, with the biased variance.
    Layer { weight: &'a [f32], bias: &'a [f32] },
    /// `h / √(mean(h²) + eps) · weight`.
    RootMeanSquare { weight: &'a [f32] },
}

impl<'a> Norm<'a> {
    fn weight(self) -> &'a [f32] {
        match self {
            Self::Layer { weight, .. } | Self::RootMeanSquare { weight } => weight,
        }
    }
}

/// A normalised tensor and what its backward needs.
#[derive(Debug)]
pub(crate) struct Normed {
    /// The result: `[rows, width]`.
    pub(crate) y: Vec<f32>,
    /// What was normalised, unless it is `x` itself: `[rows, width]`.
    pub(crate) h: Option<Vec<f32>>,
    /// `[rows]`; empty for the root mean square.
    pub(crate) mean: Vec<f32>,
    /// One over the root: `[rows]`.
    pub(crate) rstd: Vec<f32>,
}

/// Gradients besides that of `h`.
#[derive(Debug)]
pub(crate) struct NormGrads {
    /// `[rows, width]`; none without dropout: then it is the gradient of `h`.
    pub(crate) x: Option<Vec<f32>>,
    /// `[width]`
    pub(crate) weight: Vec<f32>,
    /// `[width]`; empty for the root mean square.
    pub(crate) bias: Vec<f32>,
}

/// [`Norm::Layer`] of `input`.
///
/// # Shapes
/// - `weight`, `bias`: `[width]`
pub(crate) fn layer_norm(input: NormInput<'_>, weight: &[f32], bias: &[f32], eps: f64) -> Normed {
    assert_eq!(weight.len(), bias.len());
    normalise(input, Norm::Layer { weight, bias }, eps)
}

/// [`Norm::RootMeanSquare`] of `input`.
///
/// # Shapes
/// - `weight`: `[width]`
pub(crate) fn rms_norm(input: NormInput<'_>, weight: &[f32], eps: f64) -> Normed {
    normalise(input, Norm::RootMeanSquare { weight }, eps)
}

/// Gradients of [`layer_norm`]; that of `h`, which is the residual's, takes the place of `dy`.
///
/// `h`, `mean`, `rstd` are those of the forward pass, `dropout` is its mask.
pub(crate) fn layer_norm_backward(
    dy: &mut [f32],
    h: &[f32],
    mean: &[f32],
    rstd: &[f32],
    weight: &[f32],
    dropout: Option<RandomMask>,
) -> NormGrads {
    assert_eq!(mean.len(), rstd.len());
    differentiate(dy, h, mean, rstd, weight, dropout)
}

/// Gradients of [`rms_norm`]; that of `h`, which is the residual's, takes the place of `dy`.
///
/// `h` and `rstd` are those of the forward pass, `dropout` is its mask.
pub(crate) fn rms_norm_backward(
    dy: &mut [f32],
    h: &[f32],
    rstd: &[f32],
    weight: &[f32],
    dropout: Option<RandomMask>,
) -> NormGrads {
    differentiate(dy, h, &[], rstd, weight, dropout)
}

/// Some rows of the results of the forward pass.
struct NormedRows<'a> {
    y: &'a mut [MaybeUninit<f32>],
    /// Empty if it is `x`.
    h: &'a mut [MaybeUninit<f32>],
    /// Empty for the root mean square.
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

#[allow(unsafe_code)]
fn normalise(input: NormInput<'_>, norm: Norm<'_>, eps: f64) -> Normed {
    let (len, width) = (input.x.len(), norm.weight().len());
    assert!(len.is_multiple_of(width), "{len} elements in rows of {width}");
    assert!(input.residual.is_none_or(|residual| residual.len() == len));
    let rows = len / width;
    let saves_h = input.residual.is_some() || input.dropout.is_some();
    let saves_mean = matches!(norm, Norm::Layer { .. });
    let (mut rstd, mut mean) = (vec![0f32; rows], vec![0f32; if saves_mean { rows } else { 0 }]);
    let mut h = Vec::new();
    // SAFETY: the pieces cover `y` and, if it has a length, `h`; `normalise_rows` writes each of their elements.
    let y = unsafe {
        filled(len, |y| {
            h = filled(if saves_h { len } else { 0 }, |h| {
                let piece_rows = rows_per_piece(width);
                let piece = piece_rows * width;
                let (mut hs, mut means) = (h.chunks_mut(piece), mean.chunks_mut(piece_rows));
                let outputs =
                    y.chunks_mut(piece).zip(rstd.chunks_mut(piece_rows)).map(|(y, rstd)| NormedRows {
                        y,
                        h: hs.next().unwrap_or_default(),
                        mean: means.next().unwrap_or_default(),
                        rstd,
                    });
                each_piece(outputs.enumerate(), |(number, mut out)| {
                    normalise_rows(input, number * piece, norm, eps, &mut out);
                });
            });
        })
    };
    Normed { y, h: saves_h.then_some(h), mean, rstd }
}

fn differentiate(
    dy: &mut [f32],
    h: &[f32],
    mean: &[f32],
    rstd: &[f32],
    weight: &[f32],
    dropout: Option<RandomMask>,
) -> NormGrads {
    let (len, width) = (dy.len(), weight.len());
    assert_eq!([h.len(), rstd.len() * width], [len; 2]);
    let (mut x, mut partial) = (None, Vec::new());
    let run = |dx: &mut [MaybeUninit<f32>], dy: &mut [f32]| {
        let piece_rows = rows_per_piece(width);
        let piece = piece_rows * width;
        let mut dxs = dx.chunks_mut(piece);
        let outputs = dy.chunks_mut(piece).map(|dy| (dy, dxs.next().unwrap_or_default()));
        each_piece(outputs.enumerate(), |(number, (dy, dx))| {
            let first_row = number * piece_rows;
            let rows = first_row..first_row + dy.len() / width;
            let saved = Saved {
                h: &h[rows.start * width..rows.end * width],
                mean: mean.get(rows.clone()).unwrap_or_default(),
                rstd: &rstd[rows],
                weight,
            };
            let mut sums = vec![0f32; if mean.is_empty() { width } else { 2 * width }];
            differentiate_rows(saved, dropout, number * piece, dy, dx, &mut sums);
            sums
        })
    };
    if dropout.is_some() {
        x = Some(fill_gradient(len, |dx| partial = run(dx, dy)));
    } else {
        partial = run(&mut [], dy);
    }
    let mut sums = in_order(partial);
    sums.resize(if mean.is_empty() { width } else { 2 * width }, 0.0);
    let bias = sums.split_off(width);
    NormGrads { x, weight: sums, bias }
}

/// The gradient of `x`, which `run` fills.
#[allow(unsafe_code)]
fn fill_gradient(len: usize, run: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the pieces of `run` cover its argument, and `differentiate_rows` writes each element if there is dropout.
    unsafe { filled(len, run) }
}

/// Some rows of what the forward pass left.
#[derive(Clone, Copy)]
struct Saved<'a> {
    h: &'a [f32],
    /// Empty for the root mean square.
    mean: &'a [f32],
    rstd: &'a [f32],
    weight: &'a [f32],
}

for_each_isa! {
    fn normalise_rows(input: NormInput<'_>, first: usize, norm: Norm<'_>, eps: f64, out: &mut NormedRows<'_>)
        = normalise_body
}
for_each_isa! {
    fn differentiate_rows(
        saved: Saved<'_>,
        dropout: Option<RandomMask>,
        first: usize,
        dy: &mut [f32],
        dx: &mut [MaybeUninit<f32>],
        sums: &mut [f32],
    ) = differentiate_body
}

#[inline(always)]
fn normalise_body<const FMA: bool>(
    input: NormInput<'_>,
    first: usize,
    norm: Norm<'_>,
    eps: f64,
    out: &mut NormedRows<'_>,
) {
    let width = norm.weight().len();
    let mut scratch = vec![0f32; width];
    let mut multipliers = Multipliers::new(width);
    for (row, y) in out.y.chunks_exact_mut(width).enumerate() {
        let at = first + row * width;
        let x = &input.x[at..at + width];
        let mut h = x;
        if let Some(mask) = &input.dropout {
            for ((h, x), multiplier) in scratch.iter_mut().zip(x).zip(multipliers.of(mask, at)) {
                *h = x * multiplier;
            }
            h = &scratch;
        }
        if let Some(residual) = input.residual {
            let residual = &residual[at..at + width];
            if input.dropout.is_some() {
                for (h, residual) in scratch.iter_mut().zip(residual) {
                    *h += residual;
                }
            } else {
                for ((h, x), residual) in scratch.iter_mut().zip(x).zip(residual) {
                    *h = x + residual;
                }
            }
            h = &scratch;
        }
        if let Some(saved) = out.h.get_mut(row * width..(row + 1) * width) {
            saved.write_copy_of_slice(h);
        }
        let root = |mean_square: f32| (1.0 / (f64::from(mean_square) + eps).sqrt()) as f32;
        match norm {
            Norm::Layer { weight, bias } => {
                let mean = sum_by_lanes(h, |h| h) / width as f32;
                let rstd = root(sum_by_lanes(h, |h| (h - mean) * (h - mean)) / width as f32);
                for (((y, h), weight), bias) in y.iter_mut().zip(h).zip(weight).zip(bias) {
                    y.write(mul_add::<FMA>((h - mean) * rstd, *weight, *bias));
                }
                (out.mean[row], out.rstd[row]) = (mean, rstd);
            }
            Norm::RootMeanSquare { weight } => {
                let rstd = root(sum_by_lanes(h, |h| h * h) / width as f32);
                for ((y, h), weight) in y.iter_mut().zip(h).zip(weight) {
                    y.write(h * rstd * weight);
                }
                out.rstd[row] = rstd;
            }
        }
    }
}

/// With `n` the normalised row and `g = dy · weight`: `dh = rstd · (g − mean(g) − n · mean(g · n))`, without the
/// `mean(g)` for the root mean square.
#[inline(always)]
fn differentiate_body<const FMA: bool>(
    saved: Saved<'_>,
    dropout: Option<RandomMask>,
    first: usize,
    dy: &mut [f32],
    dx: &mut [MaybeUninit<f32>],
    sums: &mut [f32],
) {
    let weight = saved.weight;
    let width = weight.len();
    let (dweight, dbias) = sums.split_at_mut(width);
    let mut multipliers = Multipliers::new(width);
    for (row, (dy, h)) in dy.chunks_exact_mut(width).zip(saved.h.chunks_exact(width)).enumerate() {
        let rstd = saved.rstd[row];
        let mean = saved.mean.get(row).copied().unwrap_or(0.0);
        let (sum_g, sum_gn) = products_of_row::<FMA>(dy, h, weight, mean, rstd);
        let mean_g = if saved.mean.is_empty() { 0.0 } else { sum_g / width as f32 };
        let mean_gn = sum_gn / width as f32;
        if !saved.mean.is_empty() {
            for (dbias, dy) in dbias.iter_mut().zip(&*dy) {
                *dbias += dy;
            }
        }
        for (((dy, h), weight), dweight) in dy.iter_mut().zip(h).zip(weight).zip(&mut *dweight) {
            let n = (h - mean) * rstd;
            *dweight = mul_add::<FMA>(*dy, n, *dweight);
            *dy = rstd * mul_add::<FMA>(-n, mean_gn, *dy * weight - mean_g);
        }
        if let Some(mask) = &dropout {
            let dx = &mut dx[row * width..(row + 1) * width];
            for ((dx, dh), multiplier) in
                dx.iter_mut().zip(&*dy).zip(multipliers.of(mask, first + row * width))
            {
                dx.write(dh * multiplier);
            }
        }
    }
}

/// `Σ dy · weight` and `Σ dy · weight · n`, `n` being the normalised row.
#[inline(always)]
fn products_of_row<const FMA: bool>(
    dy: &[f32],
    h: &[f32],
    weight: &[f32],
    mean: f32,
    rstd: f32,
) -> (f32, f32) {
    let (mut sums_g, mut sums_gn) = ([0f32; LANES], [0f32; LANES]);
    let mut add = |dy: &[f32], h: &[f32], weight: &[f32]| {
        for ((((sum_g, sum_gn), dy), h), weight) in
            sums_g.iter_mut().zip(&mut sums_gn).zip(dy).zip(h).zip(weight)
        {
            let g = dy * weight;
            *sum_g += g;
            *sum_gn = mul_add::<FMA>(g, h - mean, *sum_gn);
        }
    };
    let ((dy, dy_rest), (h, h_rest)) = (dy.as_chunks::<LANES>(), h.as_chunks::<LANES>());
    let (weight, weight_rest) = weight.as_chunks::<LANES>();
    for ((dy, h), weight) in dy.iter().zip(h).zip(weight) {
        add(dy, h, weight);
    }
    add(dy_rest, h_rest, weight_rest);
    (sum_of_lanes(sums_g), sum_of_lanes(sums_gn) * rstd)
}

/// Room for the multipliers of a row, which may begin and end within a group.
struct Multipliers {
    values: Vec<f32>,
    width: usize,
}

impl Multipliers {
    #[inline(always)]
    fn new(width: usize) -> Self {
        Self { values: vec![0f32; width.next_multiple_of(GROUP) + GROUP], width }
    }

    /// Those of the row that begins at element `at`.
    #[inline(always)]
    fn of(&mut self, mask: &RandomMask, at: usize) -> &[f32] {
        let before = at % GROUP;
        mask.fill((at - before) as u64, &mut self.values[..before + self.width]);
        &self.values[before..before + self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [[usize; 2]; 8] =
        [[1, 1], [1, 17], [3, 5], [2, 64], [7, 100], [400, 65], [129, 384], [3, 20_000]];

    fn wave(len: usize, scale: f32, phase: f32) -> Vec<f32> {
        (0..len).map(|i| scale * (i as f32 * 0.37 + phase).sin() + phase).collect()
    }

    struct Case {
        x: Vec<f32>,
        residual: Option<Vec<f32>>,
        dropout: Option<RandomMask>,
        weight: Vec<f32>,
        bias: Vec<f32>,
        dy: Vec<f32>,
        width: usize,
    }

    impl Case {
        fn all() -> impl Iterator<Item = Self> {
            SHAPES.into_iter().flat_map(|[rows, width]| {
                let len = rows * width;
                [(false, false), (false, true), (true, false), (true, true)].map(|(residual, dropout)| Self {
                    x: wave(len, 2.0, 0.3),
                    residual: residual.then(|| wave(len, 1.0, 1.1)),
                    dropout: dropout.then(|| RandomMask::new([1, 2], 3, 0.25)),
                    weight: wave(width, 0.5, 0.9),
                    bias: wave(width, 0.2, -0.4),
                    dy: wave(len, 1.0, 0.2),
                    width,
                })
            })
        }

        fn input(&self) -> NormInput<'_> {
            NormInput { x: &self.x, residual: self.residual.as_deref(), dropout: self.dropout }
        }

        fn multipliers(&self) -> Vec<f64> {
            let mut multipliers = vec![1.0; self.x.len()];
            if let Some(mask) = &self.dropout {
                mask.fill(0, &mut multipliers);
            }
            multipliers.into_iter().map(f64::from).collect()
        }

        /// The formulas in f64: `y`, and the gradients of `h`, `x`, weight and bias.
        fn expected(&self, eps: f64, centred: f64) -> [Vec<f64>; 5] {
            let (multipliers, width) = (self.multipliers(), self.width);
            let [mut y, mut dh] = [(); 2].map(|()| vec![0f64; self.x.len()]);
            let [mut dweight, mut dbias] = [(); 2].map(|()| vec![0f64; width]);
            for row in 0..self.x.len() / width {
                let at = row * width;
                let h: Vec<f64> = (at..at + width)
                    .map(|i| {
                        let residual = self.residual.as_ref().map_or(0.0, |r| f64::from(r[i]));
                        f64::from(self.x[i]) * multipliers[i] + residual
                    })
                    .collect();
                let mean_of = |v: &[f64]| v.iter().sum::<f64>() / width as f64;
                let mean = centred * mean_of(&h);
                let squares: Vec<f64> = h.iter().map(|h| (h - mean).powi(2)).collect();
                let rstd = 1.0 / (mean_of(&squares) + eps).sqrt();
                let n: Vec<f64> = h.iter().map(|h| (h - mean) * rstd).collect();
                let dy = |i: usize| f64::from(self.dy[at + i]);
                let g: Vec<f64> = (0..width).map(|i| dy(i) * f64::from(self.weight[i])).collect();
                let gn: Vec<f64> = g.iter().zip(&n).map(|(g, n)| g * n).collect();
                let (mean_g, mean_gn) = (centred * mean_of(&g), mean_of(&gn));
                for i in 0..width {
                    y[at + i] = n[i] * f64::from(self.weight[i]) + centred * f64::from(self.bias[i]);
                    dh[at + i] = rstd * (g[i] - mean_g - n[i] * mean_gn);
                    dweight[i] += dy(i) * n[i];
                    dbias[i] += dy(i);
                }
                if width > 1000 {
                    continue;
                }
                // The formula of the gradient, against differences.
                let loss = |h: &[f64]| {
                    let mean = centred * mean_of(h);
                    let squares: Vec<f64> = h.iter().map(|h| (h - mean).powi(2)).collect();
                    let rstd = 1.0 / (mean_of(&squares) + eps).sqrt();
                    h.iter().zip(&g).map(|(h, g)| (h - mean) * rstd * g).sum::<f64>()
                };
                let i = row % width;
                let [mut above, mut below] = [h.clone(), h];
                above[i] += 1e-5;
                below[i] -= 1e-5;
                let difference = (loss(&above) - loss(&below)) / 2e-5;
                assert!((dh[at + i] - difference).abs() < 1e-5 * (1.0 + difference.abs()));
            }
            let dx = dh.iter().zip(&multipliers).map(|(dh, m)| dh * m).collect();
            [y, dh, dx, dweight, dbias]
        }
    }

    fn close(found: &[f32], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let size = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= 1e-5 * size.max(0.1), "{what}: {found} {expected}");
        }
    }

    #[test]
    fn layer_norm_follows_the_formulas() {
        for case in Case::all() {
            // A variance of 0 makes any error of the mean a large one; `eps` must hold it.
            let eps = if case.width == 1 { 1.0 } else { 1e-5 };
            let [y, dh, dx, dweight, dbias] = case.expected(eps, 1.0);
            let found = layer_norm(case.input(), &case.weight, &case.bias, eps);
            close(&found.y, &y, "y");
            assert_eq!(found.h.is_some(), case.residual.is_some() || case.dropout.is_some());
            let (h, mut dy) = (found.h.as_ref().unwrap_or(&case.x), case.dy.clone());
            let grads = layer_norm_backward(&mut dy, h, &found.mean, &found.rstd, &case.weight, case.dropout);
            close(&dy, &dh, "dh");
            assert_eq!(grads.x.is_some(), case.dropout.is_some());
            close(grads.x.as_ref().unwrap_or(&dy), &dx, "dx");
            close(&grads.weight, &dweight, "dweight");
            close(&grads.bias, &dbias, "dbias");
        }
    }

    #[test]
    fn rms_norm_follows_the_formulas() {
        for case in Case::all() {
            let [y, dh, dx, dweight, _] = case.expected(1e-2, 0.0);
            let found = rms_norm(case.input(), &case.weight, 1e-2);
            close(&found.y, &y, "y");
            assert!(found.mean.is_empty());
            let (h, mut dy) = (found.h.as_ref().unwrap_or(&case.x), case.dy.clone());
            let grads = rms_norm_backward(&mut dy, h, &found.rstd, &case.weight, case.dropout);
            close(&dy, &dh, "dh");
            close(grads.x.as_ref().unwrap_or(&dy), &dx, "dx");
            close(&grads.weight, &dweight, "dweight");
            assert!(grads.bias.is_empty());
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (x, weight) = (wave(500 * 100, 1.0, 0.2), wave(100, 1.0, 0.4));
        let input = NormInput { x: &x, residual: Some(&x), dropout: Some(RandomMask::new([1, 2], 3, 0.1)) };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let found = layer_norm(input, &weight, &weight, 1e-5);
                let (mut dy, h) = (x.clone(), found.h.unwrap());
                let grads =
                    layer_norm_backward(&mut dy, &h, &found.mean, &found.rstd, &weight, input.dropout);
                (found.y, dy, grads.x, grads.weight, grads.bias)
            })
        };
        assert_eq!(run(1), run(5));
    }

    #[test]
    fn no_rows_are_no_trouble() {
        let input = NormInput { x: &[], residual: None, dropout: None };
        let found = layer_norm(input, &[1.0; 3], &[0.0; 3], 1e-5);
        assert!(found.y.is_empty() && found.rstd.is_empty());
        let grads = layer_norm_backward(&mut [], &[], &[], &[], &[1.0; 3], None);
        assert_eq!(grads.weight, [0.0; 3]);
    }
}
