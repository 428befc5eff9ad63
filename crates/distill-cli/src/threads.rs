//! How many threads work.

use crate::failure::Failure;
use std::num::NonZeroUsize;

/// Gives the process so many threads, those of the command line before those of the recipe; without either, one for
/// each core. To be called once, by the thread that will train or predict, before any work.
///
/// That thread is one of them: an operation begins where it was called, and need not wake another thread first.
///
/// # Errors
/// The system gives no threads.
pub fn set(asked: Option<NonZeroUsize>, recipe: Option<usize>) -> Result<(), Failure> {
    // 0 is rayon's word for one each core.
    let threads = asked.map(NonZeroUsize::get).or(recipe).unwrap_or(0);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .build_global()
        .map_err(|error| Failure::other(format!("cannot start the worker threads: {error}")))
}
