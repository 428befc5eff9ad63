//! What the support tickets promise: their form, and that keywords do not solve them.

use distill_datasets::{SEED, support_tickets};
use std::collections::{BTreeMap, HashMap, HashSet};

type Row = (String, String);

/// Rows of `train.csv` and of `test.csv`.
fn splits(seed: u64) -> (Vec<Row>, Vec<Row>) {
    let files = support_tickets::generate(seed).files;
    let read = |name: &str| {
        let (_, bytes) = files.iter().find(|(file, _)| *file == name).unwrap();
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        assert_eq!(reader.headers().unwrap(), vec!["text", "label"]);
        reader.deserialize().collect::<Result<Vec<Row>, _>>().unwrap()
    };
    (read("train.csv"), read("test.csv"))
}

/// Lines of `unlabelled.txt`.
fn unlabelled(seed: u64) -> Vec<String> {
    let files = support_tickets::generate(seed).files;
    let (_, bytes) = files.iter().find(|(file, _)| *file == "unlabelled.txt").unwrap();
    std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

fn shares(rows: &[Row]) -> BTreeMap<&str, f64> {
    let mut shares = BTreeMap::new();
    for (_, label) in rows {
        *shares.entry(label.as_str()).or_default() += 1.0 / rows.len() as f64;
    }
    shares
}

/// Accuracy on `test` of a multinomial naive Bayes with add-one smoothing, trained on `train`.
fn naive_bayes_accuracy(train: &[Row], test: &[Row]) -> f64 {
    let mut rows: HashMap<&str, f64> = HashMap::new();
    let mut counts: HashMap<&str, HashMap<String, f64>> = HashMap::new();
    let mut vocabulary = HashSet::new();
    for (text, label) in train {
        *rows.entry(label).or_default() += 1.0;
        for word in words(text) {
            vocabulary.insert(word.clone());
            *counts.entry(label).or_default().entry(word).or_default() += 1.0;
        }
    }
    let totals: HashMap<&str, f64> = counts
        .iter()
        .map(|(label, words)| (*label, words.values().sum::<f64>() + vocabulary.len() as f64))
        .collect();
    let score = |label: &str, text: &str| {
        let known = words(text).into_iter().filter(|word| vocabulary.contains(word));
        let log_likelihood: f64 =
            known.map(|word| ((counts[label].get(&word).unwrap_or(&0.0) + 1.0) / totals[label]).ln()).sum();
        rows[label].ln() + log_likelihood
    };
    let right = test.iter().filter(|(text, label)| {
        let best = rows.keys().max_by(|one, other| score(one, text).total_cmp(&score(other, text)));
        best == Some(&label.as_str())
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn both_splits_hold_the_six_intents_alike() {
    let (train, test) = splits(SEED);
    assert_eq!((train.len(), test.len()), (support_tickets::TRAIN_ROWS, support_tickets::TEST_ROWS));
    let (train, test) = (shares(&train), shares(&test));
    assert_eq!(train.len(), 6);
    for (label, share) in train {
        assert!((0.1..0.25).contains(&share), "{label}: {share}");
        assert!((share - test[label]).abs() < 0.05, "{label}: {share} in train, {} in test", test[label]);
    }
}

#[test]
fn no_text_appears_twice() {
    for seed in [SEED, 1] {
        let (train, test) = splits(seed);
        let unlabelled = unlabelled(seed);
        let mut seen = HashSet::new();
        for text in train.iter().chain(&test).map(|(text, _)| text).chain(&unlabelled) {
            assert!(seen.insert(words(text).concat()), "`{text}` appears twice");
        }
    }
}

#[test]
fn the_unlabelled_texts_are_of_the_same_kind() {
    let lines = unlabelled(SEED);
    assert_eq!(lines.len(), support_tickets::UNLABELLED_LINES);
    assert!(lines.iter().all(|line| !line.trim().is_empty()));
    let (train, _) = splits(SEED);
    let known: HashSet<String> = train.iter().flat_map(|(text, _)| words(text)).collect();
    let all: Vec<String> = lines.iter().flat_map(|line| words(line)).collect();
    let share = all.iter().filter(|word| known.contains(*word)).count() as f64 / all.len() as f64;
    assert!(share > 0.9, "{share} of the words occur in the training rows");
    let mean = all.len() as f64 / lines.len() as f64;
    assert!((14.0..22.0).contains(&mean), "{mean} words on average");
}

#[test]
fn texts_are_short_and_hold_accents_and_small_letters() {
    let (train, _) = splits(SEED);
    let lengths: Vec<usize> = train.iter().map(|(text, _)| words(text).len()).collect();
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
    assert!((14.0..22.0).contains(&mean), "{mean} words on average");
    assert!(lengths.iter().all(|length| (1..60).contains(length)));
    let share = |has: fn(&str) -> bool| {
        train.iter().filter(|(text, _)| has(text)).count() as f64 / train.len() as f64
    };
    assert!((0.02..0.2).contains(&share(|text| !text.is_ascii())));
    assert!((0.15..0.4).contains(&share(|text| text == text.to_lowercase())));
}

#[test]
fn keywords_help_and_do_not_suffice() {
    for seed in [SEED, 1] {
        let (train, test) = splits(seed);
        let accuracy = naive_bayes_accuracy(&train, &test);
        assert!((0.86..0.93).contains(&accuracy), "naive Bayes reaches {accuracy} with seed {seed}");
    }
}
