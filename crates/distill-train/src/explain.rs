//! Held-out questions answered and explained by the model: choices weighed, answers and rationales written.

use crate::checkpoint::write_file;
use crate::error::TrainError;
use crate::rows::Rows;
use crate::writing::{Writing, in_batches};
use distill_data::tokenizer::Tokenizer;
use distill_data::{Layout, RationaleRow, RowEncoder, RowParts};
use distill_eval::answers::Compare;
use distill_eval::{Choice, ExplainedAnswer};
use distill_generate::log_likelihoods;
use distill_models::Model;
use distill_recipe::{RationaleMode, RationaleTable};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// How questions are answered.
pub(crate) struct Explaining<'a> {
    /// How texts are written.
    pub(crate) writing: Writing<'a>,
    pub(crate) max_length: usize,
    pub(crate) layout: Layout,
    pub(crate) table: &'a RationaleTable,
    /// Whether answers are written, where they can be weighed instead.
    pub(crate) write: bool,
    /// How many rationales are written after prompts of their own.
    pub(crate) rationales: usize,
}

/// A question with its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    row: usize,
    prompt: String,
    #[serde(flatten)]
    pub(crate) answer: ExplainedAnswer,
}

impl Explaining<'_> {
    /// Answers these rows, of which `positions` says the places in `rows`, ascending; in their order.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`], data that can no longer be read, prompts that are as long as the model reads.
    pub(crate) fn answer(
        &self,
        model: &dyn Model,
        rows: &Rows,
        positions: &[usize],
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Explained>, TrainError> {
        let model = model.eval_copy();
        let questions = questions(rows, positions)?;
        let encoder = RowEncoder::new(self.writing.tokenizer, self.layout, self.max_length)?;
        let mut prompts = Vec::with_capacity(questions.len());
        for (_, question) in &questions {
            prompts.push(encoder.prompt(&RowParts::Rationale(Box::new(question.clone())))?.ids);
        }
        let together = self.table.mode == RationaleMode::SingleTask;
        let weighed = questions.iter().any(|(_, question)| !question.choices.is_empty());
        let writes = together || self.write || !weighed;
        // Where answers are written and choices weighed a row is done after both.
        let (mut done, passes) = (0, u64::from(writes) + u64::from(weighed));
        let mut told = |rows: usize| {
            done += rows as u64;
            progress(done / passes);
        };
        let written = if writes {
            Some(self.writing.texts(model.as_ref(), &prompts, interrupt, &mut told)?)
        } else {
            None
        };
        // What the model writes before its answer.
        let mut before = vec![String::new(); prompts.len()];
        let mut answers = Vec::with_capacity(prompts.len());
        for (at, (row, question)) in questions.iter().enumerate() {
            let text = written.as_ref().map(|texts| texts[at].as_str());
            let (written, rationale) = match text {
                Some(text) if together => {
                    let (rationale, answer) = apart(text, &self.table.answer_marker);
                    before[at] = format!("{rationale}{}", self.table.answer_marker);
                    (Some(answer.to_owned()), Some(rationale.to_owned()))
                }
                text => (text.map(|text| text.trim().to_owned()), None),
            };
            let gold = question.gold.clone();
            let answer = ExplainedAnswer { gold, written, choices: Vec::new(), rationale };
            answers.push(Explained { row: *row, prompt: question.prompt.trim_end().to_owned(), answer });
        }
        if weighed {
            self.weigh(model.as_ref(), &questions, prompts, before, &mut answers, interrupt, &mut told)?;
        }
        self.explain(model.as_ref(), &encoder, &questions, &mut answers, interrupt)?;
        Ok(answers)
    }

    /// How likely each choice is, with the end of the text after it.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of one pass over the questions, and used nowhere else"
    )]
    fn weigh(
        &self,
        model: &dyn Model,
        questions: &[(usize, RationaleRow)],
        mut prompts: Vec<Vec<u32>>,
        before: Vec<String>,
        answers: &mut [Explained],
        interrupt: &AtomicBool,
        told: &mut dyn FnMut(usize),
    ) -> Result<(), TrainError> {
        let eos = self.writing.tokenizer.eos_token_id();
        let mut continuations: Vec<Vec<Vec<u32>>> = Vec::with_capacity(prompts.len());
        for ((prompt, before), (_, question)) in prompts.iter_mut().zip(before).zip(questions) {
            let (before, mut choices) = tokens_after(self.writing.tokenizer, &before, &question.choices)?;
            for choice in &mut choices {
                choice.extend(eos);
            }
            let with = |start: &[u32], choice: &[u32]| [start, choice].concat();
            // What is written before an answer is a decoder's prompt as well; an encoder-decoder must write it, and its
            // likelihood by itself, the first of the continuations, is taken off again.
            let start: &[u32] = match self.layout {
                Layout::Decoder => {
                    prompt.extend(&before);
                    &[]
                }
                Layout::EncoderDecoder => &before,
            };
            let all = std::iter::once(start.to_vec()).chain(choices.iter().map(|choice| with(start, choice)));
            continuations.push(all.collect());
        }
        in_batches(&prompts, self.writing.batch_size, interrupt, &mut |batch| {
            let chosen: Vec<Vec<u32>> = batch.iter().map(|&at| prompts[at].clone()).collect();
            let given: Vec<Vec<Vec<u32>>> = batch.iter().map(|&at| continuations[at].clone()).collect();
            let mut state = self.writing.rows(model);
            let found =
                log_likelihoods(&mut state, &chosen, &given).map_err(|error| TrainError::Unusable {
                    message: error.to_string(),
                    help: "shorten the prompts, or look at the model's weights".to_owned(),
                })?;
            for (&at, sums) in batch.iter().zip(found) {
                let (first, sums) =
                    sums.split_first().map_or((0.0, [].as_slice()), |(first, rest)| (*first, rest));
                let start = continuations[at].first().map_or(0, Vec::len);
                let choices = questions[at].1.choices.iter().zip(sums).zip(continuations[at].iter().skip(1));
                answers[at].answer.choices = choices
                    .map(|((text, sum), tokens)| Choice {
                        text: text.clone(),
                        log_likelihood: sum - first,
                        tokens: tokens.len() - start,
                    })
                    .collect();
            }
            told(batch.len());
            Ok(())
        })
    }

    /// Rationales after prompts of their own.
    fn explain(
        &self,
        model: &dyn Model,
        encoder: &RowEncoder<'_>,
        questions: &[(usize, RationaleRow)],
        answers: &mut [Explained],
        interrupt: &AtomicBool,
    ) -> Result<(), TrainError> {
        if self.table.mode != RationaleMode::MultiTask {
            return Ok(());
        }
        let (mut places, mut prompts) = (Vec::new(), Vec::new());
        for (at, (_, question)) in questions.iter().enumerate().take(self.rationales) {
            if let Some(prompt) = &question.rationale_prompt {
                let row = RowParts::Pair { prompt: prompt.clone(), targets: Vec::new() };
                places.push(at);
                prompts.push(encoder.prompt(&row)?.ids);
            }
        }
        let texts = self.writing.texts(model, &prompts, interrupt, &mut |_| {})?;
        for (at, text) in places.into_iter().zip(texts) {
            answers[at].answer.rationale = Some(text.trim().to_owned());
        }
        Ok(())
    }
}

/// The tokens of a text, and those of each of its ends after it, as they are where both are one text: a space between them
/// may belong to the first word of the end.
fn tokens_after(
    tokenizer: &Tokenizer,
    text: &str,
    ends: &[String],
) -> Result<(Vec<u32>, Vec<Vec<u32>>), TrainError> {
    let start = tokenizer.encode_text(text.trim_end())?;
    let space = &text[text.trim_end().len()..];
    let after = |end: &String| {
        let whole = tokenizer.encode_text(&format!("{text}{end}"))?;
        match whole.strip_prefix(start.as_slice()) {
            Some(after) => Ok(after.to_vec()),
            None => Ok(tokenizer.encode_text(&format!("{space}{end}"))?),
        }
    };
    let ends = ends.iter().map(after).collect::<Result<_, TrainError>>()?;
    Ok((start, ends))
}

/// These rows with their numbers.
fn questions(rows: &Rows, positions: &[usize]) -> Result<Vec<(usize, RationaleRow)>, TrainError> {
    let (mut found, mut position) = (Vec::with_capacity(positions.len()), 0);
    let mut wanted = positions.iter().peekable();
    rows.for_each_row(&mut |row, parts| {
        if let (Some(_), RowParts::Rationale(question)) = (wanted.next_if_eq(&&position), parts) {
            found.push((row, question.as_ref().clone()));
        }
        position += 1;
        Ok(())
    })?;
    Ok(found)
}

/// The rationale and the answer of a text that has both; a text without the marker is all rationale.
fn apart<'t>(text: &'t str, marker: &str) -> (&'t str, &'t str) {
    match text.rsplit_once(marker.trim()) {
        Some((rationale, answer)) => (rationale.trim(), answer.trim()),
        None => (text.trim(), ""),
    }
}

/// A line of `predictions.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    explained: &'a Explained,
    prediction: &'a str,
    right: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    contradicts: Option<bool>,
}

/// Writes a JSON line for each answer.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn write_explained(
    path: &Path,
    answers: &[Explained],
    compare: Compare,
) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    for explained in answers {
        let answer = &explained.answer;
        let line = Line {
            explained,
            prediction: answer.answer(),
            right: answer.is_right(compare),
            contradicts: answer.contradicts(compare),
        };
        serde_json::to_writer(&mut bytes, &line).map_err(|error| TrainError::io(path)(error.into()))?;
        bytes.push(b'\n');
    }
    write_file(path, &bytes)
}

/// Most answers of a kind in the report for people.
const SHOWN: usize = 20;

/// Writes the answers that have a rationale as Markdown: those that it contradicts, wrong ones, right ones.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn write_report(
    path: &Path,
    name: &str,
    answers: &[Explained],
    compare: Compare,
) -> Result<(), TrainError> {
    let explained: Vec<&Explained> = answers.iter().filter(|one| one.answer.rationale.is_some()).collect();
    let contradicts = |one: &&&Explained| one.answer.contradicts(compare) == Some(true);
    let right = |one: &&&Explained| one.answer.is_right(compare);
    let count = |these: &dyn Fn(&&&Explained) -> bool| explained.iter().filter(these).count();
    let mut text = format!("# Answers and rationales of `{name}`\n\n");
    let _ = writeln!(
        text,
        "{} answers, {} of them right; {} with a rationale, of which {} speak for another answer than the one given.",
        answers.len(),
        answers.iter().filter(|one| one.answer.is_right(compare)).count(),
        explained.len(),
        count(&contradicts)
    );
    type Kind<'k> = (&'k str, &'k dyn Fn(&&&Explained) -> bool);
    let kinds: [Kind<'_>; 3] = [
        ("The rationale contradicts the answer", &contradicts),
        ("Wrong answers", &|one| !contradicts(one) && !right(one)),
        ("Right answers", &|one| !contradicts(one) && right(one)),
    ];
    for (title, these) in kinds {
        let all = count(these);
        if all == 0 {
            continue;
        }
        let _ = writeln!(text, "\n## {title}: {all}\n");
        if all > SHOWN {
            let _ = writeln!(text, "The first {SHOWN}; all are in `predictions.jsonl`.\n");
        }
        text.push_str("| row | question | label | prediction | rationale |\n|---|---|---|---|---|\n");
        for one in explained.iter().filter(these).take(SHOWN) {
            let answer = &one.answer;
            let rationale = answer.rationale.as_deref().unwrap_or_default();
            let cells = [one.prompt.as_str(), &answer.gold, answer.answer(), rationale].map(cell);
            let _ = writeln!(text, "| {} | {} |", one.row, cells.join(" | "));
        }
    }
    write_file(path, text.as_bytes())
}

/// A text in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_data::tokenizer::{TokenizerKind, TrainConfig};

    #[test]
    fn the_last_marker_parts_rationale_and_answer() {
        let marker = "\nAnswer: ";
        assert_eq!(apart("It burns.\nAnswer: sun\n", marker), ("It burns.", "sun"));
        assert_eq!(apart("Answer: sun", marker), ("", "sun"));
        assert_eq!(apart("Answer: no.\nAnswer: sun", marker), ("Answer: no.", "sun"));
        assert_eq!(apart(" It burns ", marker), ("It burns", ""));
    }

    #[test]
    fn an_answer_after_its_steps_has_the_tokens_that_were_learnt() {
        let text = "so it is hot\nAnswer: ";
        let answers = ["sun", "hot sun", "it"].map(str::to_owned);
        let corpus: Vec<String> =
            answers.iter().cycle().take(12).map(|answer| format!("{text}{answer}")).collect();
        for kind in [TokenizerKind::Gpt2, TokenizerKind::WordPiece, TokenizerKind::Bpe] {
            let config = TrainConfig { kind, vocab_size: 330, min_frequency: 1, lowercase: false };
            let tokenizer = Tokenizer::train(&corpus, &config).expect("trains");
            let (before, after) = tokens_after(&tokenizer, text, &answers).expect("tokens");
            for (answer, after) in answers.iter().zip(after) {
                let whole = tokenizer.encode_text(&format!("{text}{answer}")).expect("tokens");
                assert_eq!([before.clone(), after].concat(), whole, "{kind:?} {answer}");
            }
            let (before, alone) = tokens_after(&tokenizer, "", &answers).expect("tokens");
            assert!(before.is_empty());
            for (answer, alone) in answers.iter().zip(alone) {
                assert_eq!(alone, tokenizer.encode_text(answer).expect("tokens"));
            }
        }
        // What is at stake: by itself a space is a token that no text has here.
        let config =
            TrainConfig { kind: TokenizerKind::Gpt2, vocab_size: 330, min_frequency: 1, lowercase: false };
        let tokenizer = Tokenizer::train(&corpus, &config).expect("trains");
        let [start, whole] = [text, &corpus[0]].map(|text| tokenizer.encode_text(text).expect("tokens"));
        assert!(!whole.starts_with(&start));
    }

    #[test]
    fn the_report_shows_contradictions_first() {
        let one = |row, gold: &str, written: &str, rationale: &str| Explained {
            row,
            prompt: "What is 3 | 4?\n".to_owned(),
            answer: ExplainedAnswer {
                gold: gold.to_owned(),
                written: Some(written.to_owned()),
                choices: Vec::new(),
                rationale: Some(rationale.to_owned()),
            },
        };
        let answers =
            [one(3, "7", "7", "3 + 4 = 7"), one(4, "7", "8", "3 + 4 = 7"), one(5, "7", "8", "3 + 5 = 8")];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rationales.md");
        write_report(&path, "a", &answers, Compare::Expression).expect("writes");
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(text.contains("3 answers, 1 of them right; 3 with a rationale, of which 1 speak"), "{text}");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in {text}"));
        assert!(place("| 4 | What is 3 \\| 4? | 7 | 8 | 3 + 4 = 7 |") < place("## Wrong answers: 1"));
        assert!(place("| 5 |") < place("## Right answers: 1"));
        let lines = folder.path().join("predictions.jsonl");
        write_explained(&lines, &answers, Compare::Expression).expect("writes");
        let text = std::fs::read_to_string(&lines).expect("reads");
        let line: serde_json::Value =
            serde_json::from_str(text.lines().nth(1).expect("a line")).expect("JSON");
        assert_eq!(line["contradicts"], true);
        assert_eq!(
            (&line["right"], &line["prediction"], &line["row"]),
            (&false.into(), &"8".into(), &4.into())
        );
    }
}
