//! Village stories: text for a language model, from a source whose entropy is known.
//!
//! A language model cannot do better than the source's own probabilities. How far it is from them
//! is what it has not learnt, which no score on text of unknown origin can tell.

mod choices;
mod entropy;
mod story;
mod words;

use crate::GeneratedDataset;
use choices::Drawn;
use story::{go_on, open};

/// Stories of `train.txt`.
pub const TRAIN_STORIES: usize = 5000;
/// Stories of `validation.txt`.
pub const VALIDATION_STORIES: usize = 150;
/// Stories of `test.txt`.
pub const TEST_STORIES: usize = 350;

/// Entropy of the source, nats a story: the mean of `−ln p(story)` over all that it can tell.
pub fn entropy() -> f64 {
    entropy::entropy().0
}

/// A story, and how unlikely it was.
#[derive(Debug, Clone, PartialEq)]
struct Story {
    text: String,
    /// `−ln p` of the story, its end included.
    nats: f64,
}

/// Nats and bytes of some stories, line breaks between them not counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprisal {
    /// Number of stories.
    pub stories: usize,
    /// Sum of `−ln p(story)`, each story's end included.
    pub nats: f64,
    /// Sum of their lengths in bytes.
    pub bytes: usize,
}

impl Surprisal {
    fn of(stories: &[Story]) -> Self {
        Self {
            stories: stories.len(),
            nats: stories.iter().map(|story| story.nats).sum(),
            bytes: stories.iter().map(|story| story.text.len()).sum(),
        }
    }

    /// Bits for each byte: what a model of these texts cannot go below, but by luck.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }

    /// Nats for each story.
    pub fn nats_per_story(&self) -> f64 {
        self.nats / self.stories as f64
    }
}

/// The surprisal of `test.txt` of a seed under the source itself.
pub fn test_surprisal(seed: u64) -> Surprisal {
    Surprisal::of(&stories(seed)[TRAIN_STORIES + VALIDATION_STORIES..])
}

/// Makes the data set; the same bytes for the same seed, everywhere.
pub fn generate(seed: u64) -> GeneratedDataset {
    let stories = stories(seed);
    let (train, held_out) = stories.split_at(TRAIN_STORIES);
    let (validation, test) = held_out.split_at(VALIDATION_STORIES);
    GeneratedDataset {
        name: "village_stories",
        description: DESCRIPTION,
        files: vec![
            ("train.txt", paragraphs(train)),
            ("validation.txt", paragraphs(validation)),
            ("test.txt", paragraphs(test)),
            ("README.md", readme(seed, [train, validation, test].map(Surprisal::of)).into_bytes()),
        ],
    }
}

/// With the entropy of the source and the bits of the committed test file; a test recomputes both.
const DESCRIPTION: &str =
    "short stories of known entropy: 49.99 nats a story, 0.2284 bits a byte of the test file";

fn stories(seed: u64) -> Vec<Story> {
    let mut drawn = Drawn::new(seed);
    (0..TRAIN_STORIES + VALIDATION_STORIES + TEST_STORIES).map(|_| tell(&mut drawn)).collect()
}

fn tell(drawn: &mut Drawn) -> Story {
    let (mut text, frame, mut state) = open(drawn);
    while let Some((sentence, next)) = go_on(&frame, state, drawn) {
        text.push(' ');
        text.push_str(&sentence);
        state = next;
    }
    Story { text, nats: drawn.take_surprisal() }
}

/// A line each, with a blank one after it: line and paragraph are the same.
fn paragraphs(stories: &[Story]) -> Vec<u8> {
    stories.iter().flat_map(|story| [story.text.as_str(), "\n\n"]).collect::<String>().into_bytes()
}

fn readme(seed: u64, [train, validation, test]: [Surprisal; 3]) -> String {
    let (nats, sentences) = entropy::entropy();
    let row = |name: &str, of: Surprisal| {
        let bytes = of.bytes as f64 / of.stories as f64;
        format!(
            "| `{name}` | {} | {bytes:.1} | {:.3} | {:.4} |\n",
            of.stories,
            of.nats_per_story(),
            of.bits_per_byte()
        )
    };
    format!(
        "# Village stories\n\
         \n\
         Short stories in simple English, a paragraph each, from a source whose probabilities are known: what a\n\
         language model can reach at best is known, too.\n\
         \n\
         - **Entropy of the source: {nats:.3} nats a story**, computed from its probabilities, story's end\n  \
           included; a story has {sentences:.2} sentences on average\n\
         - the table has the mean of `-ln p(story)` under the source for the stories in the files: a model that has\n  \
           learnt the source and nothing else scores this, and no other does better but by luck\n\
         \n\
         | file | stories | bytes a story | nats a story | bits a byte |\n\
         |-|-|-|-|-|\n\
         {train}{validation}{test}\
         \n\
         Compare by bits a byte (`bits_per_byte` of a run) or by nats a story (loss x tokens / stories): perplexity\n\
         depends on the tokenizer. The line breaks between stories count for neither. A model predicts no first\n\
         token; every story begins with the word \"In\", so that nothing is missed if that is one token.\n\
         \n\
         - the opening names a place, two people with their trades, and how many of what they keep; all of it comes\n  \
           back later, and none of that is a choice: names, the place, the trade of whoever speaks\n\
         - pronouns follow the last subject, verbs suit what is kept, and its number is counted: \"On Friday she buys\n  \
           two, and now they have five hens.\"\n\
         - which kind of sentence comes next depends on the last one, and words are common or rare\n\
         - no text is made in two ways; stories are drawn independently, so that a test story may, very rarely, be\n  \
           one of the training stories\n\
         \n\
         Made by `src/village_stories/` (seed {seed}); no person wrote them. The licence is that of the repository.\n\
         \n\
         These files are generated; change the generator, then write them anew (`../README.md`).\n",
        train = row("train.txt", train),
        validation = row("validation.txt", validation),
        test = row("test.txt", test),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SEED;

    #[test]
    fn the_description_tells_the_entropy() {
        let known = format!(
            "short stories of known entropy: {:.2} nats a story, {:.4} bits a byte of the test file",
            entropy(),
            test_surprisal(SEED).bits_per_byte()
        );
        assert_eq!(generate(SEED).description, known);
    }

    #[test]
    fn every_story_begins_with_the_same_word_and_fits_on_a_line() {
        for story in stories(4) {
            assert!(story.text.starts_with("In "), "{}", story.text);
            assert!(story.text.is_ascii() && !story.text.contains('\n'));
            assert!((10.0..150.0).contains(&story.nats), "{}", story.nats);
        }
    }

    #[test]
    fn files_hold_a_paragraph_a_story() {
        let dataset = generate(5);
        let counts = [TRAIN_STORIES, VALIDATION_STORIES, TEST_STORIES];
        for ((name, contents), count) in dataset.files.iter().zip(counts) {
            let text = std::str::from_utf8(contents).unwrap();
            assert_eq!(text.split_terminator("\n\n").count(), count, "{name}");
        }
        assert_ne!(dataset.files[0], generate(6).files[0]);
    }
}
