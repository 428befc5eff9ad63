//! How a story begins and goes on.
//!
//! What comes back later is told once: names, trades, the place and what is kept are repeated, a
//! pronoun follows the name that was last the subject, verbs suit what is kept, and its number is
//! counted from sentence to sentence. None of these repetitions is a choice, so that they cost a
//! reader nothing who looks back far enough.

use super::choices::Choose;
use super::words::{self, CLASSES, Class, MEN_FROM, NAME_WEIGHTS, NAMES, NUMBERS};

/// Sentences after the opening: at least so many.
const FEWEST_SENTENCES: usize = 3;
/// And at most so many.
const MOST_SENTENCES: usize = 7;
/// Weights of stopping and of going on in between.
const STOP: &[usize] = &[1, 3];
/// How many are kept at first, from two.
const FIRST_COUNTS: &[usize] = &[3, 4, 3, 2];
/// Gained or lost at once, from one.
const CHANGES: &[usize] = &[4, 2, 1];

/// Weights of a pronoun, where one can be, and of a name.
const PRONOUN: &[usize] = &[6, 5];
/// Weights of the two people where one is named.
const NAMED: &[usize] = &[3, 2];

/// What the opening tells once and for all.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    place: &'static str,
    people: [Person; 2],
    /// Index in [`CLASSES`].
    pub(crate) class: usize,
    one: &'static str,
    several: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Person {
    name: &'static str,
    trade: &'static str,
    pronoun: &'static str,
}

/// What the next choices depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    /// Sentences after the opening.
    sentences: usize,
    scene: Scene,
    /// The person, 0 or 1, that a pronoun would mean.
    subject: Option<usize>,
    /// How many things are kept.
    count: usize,
}

/// What a sentence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    Change,
    Care,
    Walk,
    Speech,
    Weather,
    Rest,
}

const SCENES: [Scene; 6] =
    [Scene::Change, Scene::Care, Scene::Walk, Scene::Speech, Scene::Weather, Scene::Rest];

/// Weights of the scene after the opening.
const FIRST_SCENES: &[usize] = &[4, 4, 3, 2, 3, 1];

impl Scene {
    /// Weights of the scene that comes next, in the order of [`SCENES`].
    fn next(self) -> &'static [usize] {
        match self {
            Self::Change => &[2, 5, 2, 4, 1, 2],
            Self::Care => &[5, 1, 3, 2, 2, 2],
            Self::Walk => &[4, 1, 1, 6, 2, 1],
            Self::Speech => &[4, 2, 4, 2, 1, 2],
            Self::Weather => &[2, 4, 1, 3, 0, 4],
            Self::Rest => &[4, 3, 4, 1, 3, 0],
        }
    }
}

/// The first sentence, what it settles, and the state after it.
pub(crate) fn open(choices: &mut dyn Choose) -> (String, Frame, State) {
    let place = choices.word(words::PLACES);
    let hero = choices.choose(NAME_WEIGHTS);
    let hero_trade = choices.word(words::TRADES);
    let mut weights = NAME_WEIGHTS.to_vec();
    weights[hero] = 0;
    let friend = choices.choose(&weights);
    let friend_trade = choices.word(words::TRADES);
    let count = 2 + choices.choose(FIRST_COUNTS);
    let class = choices.choose(&CLASSES.iter().map(|class| class.weight).collect::<Vec<_>>());
    let Class { things, looks, .. } = &CLASSES[class];
    let look = choices.word(looks);
    let (_, one, several) =
        things[choices.choose(&things.iter().map(|(weight, ..)| *weight).collect::<Vec<_>>())];

    let person = |name: usize, trade| Person {
        name: NAMES[name],
        trade,
        pronoun: if name < MEN_FROM { "she" } else { "he" },
    };
    let people = [person(hero, hero_trade), person(friend, friend_trade)];
    let [first, second] = &people;
    let text = format!(
        "In {place}, the {} {} and the {} {} keep {} {look} {several}.",
        first.trade,
        first.name,
        second.trade,
        second.name,
        NUMBERS[count - 1],
    );
    let state = State { sentences: 0, scene: Scene::Rest, subject: None, count };
    (text, Frame { place, people, class, one, several }, state)
}

/// The next sentence and the state after it, or `None` at the end of the story.
pub(crate) fn go_on(frame: &Frame, state: State, choices: &mut dyn Choose) -> Option<(String, State)> {
    let ends = match state.sentences {
        0..FEWEST_SENTENCES => false,
        FEWEST_SENTENCES..MOST_SENTENCES => choices.choose(STOP) == 0,
        _ => true,
    };
    if ends {
        return None;
    }
    let weights = if state.sentences == 0 { FIRST_SCENES } else { state.scene.next() };
    let scene = SCENES[choices.choose(weights)];
    let mut next = State { sentences: state.sentences + 1, scene, ..state };
    let text = match scene {
        Scene::Change => frame.change(&mut next, choices),
        Scene::Care => frame.care(&mut next, choices),
        Scene::Walk => frame.walk(&mut next, choices),
        Scene::Speech => frame.speech(&mut next, choices),
        Scene::Weather => frame.weather(&mut next, choices),
        Scene::Rest => frame.rest(&mut next, choices),
    };
    Some((text, next))
}

impl Frame {
    /// Who acts, by name or, of the same person as before, by pronoun.
    fn subject(&self, state: &mut State, choices: &mut dyn Choose) -> &'static str {
        if let Some(same) = state.subject
            && choices.choose(PRONOUN) == 0
        {
            return self.people[same].pronoun;
        }
        let who = choices.choose(NAMED);
        state.subject = Some(who);
        self.people[who].name
    }

    fn things(&self, count: usize) -> &'static str {
        if count == 1 { self.one } else { self.several }
    }

    fn change(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        let day = choices.word(words::WEEKDAYS);
        let subject = self.subject(state, choices);
        let (most, least) = (NUMBERS.len(), 1);
        let directions = [usize::from(state.count < most) * 3, usize::from(state.count > least) * 2];
        let gains = choices.choose(&directions) == 0;
        let (verbs, room) =
            if gains { (words::GAINS, most - state.count) } else { (words::LOSSES, state.count - least) };
        let verb = choices.word(verbs);
        let change = 1 + choices.choose(&CHANGES[..room.min(CHANGES.len())]);
        state.count = if gains { state.count + change } else { state.count - change };
        format!(
            "On {day} {subject} {verb} {}, and now they have {} {}.",
            NUMBERS[change - 1],
            NUMBERS[state.count - 1],
            self.things(state.count),
        )
    }

    fn care(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        let subject = capitalised(self.subject(state, choices));
        let Class { cares, means, .. } = &CLASSES[self.class];
        let care = choices.word(cares);
        let means = choices.word(means);
        let time = choices.word(words::TIMES);
        format!("{subject} {care} the {} with {means} {time}.", self.things(state.count))
    }

    fn walk(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        let subject = capitalised(self.subject(state, choices));
        let manner = choices.word(words::MANNERS);
        let spot = choices.word(words::SPOTS);
        let encounter = choices.word(words::ENCOUNTERS);
        let stranger = choices.word(words::STRANGERS);
        format!("{subject} walks {manner} to the {spot} and {encounter} {stranger}.")
    }

    /// Whoever speaks is called by trade and name.
    fn speech(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        let remark = choices.word(words::REMARKS);
        let speech = choices.word(words::SPEECHES);
        let who = choices.choose(NAMED);
        state.subject = Some(who);
        let Person { name, trade, .. } = self.people[who];
        format!("\"{remark},\" {speech} the {trade} {name}.")
    }

    fn weather(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        state.subject = None;
        let weather = choices.word(words::WEATHERS);
        let arrival = choices.word(words::ARRIVALS);
        let duration = choices.word(words::DURATIONS);
        format!("{weather} {arrival} {} {duration}.", self.place)
    }

    fn rest(&self, state: &mut State, choices: &mut dyn Choose) -> String {
        state.subject = None;
        let [first, second] = &self.people;
        let pastime = choices.word(words::PASTIMES);
        let reason = choices.word(words::REASONS);
        format!("{} and {} {pastime} {reason}.", first.name, second.name)
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::choices::{Drawn, ways_with_words};
    use super::*;
    use std::collections::HashSet;

    /// Were one text made in two ways, its probability would be that of both.
    #[test]
    fn no_sentence_is_made_in_two_ways() {
        let mut drawn = Drawn::new(8);
        for _ in 0..12 {
            let (_, frame, mut state) = open(&mut drawn);
            while let Some((_, next)) = go_on(&frame, state, &mut drawn) {
                let ways = ways_with_words(|choices| go_on(&frame, state, choices));
                let texts: Vec<_> = ways.iter().filter_map(|way| Some(&way.end.as_ref()?.0)).collect();
                assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
                assert!((ways.iter().map(|way| way.probability).sum::<f64>() - 1.0).abs() < 1e-9);
                for text in texts {
                    assert!(text.ends_with('.') && !text[..text.len() - 1].contains('.'), "{text}");
                }
                state = next;
            }
        }
    }

    #[test]
    fn numbers_are_counted_and_pronouns_follow_their_names() {
        let mut drawn = Drawn::new(9);
        let mut pronouns = 0;
        for _ in 0..500 {
            let (opening, frame, mut state) = open(&mut drawn);
            assert!(opening.contains(&format!(" keep {} ", NUMBERS[state.count - 1])), "{opening}");
            while let Some((text, next)) = go_on(&frame, state, &mut drawn) {
                if let Some((change, now)) = text.split_once(", and now they have ") {
                    assert!(now.starts_with(NUMBERS[next.count - 1]), "{text}");
                    assert_eq!(now.ends_with(&format!(" {}.", frame.one)), next.count == 1, "{text}");
                    assert!(change.ends_with(NUMBERS[next.count.abs_diff(state.count) - 1]), "{text}");
                } else {
                    assert_eq!(next.count, state.count);
                }
                let says = |pronoun: &str| text.to_lowercase().split([' ', '.']).any(|word| word == pronoun);
                let subject = state.subject.map(|subject| frame.people[subject].pronoun);
                if says("he") || says("she") {
                    pronouns += 1;
                    assert!(subject.is_some_and(says), "{text}");
                    assert_eq!(next.subject, state.subject);
                }
                state = next;
            }
        }
        assert!(pronouns > 300, "{pronouns}");
    }
}
