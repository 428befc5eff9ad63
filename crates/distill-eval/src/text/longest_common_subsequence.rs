//! The longest common subsequence of two sequences: its length, and where it lies.
//!
//! Both take time proportional to the product of the lengths. The length needs one row of the
//! dynamic programme, the positions keep about `√rows` of them.

/// Turns a row of the programme into the next one: `row[j]` is the length for the reference up to
/// a symbol and the first `j` symbols of the candidate.
fn advance(row: &mut [u32], symbol: u32, candidate: &[u32]) {
    let mut diagonal = 0;
    for (j, &other) in candidate.iter().enumerate() {
        let above = row[j + 1];
        row[j + 1] = if other == symbol { diagonal + 1 } else { above.max(row[j]) };
        diagonal = above;
    }
}

/// Length of the longest common subsequence.
pub fn length(reference: &[u32], candidate: &[u32]) -> usize {
    let mut row = vec![0; candidate.len() + 1];
    for &symbol in reference {
        advance(&mut row, symbol, candidate);
    }
    row[candidate.len()] as usize
}

/// Positions in `reference` of one longest common subsequence, from last to first.
///
/// There may be several; this is the one that ROUGE's implementations read off the table, walking
/// back from its corner: along the diagonal where symbols agree, else to the left if the left
/// neighbour is larger than the upper one, else upwards.
pub fn reference_positions(reference: &[u32], candidate: &[u32]) -> Vec<usize> {
    let width = candidate.len() + 1;
    let height = reference.len().isqrt().max(1);

    // The row above each block of `height` rows; a block is computed again once the walk enters it.
    let mut above_blocks = Vec::new();
    let mut row = vec![0; width];
    for (i, &symbol) in reference.iter().enumerate() {
        if i % height == 0 {
            above_blocks.push(row.clone());
        }
        advance(&mut row, symbol, candidate);
    }

    let mut positions = Vec::with_capacity(row[width - 1] as usize);
    let mut j = candidate.len();
    for (block, above) in above_blocks.into_iter().enumerate().rev() {
        let start = block * height;
        let symbols = &reference[start..reference.len().min(start + height)];
        let mut rows = vec![above];
        for &symbol in symbols {
            let mut next = rows[rows.len() - 1].clone();
            advance(&mut next, symbol, candidate);
            rows.push(next);
        }
        let mut i = symbols.len();
        while i > 0 && j > 0 {
            if symbols[i - 1] == candidate[j - 1] {
                positions.push(start + i - 1);
                (i, j) = (i - 1, j - 1);
            } else if rows[i][j - 1] > rows[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_what_is_not_shared() {
        let (reference, candidate) = ([1, 2, 3, 4, 5], [2, 9, 4, 1, 5]);
        assert_eq!(length(&reference, &candidate), 3);
        assert_eq!(reference_positions(&reference, &candidate), [4, 3, 1]);
    }

    #[test]
    fn nothing_in_common_and_nothing_at_all() {
        assert_eq!(length(&[1, 2], &[3]), 0);
        assert!(reference_positions(&[1, 2], &[3]).is_empty());
        assert_eq!(length(&[], &[3]), 0);
        assert!(reference_positions(&[], &[3]).is_empty() && reference_positions(&[3], &[]).is_empty());
    }

    /// `1 2` and `2 1` share either symbol; the walk goes up first, to the earlier one.
    #[test]
    fn of_two_equals_the_upper_neighbour_wins() {
        assert_eq!(reference_positions(&[1, 2], &[2, 1]), [0]);
    }

    /// Blocks must not show: the walk through the whole table is the same.
    #[test]
    fn the_walk_is_that_of_the_whole_table() {
        let mut state = 7_u32;
        let mut symbol = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 29
        };
        for size in 1..40_usize {
            let reference: Vec<_> = (0..size).map(|_| symbol()).collect();
            let candidate: Vec<_> = (0..41 - size).map(|_| symbol()).collect();
            let mut table = vec![vec![0; candidate.len() + 1]];
            for &symbol in &reference {
                let mut next = table[table.len() - 1].clone();
                advance(&mut next, symbol, &candidate);
                table.push(next);
            }
            let (mut i, mut j, mut expected) = (reference.len(), candidate.len(), Vec::new());
            while i > 0 && j > 0 {
                if reference[i - 1] == candidate[j - 1] {
                    expected.push(i - 1);
                    (i, j) = (i - 1, j - 1);
                } else if table[i][j - 1] > table[i - 1][j] {
                    j -= 1;
                } else {
                    i -= 1;
                }
            }
            let found = reference_positions(&reference, &candidate);
            assert_eq!(found, expected);
            assert_eq!(found.len(), length(&reference, &candidate));
        }
    }
}
