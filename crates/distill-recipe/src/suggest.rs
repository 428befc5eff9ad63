//! "Did you mean".

/// The known name that a mistyped one is most likely meant to be, or none if nothing is near.
///
/// Near is a Damerau-Levenshtein distance of at most a third of the longer name (one edit is always
/// near), or a Jaro-Winkler similarity of 0.9, which catches names cut short (`batch`). Letter case
/// and `-` against `_` do not count.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = normalise(found);
    if found.is_empty() {
        return None;
    }
    known
        .into_iter()
        .filter_map(|name| {
            let candidate = normalise(name);
            let distance = strsim::damerau_levenshtein(&found, &candidate);
            let similarity = strsim::jaro_winkler(&found, &candidate);
            let longer = found.chars().count().max(candidate.chars().count());
            let shorter = found.chars().count().min(candidate.chars().count());
            let near = distance <= (longer / 3).max(1) && distance < shorter.max(1);
            (near || similarity >= 0.9 || distance == 0).then_some((distance, similarity, name))
        })
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, name)| name)
}

fn normalise(name: &str) -> String {
    name.trim().to_lowercase().replace('-', "_")
}

/// `` `a`, `b` and `c` ``, with the given last joint.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>, joint: &str) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    joined(&quoted, joint)
}

/// `a, b and c`, with the given last joint.
pub(crate) fn joined(parts: &[String], joint: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {joint} {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 7] =
        ["epochs", "batch_size", "eval_batch_size", "learning_rate", "warmup_ratio", "warmup_steps", "seed"];

    #[test]
    fn typing_slips_find_their_key() {
        for (found, meant) in [
            ("epoch", "epochs"),
            ("epohcs", "epochs"),
            ("batchsize", "batch_size"),
            ("batch", "batch_size"),
            ("Learning-Rate", "learning_rate"),
            ("warmup_ration", "warmup_ratio"),
            ("warmup_step", "warmup_steps"),
            ("sede", "seed"),
        ] {
            assert_eq!(did_you_mean(found, KEYS), Some(meant), "{found}");
        }
    }

    #[test]
    fn strangers_find_nothing() {
        for found in ["", " ", "colour", "x", "optimizer", "gpu"] {
            assert_eq!(did_you_mean(found, KEYS), None, "{found}");
        }
    }

    #[test]
    fn short_names_are_not_turned_into_each_other() {
        assert_eq!(did_you_mean("x", ["r"]), None);
        assert_eq!(did_you_mean("ab", ["r"]), None);
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(quoted_list([], "or"), "");
        assert_eq!(quoted_list(["a"], "or"), "`a`");
        assert_eq!(quoted_list(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
