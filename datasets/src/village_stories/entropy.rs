//! The entropy of the source, from its probabilities alone.

use super::choices::ways;
use super::story::{Frame, State, go_on, open};
use std::collections::BTreeMap;

/// Entropy of a story and its mean number of sentences, the opening among them.
///
/// `H = Σ_s π(s) Σ_w p(w | s) (−ln p(w | s))` over the states `s` that a story passes through and
/// the ways `w` on from each: the chain rule (Cover and Thomas, Elements of Information Theory,
/// §2.5). No text is made in two ways, so that this is the entropy of the text; the story's end
/// is one of the choices.
pub(crate) fn entropy() -> (f64, f64) {
    let (mut nats, mut sentences) = (0.0, 1.0);
    // Of one class all stories go on alike, whatever is kept and whoever keeps it.
    let mut reached: BTreeMap<(usize, State), (Frame, f64)> = BTreeMap::new();
    for way in ways(open) {
        nats += way.probability * way.nats;
        let (_, frame, state) = way.end;
        reached.entry((frame.class, state)).or_insert((frame, 0.0)).1 += way.probability;
    }
    while !reached.is_empty() {
        for ((class, state), (frame, probability)) in std::mem::take(&mut reached) {
            for way in ways(|choices| go_on(&frame, state, choices)) {
                nats += probability * way.probability * way.nats;
                if let Some((_, next)) = way.end {
                    sentences += probability * way.probability;
                    reached.entry((class, next)).or_insert_with(|| (frame.clone(), 0.0)).1 +=
                        probability * way.probability;
                }
            }
        }
    }
    (nats, sentences)
}

#[cfg(test)]
mod tests {
    use super::super::choices::Drawn;
    use super::super::tell;
    use super::*;

    #[test]
    fn the_mean_surprisal_of_many_stories_is_the_entropy() {
        let (exact, sentences) = entropy();
        let mut drawn = Drawn::new(77);
        let stories: Vec<_> = (0..20_000).map(|_| tell(&mut drawn)).collect();
        let count = stories.len() as f64;
        let mean = stories.iter().map(|story| story.nats).sum::<f64>() / count;
        let variance = stories.iter().map(|story| (story.nats - mean).powi(2)).sum::<f64>() / (count - 1.0);
        // Four standard errors.
        assert!((mean - exact).abs() < 4.0 * (variance / count).sqrt(), "{mean} for {exact}");
        let told = stories.iter().map(|story| story.text.matches('.').count()).sum::<usize>() as f64 / count;
        assert!((told - sentences).abs() < 0.05, "{told} for {sentences}");
    }
}
