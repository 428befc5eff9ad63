//! The number format of matrix products, chosen around a piece of work.

use std::cell::Cell;
use std::fmt;

/// What matrix products multiply in. Sums, weights, activations and the optimiser's state are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32, exact.
    #[default]
    F32,
    /// Operands are rounded to bf16 and their products summed in f32, as PyTorch's autocast does.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `work` with matrix products in `precision`; their backward products follow, wherever those run.
///
/// Holds for this thread and until `work` returns; f32 is what holds outside. Only the CPU kernels (device `flex`) know
/// bf16: other devices go on in f32.
pub fn autocast<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    work()
}

/// The precision in force on this thread.
pub fn precision() -> Precision {
    PRECISION.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_inside_and_is_restored() {
        assert_eq!(precision(), Precision::F32);
        let inner = autocast(Precision::Bf16, || (precision(), autocast(Precision::F32, precision)));
        assert_eq!((inner, precision()), ((Precision::Bf16, Precision::F32), Precision::F32));
        let panicked = std::panic::catch_unwind(|| autocast(Precision::Bf16, || panic!("inside")));
        assert!(panicked.is_err());
        assert_eq!(precision(), Precision::F32);
    }
}
