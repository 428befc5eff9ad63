//! AMX on processors without it, for tests: each tile instruction is an illegal one there, and a handler of that signal
//! does what it would have done.
//!
//! Tests use it where `DISTILL_EMULATE_AMX` is set and the processor has no tiles: thousands of times as slow, and as
//! strict as the processor is (an instruction without a tile configuration, or an unknown one, ends the process).
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: `LDTILECFG`, `TILERELEASE`, `TILEZERO`,
//! `TILELOADD`, `TILESTORED`, `TDPBF16PS`, and "Instruction format" for their encoding.

#![allow(unsafe_code)] // a signal handler that reads instructions and writes registers

use std::cell::RefCell;
use std::sync::OnceLock;

/// The environment variable that asks for the emulation.
const VARIABLE: &str = "DISTILL_EMULATE_AMX";

const ROWS: usize = 16;
/// A row's bytes.
const ROW: usize = 64;

struct Tiles {
    configured: bool,
    data: [[[u8; ROW]; ROWS]; 8],
}

thread_local! {
    static TILES: RefCell<Tiles> =
        const { RefCell::new(Tiles { configured: false, data: [[[0; ROW]; ROWS]; 8] }) };
}

/// Whether the emulation was asked for; the first answer installs it.
pub(super) fn emulated() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| std::env::var_os(VARIABLE).is_some() && install())
}

/// Takes the signal of illegal instructions; `false` if the system refuses.
pub(super) fn install() -> bool {
    // SAFETY: an action of zeros has an empty mask; the handler has the signature that `SA_SIGINFO` promises.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) == 0
    }
}

extern "C" fn handle(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the third argument of such a handler is the interrupted thread's context. What the instruction names is
    // read and written as the processor would do it; instructions are at most 15 bytes, of which no more are read than
    // their encoding has.
    let done = unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        execute(registers)
    };
    if !done {
        // Not one of ours: as without a handler.
        std::process::abort();
    }
}

/// Numbers of the general registers, as instructions have them, in a context.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The memory operand of an instruction.
struct Address {
    /// Without the index.
    base: usize,
    /// The index register, scaled: the distance of rows.
    stride: usize,
    /// Bytes that the operand takes in the instruction, from its ModRM byte on.
    len: usize,
}

/// # Safety
/// `at` is the ModRM byte of an instruction with a memory operand that is not relative to the instruction.
unsafe fn address(registers: &[i64; 23], at: *const u8, index_high: bool, base_high: bool) -> Address {
    let register =
        |low: u8, high: bool| registers[REGISTERS[usize::from(low) + 8 * usize::from(high)] as usize];
    // SAFETY: the caller's promise; each further byte is there because the bytes before say so.
    unsafe {
        let mode = *at >> 6;
        let (mut base, mut stride, mut len) = (0, 0, 1);
        if *at & 7 == 4 {
            let sib = *at.add(1);
            len = 2;
            base += register(sib & 7, base_high);
            if (sib >> 3) & 7 != 4 || index_high {
                stride = register((sib >> 3) & 7, index_high) << (sib >> 6);
            }
            assert!(!(mode == 0 && sib & 7 == 5), "an address without a base");
        } else {
            assert!(!(mode == 0 && *at & 7 == 5), "an address relative to the instruction");
            base += register(*at & 7, base_high);
        }
        match mode {
            1 => {
                base += i64::from(*at.add(len).cast::<i8>());
                len += 1;
            }
            2 => {
                base += i64::from(at.add(len).cast::<i32>().read_unaligned());
                len += 4;
            }
            _ => {}
        }
        Address { base: base as usize, stride: stride as usize, len }
    }
}

/// Whether the instruction at hand is one of tiles; it has been executed then, and the next one is at hand.
///
/// # Safety
/// The registers are those of a thread that stands at an instruction; what that reads and writes may be read and written.
unsafe fn execute(registers: &mut [i64; 23]) -> bool {
    let at = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the caller's promise; an instruction with this first byte has at least five.
    let [vex, map, last, code, operand] = unsafe {
        if *at != 0xC4 {
            return false;
        }
        [*at, *at.add(1), *at.add(2), *at.add(3), *at.add(4)]
    };
    // Three-byte VEX, map 0F38, W 0, 128 bits; bits of registers are stored inverted.
    if vex != 0xC4 || map & 0x1F != 2 || last & 0b1000_0100 != 0 {
        return false;
    }
    let (index_high, base_high) = (map & 0x40 == 0, map & 0x20 == 0);
    let third = usize::from(!(last >> 3) & 0xF);
    let (first, second, memory) =
        (usize::from((operand >> 3) & 7), usize::from(operand & 7), operand >> 6 != 3);
    // SAFETY: with a memory operand the byte is its ModRM byte.
    let place = memory.then(|| unsafe { address(registers, at.add(4), index_high, base_high) });
    TILES.with_borrow_mut(|tiles| {
        // SAFETY: rows of 64 bytes, `stride` apart, are what the instruction reads or writes.
        unsafe {
            match (code, last & 3, &place) {
                (0x49, 0, Some(from)) => tiles.configure(&*(from.base as *const [u8; 64])),
                (0x49, 0, None) => tiles.configured = false,
                _ if !tiles.configured => return false,
                (0x49, 3, None) => tiles.data[first] = [[0; ROW]; ROWS],
                (0x4B, 3, Some(from)) => {
                    for (row, data) in tiles.data[first].iter_mut().enumerate() {
                        *data = (from.base.wrapping_add(row.wrapping_mul(from.stride)) as *const [u8; ROW])
                            .read_unaligned();
                    }
                }
                (0x4B, 2, Some(to)) => {
                    for (row, data) in tiles.data[first].iter().enumerate() {
                        (to.base.wrapping_add(row.wrapping_mul(to.stride)) as *mut [u8; ROW])
                            .write_unaligned(*data);
                    }
                }
                (0x5C, 2, None) => tiles.multiply(first, second, third),
                _ => return false,
            }
        }
        registers[libc::REG_RIP as usize] += 4 + place.map_or(1, |place| place.len as i64);
        true
    })
}

impl Tiles {
    /// Only the one shape that [`super::amx`] uses is known: eight tiles of 16 rows of 64 bytes.
    fn configure(&mut self, bytes: &[u8; 64]) {
        let whole = (0..8).all(|tile| {
            let width = u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]);
            usize::from(width) == ROW && usize::from(bytes[48 + tile]) == ROWS
        });
        assert!(bytes[0] == 1 && bytes[1] == 0 && whole, "another tile configuration than expected");
        *self = Self { configured: true, data: [[[0; ROW]; ROWS]; 8] };
    }

    /// `TDPBF16PS`: pairs of the left rows against pairs of the right columns.
    fn multiply(&mut self, sums: usize, left: usize, right: usize) {
        assert!(sums != left && sums != right && left != right, "a tile is named twice");
        let number = |bytes: &[u8], at: usize| {
            let bits = u32::from(u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]])) << 16;
            let value = f32::from_bits(bits);
            if value.is_subnormal() { 0.0 } else { value }
        };
        for row in 0..ROWS {
            for column in 0..ROW / 4 {
                let [mut even, mut odd] = [0f32; 2];
                for pair in 0..ROWS {
                    let [a, b] = [&self.data[left][row], &self.data[right][pair]];
                    even = number(a, 2 * pair).mul_add(number(b, 2 * column), even);
                    odd = number(a, 2 * pair + 1).mul_add(number(b, 2 * column + 1), odd);
                }
                let sum = &mut self.data[sums][row][4 * column..][..4];
                let before = f32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
                sum.copy_from_slice(&(before + (even + odd)).to_le_bytes());
            }
        }
    }
}
