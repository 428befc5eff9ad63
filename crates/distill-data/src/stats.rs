//! Numbers that describe a data set before it is trained on.
use serde::Serialize;

/// Tokens per row, before truncation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenStats {
    /// Number of rows.
    pub rows: u64,
    /// Tokens of all rows.
    pub tokens: u64,
    /// Mean tokens a row.
    pub mean: f64,
    /// Median tokens a row.
    pub p50: u32,
    /// Tokens that 90% of the rows do not exceed.
    pub p90: u32,
    /// Tokens that 95% of the rows do not exceed.
    pub p95: u32,
    /// Tokens that 99% of the rows do not exceed.
    pub p99: u32,
    /// Tokens of the longest row.
    pub max: u32,
    /// Rows with more than `max_length` tokens.
    pub truncated: u64,
    /// Share of such rows, from 0 to 1.
    pub truncated_share: f64,
}

impl TokenStats {
    /// Describes rows of `full_lengths` tokens that are cut to `max_length`; all zero without rows.
    ///
    /// Percentiles are nearest-rank: the smallest length that the given share of rows does not exceed.
    pub fn new(full_lengths: &[u32], max_length: usize) -> Self {
        let mut sorted = full_lengths.to_vec();
        sorted.sort_unstable();
        let rows = sorted.len();
        let tokens: u64 = sorted.iter().map(|length| u64::from(*length)).sum();
        let percentile = |percent: usize| {
            let rank = (rows * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).copied().unwrap_or(0)
        };
        let truncated = rows - sorted.partition_point(|length| *length as usize <= max_length);
        let share = |part: f64| if rows == 0 { 0.0 } else { part / rows as f64 };
        Self {
            rows: rows as u64,
            tokens,
            mean: share(tokens as f64),
            p50: percentile(50),
            p90: percentile(90),
            p95: percentile(95),
            p99: percentile(99),
            max: percentile(100),
            truncated: truncated as u64,
            truncated_share: share(truncated as f64),
        }
    }
}

/// Rows of each class, in the order of ids; ids of `classes` or more are left out.
pub fn label_counts(labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for label in labels {
        if let Some(count) = counts.get_mut(*label as usize) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let lengths: Vec<u32> = (1..=200).rev().collect();
        let stats = TokenStats::new(&lengths, 150);
        assert_eq!((stats.p50, stats.p90, stats.p95, stats.p99, stats.max), (100, 180, 190, 198, 200));
        assert_eq!((stats.rows, stats.tokens, stats.mean), (200, 20_100, 100.5));
        assert_eq!((stats.truncated, stats.truncated_share), (50, 0.25));
        let one = TokenStats::new(&[7], 7);
        assert_eq!((one.p50, one.p99, one.max, one.truncated), (7, 7, 7, 0));
    }

    #[test]
    fn no_rows_give_zeros() {
        let stats = TokenStats::new(&[], 8);
        assert_eq!((stats.rows, stats.mean, stats.max, stats.truncated_share), (0, 0.0, 0, 0.0));
    }

    #[test]
    fn labels_are_counted() {
        assert_eq!(label_counts(&[0, 2, 2, 5], 4), [1, 0, 2, 0]);
    }
}
