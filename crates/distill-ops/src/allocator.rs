//! Keeps the memory of large temporaries instead of giving it back to the system after every operation.
//!
//! A training step makes and drops hundreds of megabytes of temporaries. glibc maps each one afresh and unmaps it,
//! and the kernel clears every page again: a quarter of a step on a CPU.

/// Tells glibc to serve large blocks from its heap and never to trim it. Does nothing with other allocators.
///
/// Call it once, before any large allocation.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_large_temporaries() {
    // SAFETY: `mallopt` only sets parameters of the allocator; both are documented, and any value is valid.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Tells glibc to serve large blocks from its heap and never to trim it. Does nothing with other allocators.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_large_temporaries() {}
