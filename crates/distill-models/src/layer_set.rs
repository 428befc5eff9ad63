//! Which layers of an encoder something is asked of.

/// A set of layers, numbered from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Layers(u128);

impl Layers {
    /// No layer.
    pub const NONE: Self = Self(0);
    /// Every layer, however many there are.
    pub const ALL: Self = Self(u128::MAX);

    /// These layers. Numbers above 127 are left out: no encoder of ours is that deep.
    pub fn of(layers: impl IntoIterator<Item = usize>) -> Self {
        Self(layers.into_iter().fold(0, |bits, layer| bits | Self::bit(layer)))
    }

    /// Whether `layer` is one of them.
    pub fn contains(self, layer: usize) -> bool {
        self == Self::ALL || self.0 & Self::bit(layer) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The layers of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The highest of them.
    pub fn highest(self) -> Option<usize> {
        (u128::BITS - self.0.leading_zeros()).checked_sub(1).map(|layer| layer as usize)
    }

    /// How many of the set come before `layer`: its place in a list of what they handed out.
    pub fn rank(self, layer: usize) -> usize {
        (self.0 & Self::bit(layer).wrapping_sub(1)).count_ones() as usize
    }

    fn bit(layer: usize) -> u128 {
        u32::try_from(layer).ok().and_then(|layer| 1u128.checked_shl(layer)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_was_made_of() {
        let layers = Layers::of([0, 5, 127, 128, usize::MAX]);
        let held: Vec<usize> = (0..200).filter(|&layer| layers.contains(layer)).collect();
        assert_eq!(held, [0, 5, 127]);
        assert!(!layers.contains(usize::MAX) && !layers.contains(1 << 32));
        assert_eq!([0, 5, 127].map(|layer| layers.rank(layer)), [0, 1, 2]);
        assert_eq!([layers, Layers::of([0]), Layers::NONE].map(Layers::highest), [Some(127), Some(0), None]);
        assert_eq!(layers.union(Layers::of([5, 6])), Layers::of([0, 5, 6, 127]));
    }

    #[test]
    fn none_and_all_are_what_they_say() {
        assert!(Layers::NONE.is_empty() && Layers::default().is_empty() && Layers::of([]).is_empty());
        assert!((0..300).all(|layer| Layers::ALL.contains(layer) && !Layers::NONE.contains(layer)));
        assert_eq!(Layers::of([3]).union(Layers::ALL), Layers::ALL);
        assert!(!Layers::of([3]).is_empty());
    }
}
