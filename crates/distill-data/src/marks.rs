//! Token ids that know whether they are learnt.
//!
//! The top bit of an id says that the loss counts the token, so that a token cache keeps it with
//! the id: no vocabulary is as large.

/// The bit of a token that is learnt.
pub const LEARNT: u32 = 1 << 31;

/// The token `id`, to be learnt.
pub fn learnt(id: u32) -> u32 {
    id | LEARNT
}

/// Whether a token is learnt.
pub fn is_learnt(token: u32) -> bool {
    token & LEARNT != 0
}

/// The id of a token.
pub fn id(token: u32) -> u32 {
    token & !LEARNT
}

/// Ids, and whether each is learnt.
pub fn split(tokens: &[u32]) -> (Vec<u32>, Vec<bool>) {
    tokens.iter().map(|token| (id(*token), is_learnt(*token))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_ids_come_apart() {
        let largest = LEARNT - 1;
        assert_eq!(
            split(&[7, learnt(7), learnt(0), largest, learnt(largest)]),
            (vec![7, 7, 0, largest, largest], vec![false, true, true, false, true],)
        );
        assert_eq!(learnt(learnt(3)), learnt(3));
    }
}
