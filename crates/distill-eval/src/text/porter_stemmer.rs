//! Porter's stemmer with the changes of NLTK.
//!
//! Porter 1980, "An algorithm for suffix stripping"; the changes are those of NLTK's default mode
//! (`NLTK_EXTENSIONS`), which ROUGE's Python implementation stems with: some irregular words, short
//! words on `-ies` and `-ied`, `y` to `i` after consonants only, and `-alli`, `-bli`, `-fulli` and
//! `-logi` in the second step.

/// Words that the rules would get wrong, and their stems.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes and what takes their place.
type Rules = [(&'static str, &'static str)];

const PLURALS: &Rules = &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];

const STEP_2: &Rules = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &Rules = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: &Rules = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// The stem of a lower-case word of more than two letters or digits; digits count as consonants.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    let word = step_1a(word);
    let word = step_1b(&word);
    let word = step_1c(&word);
    let word = step_2(&word);
    let word = apply(&word, STEP_3, |stem| measure(stem) > 0);
    let word = step_4(&word);
    let word = step_5a(&word);
    step_5b(&word).to_owned()
}

/// Plurals.
fn step_1a(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(letter) if word.len() == 4 => format!("{letter}ie"),
        _ => apply(word, PLURALS, |_| true),
    }
}

/// Past tenses and participles.
fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return if word.len() == 4 { format!("{stem}ie") } else { format!("{stem}i") };
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word.to_owned() };
    }
    let stem = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing"));
    match stem.filter(|stem| has_vowel(stem)) {
        Some(stem) => mend(stem),
        None => word.to_owned(),
    }
}

/// Gives a verb without `-ed` or `-ing` back what the suffix cost it: `-ate`, `-ble`, `-ize`, one
/// consonant for two, a mute `e`.
fn mend(stem: &str) -> String {
    if ["at", "bl", "iz"].iter().any(|ending| stem.ends_with(ending)) {
        return format!("{stem}e");
    }
    match double_consonant(stem) {
        Some('l' | 's' | 'z') => stem.to_owned(),
        Some(letter) => stem.strip_suffix(letter).unwrap_or(stem).to_owned(),
        None if measure(stem) == 1 && ends_short(stem) => format!("{stem}e"),
        None => stem.to_owned(),
    }
}

/// `y` after a consonant that is not the first letter.
fn step_1c(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(true) => format!("{stem}i"),
        _ => word.to_owned(),
    }
}

/// Double suffixes to single ones.
fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli") {
        return if measure(stem) > 0 { step_2(&format!("{stem}al")) } else { word.to_owned() };
    }
    if word.ends_with("logi") {
        // The `l` belongs to the stem, so that `geo` and `theo` are long enough.
        let stem = word.strip_suffix('i').unwrap_or(word);
        let measured = word.strip_suffix("ogi").unwrap_or(word);
        return if measure(measured) > 0 { stem.to_owned() } else { word.to_owned() };
    }
    apply(word, STEP_2, |stem| measure(stem) > 0)
}

/// Single suffixes of long stems.
fn step_4(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ion") {
        let removable = measure(stem) > 1 && stem.ends_with(['s', 't']);
        return if removable { stem.to_owned() } else { word.to_owned() };
    }
    apply(word, STEP_4, |stem| measure(stem) > 1)
}

/// A last `e`.
fn step_5a(word: &str) -> String {
    let removable = |stem: &&str| match measure(stem) {
        0 => false,
        1 => !ends_short(stem),
        _ => true,
    };
    word.strip_suffix('e').filter(removable).unwrap_or(word).to_owned()
}

/// A last double `l`.
fn step_5b(word: &str) -> &str {
    match word.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && measure(stem) > 1 => stem,
        _ => word,
    }
}

/// Replaces the first suffix of `rules` that the word has, if what is left of the word fulfils
/// `condition`; later rules are not tried.
fn apply(word: &str, rules: &Rules, condition: impl Fn(&str) -> bool) -> String {
    let found =
        rules.iter().find_map(|(suffix, replacement)| Some((word.strip_suffix(suffix)?, replacement)));
    match found {
        Some((stem, replacement)) if condition(stem) => format!("{stem}{replacement}"),
        _ => word.to_owned(),
    }
}

/// Whether each character is a consonant; `y` is one unless it follows one.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.chars().scan(false, |previous, c| {
        *previous = match c {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => !*previous,
            _ => true,
        };
        Some(*previous)
    })
}

/// Porter's `m`: how often a consonant follows a vowel.
fn measure(stem: &str) -> usize {
    let mut after_vowel = false;
    consonants(stem).filter(|&consonant| std::mem::replace(&mut after_vowel, !consonant) && consonant).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

/// The consonant that ends the word twice; Porter's `*d`.
fn double_consonant(word: &str) -> Option<char> {
    let mut letters = word.chars().rev();
    let (last, before) = (letters.next()?, letters.next()?);
    (last == before && consonants(word).last()?).then_some(last)
}

/// Porter's `*o`: consonant, vowel, consonant other than `w`, `x`, `y` at the end; for NLTK also a
/// vowel and a consonant that are all there is.
fn ends_short(word: &str) -> bool {
    let consonants: Vec<_> = consonants(word).collect();
    match consonants[..] {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) {
        for (word, expected) in pairs {
            assert_eq!(stem(word), *expected, "{word}");
        }
    }

    #[test]
    fn measures_as_the_paper_does() {
        for word in ["tr", "ee", "tree", "y", "by", ""] {
            assert_eq!(measure(word), 0, "{word}");
        }
        for word in ["trouble", "oats", "trees", "ivy"] {
            assert_eq!(measure(word), 1, "{word}");
        }
        for word in ["troubles", "private", "oaten", "orrery"] {
            assert_eq!(measure(word), 2, "{word}");
        }
    }

    #[test]
    fn plurals_and_participles() {
        check(&[("caresses", "caress"), ("ponies", "poni"), ("cats", "cat"), ("agreed", "agre")]);
        check(&[("feed", "feed"), ("plastered", "plaster"), ("bled", "bled"), ("sing", "sing")]);
        check(&[("hopping", "hop"), ("falling", "fall"), ("hissing", "hiss"), ("filing", "file")]);
        check(&[("conflated", "conflat"), ("sized", "size"), ("troubled", "troubl")]);
    }

    #[test]
    fn suffixes() {
        check(&[("relational", "relat"), ("conditional", "condit"), ("digitizer", "digit")]);
        check(&[("hopefulness", "hope"), ("electrical", "electr"), ("adjustable", "adjust")]);
        check(&[("adoption", "adopt"), ("replacement", "replac"), ("controll", "control"), ("rate", "rate")]);
    }

    #[test]
    fn what_nltk_changed() {
        check(&[("dies", "die"), ("died", "die"), ("flies", "fli"), ("spied", "spi")]);
        check(&[("enjoy", "enjoy"), ("happy", "happi"), ("spy", "spi"), ("by", "by")]);
        check(&[("geology", "geolog"), ("theology", "theolog"), ("hopefully", "hope"), ("really", "realli")]);
        check(&[("skies", "sky"), ("lying", "lie"), ("innings", "inning"), ("succeed", "succeed")]);
        check(&[("nationally", "nation"), ("conformably", "conform"), ("using", "use")]);
    }

    #[test]
    fn digits_are_consonants() {
        check(&[("1990s", "1990"), ("2a1ing", "2a1e"), ("1234ed", "1234ed")]);
    }
}
