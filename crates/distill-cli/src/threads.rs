//! How many threads work.

use crate::failure::Failure;
use std::num::NonZeroUsize;

/// Gives the process so many worker threads, those of the command line before those of the recipe; without either,
/// one for each core. To be called once, before any work.
///
/// # Errors
/// The system gives no threads.
pub fn set(asked: Option<NonZeroUsize>, recipe: Option<usize>) -> Result<(), Failure> {
    let Some(threads) = asked.map(NonZeroUsize::get).or(recipe) else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Failure::other(format!("cannot start {threads} worker threads: {error}")))
}
