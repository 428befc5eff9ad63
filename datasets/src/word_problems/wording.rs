//! A problem told in English.

use super::problem::{Ask, Comparison, Event, Opening, Problem, Sum};
use super::solution::compared;
use super::words::{
    ASIDES, BAG_GAINS, BAG_LOSSES, BAG_OPENINGS, COMPARED_QUESTIONS, GAINS, HALVES, LOSSES, OPENINGS, Person,
    QUESTIONS, SHARES, THINGS, TOGETHER_QUESTIONS,
};
use crate::dice::Dice;

/// Problems in a hundred with a sentence that has nothing to do with the question.
const ASIDES_IN_A_HUNDRED: usize = 15;

/// Who tells what: the words of one problem.
struct Teller<'a> {
    people: &'a [&'a Person],
    things: &'static str,
    /// Whom it is about, of `people`.
    holder: usize,
    /// Whether the last sentence leaves no doubt whom a pronoun means.
    is_clear: bool,
    dice: &'a mut Dice,
}

/// Tells a problem about people, who come in this order.
pub(super) fn tell(problem: &Problem, people: &[&Person], dice: &mut Dice) -> String {
    let things = dice.pick(THINGS);
    let aside = dice.chance(ASIDES_IN_A_HUNDRED).then(|| dice.below(problem.events.len() + 1));
    let mut teller = Teller { people, things, holder: 0, is_clear: false, dice };
    let mut sentences = vec![match problem.opening {
        Opening::Amount(amount) => teller.say(OPENINGS, &[("{n}", amount)]),
        Opening::Bags(bags) => teller.say(BAG_OPENINGS, &[("{k}", bags.count), ("{m}", bags.each)]),
    }];
    for (index, event) in problem.events.iter().enumerate() {
        if aside == Some(index) {
            sentences.push(teller.aside());
        }
        sentences.push(teller.event(*event));
    }
    if aside == Some(problem.events.len()) {
        sentences.push(teller.aside());
    }
    let ends_with_comparison = matches!(problem.events.last(), Some(Event::Compares(..)));
    sentences.extend(teller.ask(problem.ask, ends_with_comparison));
    sentences.join(" ")
}

impl Teller<'_> {
    fn event(&mut self, event: Event) -> String {
        match event {
            Event::Gains(number) => self.say(GAINS, &[("{n}", number)]),
            Event::Loses(number) => self.say(LOSSES, &[("{n}", number)]),
            Event::GainsBags(bags) => self.say(BAG_GAINS, &[("{k}", bags.count), ("{m}", bags.each)]),
            Event::LosesBags(bags) => self.say(BAG_LOSSES, &[("{k}", bags.count), ("{m}", bags.each)]),
            Event::KeepsHalf => self.say(HALVES, &[]),
            Event::Compares(sum, comparison) => self.compare(sum, comparison),
        }
    }

    /// "Ben has 6 more apples than Ann.", or the other way round.
    fn compare(&mut self, sum: Sum, comparison: Comparison) -> String {
        let (known, new) = (self.people[self.holder], self.people[self.holder + 1]);
        self.holder += 1;
        let (one, sum, other) = match comparison {
            Comparison::Direct => (new, sum, known),
            Comparison::Inverted => (known, inverse(sum), new),
        };
        // Of a pronoun nobody could tell whom it means if both have the same one, or if the last
        // sentence began with the other.
        self.is_clear = known.he != new.he && comparison == Comparison::Direct;
        let than = if matches!(sum, Sum::Plus(_) | Sum::Minus(_)) { "than" } else { "as" };
        format!("{} has {} {} {than} {}.", one.name, compared(sum), self.things, other.name)
    }

    fn aside(&mut self) -> String {
        let others = loop {
            let others = self.dice.pick(THINGS);
            if others != self.things {
                break others;
            }
        };
        let number = self.dice.between(6, 30);
        self.say(ASIDES, &[("{n}", number)]).replace("{others}", others)
    }

    fn ask(&mut self, ask: Ask, ends_with_comparison: bool) -> Vec<String> {
        let holder = self.people[self.holder].name;
        match ask {
            Ask::Amount => {
                let questions = if ends_with_comparison { COMPARED_QUESTIONS } else { QUESTIONS };
                vec![self.dice.pick(questions).replace("{things}", self.things).replace("{o}", holder)]
            }
            Ask::Together => {
                let before = self.people[self.holder - 1].name;
                let question = self.dice.pick(TOGETHER_QUESTIONS).replace("{things}", self.things);
                vec![question.replace("{p}", before).replace("{o}", holder)]
            }
            Ask::Share(parts) => {
                let (share, question) = SHARES[self.dice.below(SHARES.len())];
                vec![self.say(&[share], &[("{n}", parts)]), question.replace("{things}", self.things)]
            }
        }
    }

    /// One of the frames, filled.
    fn say(&mut self, frames: &[&'static str], numbers: &[(&str, usize)]) -> String {
        let frame = self.dice.pick(frames);
        let person = self.people[self.holder];
        let by_pronoun = self.is_clear && self.dice.chance(60);
        let (he, him) = if by_pronoun { (person.he, person.him) } else { (person.name, person.name) };
        let mut sentence = frame
            .replace("{p}", he)
            .replace("{him}", him)
            .replace("{his}", person.his)
            .replace("{o}", person.name)
            .replace("{things}", self.things);
        for (slot, number) in numbers {
            sentence = sentence.replace(slot, &number.to_string());
        }
        self.is_clear = true;
        capitalised(&sentence)
    }
}

fn inverse(sum: Sum) -> Sum {
    match sum {
        Sum::Plus(number) => Sum::Minus(number),
        Sum::Minus(number) => Sum::Plus(number),
        Sum::Times(number) => Sum::Over(number),
        Sum::Over(number) => Sum::Times(number),
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::problem::Bags;
    use super::super::words::PEOPLE;
    use super::*;

    fn told(opening: Opening, events: &[Event], ask: Ask, seed: u64) -> String {
        let people: Vec<&Person> = PEOPLE.iter().collect();
        let problem = Problem { opening, events: events.to_vec(), ask };
        // Every text counts the same things, so that it can be compared.
        let text = tell(&problem, &people, &mut Dice::new(seed));
        let things =
            THINGS.iter().find(|things| text.ends_with('?') && text.contains(&format!("How many {things} ")));
        text.replace(things.unwrap(), "pens")
    }

    #[test]
    fn a_comparison_is_put_one_way_or_the_other() {
        let cases = [
            (Sum::Plus(6), Comparison::Direct, "Ben has 6 more pens than Ann."),
            (Sum::Plus(6), Comparison::Inverted, "Ann has 6 fewer pens than Ben."),
            (Sum::Minus(6), Comparison::Inverted, "Ann has 6 more pens than Ben."),
            (Sum::Times(3), Comparison::Direct, "Ben has 3 times as many pens as Ann."),
            (Sum::Times(3), Comparison::Inverted, "Ann has a third as many pens as Ben."),
            (Sum::Over(4), Comparison::Inverted, "Ann has 4 times as many pens as Ben."),
            (Sum::Over(2), Comparison::Direct, "Ben has half as many pens as Ann."),
        ];
        for (sum, comparison, expected) in cases {
            for seed in 0..20 {
                let text = told(Opening::Amount(12), &[Event::Compares(sum, comparison)], Ask::Amount, seed);
                assert!(text.contains(expected), "{text}");
                assert!(
                    text.ends_with(" pens does Ben have?") || text.ends_with(" pens belong to Ben?"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn the_question_follows_what_is_asked_for() {
        let bags = Opening::Bags(Bags { count: 3, each: 8 });
        for seed in 0..20 {
            let text = told(bags, &[Event::Gains(5)], Ask::Amount, seed);
            assert!(text.contains("3 bags with 8 pens") && text.contains(" 5 "), "{text}");
            assert!(
                text.ends_with("pens does Ann have now?") || text.ends_with("have in the end?"),
                "{text}"
            );

            let compared = Event::Compares(Sum::Plus(2), Comparison::Direct);
            let text = told(bags, &[compared], Ask::Together, seed);
            assert!(text.contains("pens do Ann and Ben have "), "{text}");

            let text = told(bags, &[], Ask::Share(4), seed);
            assert!(
                text.contains(" 4 boxes") && text.ends_with("How many pens are in each box?")
                    || text.contains(" 4 friends") && text.ends_with("How many pens does each friend get?"),
                "{text}"
            );
        }
    }
}
