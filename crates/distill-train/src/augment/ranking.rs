//! The best of many scores.

/// Ids of the `count` highest scores, best first; of equal ones the one that comes first. NaN counts for nothing.
pub(super) fn best(scores: impl Iterator<Item = (u32, f32)>, count: usize) -> Vec<u32> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count.saturating_add(1).min(1024));
    for (id, score) in scores {
        let full = best.len() == count;
        if score.is_nan() || full && best.last().is_none_or(|last| score <= last.1) {
            continue;
        }
        let place = best.partition_point(|better| better.1 >= score);
        best.insert(place, (id, score));
        best.truncate(count);
    }
    best.into_iter().map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_stable_sort() {
        let scores: Vec<(u32, f32)> = (0..500_u32).map(|id| (id, (id * 7919 % 97) as f32 - 40.0)).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(|left, right| right.1.total_cmp(&left.1));
        for count in [0, 1, 15, 499, 500, 600] {
            let expected: Vec<u32> = sorted.iter().take(count).map(|(id, _)| *id).collect();
            assert_eq!(best(scores.iter().copied(), count), expected);
        }
    }

    #[test]
    fn nan_is_never_best() {
        let scores = [(1, f32::NAN), (2, -1.0), (3, f32::NAN), (4, f32::NEG_INFINITY)];
        assert_eq!(best(scores.into_iter(), 3), [2, 4]);
    }
}
