//! The mistakes of a recipe, drawn beneath the lines that they are in.

use crate::terminal::Paint;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use distill_recipe::{Fault, Faults, Label, Origin};
use serde_json::{Value, json};

/// Columns that source lines are cut to where there is no terminal.
const FILE_WIDTH: usize = 140;

/// Every fault as people read it, a blank line between two, and how many there are.
pub fn render(found: &Faults, paint: Paint, width: usize) -> String {
    let renderer = if paint.has_colours() { Renderer::styled() } else { Renderer::plain() }
        .term_width(width.min(FILE_WIDTH));
    let mut text = String::new();
    for fault in &found.faults {
        text.push_str(&renderer.render(&groups(found, fault)));
        text.push_str("\n\n");
    }
    let count = found.faults.len();
    if count > 1 {
        let name = &found.source_name;
        text.push_str(&format!(
            "{} {count} mistakes in `{name}`; nothing was written\n",
            paint.red("error:")
        ));
    }
    text
}

/// Every fault as one JSON object.
pub fn to_json(found: &Faults) -> Vec<Value> {
    found
        .faults
        .iter()
        .map(|fault| {
            let place = fault.labels.first().map(|label| found.locate(label));
            json!({
                "event": "error",
                "message": fault.message,
                "file": place.as_ref().map_or(&found.source_name, |place| &place.source),
                "line": place.as_ref().map(|place| place.line),
                "column": place.as_ref().map(|place| place.column),
                "help": fault.help,
            })
        })
        .collect()
}

fn groups<'a>(found: &'a Faults, fault: &'a Fault) -> Vec<Group<'a>> {
    let mut elements: Vec<Element<'a>> = Vec::new();
    let mut origins: Vec<Origin> = fault.labels.iter().map(|label| label.origin).collect();
    origins.dedup();
    for origin in origins {
        let labels: Vec<&Label> = fault.labels.iter().filter(|label| label.origin == origin).collect();
        elements.push(snippet(found, origin, &labels).into());
    }
    let mut groups = vec![Level::ERROR.primary_title(fault.message.as_str()).elements(elements)];
    if let Some(help) = &fault.help {
        groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
    }
    groups
}

/// The lines of one text that the labels are in.
fn snippet<'a>(
    found: &'a Faults,
    origin: Origin,
    labels: &[&'a Label],
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = found.text(origin);
    let name = match origin {
        Origin::File => found.source_name.clone(),
        Origin::Override(_) => "--set".to_owned(),
    };
    let mut snippet = Snippet::source(text).path(name);
    for (index, label) in labels.iter().enumerate() {
        let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        // A span outside its text, or inside a character, would be a panic of the renderer.
        let start = text.floor_char_boundary(label.span.start.min(text.len()));
        let end = text.ceil_char_boundary(label.span.end.clamp(start, text.len()));
        snippet = snippet.annotation(kind.span(start..end).label(label.text.as_deref()));
    }
    snippet
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"x\"\n\n[train]\nwarmup_ratio = 500\nepoch = 3\n";

    fn at(part: &str) -> Label {
        let start = TEXT.find(part).unwrap();
        Label::new(Origin::File, start..start + part.len())
    }

    fn faults(list: Vec<Fault>) -> Faults {
        Faults::new("sst2.toml", TEXT, vec!["train.epochz=1".to_owned()], list)
    }

    #[test]
    fn draws_the_line_the_place_and_the_help() {
        let fault =
            Fault::new("unknown key `epoch` in `[train]`", at("epoch")).with_help("did you mean `epochs`?");
        insta::assert_snapshot!(render(&faults(vec![fault]), Paint::PLAIN, 80), @r"
        error: unknown key `epoch` in `[train]`
         --> sst2.toml:5:1
          |
        5 | epoch = 3
          | ^^^^^
          |
        help: did you mean `epochs`?
        ");
    }

    #[test]
    fn draws_two_places_and_overrides() {
        let two = Fault::new("these clash", at("500")).with_label(at("\"x\"").with_text("this one"));
        let set = Fault::new("unknown key `epochz`", Label::new(Origin::Override(0), 6..12));
        insta::assert_snapshot!(render(&faults(vec![two, set]), Paint::PLAIN, 80), @r#"
        error: these clash
         --> sst2.toml:4:16
          |
        1 | name = "x"
          |        --- this one
        ...
        4 | warmup_ratio = 500
          |                ^^^

        error: unknown key `epochz`
         --> --set:1:7
          |
        1 | train.epochz=1
          |       ^^^^^^

        error: 2 mistakes in `sst2.toml`; nothing was written
        "#);
    }

    #[test]
    fn a_span_outside_the_text_is_no_panic() {
        let fault = Fault::new("odd", Label::new(Origin::File, 900..1000));
        assert!(render(&faults(vec![fault.clone()]), Paint::PLAIN, 80).contains("odd"));
        let nowhere =
            Faults::new("é.toml", "é", Vec::new(), vec![Fault::new("odd", Label::new(Origin::File, 1..1))]);
        assert!(render(&nowhere, Paint::PLAIN, 80).contains("é.toml"));
    }

    #[test]
    fn a_fault_without_a_place_is_its_message() {
        let text = render(&faults(vec![Fault::without_place("cannot read `a.toml`")]), Paint::PLAIN, 80);
        assert_eq!(text, "error: cannot read `a.toml`\n\n");
    }

    #[test]
    fn json_has_file_line_and_column() {
        let found = faults(vec![Fault::new("unknown key", at("epoch"))]);
        assert_eq!(
            to_json(&found),
            [
                json!({"event": "error", "message": "unknown key", "file": "sst2.toml", "line": 5, "column": 1, "help": null})
            ]
        );
    }
}
