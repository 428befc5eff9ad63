//! Buffers of a thread that attention uses again and again, and outputs that many threads fill.

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::attention_packing::prefetch;
use super::for_each_isa;

/// Floats in a cache line: buffers start on one, so that no vector crosses two.
const LINE: usize = 16;
/// So many buffers may be filled up to whole lines.
const BUFFERS: usize = 16;

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Memory that is cut into buffers.
pub(super) struct Scratch<'a> {
    rest: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    /// A buffer that holds anything.
    pub(super) fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (buffer, rest) = std::mem::take(&mut self.rest).split_at_mut(len.next_multiple_of(LINE));
        self.rest = rest;
        &mut buffer[..len]
    }
}

/// Calls `work` with memory for at most [`BUFFERS`] buffers that have `total` floats together.
pub(super) fn with_scratch<T>(total: usize, work: impl FnOnce(Scratch<'_>) -> T) -> T {
    let mut memory = SCRATCH.take();
    let room = total + (BUFFERS + 1) * LINE;
    if memory.len() < room {
        memory.resize(room, 0.0);
    }
    let aligned = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = work(Scratch { rest: &mut memory[aligned..] });
    SCRATCH.set(memory);
    result
}

/// An output that is filled from several threads at once, each in places of its own.
pub(super) struct Output {
    values: Vec<f32>,
    start: *mut MaybeUninit<f32>,
    len: usize,
}

// SAFETY: other threads only reach the memory through `place`, whose callers promise not to overlap.
#[allow(unsafe_code)]
unsafe impl Sync for Output {}

impl Output {
    pub(super) fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        let start = values.spare_capacity_mut().as_mut_ptr();
        Self { values, start, len }
    }

    /// `count` rows of `width` elements, `stride` apart, the first one at `start`.
    ///
    /// # Safety
    /// No two rows that are in use at a time overlap.
    #[allow(unsafe_code)]
    pub(super) unsafe fn rows(
        &self,
        start: usize,
        stride: usize,
        width: usize,
        count: usize,
    ) -> OutputRows<'_> {
        let end = start + count.saturating_sub(1) * stride + width;
        assert!(
            count == 0 || end <= self.len && width <= stride,
            "the rows lie outside the output, or overlap"
        );
        OutputRows { output: self, start, stride, width, count }
    }

    /// The filled vector.
    ///
    /// # Safety
    /// All of its elements have been written.
    #[allow(unsafe_code)]
    pub(super) unsafe fn into_vec(mut self) -> Vec<f32> {
        // SAFETY: `new` made room for them; the caller promises that they are written.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

/// Rows of an [`Output`] that belong to whoever holds this.
#[derive(Clone)]
pub(super) struct OutputRows<'a> {
    output: &'a Output,
    start: usize,
    stride: usize,
    width: usize,
    count: usize,
}

impl OutputRows<'_> {
    /// Has the rows fetched, to be written soon.
    pub(super) fn prefetch(&self) {
        for row in 0..self.count {
            prefetch(self.output.start.wrapping_add(self.start + row * self.stride).cast(), self.width);
        }
    }

    /// Writes the rows of `from`, which are `from_stride` apart, each times its own of `scales` or all times the one.
    pub(super) fn write(self, from: &[f32], from_stride: usize, scales: &[f32]) {
        write_rows(self, from, from_stride, scales);
    }
}

#[allow(unsafe_code)]
#[inline(always)]
fn write_rows_body<const FMA: bool>(rows: OutputRows<'_>, from: &[f32], from_stride: usize, scales: &[f32]) {
    for row in 0..rows.count {
        let scale = scales[row.min(scales.len() - 1)];
        let from = &from[row * from_stride..][..rows.width];
        // SAFETY: `Output::rows` checked that the row lies inside, and was promised that it is nobody else's.
        let out = unsafe {
            std::slice::from_raw_parts_mut(rows.output.start.add(rows.start + row * rows.stride), rows.width)
        };
        for (out, from) in out.iter_mut().zip(from) {
            out.write(from * scale);
        }
    }
}

for_each_isa! {
    fn write_rows(rows: OutputRows<'_>, from: &[f32], from_stride: usize, scales: &[f32]) = write_rows_body
}
