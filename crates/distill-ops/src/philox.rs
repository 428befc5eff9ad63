//! Philox 4x32-10, a counter-based random generator; Salmon et al. 2011, §3.3 ("Parallel random numbers: as easy as
//! 1, 2, 3", SC'11).
//!
//! A block is a pure function of key and counter, so any number of threads can fill any part of a mask.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and √3 − 1, as in the paper's key schedule.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four random words for this counter and key.
pub(crate) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let product = |word: u32, multiplier: u32| {
            let wide = u64::from(word) * u64::from(multiplier);
            ((wide >> 32) as u32, wide as u32)
        };
        let (high_a, low_a) = product(a, MULTIPLIERS[0]);
        let (high_c, low_c) = product(c, MULTIPLIERS[1]);
        counter = [high_c ^ b ^ key[0], low_c, high_a ^ d ^ key[1], low_a];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// [`philox`] for 16 counters that follow each other from `first` on; the upper half of each counter is `upper`.
///
/// Lanes side by side, so that the compiler makes vectors of them: word `w` of block `first + l` is `[w][l]`.
#[inline(always)]
pub(crate) fn philox_lanes(first: u64, upper: u64, mut key: [u32; 2]) -> [[u32; 16]; 4] {
    let [upper_low, upper_high] = halves(upper);
    // A word in 64 bits each, whose upper half is left as it comes: a product reads the lower half only, and then its
    // halves need no sorting into lanes.
    let mut counters = [[0u64; 16], [0; 16], [u64::from(upper_low); 16], [u64::from(upper_high); 16]];
    // Over iterators instead of indices, this takes half as long again.
    #[allow(clippy::needless_range_loop)]
    for lane in 0..16 {
        let block = first + lane as u64;
        counters[0][lane] = block;
        counters[1][lane] = block >> 32;
    }
    // Two rounds a turn, so that the words need not be moved back to where the first round found them.
    for _ in 0..ROUNDS / 2 {
        for _ in 0..2 {
            let [a, b, c, d] = counters;
            let keys = key.map(u64::from);
            for lane in 0..16 {
                let wide_a = (a[lane] & 0xffff_ffff) * u64::from(MULTIPLIERS[0]);
                let wide_c = (c[lane] & 0xffff_ffff) * u64::from(MULTIPLIERS[1]);
                counters[0][lane] = (wide_c >> 32) ^ b[lane] ^ keys[0];
                counters[1][lane] = wide_c;
                counters[2][lane] = (wide_a >> 32) ^ d[lane] ^ keys[1];
                counters[3][lane] = wide_a;
            }
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
    }
    counters.map(|words| words.map(|word| word as u32))
}

/// The two halves of a 64-bit number, low half first.
pub(crate) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_blocks() {
        let (first, upper, key) = (u64::from(u32::MAX) - 3, 7 << 33 | 5, [11, 13]);
        let words = philox_lanes(first, upper, key);
        for lane in 0..16u64 {
            let ([low, high], [upper_low, upper_high]) = (halves(first + lane), halves(upper));
            let block = philox([low, high, upper_low, upper_high], key);
            assert_eq!(words.map(|word| word[lane as usize]), block);
        }
    }

    // The known-answer tests for `philox4x32 10` that the authors publish with their implementation.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
