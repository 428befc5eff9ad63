//! Which instructions the kernels use: found once a process, from the processor and from `DISTILL_ISA`.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable that forces an instruction set, for tests and for looking into a result.
pub const ISA_VARIABLE: &str = "DISTILL_ISA";

/// Instruction sets, each with all that stand before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor of the target has.
    Portable,
    /// AVX2 and FMA: 8 floats at a time.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL: 16 floats at a time.
    Avx512,
    /// AVX-512 with `vdpbf16ps`: products of bf16 pairs.
    Avx512Bf16,
    /// AMX tiles: `tdpbf16ps`.
    Amx,
}

/// All of them, slowest first.
const ALL: [(&str, Isa); 5] = [
    ("portable", Isa::Portable),
    ("avx2", Isa::Avx2),
    ("avx512", Isa::Avx512),
    ("avx512_bf16", Isa::Avx512Bf16),
    ("amx", Isa::Amx),
];

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(_, isa)| isa == self).map_or("", |(name, _)| name))
    }
}

/// `DISTILL_ISA` names something else than an instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set `{found}`: use `portable`, `avx2`, `avx512`, `avx512_bf16` or `amx`")]
pub struct UnknownIsa {
    /// The word as it was written.
    pub found: String,
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Self, UnknownIsa> {
        let known = ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, isa)| *isa).ok_or_else(|| UnknownIsa { found: text.to_owned() })
    }
}

impl Isa {
    /// What this processor has, slowest first; the last is the one that is used if nothing else is said.
    pub fn available() -> Vec<Self> {
        let best = detected();
        ALL.iter().map(|(_, isa)| *isa).filter(|isa| *isa <= best).collect()
    }

    /// Whether products of bf16 numbers have an instruction of their own.
    pub fn has_bf16(self) -> bool {
        self >= Self::Avx512Bf16
    }
}

/// The instruction set in use: `DISTILL_ISA` if it names one that the processor has, else the best one.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let best = detected();
        let wanted = std::env::var(ISA_VARIABLE).ok().and_then(|text| text.parse().ok());
        wanted.map_or(best, |wanted: Isa| wanted.min(best))
    })
}

/// What is wrong with `DISTILL_ISA`, if anything.
///
/// # Errors
/// [`UnknownIsa`] if it is set to a word that is no instruction set.
pub fn check_isa_variable() -> Result<(), UnknownIsa> {
    match std::env::var(ISA_VARIABLE) {
        Ok(text) => text.parse::<Isa>().map(|_| ()),
        Err(_) => Ok(()),
    }
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return Isa::Portable;
        }
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if !avx512 {
            return Isa::Avx2;
        }
        if !is_x86_feature_detected!("avx512bf16") {
            return Isa::Avx512;
        }
        if super::amx::usable() { Isa::Amx } else { Isa::Avx512Bf16 }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Isa {
    Isa::Portable
}

/// Declares a function that runs `$body` compiled for the instruction set in use.
///
/// `$body` is an `#[inline(always)]` function with a const parameter `FMA: bool` (see [`mul_add`]): plain loops over
/// slices, which the compiler turns into the vectors of each instruction set.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                let isa = $crate::kernels::isa();
                if isa >= $crate::kernels::Isa::Avx512 {
                    // SAFETY: the processor was asked for these features before `Isa::Avx512` was chosen.
                    return unsafe { avx512($($arg),*) };
                }
                if isa >= $crate::kernels::Isa::Avx2 {
                    // SAFETY: the processor was asked for these features before `Isa::Avx2` was chosen.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use for_each_isa;

/// `a · b + c`, rounded once where there is an instruction for it.
///
/// Without one, `f32::mul_add` would be a call of the C library.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for (name, isa) in ALL {
            assert_eq!(name.parse::<Isa>(), Ok(isa));
            assert_eq!(isa.to_string(), name);
        }
        assert_eq!("sse".parse::<Isa>(), Err(UnknownIsa { found: "sse".to_owned() }));
    }

    #[test]
    fn the_one_in_use_is_available() {
        assert!(Isa::available().contains(&isa()));
        assert_eq!(Isa::available()[0], Isa::Portable);
    }
}
