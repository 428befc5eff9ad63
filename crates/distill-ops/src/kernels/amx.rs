//! AMX: tiles of 16 x 64 bytes and their bf16 product, from stable Rust by inline assembly.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (programming with AMX).

#![allow(unsafe_code)] // a processor feature without intrinsics in stable Rust

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;
use std::ptr;

/// The tile data component of the extended state, in the words of `arch_prctl(2)`.
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
const XFEATURE_XTILEDATA: libc::c_long = 18;

/// Bits of CPUID leaf 7, EDX.
const AMX_BF16: u32 = 1 << 22;
const AMX_TILE: u32 = 1 << 24;

/// Whether the processor has AMX with bf16 products and the operating system lets this process use it.
///
/// The permission is asked for here, once: it is the process's from then on, all its threads included. Then a small
/// product is compared with its known result, so that a machine that promises tiles and does not keep it is noticed.
pub(super) fn usable() -> bool {
    (has_amx() && permitted() || emulated()) && right_answer()
}

#[cfg(all(test, target_os = "linux"))]
use super::amx_emulated::emulated;

#[cfg(not(all(test, target_os = "linux")))]
fn emulated() -> bool {
    false
}

fn has_amx() -> bool {
    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // OSXSAVE, and tile configuration and data switched on by the system in XCR0.
    if __cpuid(1).ecx & (1 << 27) == 0 || features & AMX_BF16 == 0 || features & AMX_TILE == 0 {
        return false;
    }
    let (low, _high): (u32, u32);
    // SAFETY: OSXSAVE says that `xgetbv` may be used; it reads a register and touches nothing else.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack)) };
    low & (0b11 << 17) == 0b11 << 17
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    // SAFETY: a request about this process's own permissions, without pointers; it fails or it holds.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// A product whose terms and sums are whole numbers, so that rounding has no part in it.
fn right_answer() -> bool {
    use super::packing::BLOCK;
    let number = |i: usize| (i * 7 % 13) as f32 - 6.0;
    let pair = |a: f32, b: f32| (a.to_bits() >> 16) | (b.to_bits() & 0xFFFF_0000);
    let blocks = 2;
    let words = 32 * BLOCK * blocks;
    // Word `w` of either operand holds the numbers 2w and 2w + 1 (of the right one, moved by 5).
    let left: Vec<u32> = (0..words).map(|w| pair(number(2 * w), number(2 * w + 1))).collect();
    let right: Vec<u32> = (0..words).map(|w| pair(number(2 * w + 5), number(2 * w + 6))).collect();
    let bias = [1f32; 32];
    let mut result = vec![0f32; 32 * 32];
    // SAFETY: the processor has tiles and the process may use them; both operands hold two blocks, the result a tile, and
    // each of its rows starts from the bias.
    unsafe {
        let _tiles = Tiles::configure();
        let from = From::Rows(bias.as_ptr(), 0);
        tile(blocks, left.as_ptr(), right.as_ptr(), from, result.as_mut_ptr(), 32);
    }
    (0..32).all(|row| {
        (0..32).all(|column| {
            let expected: f32 = (0..blocks * BLOCK)
                .map(|word| {
                    let (block, word) = (word / BLOCK, word % BLOCK);
                    let a = (block * 32 + row) * BLOCK + word;
                    let b = (block * BLOCK + word) * 32 + column;
                    number(2 * a) * number(2 * b + 5) + number(2 * a + 1) * number(2 * b + 6)
                })
                .sum();
            result[row * 32 + column] == 1.0 + expected
        })
    })
}

/// The shapes of the eight tiles: palette 1, 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct TileConfiguration([u8; 64]);

static CONFIGURATION: TileConfiguration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    TileConfiguration(bytes)
};

/// The right to use tiles on this thread: they are configured, and released when this goes.
///
/// Not nested, and never beyond what one thread does by itself: the release of an inner one would be that of the outer.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Of one thread.
    _thread: PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// [`usable`] has said yes.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: the caller's promise; it reads 64 bytes that are there for good.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack));
        }
        Self { _thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this could use tiles; nothing that is kept in them is wanted any more.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}

/// What a tile of sums starts from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// Nothing.
    Zero,
    /// Rows of 32 floats, so many floats apart: none apart if all rows of the tile start alike.
    Rows(*const f32, usize),
}

/// Writes the sum of a tile and the product of two packed panels to a tile of 32 x 32.
///
/// # Safety
/// [`usable`] has said yes and this thread has its [`Tiles`]; `left` and `right` hold `blocks · 32 · 16` words each, packed
/// in panels of 32; `result` holds 32 rows of 32 floats, `stride` floats apart, and `from` what it says.
pub(super) unsafe fn tile(
    blocks: usize,
    left: *const u32,
    right: *const u32,
    from: From,
    result: *mut f32,
    stride: usize,
) {
    let (from, apart) = match from {
        From::Zero => (ptr::null(), 0),
        From::Rows(rows, apart) => (rows, apart),
    };
    // SAFETY: the caller's promises cover every address: a block of the left operand is two tiles of 16 rows x 64
    // bytes one after the other, one of the right operand 16 rows of 128 bytes, two tiles side by side. All eight
    // tiles are named as clobbered.
    unsafe {
        asm!(
            "test {from}, {from}",
            "jz 4f",
            "tileloadd tmm0, [{from} + {apart} * 1]",
            "tileloadd tmm1, [{from} + {apart} * 1 + 64]",
            "tileloadd tmm2, [{lower_from} + {apart} * 1]",
            "tileloadd tmm3, [{lower_from} + {apart} * 1 + 64]",
            "jmp 5f",
            "4:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "5:",
            "test {blocks}, {blocks}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{left} + {left_row} * 1]",
            "tileloadd tmm6, [{right} + {right_row} * 1]",
            "tileloadd tmm7, [{right} + {right_row} * 1 + 64]",
            "tileloadd tmm5, [{left} + {left_row} * 1 + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "3:",
            "tilestored [{upper} + {bytes} * 1], tmm0",
            "tilestored [{upper} + {bytes} * 1 + 64], tmm1",
            "tilestored [{lower} + {bytes} * 1], tmm2",
            "tilestored [{lower} + {bytes} * 1 + 64], tmm3",
            from = in(reg) from,
            lower_from = in(reg) from.wrapping_add(16 * apart),
            apart = in(reg) apart * 4,
            upper = in(reg) result,
            lower = in(reg) result.wrapping_add(16 * stride),
            bytes = in(reg) stride * 4,
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            left_row = in(reg) 64usize,
            right_row = in(reg) 128usize,
            blocks = inout(reg) blocks => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::kernels::amx_emulated::install;

    #[test]
    fn tiles_multiply_as_they_should() {
        assert!(has_amx() && permitted() || install());
        assert!(right_answer());
    }

    #[test]
    fn tiles_that_were_asked_for_are_used() {
        if emulated() && std::arch::is_x86_feature_detected!("avx512bf16") {
            assert!(crate::kernels::Isa::available().contains(&crate::kernels::Isa::Amx));
        }
    }
}
