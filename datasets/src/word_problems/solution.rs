//! How a problem is solved, step by step.

use super::problem::{Ask, Event, Opening, Problem, Sum};
use super::words::Person;

/// Answer, steps and expression of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Solution {
    pub(super) answer: usize,
    pub(super) rationale: String,
    pub(super) expression: String,
}

/// A number and where it comes from.
#[derive(Clone)]
struct Known {
    value: usize,
    expression: String,
    /// How tightly the expression's outermost sign binds.
    strength: u8,
}

impl Known {
    fn given(value: usize) -> Self {
        Self { value, expression: value.to_string(), strength: 3 }
    }

    /// The sum of this and another, and its words: `14 + 9 = 23`.
    fn and(&self, sign: char, other: &Self, result: usize) -> (Self, String) {
        let strength = if matches!(sign, '+' | '-') { 1 } else { 2 };
        // Equal signs group from the left.
        let left = bracketed(&self.expression, self.strength < strength);
        let right = bracketed(&other.expression, other.strength <= strength);
        let words = format!("{} {sign} {} = {result}", self.value, other.value);
        (Self { value: result, expression: format!("{left} {sign} {right}"), strength }, words)
    }

    fn times(&self, other: &Self) -> (Self, String) {
        self.and('*', other, self.value * other.value)
    }

    fn plus(&self, other: &Self) -> (Self, String) {
        self.and('+', other, self.value + other.value)
    }

    fn minus(&self, other: &Self) -> (Self, String) {
        self.and('-', other, self.value - other.value)
    }

    fn over(&self, other: &Self) -> (Self, String) {
        self.and('/', other, self.value / other.value)
    }

    fn apply(&self, sum: Sum) -> (Self, String) {
        match sum {
            Sum::Plus(number) => self.plus(&Self::given(number)),
            Sum::Minus(number) => self.minus(&Self::given(number)),
            Sum::Times(number) => self.times(&Self::given(number)),
            Sum::Over(number) => self.over(&Self::given(number)),
        }
    }
}

fn bracketed(expression: &str, needs_brackets: bool) -> String {
    if needs_brackets { format!("({expression})") } else { expression.to_owned() }
}

/// Solves a problem about people, who come in this order.
pub(super) fn solve(problem: &Problem, people: &[&Person]) -> Solution {
    let mut steps = Vec::new();
    let bags_of = |count: usize, each: usize, steps: &mut Vec<String>| {
        let (total, sum) = Known::given(count).times(&Known::given(each));
        steps.push(format!("{sum}."));
        total
    };
    let first = match problem.opening {
        Opening::Amount(amount) => {
            steps.push(format!("{} has {amount}.", people[0].name));
            Known::given(amount)
        }
        Opening::Bags(bags) => bags_of(bags.count, bags.each, &mut steps),
    };
    let mut known = vec![first];
    for event in &problem.events {
        let holder = known.len() - 1;
        let now = known[holder].clone();
        let (next, step) = match *event {
            Event::Gains(number) | Event::Loses(number) => {
                let (next, sum) = now.apply(event.sum().0);
                let word = if matches!(event, Event::Gains(_)) { "more" } else { "fewer" };
                (next, format!("{number} {word}: {sum}."))
            }
            Event::GainsBags(bags) => {
                let total = bags_of(bags.count, bags.each, &mut steps);
                let (next, sum) = now.plus(&total);
                (next, format!("{} more: {sum}.", total.value))
            }
            Event::LosesBags(bags) => {
                let total = bags_of(bags.count, bags.each, &mut steps);
                let (next, sum) = now.minus(&total);
                (next, format!("{} fewer: {sum}.", total.value))
            }
            Event::KeepsHalf => {
                let (next, sum) = now.apply(Sum::Over(2));
                (next, format!("Half is left: {sum}."))
            }
            Event::Compares(sum, _) => {
                let (next, words) = now.apply(sum);
                (next, format!("{} has {}: {words}.", people[holder + 1].name, compared(sum)))
            }
        };
        steps.push(step);
        match event {
            Event::Compares(..) => known.push(next),
            _ => known[holder] = next,
        }
    }
    let last = &known[known.len() - 1];
    let asked = match problem.ask {
        Ask::Amount => last.clone(),
        Ask::Together => {
            let (total, sum) = known[known.len() - 2].plus(last);
            steps.push(format!("Together: {sum}."));
            total
        }
        Ask::Share(parts) => {
            let (share, sum) = last.apply(Sum::Over(parts));
            steps.push(format!("{parts} equal parts: {sum}."));
            share
        }
    };
    Solution { answer: asked.value, rationale: steps.join(" "), expression: asked.expression }
}

/// "6 more", "twice as many": what one has, compared with another.
pub(super) fn compared(sum: Sum) -> String {
    match sum {
        Sum::Plus(number) => format!("{number} more"),
        Sum::Minus(number) => format!("{number} fewer"),
        Sum::Times(2) => "twice as many".to_owned(),
        Sum::Times(number) => format!("{number} times as many"),
        Sum::Over(2) => "half as many".to_owned(),
        Sum::Over(3) => "a third as many".to_owned(),
        Sum::Over(_) => "a quarter as many".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Bags, Comparison};
    use super::super::words::PEOPLE;
    use super::*;

    fn solved(opening: Opening, events: &[Event], ask: Ask) -> Solution {
        let people: Vec<&Person> = PEOPLE.iter().collect();
        solve(&Problem { opening, events: events.to_vec(), ask }, &people)
    }

    #[test]
    fn every_sum_is_a_step() {
        let events = [
            Event::Gains(9),
            Event::Compares(Sum::Minus(5), Comparison::Inverted),
            Event::LosesBags(Bags { count: 2, each: 3 }),
        ];
        let solution = solved(Opening::Amount(14), &events, Ask::Together);
        assert_eq!(
            solution.rationale,
            "Ann has 14. 9 more: 14 + 9 = 23. Ben has 5 fewer: 23 - 5 = 18. 2 * 3 = 6. \
             6 fewer: 18 - 6 = 12. Together: 23 + 12 = 35."
        );
        assert_eq!(solution.expression, "14 + 9 + (14 + 9 - 5 - 2 * 3)");
        assert_eq!(solution.answer, 35);
    }

    #[test]
    fn bags_halves_and_shares() {
        let events = [Event::KeepsHalf, Event::Compares(Sum::Times(3), Comparison::Direct)];
        let solution = solved(Opening::Bags(Bags { count: 4, each: 6 }), &events, Ask::Share(9));
        assert_eq!(
            solution.rationale,
            "4 * 6 = 24. Half is left: 24 / 2 = 12. Ben has 3 times as many: 12 * 3 = 36. \
             9 equal parts: 36 / 9 = 4."
        );
        assert_eq!((solution.expression.as_str(), solution.answer), ("4 * 6 / 2 * 3 / 9", 4));
    }
}
