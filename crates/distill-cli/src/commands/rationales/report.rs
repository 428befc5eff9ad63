//! What is told before and after asking.

use crate::terminal::table::Facts;
use crate::terminal::units::{count, counted, percent};
use crate::terminal::{Paint, width};
use distill_rationales::{Content, Estimate, Limits, Prompt, Summary, Usage, side_file};
use serde_json::{Value, json};
use std::path::Path;

/// One sentence about what is to be asked; `examples` rows are shown instead.
pub fn before(estimate: &Estimate, limits: &Limits, examples: usize) -> String {
    let mut text = format!("asking about {}", counted(estimate.rows as u64, "row"));
    if estimate.kept > 0 {
        text += &format!(" ({} have a reply from before)", count(estimate.kept as u64));
    }
    if examples > 0 {
        text += &format!(", with {} of the data as examples", counted(examples as u64, "row"));
    }
    text + ": " + &expected(estimate, limits)
}

fn expected(estimate: &Estimate, limits: &Limits) -> String {
    let Usage { input_tokens, output_tokens } = estimate.usage;
    let mut text = format!("about {} tokens in, at most {} out", count(input_tokens), count(output_tokens));
    if limits.prices.is_some() {
        let least = limits.cost(Usage { input_tokens, output_tokens: 0 });
        text += &format!(", cost {} to {}", money(least), money(limits.cost(estimate.usage)));
    }
    if let Some(limit) = limits.limit_cost {
        text += &format!(", stopping at {}", money(limit));
    }
    text
}

/// What would be asked, for people.
pub fn plan(estimate: &Estimate, limits: &Limits, prompt: &Prompt, paint: Paint) -> String {
    let mut facts = Facts::new(paint);
    facts.add("rows", count(estimate.rows as u64));
    if estimate.kept > 0 {
        facts.add("kept", format!("{} replies from before", count(estimate.kept as u64)));
    }
    facts.add("expected", expected(estimate, limits));
    let mut text = facts.lines(width()).join("\n");
    text += &format!("\n\n{}\n", paint.bold(format!("prompt of row {}", prompt.row + 1)));
    match &prompt.content {
        Content::Chat(messages) => {
            for message in messages {
                text += &format!("[{}]\n{}\n", message.role.name(), message.content);
            }
        }
        Content::Plain(content) => text += &format!("{}\n", content.trim_end()),
    }
    text
}

/// What would be asked, for programs.
pub fn plan_json(estimate: &Estimate, limits: &Limits, prompt: &Prompt, teacher: &Value) -> Value {
    json!({
        "teacher": teacher,
        "rows": estimate.rows,
        "kept": estimate.kept,
        "estimated_input_tokens": estimate.usage.input_tokens,
        "most_output_tokens": estimate.usage.output_tokens,
        "most_cost": limits.prices.map(|prices| prices.cost(estimate.usage)),
        "prompt": prompt,
    })
}

/// What came of it, for people.
pub fn summary(summary: &Summary, limits: &Limits, output: &Path, paint: Paint) -> String {
    let mut facts = Facts::new(paint);
    let of_all = |part: usize| format!("{} ({})", count(part as u64), share(part, summary.rows));
    let beside = |name: &str| format!("in `{}`", side_file(output, name).display());
    facts.add("rows", count(summary.rows as u64));
    facts.add("parsed", of_all(summary.parsed));
    if summary.unparsed > 0 {
        let reasons: Vec<String> = summary
            .reasons
            .iter()
            .map(|(reason, times)| format!("{reason} {}", count(*times as u64)))
            .collect();
        facts.add(
            "unparsed",
            format!("{}, {}: {}", of_all(summary.unparsed), beside("unparsed"), reasons.join(", ")),
        );
    }
    if summary.failed > 0 {
        facts.add("failed", format!("{}, {}", of_all(summary.failed), beside("unparsed")));
    }
    if let Some(agreement) = summary.agreement() {
        let (agreeing, with_gold) = (count(summary.agreeing as u64), count(summary.with_gold as u64));
        facts.add("agreement", format!("{} with gold, {agreeing} of {with_gold}", percent(agreement)));
    }
    if summary.contradicting > 0 {
        let rationales = counted(summary.contradicting as u64, "rationale");
        facts.add(
            "contradicting",
            format!("{rationales} seem to lead to another answer than the teacher gives"),
        );
    }
    let Usage { input_tokens, output_tokens } = summary.usage;
    facts.add("tokens", format!("{} in, {} out", count(input_tokens), count(output_tokens)));
    if limits.prices.is_some() {
        facts.add("cost", money(limits.cost(summary.usage)));
    }
    let wrong = summary.parsed - summary.written;
    if wrong > 0 {
        facts.add("left out", format!("{} that the teacher got wrong, {}", of_all(wrong), beside("wrong")));
    }
    facts.add("written", format!("{} to `{}`", counted(summary.written as u64, "row"), output.display()));
    facts.lines(width()).join("\n") + "\n"
}

/// What came of it, for programs.
pub fn summary_json(summary: &Summary, limits: &Limits) -> Value {
    let mut value = json!(summary);
    value["agreement"] = json!(summary.agreement());
    value["cost"] = json!(limits.prices.map(|prices| prices.cost(summary.usage)));
    value
}

fn share(part: usize, whole: usize) -> String {
    percent(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
}

/// In whatever currency the prices are: cents, or more digits of less.
fn money(value: f64) -> String {
    if value == 0.0 || value >= 0.1 { format!("{value:.2}") } else { format!("{value:.5}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_rationales::Prices;
    use std::collections::BTreeMap;

    fn limits(limit_cost: Option<f64>) -> Limits {
        Limits { prices: Prices::new(1.0, 10.0).ok(), limit_cost, max_tokens: 50 }
    }

    const USAGE: Usage = Usage { input_tokens: 1_200_000, output_tokens: 50_000 };

    #[test]
    fn cost_is_told_before() {
        let estimate = Estimate { rows: 1000, kept: 12, usage: USAGE };
        assert_eq!(
            before(&estimate, &limits(Some(5.0)), 3),
            "asking about 1,000 rows (12 have a reply from before), with 3 rows of the data as examples: about 1,200,000 \
             tokens in, at most 50,000 out, cost 1.20 to 1.70, stopping at 5.00"
        );
        let free = Limits { prices: None, ..limits(None) };
        let estimate = Estimate { rows: 1, kept: 0, usage: USAGE };
        assert_eq!(
            before(&estimate, &free, 0),
            "asking about 1 row: about 1,200,000 tokens in, at most 50,000 out"
        );
    }

    #[test]
    fn what_came_of_it_is_told_after() {
        let whole = Summary {
            rows: 200,
            parsed: 190,
            unparsed: 8,
            failed: 2,
            reasons: BTreeMap::from([("no marker".to_owned(), 8)]),
            with_gold: 190,
            agreeing: 150,
            contradicting: 3,
            written: 150,
            usage: USAGE,
        };
        let text = summary(&whole, &limits(None), Path::new("out.jsonl"), Paint::PLAIN);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "parsed 190 (95.00%)",
            "unparsed 8 (4.00%), in `out.unparsed.jsonl`: no marker 8",
            "failed 2 (1.00%)",
            "agreement 78.95% with gold, 150 of 190",
            "contradicting 3 rationales",
            "tokens 1,200,000 in, 50,000 out",
            "cost 1.70",
            "left out 40 (20.00%) that the teacher got wrong, in `out.wrong.jsonl`",
            "written 150 rows to `out.jsonl`",
        ] {
            assert!(words.contains(expected), "{expected}: {words}");
        }
        let json = summary_json(&whole, &limits(None));
        assert_eq!((&json["cost"], &json["parsed"]), (&json!(1.7), &json!(190)));
    }

    #[test]
    fn small_sums_have_digits() {
        assert_eq!([0.0, 0.00123, 0.5, 12.345].map(money), ["0.00", "0.00123", "0.50", "12.35"]);
    }
}
