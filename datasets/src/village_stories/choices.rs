//! The choices of a story: drawn with their surprisal, or all of them with their probabilities.

use crate::dice::Dice;

/// Words with how often each is taken.
pub(crate) type Words = [(usize, &'static str)];

/// Whoever decides how a story goes on.
pub(crate) trait Choose {
    /// An index, each as likely as its weight; one of the weights must be above 0.
    fn choose(&mut self, weights: &[usize]) -> usize;

    /// A word that nothing later depends on but by repeating it.
    fn word(&mut self, words: &'static Words) -> &'static str {
        let weights: Vec<usize> = words.iter().map(|(weight, _)| *weight).collect();
        words[self.choose(&weights)].1
    }
}

/// Draws by the dice and adds up `−ln p` of what was drawn.
pub(crate) struct Drawn {
    dice: Dice,
    /// Nats since this was last taken.
    surprisal: f64,
}

impl Drawn {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), surprisal: 0.0 }
    }

    /// `−ln p` of all choices since the last call, nats.
    pub(crate) fn take_surprisal(&mut self) -> f64 {
        std::mem::take(&mut self.surprisal)
    }
}

impl Choose for Drawn {
    fn choose(&mut self, weights: &[usize]) -> usize {
        let index = self.dice.weighted(weights);
        self.surprisal -= probability(weights, index).ln();
        index
    }
}

/// One way through a few choices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way<T> {
    /// How likely it is.
    pub(crate) probability: f64,
    /// `−ln` of that, and the entropy of the words on the way; nats.
    pub(crate) nats: f64,
    /// What is at its end.
    pub(crate) end: T,
}

/// Every way that `go` can take, a word counting as its entropy: which one it is decides nothing.
pub(crate) fn ways<T>(go: impl Fn(&mut dyn Choose) -> T) -> Vec<Way<T>> {
    all_ways(|path| {
        let mut averaged = Averaged { path, entropy: 0.0 };
        let end = go(&mut averaged);
        (end, averaged.entropy)
    })
}

/// Runs `go`, which tells its end and the nats that it adds, once for each way through its choices.
fn all_ways<T>(go: impl Fn(&mut Path) -> (T, f64)) -> Vec<Way<T>> {
    let mut found = Vec::new();
    let mut path = Path::default();
    loop {
        let (end, entropy) = go(&mut path);
        let probability = path.probability;
        found.push(Way { probability, nats: entropy - probability.ln(), end });
        if !path.advance() {
            return found;
        }
    }
}

/// Choices as an odometer: each of its wheels is one of them.
#[derive(Debug)]
struct Path {
    /// Index and weights of each choice so far.
    wheels: Vec<(usize, Vec<usize>)>,
    /// Choices that this run has made.
    made: usize,
    probability: f64,
}

impl Default for Path {
    fn default() -> Self {
        Self { wheels: Vec::new(), made: 0, probability: 1.0 }
    }
}

impl Path {
    /// Turns to the next way; false if this was the last.
    fn advance(&mut self) -> bool {
        (self.made, self.probability) = (0, 1.0);
        while let Some((index, weights)) = self.wheels.pop() {
            if let Some(next) = (index + 1..weights.len()).find(|next| weights[*next] > 0) {
                self.wheels.push((next, weights));
                return true;
            }
        }
        false
    }
}

impl Choose for Path {
    fn choose(&mut self, weights: &[usize]) -> usize {
        if self.made == self.wheels.len() {
            let first = weights.iter().position(|weight| *weight > 0).unwrap_or(0);
            self.wheels.push((first, weights.to_vec()));
        }
        let index = self.wheels[self.made].0;
        self.made += 1;
        self.probability *= probability(weights, index);
        index
    }
}

struct Averaged<'a> {
    path: &'a mut Path,
    entropy: f64,
}

impl Choose for Averaged<'_> {
    fn choose(&mut self, weights: &[usize]) -> usize {
        self.path.choose(weights)
    }

    fn word(&mut self, words: &'static Words) -> &'static str {
        let weights: Vec<usize> = words.iter().map(|(weight, _)| *weight).collect();
        self.entropy += (0..weights.len())
            .map(|index| probability(&weights, index))
            .filter(|probability| *probability > 0.0)
            .map(|probability| -probability * probability.ln())
            .sum::<f64>();
        words[0].1
    }
}

fn probability(weights: &[usize], index: usize) -> f64 {
    weights[index] as f64 / weights.iter().sum::<usize>() as f64
}

/// Every way with every word, for tests: many.
#[cfg(test)]
pub(crate) fn ways_with_words<T>(go: impl Fn(&mut dyn Choose) -> T) -> Vec<Way<T>> {
    all_ways(|path| (go(path), 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &Words = &[(3, "often"), (1, "rarely")];

    fn two_choices(choices: &mut dyn Choose) -> String {
        match choices.choose(&[1, 0, 2]) {
            0 => "end".to_owned(),
            other => format!("{other} {}", choices.word(WORDS)),
        }
    }

    #[test]
    fn all_ways_are_found_with_their_probabilities() {
        let found: Vec<_> =
            ways_with_words(two_choices).into_iter().map(|way| (way.end, way.probability)).collect();
        let expected = [("end", 1.0 / 3.0), ("2 often", 0.5), ("2 rarely", 1.0 / 6.0)];
        assert_eq!(found.len(), expected.len());
        for ((end, probability), (known, likely)) in found.iter().zip(expected) {
            assert_eq!(end, known);
            assert!((probability - likely).abs() < 1e-12);
        }
    }

    #[test]
    fn averaging_over_words_leaves_the_entropy_as_it_is() {
        let mean = |ways: &[Way<String>]| ways.iter().map(|way| way.probability * way.nats).sum::<f64>();
        let (short, long) = (ways(two_choices), ways_with_words(two_choices));
        assert_eq!(short.len(), 2);
        assert!((mean(&short) - mean(&long)).abs() < 1e-12);
    }

    #[test]
    fn what_is_drawn_has_its_surprisal() {
        let mut drawn = Drawn::new(3);
        for _ in 0..50 {
            let expected = if drawn.word(WORDS) == "often" { 0.75_f64 } else { 0.25 };
            assert!((drawn.take_surprisal() + expected.ln()).abs() < 1e-12);
        }
    }
}
