//! Words of the stories, each with its weight: a few are common, the others rarer.

use super::choices::Words;

pub(crate) const PLACES: &Words = &[
    (8, "Velm"),
    (6, "Oakford"),
    (5, "Redcliff"),
    (4, "Dunmore"),
    (3, "Saltbay"),
    (3, "Harrow"),
    (2, "Mirefield"),
    (2, "Thornby"),
    (1, "Whitewell"),
    (1, "Ashgrove"),
];

/// Women's names, then men's: [`MEN_FROM`] is the first of those.
pub(crate) const NAMES: &[&str] =
    &["Mara", "Edda", "Lina", "Tess", "Ruth", "Ivo", "Otto", "Karl", "Finn", "Hugo"];
/// How often each name is taken.
pub(crate) const NAME_WEIGHTS: &[usize] = &[5, 4, 3, 2, 2, 5, 4, 3, 2, 2];
/// Index of the first man.
pub(crate) const MEN_FROM: usize = 5;

pub(crate) const TRADES: &Words = &[
    (6, "baker"),
    (5, "potter"),
    (5, "smith"),
    (4, "miller"),
    (4, "weaver"),
    (3, "tailor"),
    (3, "fisher"),
    (2, "mason"),
    (1, "clockmaker"),
];

/// One of each thing and several, with its weight.
pub(crate) type Things = [(usize, &'static str, &'static str)];

/// What people keep, by how they look after it.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) weight: usize,
    pub(crate) things: &'static Things,
    pub(crate) looks: &'static Words,
    /// What is done to them.
    pub(crate) cares: &'static Words,
    /// And with what.
    pub(crate) means: &'static Words,
}

pub(crate) const CLASSES: &[Class] = &[
    Class {
        weight: 5,
        things: &[(5, "hen", "hens"), (4, "goat", "goats"), (3, "goose", "geese"), (2, "pony", "ponies")],
        looks: &[(5, "white"), (4, "brown"), (2, "spotted"), (1, "noisy")],
        cares: &[(5, "feeds"), (3, "calms"), (2, "fattens")],
        means: &[(5, "oats"), (4, "hay"), (2, "turnips"), (1, "apples")],
    },
    Class {
        weight: 3,
        things: &[(4, "rose", "roses"), (3, "lemon tree", "lemon trees"), (2, "vine", "vines")],
        looks: &[(4, "young"), (3, "thirsty"), (2, "crooked"), (1, "tall")],
        cares: &[(5, "waters"), (3, "tends"), (1, "revives")],
        means: &[(4, "rainwater"), (3, "river water"), (2, "ashes"), (1, "old tea")],
    },
    Class {
        weight: 3,
        things: &[(4, "boat", "boats"), (3, "cart", "carts"), (2, "clock", "clocks"), (1, "mill", "mills")],
        looks: &[(4, "old"), (3, "rusty"), (2, "wooden"), (1, "painted")],
        cares: &[(5, "mends"), (3, "polishes"), (2, "oils")],
        means: &[(4, "tallow"), (3, "wax"), (2, "goose fat"), (1, "linseed oil")],
    },
];

pub(crate) const NUMBERS: &[&str] = &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

pub(crate) const WEEKDAYS: &Words = &[
    (4, "Monday"),
    (2, "Tuesday"),
    (2, "Wednesday"),
    (3, "Thursday"),
    (4, "Friday"),
    (6, "Saturday"),
    (1, "Sunday"),
];

pub(crate) const GAINS: &Words = &[(5, "buys"), (3, "finds"), (2, "wins"), (1, "inherits")];
pub(crate) const LOSSES: &Words = &[(5, "sells"), (3, "loses"), (2, "lends out"), (1, "gives away")];

pub(crate) const TIMES: &Words = &[
    (5, "at dawn"),
    (4, "before noon"),
    (4, "in the evening"),
    (3, "after supper"),
    (2, "by candlelight"),
    (1, "at midnight"),
];

pub(crate) const MANNERS: &Words =
    &[(5, "slowly"), (4, "quickly"), (3, "gladly"), (2, "sadly"), (2, "alone"), (1, "barefoot")];

pub(crate) const SPOTS: &Words = &[
    (6, "market"),
    (5, "harbour"),
    (4, "church"),
    (3, "old bridge"),
    (3, "well"),
    (2, "forest"),
    (1, "lighthouse"),
];

pub(crate) const ENCOUNTERS: &Words = &[(5, "meets"), (3, "greets"), (2, "follows"), (1, "avoids")];

pub(crate) const STRANGERS: &Words = &[
    (5, "a merchant"),
    (4, "a soldier"),
    (3, "a singer"),
    (3, "a priest"),
    (2, "a pilgrim"),
    (1, "a tax collector"),
];

pub(crate) const WEATHERS: &Words =
    &[(5, "Rain"), (4, "Fog"), (3, "Snow"), (2, "Hail"), (2, "Thunder"), (1, "A strange silence")];
pub(crate) const ARRIVALS: &Words = &[(5, "comes over"), (3, "hangs over"), (2, "settles on")];
pub(crate) const DURATIONS: &Words =
    &[(4, "all day"), (4, "until dark"), (3, "for a week"), (2, "for an hour"), (1, "without an end")];

pub(crate) const REMARKS: &Words = &[
    (6, "Good morning"),
    (5, "We need more bread"),
    (4, "Nobody tells me anything"),
    (3, "The winter will be long"),
    (3, "Prices are too high"),
    (2, "I had a dream about the sea"),
    (1, "You still owe me a dinner"),
];
pub(crate) const SPEECHES: &Words = &[(6, "says"), (3, "whispers"), (2, "shouts"), (1, "sighs")];

pub(crate) const PASTIMES: &Words =
    &[(5, "sing"), (4, "play cards"), (3, "drink cider"), (2, "dance"), (1, "count stars")];
pub(crate) const REASONS: &Words =
    &[(4, "because the work is done"), (3, "to forget the cold"), (2, "for luck"), (1, "out of habit")];
