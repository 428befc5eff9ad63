//! Asks for what is missing, and keeps what comes.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cost::{Estimate, Prices, Usage};
use crate::error::RationaleError;
use crate::journal::Journal;
use crate::prompt::Prompter;
use crate::rows::{Row, Rows};
use crate::teacher::{Asked, Heard, Teacher};

/// The rows that are to be asked, and their prompts.
#[derive(Debug)]
pub struct Session<'a> {
    rows: &'a [Row],
    prompter: &'a Prompter,
    /// Numbers of the rows, ascending.
    wanted: Vec<usize>,
}

/// When to stop, and what a reply can cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What tokens cost, if that is known.
    pub prices: Option<Prices>,
    /// Most that all replies may cost, those from before included; needs prices.
    pub limit_cost: Option<f64>,
    /// Most tokens of a reply.
    pub max_tokens: u32,
}

impl Limits {
    /// Checks that the limit can be kept to.
    ///
    /// # Errors
    /// A limit without prices, or one that is no positive number.
    pub fn check(&self) -> Result<(), RationaleError> {
        match (self.limit_cost, self.prices) {
            (Some(limit), _) if !(limit.is_finite() && limit > 0.0) => Err(RationaleError::Range {
                name: "limit-cost",
                allowed: "a number above 0",
                found: limit.to_string(),
            }),
            (Some(_), None) => Err(RationaleError::Needs {
                setting: "`limit-cost`",
                needed: "prices",
                help: "give those of a million tokens by `--price-input` and `--price-output`",
            }),
            _ => Ok(()),
        }
    }

    /// What a usage costs; 0 without prices.
    pub fn cost(&self, usage: Usage) -> f64 {
        self.prices.map_or(0.0, |prices| prices.cost(usage))
    }
}

/// What happens on the way; `row` is a row's number, from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A reply came and is kept.
    Kept {
        /// Its row.
        row: usize,
        /// Replies so far, those from before included.
        done: usize,
        /// Tokens of all of them.
        usage: Usage,
    },
    /// A request is tried again.
    Retry {
        /// Its row.
        row: usize,
        /// What went wrong.
        reason: String,
        /// Seconds until then.
        wait: f64,
    },
    /// A row was given up.
    Failed {
        /// The row.
        row: usize,
        /// What went wrong.
        reason: String,
    },
}

/// How asking ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Rows that were given up, with the reason.
    pub failed: Vec<(usize, String)>,
    /// Rows that have no reply, those that failed included.
    pub missing: usize,
    /// Why rows are missing that did not fail.
    pub stopped: Option<Stopped>,
}

/// Why asking ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody asked to stop.
    Interrupted,
    /// The next reply could have cost more than is allowed.
    CostLimit,
}

/// What was spent and what could be.
#[derive(Debug, Default)]
struct Budget {
    spent: f64,
    reserved: f64,
}

impl<'a> Session<'a> {
    /// All rows but `left_out` (examples, say, in ascending order), the first `max_rows` of them if that is given.
    ///
    /// # Errors
    /// [`RationaleError::NoRows`] if none is left.
    pub fn new(
        rows: &'a Rows,
        prompter: &'a Prompter,
        left_out: &[usize],
        max_rows: Option<usize>,
    ) -> Result<Self, RationaleError> {
        let all = (0..rows.rows.len()).filter(|row| left_out.binary_search(row).is_err());
        let wanted: Vec<usize> = all.take(max_rows.unwrap_or(usize::MAX)).collect();
        if wanted.is_empty() {
            return Err(RationaleError::NoRows { rows: rows.rows.len() });
        }
        Ok(Self { rows: &rows.rows, prompter, wanted })
    }

    /// Numbers of the rows that are to have a reply, ascending.
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// The rows, by their number.
    pub fn rows(&self) -> &'a [Row] {
        self.rows
    }

    /// Checks that what is kept replies to the rows as they are.
    ///
    /// # Errors
    /// [`RationaleError::Changed`] if not.
    pub fn check(&self, journal: &Journal) -> Result<(), RationaleError> {
        journal.check(|row| Some(self.prompter.prompt(row, self.rows.get(row)?).content.digest()))
    }

    /// What is to be expected; without a journal, of all rows.
    pub fn estimate(&self, journal: Option<&Journal>, max_tokens: u32) -> Estimate {
        let missing = journal.map_or_else(|| self.wanted.clone(), |journal| self.missing(journal));
        Estimate {
            rows: missing.len(),
            kept: self.wanted.len() - missing.len(),
            usage: missing.iter().map(|row| self.worst(*row, max_tokens)).sum(),
        }
    }

    /// Asks for every row that has no reply yet.
    ///
    /// `stop` ends it: no further row is begun, and those that are under way are waited for.
    ///
    /// # Errors
    /// What the teacher refuses, and replies that cannot be kept. What was kept before stays.
    pub fn ask(
        &self,
        teacher: &mut dyn Teacher,
        journal: &mut Journal,
        limits: &Limits,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Ended, RationaleError> {
        limits.check()?;
        let missing = self.missing(journal);
        let worst = |index: usize| limits.cost(self.worst(missing[index], limits.max_tokens));
        let budget = Mutex::new(Budget { spent: limits.cost(journal.usage()), reserved: 0.0 });
        let locked = || budget.lock().unwrap_or_else(PoisonError::into_inner);
        let (broken, over_limit) = (AtomicBool::new(false), AtomicBool::new(false));
        let may_begin = |index: usize| {
            if stop.load(Ordering::SeqCst) || broken.load(Ordering::SeqCst) {
                return false;
            }
            let (mut budget, worst) = (locked(), worst(index));
            if limits.limit_cost.is_some_and(|limit| budget.spent + budget.reserved + worst > limit) {
                over_limit.store(true, Ordering::SeqCst);
                return false;
            }
            budget.reserved += worst;
            true
        };
        let asked = Asked {
            len: missing.len(),
            prompt: &|index| self.prompter.prompt(missing[index], &self.rows[missing[index]]),
            may_begin: &may_begin,
            hurry: &|| stop.load(Ordering::SeqCst) || broken.load(Ordering::SeqCst),
        };
        let (mut failed, mut fault) = (Vec::new(), None);
        let (mut done, mut usage) = (self.wanted.len() - missing.len(), journal.usage());
        let asked = teacher.ask(&asked, &mut |heard| match heard {
            Heard::Reply { index, reply } => {
                let row = missing[index];
                usage += reply.usage;
                {
                    let mut budget = locked();
                    budget.reserved -= worst(index);
                    budget.spent += limits.cost(reply.usage);
                }
                let digest = self.prompter.prompt(row, &self.rows[row]).content.digest();
                match journal.keep(row, digest, reply) {
                    Ok(()) => {
                        done += 1;
                        on_event(Event::Kept { row, done, usage });
                    }
                    Err(error) => {
                        broken.store(true, Ordering::SeqCst);
                        fault.get_or_insert(error);
                    }
                }
            }
            Heard::Retry { index, reason, wait } => {
                on_event(Event::Retry { row: missing[index], reason, wait })
            }
            Heard::Failed { index, reason } => {
                locked().reserved -= worst(index);
                failed.push((missing[index], reason.clone()));
                on_event(Event::Failed { row: missing[index], reason });
            }
            Heard::GivenUp { index } => locked().reserved -= worst(index),
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        asked?;
        failed.sort();
        let missing = self.wanted.len() - done;
        let stopped = if missing == failed.len() {
            None
        } else if stop.load(Ordering::SeqCst) {
            Some(Stopped::Interrupted)
        } else {
            over_limit.load(Ordering::SeqCst).then_some(Stopped::CostLimit)
        };
        Ok(Ended { failed, missing, stopped })
    }

    fn missing(&self, journal: &Journal) -> Vec<usize> {
        self.wanted.iter().copied().filter(|row| !journal.replies().contains_key(row)).collect()
    }

    fn worst(&self, row: usize, max_tokens: u32) -> Usage {
        let prompt = self.prompter.prompt(row, &self.rows[row]);
        Usage { input_tokens: prompt.content.estimated_tokens(), output_tokens: max_tokens.into() }
    }
}

#[cfg(test)]
mod tests;
