//! Word problems: arithmetic in plain English, whose solution is known step by step.
//!
//! What happens is drawn first, in numbers; telling it in words and solving it are two readings of
//! that, so that the steps are right by construction and never depend on the wording.

mod problem;
mod shortcuts;
mod solution;
mod wording;
mod words;

use crate::GeneratedDataset;
use crate::dice::Dice;
use problem::Problem;
use serde::{Serialize, Serializer};
pub use shortcuts::Shortcut;
use std::collections::HashSet;
use words::{PEOPLE, Person};

/// Rows of `train.jsonl`.
pub const TRAIN_ROWS: usize = 8000;
/// Rows of `validation.jsonl`.
pub const VALIDATION_ROWS: usize = 400;
/// Rows of `test.jsonl`.
pub const TEST_ROWS: usize = 1000;

/// Problems have from 2 to 4 sums, each number as often.
const SUMS: [usize; 3] = [2, 3, 4];

/// A problem with its solution, as a line of the files has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    question: String,
    rationale: String,
    #[serde(serialize_with = "as_text")]
    answer: usize,
    expression: String,
}

/// Labels are texts.
fn as_text<S: Serializer>(number: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Makes the data set; the same bytes for the same seed, everywhere.
pub fn generate(seed: u64) -> GeneratedDataset {
    let rows = rows(seed);
    let [train, validation, test] = splits(&rows);
    GeneratedDataset {
        name: "word_problems",
        description: "arithmetic word problems of 2 to 4 steps, with answer and worked steps",
        files: vec![
            ("train.jsonl", json_lines(train)),
            ("validation.jsonl", json_lines(validation)),
            ("test.jsonl", json_lines(test)),
            ("README.md", readme(seed, &rows).into_bytes()),
        ],
    }
}

/// How far one gets on `test.jsonl` of a seed without understanding.
pub fn shortcuts(seed: u64) -> Vec<Shortcut> {
    let rows = rows(seed);
    let [train, _, test] = splits(&rows);
    shortcuts::shortcuts(train, test)
}

fn splits(rows: &[Row]) -> [&[Row]; 3] {
    let (train, held_out) = rows.split_at(TRAIN_ROWS);
    let (validation, test) = held_out.split_at(VALIDATION_ROWS);
    [train, validation, test]
}

/// Problems of which no two have the same expression, so that no test row's numbers in their roles
/// are known from training.
fn rows(seed: u64) -> Vec<Row> {
    let mut dice = Dice::new(seed);
    let mut seen = HashSet::new();
    let count = TRAIN_ROWS + VALIDATION_ROWS + TEST_ROWS;
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        let sums = SUMS[dice.below(SUMS.len())];
        // Drawn again with as many sums: there are fewest problems of two.
        while rows.len() < count {
            let row = row(sums, &mut dice);
            if seen.insert(row.expression.clone()) {
                rows.push(row);
                break;
            }
        }
    }
    rows
}

fn row(sums: usize, dice: &mut Dice) -> Row {
    let problem = Problem::draw(sums, dice);
    let people = people(dice);
    let question = wording::tell(&problem, &people, dice);
    let solution = solution::solve(&problem, &people);
    Row { question, rationale: solution.rationale, answer: solution.answer, expression: solution.expression }
}

/// Everybody, in an order of chance.
fn people(dice: &mut Dice) -> Vec<&'static Person> {
    let mut people: Vec<&Person> = PEOPLE.iter().collect();
    for last in (1..people.len()).rev() {
        people.swap(last, dice.below(last + 1));
    }
    people
}

fn json_lines(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        // Neither a vector nor a row of strings can fail to be written.
        serde_json::to_writer(&mut bytes, row).expect("a row of strings is valid JSON");
        bytes.push(b'\n');
    }
    bytes
}

/// Of the sums of some rows, the fraction with each sign.
fn signs(rows: &[Row]) -> [(char, f64); 4] {
    let counts = ['+', '-', '*', '/'].map(|sign| {
        let count: usize = rows.iter().map(|row| row.rationale.matches(sign).count()).sum();
        (sign, count as f64)
    });
    let total: f64 = counts.iter().map(|(_, count)| count).sum();
    counts.map(|(sign, count)| (sign, count / total))
}

/// Different sums in the steps of some rows: `14 + 9 = 23` is one.
fn sums(rows: &[Row]) -> HashSet<&str> {
    let sentences = rows.iter().flat_map(|row| row.rationale.split(['.', ':']));
    sentences.map(str::trim).filter(|sentence| sentence.contains('=')).collect()
}

fn readme(seed: u64, rows: &[Row]) -> String {
    let [train, validation, test] = splits(rows);
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let signs = signs(rows).map(|(sign, share)| format!("`{sign}` {}", percent(share)));
    let (known, asked) = (sums(train), sums(test));
    let shortcuts: String = shortcuts::shortcuts(train, test)
        .into_iter()
        .map(|shortcut| format!("| {} | {} |\n", shortcut.name, percent(shortcut.accuracy)))
        .collect();
    let example = &train[0];
    format!(
        "# Word problems\n\
         \n\
         Arithmetic in plain English, whose solution is known step by step: answers to learn from, and rationales.\n\
         \n\
         - `train.jsonl`: {train} rows, `validation.jsonl`: {validation}, `test.jsonl`: {test}; JSON lines with `question`,\n  \
           `rationale` (the steps), `answer` (a number as text) and `expression`\n\
         - problems have 2, 3 or 4 sums, each as often; sums by sign: {signs}\n\
         - numbers: amounts from 2 to 99, at first to 50, changes and differences to 30, everything whole\n\
         - no two problems have the same expression, within a file or between files\n\
         \n\
         > {question}\n\
         >\n\
         > {rationale} (`{expression}`, answer {answer})\n\
         \n\
         The kinds are those in which Riley, Greeno and Heller (1983) sort the word problems of the first school years,\n\
         with products and quotients beside them:\n\
         \n\
         - change: somebody gets or loses some, a bag at a time or half of them; the result is asked for\n\
         - compare: somebody else has 6 more, or half as many, and the problem goes on about that person; three in ten\n  \
           are put the other way round (\"Ann has 6 fewer than Ben\", Ben's are sought), where the word \"fewer\" asks for a\n  \
           sum and misleads pupils, too (Lewis and Mayer 1987)\n\
         - combine: how many two people have together\n\
         - equal groups: bags with as many in each, shares as large as each other\n\
         \n\
         One problem in seven holds a number that has nothing to do with the question. Problems that ask for the\n\
         beginning or for a change are not among them: steps follow the story.\n\
         \n\
         ## What does not suffice\n\
         \n\
         | on the test rows | right |\n\
         |-|-|\n\
         {shortcuts}\
         \n\
         ## Numbers and tokens\n\
         \n\
         Numbers are written as people write them, in digits. How a tokenizer cuts them decides what there is to learn:\n\
         \n\
         - a vocabulary that is large enough for every word here also has a token for each number to 99, and a model\n  \
           from scratch has to learn {known} different sums one by one; {unknown} of the {asked} in the test\n  \
           rows are not among them\n\
         - digit by digit, as Llama's and SmolLM2's tokenizers have it, there are ten symbols and a carry\n\
         \n\
         `[tokenizer] train = {{ kind = \"gpt2\", vocab_size = 400 }}` does the second: the pairs of letters in these words\n\
         are commoner than any pair of digits, so that they are joined first. That costs about 100 tokens a problem with\n\
         its steps, where whole numbers take 70.\n\
         \n\
         Made by `src/word_problems/` (seed {seed}); no person wrote them. The licence is that of the repository.\n\
         \n\
         These files are generated; change the generator, then write them anew (`../README.md`).\n",
        train = train.len(),
        validation = validation.len(),
        test = test.len(),
        signs = signs.join(", "),
        question = example.question,
        rationale = example.rationale,
        expression = example.expression,
        answer = example.answer,
        known = known.len(),
        unknown = asked.difference(&known).count(),
        asked = asked.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: usize) -> Vec<Row> {
        let mut dice = Dice::new(8);
        (0..count).map(|drawn| row(SUMS[drawn % SUMS.len()], &mut dice)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        assert_eq!(generate(5), generate(5));
        assert_ne!(generate(5).files[0], generate(6).files[0]);
    }

    #[test]
    fn questions_are_whole_sentences_that_ask_at_the_end() {
        for row in some(3000) {
            let question = &row.question;
            assert!(question.is_ascii() && !question.contains(['{', '}', '"', '\n']), "{question}");
            assert_eq!((question.find('?'), question.trim()), (Some(question.len() - 1), question.as_str()));
            for sentence in question.split_inclusive(['.', '?']) {
                let first = sentence.trim_start().chars().next();
                assert!(first.is_some_and(|c| c.is_ascii_uppercase() || c.is_ascii_digit()), "{question}");
            }
        }
    }

    #[test]
    fn pronouns_stand_for_nobody_else() {
        let he_or_she = |name: &str| PEOPLE.iter().find(|person| person.name == name).map(|person| person.he);
        let mut pronouns = 0;
        for row in some(3000) {
            // The names of the last sentence that has some.
            let mut named: Vec<&str> = Vec::new();
            for sentence in row.question.split_inclusive(". ") {
                let words: Vec<&str> = sentence.split(|c: char| !c.is_ascii_alphabetic()).collect();
                let names: Vec<&str> =
                    words.iter().copied().filter(|word| he_or_she(word).is_some()).collect();
                let pronoun =
                    words.iter().map(|word| word.to_lowercase()).find(|word| word == "he" || word == "she");
                if let Some(pronoun) = pronoun {
                    pronouns += 1;
                    assert!(names.is_empty(), "{}", row.question);
                    let fitting = named.iter().filter(|name| he_or_she(name) == Some(pronoun.as_str()));
                    assert_eq!(fitting.count(), 1, "{}", row.question);
                }
                if !names.is_empty() {
                    named = names;
                }
            }
        }
        assert!(pronouns > 1000, "{pronouns}");
    }

    #[test]
    fn sums_are_counted_once() {
        let rows = some(500);
        let of = |rationale: &str| Row { rationale: rationale.to_owned(), ..rows[0].clone() };
        let two = [of("Ann has 3. 2 more: 3 + 2 = 5. 2 * 2 = 4."), of("2 more: 3 + 2 = 5.")];
        assert_eq!(sums(&two), HashSet::from(["3 + 2 = 5", "2 * 2 = 4"]));
        assert_eq!(signs(&two).map(|(_, share)| share), [2.0 / 3.0, 0.0, 1.0 / 3.0, 0.0]);
    }
}
