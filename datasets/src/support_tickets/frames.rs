//! How a ticket is put together around what the customer means (`{main}`) and what they mention
//! besides (`{other}`).
//!
//! The frames with both are what keywords cannot solve: `{main}` and `{other}` are drawn from
//! the same phrases, so that exchanging the two changes the label and not the words. In a
//! contrast the matter comes last, which a small model can learn from some thousand rows; asides
//! come before or after it and have words of their own.

/// Tickets that only name their matter.
pub(crate) const TOPIC_ONLY: &[&str] = &[
    "I have a question about {main}.",
    "It is about {main}.",
    "I need help with {main}.",
    "This is my {ordinal} message about {main}.",
    "Any news on {main}?",
    "Who can help me with {main}?",
    "I am writing because of {main}.",
];

/// One topic is meant, another is turned down.
pub(crate) const TOPIC_CONTRAST: &[&str] = &[
    "It is not about {other}, it is about {main}.",
    "My question is not about {other} but about {main}.",
    "I do not need help with {other}, I need help with {main}.",
    "Please forget {other}, I am writing because of {main}.",
    "{other} can wait, I need help with {main}.",
    "Your answer was about {other}, I asked about {main}.",
    "I do not mean {other}, I mean {main}.",
];

/// A problem beside a topic that is no longer one, or never was.
pub(crate) const PROBLEM_AND_TOPIC: &[&str] = &[
    "This is not about {other}. {main}.",
    "I do not need help with {other}, {main}.",
    "Please forget {other}. {main}.",
    "I am not writing because of {other}, but {main}.",
    "This has nothing to do with {other}, {main}.",
    "Your answer was about {other}, but {main}.",
    "Never mind {other}, {main}.",
];

/// A problem beside another one that is over.
pub(crate) const PROBLEM_AND_PAST: &[&str] = &[
    "Last week I wrote that {other}, that is solved. Now {main}.",
    "I wrote that {other}, forget that. {main}.",
    "I thought that {other}, but I was wrong. {main}.",
    "I do not mind that {other}, but {main}.",
];

/// Short asides, after or before the matter.
pub(crate) const ASIDES: &[&str] = &[
    "Thanks for your help with {other}.",
    "By the way, {other} is fine now.",
    "My last ticket was about {other}, that is solved.",
    "You have dealt with {other} already.",
    "I found the answer about {other} myself.",
    "No more questions about {other}.",
];

/// Tickets that fit two intents; which of the two is meant cannot be known.
pub(crate) const AMBIGUOUS: &[(&str, &str, &str)] = &[
    ("My order {order} is not right, please sort it out.", "shipping", "billing"),
    ("Please sort out the payment for {product} before {weekday}.", "billing", "refund"),
    ("I cannot get to {page} on my {device}.", "login", "bug_report"),
    ("I do not want {product} any more.", "refund", "cancellation"),
    ("What happens to the {amount} when {plan} ends?", "refund", "cancellation"),
    ("You took {amount} for {plan} and that is not right.", "billing", "refund"),
    ("Order {order} was to be stopped, what now?", "cancellation", "shipping"),
    ("Signing in ends with error {code}.", "login", "bug_report"),
    ("{product} never came and I paid {amount}.", "shipping", "refund"),
    ("{plan} was renewed and I paid {amount}.", "billing", "cancellation"),
];

/// Sentences that any ticket may hold.
pub(crate) const DETAILS: &[&str] = &[
    "My order number is {order}.",
    "I am on {plan}.",
    "I use the app on my {device}.",
    "I bought {product} in {month}.",
    "My account is under {email}.",
    "I have been waiting for {days} days.",
    "I wrote to you on {weekday}.",
    "Nobody answers the phone.",
    "I have been a customer for {count} years.",
    "This is the {ordinal} time.",
    "I tried it on my {device} too.",
    "I need an answer by {weekday}.",
    "I paid with my card.",
];

/// How a ticket opens.
pub(crate) const GREETINGS: &[&str] = &[
    "Hi,",
    "Hello,",
    "Hello there,",
    "Hi team,",
    "Dear support,",
    "Good morning,",
    "Good evening,",
    "Hey,",
    "Dear Sir or Madam,",
    "Hi all,",
];

/// What is felt about it; the same in all intents.
pub(crate) const MOODS: &[&str] = &[
    "I am really annoyed.",
    "This is getting silly.",
    "Sorry to bother you.",
    "I hope you can help.",
    "I like your service a lot.",
    "Not happy at all.",
    "Quick question.",
    "I am a bit lost.",
    "Please help!",
    "This is urgent.",
    "No hurry.",
    "What a mess.",
];

/// How a ticket ends.
pub(crate) const SIGN_OFFS: &[&str] = &[
    "Thanks, {name}",
    "Thank you!",
    "Best regards, {name}",
    "Regards, {name}",
    "Kind regards, {name}",
    "Cheers, {name}",
    "{name}",
    "Many thanks",
    "Sent from my {device}",
];
