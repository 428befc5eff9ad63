use super::*;
use crate::journal::Start;
use crate::prompt::PromptSettings;
use crate::rows::Columns;
use crate::rows::tests::rows;
use crate::teacher::{Reply, TeacherError};
use distill_eval::answers::Compare;
use serde_json::json;

/// Answers one after the other, and remembers the rows.
struct Scripted {
    asked: Vec<usize>,
    refuses: bool,
}

impl Teacher for Scripted {
    fn identity(&self) -> serde_json::Value {
        json!({})
    }

    fn ask(&mut self, asked: &Asked<'_>, heard: &mut dyn FnMut(Heard)) -> Result<(), TeacherError> {
        for index in 0..asked.len {
            if !(asked.may_begin)(index) {
                return Ok(());
            }
            self.asked.push((asked.prompt)(index).row);
            if self.refuses && index == 1 {
                heard(Heard::GivenUp { index });
                return Err(TeacherError::new("no", None));
            }
            let usage = Usage { input_tokens: 1, output_tokens: 1 };
            heard(Heard::Reply { index, reply: Reply { text: "a".into(), finish_reason: None, usage } });
        }
        Ok(())
    }
}

fn data(count: usize) -> Rows {
    let objects: Vec<_> = (0..count).map(|row| json!({"question": format!("q{row}")})).collect();
    rows(&objects, &Columns::default()).unwrap()
}

fn prompter() -> Prompter {
    let settings = PromptSettings { instructions: Some(String::new()), ..PromptSettings::default() };
    Prompter::new(settings, Vec::new(), Compare::Text)
}

const FREE: Limits = Limits { prices: None, limit_cost: None, max_tokens: 10 };

#[test]
fn examples_are_left_out_and_rows_can_be_few() {
    let (rows, prompter) = (data(6), prompter());
    let wanted = |left_out: &[usize], most| {
        Session::new(&rows, &prompter, left_out, most).map(|session| session.wanted().to_vec())
    };
    assert_eq!(wanted(&[1, 3], None).unwrap(), [0, 2, 4, 5]);
    assert_eq!(wanted(&[1, 3], Some(2)).unwrap(), [0, 2]);
    let error = wanted(&[0, 1, 2, 3, 4, 5], None).unwrap_err();
    assert_eq!(error.to_string(), "no row is left to ask: all 6 serve as examples");
}

#[test]
fn the_estimate_is_of_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, prompter) = (data(5), prompter());
    let session = Session::new(&rows, &prompter, &[], Some(2)).unwrap();
    let open = || Journal::open(&folder.path().join("out.jsonl"), &json!({}), "p", Start::Resume).unwrap();
    let mut journal = open();
    let usage = Usage { input_tokens: 2 * 5, output_tokens: 20 };
    assert_eq!(session.estimate(None, 10), Estimate { rows: 2, kept: 0, usage });
    assert_eq!(session.estimate(Some(&journal), 10), Estimate { rows: 2, kept: 0, usage });
    let mut teacher = Scripted { asked: Vec::new(), refuses: false };
    let stop = AtomicBool::new(false);
    session.ask(&mut teacher, &mut journal, &FREE, &stop, &mut |_| ()).unwrap();
    let none = Estimate { rows: 0, kept: 2, usage: Usage::default() };
    assert_eq!(session.estimate(Some(&journal), 10), none);
    // More rows than before: those that are kept count.
    let longer = Session::new(&rows, &prompter, &[], Some(4)).unwrap();
    longer.check(&journal).unwrap();
    let ended = longer.ask(&mut teacher, &mut journal, &FREE, &stop, &mut |_| ()).unwrap();
    assert_eq!((ended.missing, &teacher.asked[..]), (0, &[0, 1, 2, 3][..]));
}

#[test]
fn what_came_before_a_refusal_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, prompter) = (data(3), prompter());
    let session = Session::new(&rows, &prompter, &[], None).unwrap();
    let mut journal =
        Journal::open(&folder.path().join("out.jsonl"), &json!({}), "p", Start::Resume).unwrap();
    let mut teacher = Scripted { asked: Vec::new(), refuses: true };
    let stop = AtomicBool::new(false);
    let error = session.ask(&mut teacher, &mut journal, &FREE, &stop, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "no");
    assert_eq!(journal.replies().keys().copied().collect::<Vec<_>>(), [0]);
}

#[test]
fn progress_counts_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, prompter) = (data(3), prompter());
    let session = Session::new(&rows, &prompter, &[], None).unwrap();
    let mut journal =
        Journal::open(&folder.path().join("out.jsonl"), &json!({}), "p", Start::Resume).unwrap();
    let mut teacher = Scripted { asked: Vec::new(), refuses: false };
    for expected in [vec![1], vec![2, 3]] {
        let stop = AtomicBool::new(false);
        let mut seen = Vec::new();
        let interrupts = expected == [1];
        session
            .ask(&mut teacher, &mut journal, &FREE, &stop, &mut |event| {
                if let Event::Kept { done, usage, .. } = event {
                    assert_eq!(usage.input_tokens, done as u64);
                    seen.push(done);
                    stop.store(interrupts, Ordering::SeqCst);
                }
            })
            .unwrap();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_limit_needs_prices() {
    let prices = Some(Prices::new(1.0, 1.0).unwrap());
    assert!(Limits { limit_cost: Some(1.0), prices, ..FREE }.check().is_ok());
    let error = Limits { limit_cost: Some(1.0), ..FREE }.check().unwrap_err();
    assert_eq!(error.to_string(), "`limit-cost` needs prices");
    let error = Limits { limit_cost: Some(-1.0), prices, ..FREE }.check().unwrap_err();
    assert_eq!(error.to_string(), "`limit-cost` must be a number above 0, found `-1`");
}
