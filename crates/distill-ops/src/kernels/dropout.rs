//! Dropout in one pass, Srivastava et al. 2014 (JMLR 15); the backward is the same product on the gradient.

use std::mem::MaybeUninit;

use super::isa::for_each_isa;
use super::pieces::{PIECE, each_piece, filled};
use super::random_mask::{GROUP, RandomMask};

/// `x` times its multipliers; the mask numbers the elements as they lie.
#[allow(unsafe_code)]
pub(crate) fn dropout(x: &[f32], mask: RandomMask) -> Vec<f32> {
    // SAFETY: the pieces cover `out`, and `products` writes each of their elements.
    unsafe {
        filled(x.len(), |out| {
            let pieces = x.chunks(PIECE).zip(out.chunks_mut(PIECE)).enumerate();
            each_piece(pieces, |(piece, (x, out))| products(mask, first_group(piece), x, out));
        })
    }
}

/// [`dropout`] in place of `x`.
pub(crate) fn dropout_in_place(x: &mut [f32], mask: RandomMask) {
    each_piece(x.chunks_mut(PIECE).enumerate(), |(piece, x)| multiply(mask, first_group(piece), x));
}

fn first_group(piece: usize) -> u64 {
    const { assert!(PIECE.is_multiple_of(GROUP)) };
    (piece * (PIECE / GROUP)) as u64
}

for_each_isa! { fn products(mask: RandomMask, group: u64, x: &[f32], out: &mut [MaybeUninit<f32>]) = products_body }
for_each_isa! { fn multiply(mask: RandomMask, group: u64, x: &mut [f32]) = multiply_body }

#[inline(always)]
fn products_body<const FMA: bool>(mask: RandomMask, group: u64, x: &[f32], out: &mut [MaybeUninit<f32>]) {
    for (group, (x, out)) in (group..).zip(x.chunks(GROUP).zip(out.chunks_mut(GROUP))) {
        for ((out, x), multiplier) in out.iter_mut().zip(x).zip(&mask.multipliers(group)) {
            out.write(x * multiplier);
        }
    }
}

#[inline(always)]
fn multiply_body<const FMA: bool>(mask: RandomMask, group: u64, x: &mut [f32]) {
    for (group, x) in (group..).zip(x.chunks_mut(GROUP)) {
        for (x, multiplier) in x.iter_mut().zip(&mask.multipliers(group)) {
            *x *= multiplier;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_meets_its_own_multiplier() {
        let mask = RandomMask::new([3, 5], 7, 0.3);
        for len in [0, 1, 63, 65, 1000, 3 * PIECE + 17] {
            let x: Vec<f32> = (0..len).map(|i| i as f32 + 1.0).collect();
            let mut multipliers = vec![0.0; len];
            mask.fill(0, &mut multipliers);
            let expected: Vec<f32> = x.iter().zip(&multipliers).map(|(x, m)| x * m).collect();
            assert_eq!(dropout(&x, mask), expected);
            let mut in_place = x;
            dropout_in_place(&mut in_place, mask);
            assert_eq!(in_place, expected);
        }
    }
}
