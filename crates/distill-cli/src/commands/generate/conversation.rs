//! `distill generate --chat` on a terminal: lines of a user, answers that grow.

use crate::failure::Failure;
use crate::output::print;
use crate::terminal::Paint;
use distill_data::{Message, Role};
use distill_generate::GenerationConfig;
use distill_train::{Generator, Prompt};
use std::io::{self, BufRead as _};

/// Talks until the user ends the input (Ctrl-D) or the process (Ctrl-C).
///
/// # Errors
/// The model fails, or the conversation grows longer than it can read.
pub fn hold(
    generator: &mut Generator,
    config: &GenerationConfig,
    system: Option<&str>,
) -> Result<(), Failure> {
    // A conversation goes on from one answer.
    let config = GenerationConfig { num_return_sequences: 1, ..config.clone() };
    let mark = Paint::stdout().bold("> ");
    let mut messages: Vec<Message> =
        system.map(|text| Message::new(Role::System, text)).into_iter().collect();
    let mut lines = io::stdin().lock().lines();
    for turn in 0.. {
        let Some(question) = next_question(&mut lines, &mark)? else { break };
        messages.push(Message::new(Role::User, question));
        let mut result = Ok(());
        // The number of the turn keeps draws of one turn from being those of the next.
        let prompt = [Prompt::Chat(messages.clone())];
        let texts = generator.generate(&prompt, turn, &config, &mut |_, text| {
            if result.is_ok() {
                result = print(text);
            }
        })?;
        result?;
        print("\n")?;
        let answer = texts.into_iter().next().map(|generated| generated.text).unwrap_or_default();
        messages.push(Message::new(Role::Assistant, answer));
    }
    print("\n")?;
    Ok(())
}

/// The next line that says something; `None` at the end of the input.
fn next_question(
    lines: &mut impl Iterator<Item = io::Result<String>>,
    mark: &str,
) -> Result<Option<String>, Failure> {
    loop {
        print(mark)?;
        match lines.next() {
            None => return Ok(None),
            Some(line) => {
                let line = line.map_err(|error| Failure::io("read", "stdin", error))?;
                if !line.trim().is_empty() {
                    return Ok(Some(line.trim().to_owned()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_no_questions() {
        let mut lines = ["", "  ", " hi \r", "there"].map(|line| Ok(line.to_owned())).into_iter();
        assert_eq!(next_question(&mut lines, "").unwrap(), Some("hi".to_owned()));
        assert_eq!(next_question(&mut lines, "").unwrap(), Some("there".to_owned()));
        assert_eq!(next_question(&mut lines, "").unwrap(), None);
    }
}
