//! People, things, and what can happen to them.
//!
//! `{p}` is who it is about, name or pronoun, and `{him}` the same as an object; `{his}` belongs to that
//! person, `{o}` is always a name. `{n}` is how many, `{k}` and `{m}` bags and what is in each,
//! `{things}` what is counted. Sentences begin with a small letter where a slot or a table fills it.

/// Somebody with a pronoun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) he: &'static str,
    pub(super) him: &'static str,
    pub(super) his: &'static str,
}

const fn she(name: &'static str) -> Person {
    Person { name, he: "she", him: "her", his: "her" }
}

const fn he(name: &'static str) -> Person {
    Person { name, he: "he", him: "him", his: "his" }
}

pub(super) const PEOPLE: &[Person] = &[
    she("Ann"),
    he("Ben"),
    she("Cora"),
    he("Dan"),
    she("Eva"),
    he("Finn"),
    she("Gina"),
    he("Hugo"),
    she("Ida"),
    he("Jack"),
    she("Kate"),
    he("Leo"),
];

pub(super) const THINGS: &[&str] =
    &["apples", "books", "cards", "coins", "marbles", "pencils", "shells", "stamps", "stickers", "sweets"];

pub(super) const OPENINGS: &[&str] =
    &["{p} has {n} {things}.", "{p} starts with {n} {things}.", "There are {n} {things} in {o}'s box."];

pub(super) const BAG_OPENINGS: &[&str] =
    &["{p} has {k} bags with {m} {things} in each.", "{p} fills {k} bags with {m} {things} each."];

pub(super) const GAINS: &[&str] = &[
    "{p} buys {n} more.",
    "{p} finds {n} {things}.",
    "then {p} gets {n} more {things}.",
    "a friend gives {him} {n} {things}.",
    "{p} wins {n} {things} in a game.",
];

pub(super) const LOSSES: &[&str] = &[
    "{p} gives {n} to a friend.",
    "{p} loses {n} {things}.",
    "then {p} sells {n} of them.",
    "a friend takes {n} {things} from {him}.",
    "{p} gives away {n} {things}.",
];

pub(super) const BAG_GAINS: &[&str] = &[
    "{p} buys {k} bags with {m} {things} in each.",
    "{k} friends give {him} {m} {things} each.",
    "then {p} gets {k} more bags of {m} {things}.",
];

pub(super) const BAG_LOSSES: &[&str] = &[
    "{p} gives {m} {things} to each of {k} friends.",
    "{p} sells {k} bags with {m} {things} in each.",
    "then {p} gives away {k} bags of {m} {things}.",
];

pub(super) const HALVES: &[&str] = &[
    "{p} gives half of them to a friend.",
    "{p} loses half of {his} {things}.",
    "then {p} sells half of them.",
];

/// What has nothing to do with the question; `{others}` is what is not counted.
pub(super) const ASIDES: &[&str] = &[
    "{p} also has {n} {others}.",
    "{p} is {n} years old.",
    "there are {n} children in {o}'s class.",
    "{p} gave away {n} {others} last week.",
];

pub(super) const SHARES: &[(&str, &str)] = &[
    ("{p} puts them into {n} boxes, the same number in each.", "How many {things} are in each box?"),
    ("{p} shares them equally among {n} friends.", "How many {things} does each friend get?"),
];

/// Asked of who has them.
pub(super) const QUESTIONS: &[&str] =
    &["How many {things} does {o} have now?", "How many {things} does {o} have in the end?"];

/// Asked where the last sentence was a comparison.
pub(super) const COMPARED_QUESTIONS: &[&str] =
    &["How many {things} does {o} have?", "How many {things} belong to {o}?"];

pub(super) const TOGETHER_QUESTIONS: &[&str] =
    &["How many {things} do {p} and {o} have together?", "How many {things} do {p} and {o} have in all?"];
