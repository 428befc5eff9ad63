//! The small things that vary from ticket to ticket: products, sums, dates, names.

use crate::dice::Dice;

const PRODUCTS: &[&str] = &[
    "the desk lamp",
    "the headphones",
    "the Aero kettle",
    "the backpack",
    "the trail shoes",
    "the keyboard",
    "the café set",
    "the rain jacket",
    "the camera",
    "the standing desk",
    "the blender",
    "the Nimbus tent",
    "the phone case",
    "the smart watch",
    "the reading chair",
    "the bike light",
];
const PLANS: &[&str] = &[
    "the basic plan",
    "the Plus plan",
    "the family plan",
    "the team plan",
    "the yearly plan",
    "the Pro plan",
    "the student plan",
    "the premium plan",
];
const PAGES: &[&str] = &[
    "the dashboard",
    "the settings page",
    "the order page",
    "the calendar",
    "the report page",
    "the invoice page",
    "the account page",
    "the inbox",
    "the map",
    "the shopping cart",
    "the help page",
];
const DEVICES: &[&str] = &[
    "phone",
    "tablet",
    "laptop",
    "iPhone",
    "old Android",
    "work PC",
    "iPad",
    "Mac",
    "Pixel",
    "Windows laptop",
];
const CARRIERS: &[&str] = &["the post", "the courier", "ParcelJet", "QuickVan", "the carrier", "NordPost"];
const CITIES: &[&str] = &[
    "Leeds",
    "Málaga",
    "Oslo",
    "Zürich",
    "Dublin",
    "Boston",
    "Lyon",
    "Kraków",
    "Austin",
    "Bremen",
    "Porto",
    "Montréal",
];
const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ORDINALS: &[&str] = &["second", "third", "fourth", "fifth", "last"];
const NAMES: &[&str] = &[
    "Anna",
    "José",
    "Zoë",
    "Priya",
    "Tom",
    "François",
    "Mehmet",
    "Ingrid",
    "Li Wei",
    "Olu",
    "Renée",
    "Sam",
    "Jürgen",
    "Marta",
    "Kofi",
    "Emily",
    "Søren",
    "Nadia",
    "Paul",
    "Chloé",
];
const MAIL_HOSTS: &[&str] = &["example.com", "example.org", "example.net"];

/// Replaces every `{slot}` of a template by one of its values.
///
/// `given` holds slots whose text is known already; their text is not filled again.
pub(crate) fn fill(template: &str, given: &[(&str, &str)], dice: &mut Dice) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((slot, after)) = after.split_once('}') else {
            rest = after;
            break;
        };
        match given.iter().find(|(name, _)| *name == slot) {
            Some((_, value)) => text.push_str(value),
            None => text.push_str(&value(slot, dice)),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

fn value(slot: &str, dice: &mut Dice) -> String {
    match slot {
        "product" => dice.pick(PRODUCTS).to_owned(),
        "plan" => dice.pick(PLANS).to_owned(),
        "page" => dice.pick(PAGES).to_owned(),
        "device" => dice.pick(DEVICES).to_owned(),
        "carrier" => dice.pick(CARRIERS).to_owned(),
        "city" => dice.pick(CITIES).to_owned(),
        "month" => dice.pick(MONTHS).to_owned(),
        "weekday" => dice.pick(WEEKDAYS).to_owned(),
        "ordinal" => dice.pick(ORDINALS).to_owned(),
        "name" => dice.pick(NAMES).to_owned(),
        "count" => dice.between(2, 12).to_string(),
        "days" => dice.between(3, 45).to_string(),
        "code" => (dice.between(4, 9) * 100 + dice.below(30)).to_string(),
        "version" => format!("{}.{}", dice.between(2, 7), dice.below(10)),
        "order" => format!("{}{}", dice.pick(&["#", "", "A-", "no. "]), dice.between(10_000, 99_999)),
        "amount" => amount(dice),
        "email" => format!(
            "{}{}@{}",
            dice.pick(&["info", "me", "sales", "mail"]),
            dice.below(100),
            dice.pick(MAIL_HOSTS)
        ),
        unknown => unreachable!("the tables name a slot `{unknown}` that has no values"),
    }
}

fn amount(dice: &mut Dice) -> String {
    let units = dice.between(5, 250);
    let cents = dice.pick(&["00", "50", "90", "99", "49"]);
    match dice.below(4) {
        0 => format!("${units}"),
        1 => format!("{units} euros"),
        2 => format!("{units}.{cents} euros"),
        _ => format!("${units}.{cents}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{frames, intents::INTENTS};
    use super::*;

    #[test]
    fn every_slot_of_every_table_has_values() {
        let mut dice = Dice::new(7);
        let framed = [
            frames::TOPIC_ONLY,
            frames::TOPIC_CONTRAST,
            frames::PROBLEM_AND_TOPIC,
            frames::PROBLEM_AND_PAST,
            frames::ASIDES,
            frames::DETAILS,
            frames::GREETINGS,
            frames::MOODS,
            frames::SIGN_OFFS,
        ];
        let of_intents = INTENTS.iter().flat_map(|intent| [intent.problems, intent.requests, intent.topics]);
        let ambiguous = frames::AMBIGUOUS.iter().map(|(template, _, _)| *template);
        for template in framed.into_iter().chain(of_intents).flatten().copied().chain(ambiguous) {
            let text = fill(template, &[("main", "m"), ("other", "o")], &mut dice);
            assert!(!text.contains(['{', '}']), "`{template}` gives `{text}`");
        }
    }

    #[test]
    fn given_text_is_taken_as_it_is() {
        let text = fill("{main} and {weekday}", &[("main", "{weekday}")], &mut Dice::new(1));
        assert!(text.starts_with("{weekday} and ") && text.ends_with("day"), "{text}");
    }
}
