//! What happens in a problem, in numbers alone.

use crate::dice::Dice;

/// Amounts are whole numbers from this, so that they have a plural,
const SMALLEST: usize = 2;
/// to this.
const LARGEST: usize = 99;
/// The largest amount that a problem begins with.
const LARGEST_START: usize = 50;
/// The largest number by which an amount changes or differs.
const LARGEST_CHANGE: usize = 30;
/// At most so many people.
const PEOPLE: usize = 3;

/// A sum with one amount known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Plus(usize),
    Minus(usize),
    Times(usize),
    Over(usize),
}

impl Sum {
    /// The result, if it is a whole number from 2 to 99.
    pub(super) fn of(self, amount: usize) -> Option<usize> {
        let result = match self {
            Self::Plus(number) => amount + number,
            Self::Minus(number) => amount.checked_sub(number)?,
            Self::Times(number) => amount * number,
            Self::Over(number) => amount.is_multiple_of(number).then_some(amount / number)?,
        };
        (SMALLEST..=LARGEST).contains(&result).then_some(result)
    }
}

/// Bags with the same number in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bags {
    pub(super) count: usize,
    pub(super) each: usize,
}

impl Bags {
    fn draw(dice: &mut Dice) -> Self {
        Self { count: dice.between(2, 6), each: dice.between(2, 9) }
    }

    pub(super) fn total(self) -> usize {
        self.count * self.each
    }
}

/// What somebody has at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Amount(usize),
    Bags(Bags),
}

/// How a comparison is put: "Ben has 6 more than Ann", or "Ann has 6 fewer than Ben".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Direct,
    Inverted,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Gains(usize),
    Loses(usize),
    GainsBags(Bags),
    LosesBags(Bags),
    KeepsHalf,
    /// Somebody else is compared with whom it was about, and it goes on about the new one.
    Compares(Sum, Comparison),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// What the last person has.
    Amount,
    /// What the last two people have.
    Together,
    /// What each of so many gets of it.
    Share(usize),
}

/// A problem in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) opening: Opening,
    pub(super) events: Vec<Event>,
    pub(super) ask: Ask,
}

/// A kind of sum, and how often it is tried of 100; they come out about equally often, since
/// products grow too large and quotients have remainders.
const KINDS: &[(Kind, usize)] =
    &[(Kind::Add, 11), (Kind::Subtract, 22), (Kind::Multiply, 17), (Kind::Divide, 50)];

#[derive(Clone, Copy)]
enum Kind {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A problem as far as it is drawn.
struct Draft {
    problem: Problem,
    /// What each person has, in the order in which they come.
    amounts: Vec<usize>,
    /// Sums left to draw.
    left: usize,
}

impl Problem {
    /// Draws a problem of so many sums, at least 1.
    pub(super) fn draw(sums: usize, dice: &mut Dice) -> Self {
        loop {
            if let Some(problem) = Draft::open(sums, dice).complete(dice) {
                return problem;
            }
        }
    }
}

impl Draft {
    fn open(sums: usize, dice: &mut Dice) -> Self {
        let bags = dice.chance(20).then(|| Bags::draw(dice));
        let (opening, amount, left) = match bags {
            Some(bags) => (Opening::Bags(bags), bags.total(), sums - 1),
            None => {
                let amount = dice.between(SMALLEST, LARGEST_START);
                (Opening::Amount(amount), amount, sums)
            }
        };
        Self {
            problem: Problem { opening, events: Vec::new(), ask: Ask::Amount },
            amounts: vec![amount],
            left,
        }
    }

    /// None if what was drawn so far leads nowhere.
    fn complete(mut self, dice: &mut Dice) -> Option<Problem> {
        let weights: Vec<usize> = KINDS.iter().map(|(_, weight)| *weight).collect();
        for _ in 0..100 {
            if self.left == 0 {
                return Some(self.problem);
            }
            // What does not fit changes nothing, and another kind is drawn.
            match KINDS[dice.weighted(&weights)].0 {
                Kind::Add => self.add(dice),
                Kind::Subtract => self.subtract(dice),
                Kind::Multiply => self.multiply(dice),
                Kind::Divide => self.divide(dice),
            };
        }
        None
    }

    fn add(&mut self, dice: &mut Dice) -> Option<()> {
        if let [.., before, now] = self.amounts[..]
            && self.left == 1
            && dice.chance(35)
        {
            Sum::Plus(before).of(now)?;
            self.problem.ask = Ask::Together;
            self.left = 0;
            return Some(());
        }
        let number = dice.between(2, LARGEST_CHANGE);
        if dice.chance(35) {
            self.compare(Sum::Plus(number), dice)
        } else {
            self.change(Event::Gains(number))
        }
    }

    fn subtract(&mut self, dice: &mut Dice) -> Option<()> {
        let number = dice.between(2, LARGEST_CHANGE);
        if dice.chance(35) {
            self.compare(Sum::Minus(number), dice)
        } else {
            self.change(Event::Loses(number))
        }
    }

    fn multiply(&mut self, dice: &mut Dice) -> Option<()> {
        if self.left >= 2 && dice.chance(50) {
            let bags = Bags::draw(dice);
            return self.change(if dice.chance(50) {
                Event::GainsBags(bags)
            } else {
                Event::LosesBags(bags)
            });
        }
        self.compare(Sum::Times(dice.between(2, 4)), dice)
    }

    fn divide(&mut self, dice: &mut Dice) -> Option<()> {
        if self.left == 1 && dice.chance(40) {
            let parts = dice.between(2, 9);
            Sum::Over(parts).of(self.amount())?;
            self.problem.ask = Ask::Share(parts);
            self.left = 0;
            return Some(());
        }
        if dice.chance(50) {
            return self.change(Event::KeepsHalf);
        }
        self.compare(Sum::Over(dice.between(2, 4)), dice)
    }

    /// What the last person has.
    fn amount(&self) -> usize {
        self.amounts[self.amounts.len() - 1]
    }

    fn change(&mut self, event: Event) -> Option<()> {
        let (sum, sums) = event.sum();
        let amount = sum.of(self.amount())?;
        self.left = self.left.checked_sub(sums)?;
        *self.amounts.last_mut()? = amount;
        self.problem.events.push(event);
        Some(())
    }

    fn compare(&mut self, sum: Sum, dice: &mut Dice) -> Option<()> {
        if self.amounts.len() == PEOPLE {
            return None;
        }
        let comparison = if dice.chance(30) { Comparison::Inverted } else { Comparison::Direct };
        self.amounts.push(sum.of(self.amount())?);
        self.problem.events.push(Event::Compares(sum, comparison));
        self.left -= 1;
        Some(())
    }
}

impl Event {
    /// What it does to an amount, and how many sums that takes.
    pub(super) fn sum(self) -> (Sum, usize) {
        match self {
            Self::Gains(number) => (Sum::Plus(number), 1),
            Self::Loses(number) => (Sum::Minus(number), 1),
            Self::GainsBags(bags) => (Sum::Plus(bags.total()), 2),
            Self::LosesBags(bags) => (Sum::Minus(bags.total()), 2),
            Self::KeepsHalf => (Sum::Over(2), 1),
            Self::Compares(sum, _) => (sum, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_as_many_sums_as_are_asked_for() {
        let mut dice = Dice::new(3);
        for drawn in 0..3000 {
            let sums = 2 + drawn % 3;
            let problem = Problem::draw(sums, &mut dice);
            let opening = usize::from(matches!(problem.opening, Opening::Bags(_)));
            let events: usize = problem.events.iter().map(|event| event.sum().1).sum();
            let asked = usize::from(problem.ask != Ask::Amount);
            assert_eq!(opening + events + asked, sums, "{problem:?}");
        }
    }

    #[test]
    fn results_are_whole_and_from_2_to_99() {
        assert_eq!(Sum::Plus(9).of(90), Some(99));
        assert_eq!(Sum::Plus(10).of(90), None);
        assert_eq!(Sum::Minus(5).of(7), Some(2));
        assert_eq!(Sum::Minus(5).of(6), None);
        assert_eq!(Sum::Minus(6).of(5), None);
        assert_eq!(Sum::Times(3).of(33), Some(99));
        assert_eq!(Sum::Over(4).of(28), Some(7));
        assert_eq!(Sum::Over(4).of(30), None);
    }
}
