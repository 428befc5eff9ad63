//! Axes: which values a plot shows, where, and which of them it names.

use crate::terminal::units::count;
use std::ops::RangeInclusive;

/// Largest through smallest value from which on a scale is logarithmic.
const WIDE: f64 = 8.0;
/// Free room at both ends, as a share of the values' range.
const ROOM: f64 = 0.1;
/// Named values of a linear axis, about.
const TICKS: f64 = 6.0;
/// Named values of a logarithmic axis, at most.
const MOST_TICKS: usize = 9;

/// An axis that holds some values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    scale: Scale,
    /// The values at both ends.
    ends: [f64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// As it is written.
    pub name: String,
}

impl Axis {
    /// Logarithmic if the values differ widely, else linear.
    pub fn of_wide(values: impl Iterator<Item = f64> + Clone) -> Self {
        let [least, most] = range(values.clone());
        if least > 0.0 && most / least >= WIDE {
            let room = (most / least).powf(ROOM);
            return Self { scale: Scale::Logarithmic, ends: [least / room, most * room] };
        }
        Self::linear(values)
    }

    /// Linear.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let [least, most] = range(values);
        let width = if most > least { most - least } else { (most.abs() * 0.1).max(1e-3) };
        let room = width * if most > least { ROOM } else { 1.0 };
        // A quantity that is never negative has no room below zero.
        let low = if least >= 0.0 { (least - room).max(0.0) } else { least - room };
        Self { scale: Scale::Linear, ends: [low, most + room] }
    }

    /// Where a value is: 0 at the lower end, 1 at the upper one.
    pub fn share(&self, value: f64) -> f64 {
        let [low, high] = self.ends;
        match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value / low).ln() / (high / low).ln(),
        }
    }

    /// The values to name: round ones, within `allowed`.
    pub fn ticks(&self, allowed: RangeInclusive<f64>) -> Vec<Tick> {
        let [low, high] = self.ends;
        let ticks = match self.scale {
            Scale::Linear => linear_ticks(low, high),
            Scale::Logarithmic => logarithmic_ticks(low, high),
        };
        ticks.into_iter().filter(|tick| allowed.contains(&tick.value)).collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let ends = values.filter(|value| value.is_finite()).fold(None, |ends: Option<[f64; 2]>, value| {
        let [least, most] = ends.unwrap_or([value; 2]);
        Some([least.min(value), most.max(value)])
    });
    ends.unwrap_or([0.0, 1.0])
}

fn linear_ticks(low: f64, high: f64) -> Vec<Tick> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let decimals = (-(step * 1.0001).log10().floor()).max(0.0) as usize;
    let first = (low / step).ceil() as i64;
    (first..)
        .map(|number| number as f64 * step)
        .take_while(|&value| value <= high)
        .map(|value| Tick { value, name: format!("{value:.decimals$}") })
        .collect()
}

fn logarithmic_ticks(low: f64, high: f64) -> Vec<Tick> {
    let of = |digits: &[f64]| -> Vec<Tick> {
        let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        values
            .filter(|value| (low..=high).contains(value))
            .map(|value| Tick { value, name: plain(value) })
            .collect()
    };
    let all = of(&[1.0, 2.0, 5.0]);
    if all.len() > MOST_TICKS { of(&[1.0]) } else { all }
}

/// `0.05`, `2`, `5,000`.
fn plain(value: f64) -> String {
    if value >= 1.0 {
        return count(value.round() as u64);
    }
    let decimals = (-value.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks(f64::MIN..=f64::MAX).into_iter().map(|tick| tick.name).collect()
    }

    #[test]
    fn close_values_have_a_linear_axis() {
        let axis = Axis::of_wide([2.0, 7.0, 4.0].into_iter());
        assert_eq!(names(&axis), ["2", "3", "4", "5", "6", "7"]);
        assert!(axis.share(2.0) > 0.05 && axis.share(7.0) < 0.95);
        assert!((axis.share(4.5) - 0.5).abs() < 1e-12);
        let axis = Axis::linear([85.4, 90.2].into_iter());
        assert_eq!(names(&axis), ["85", "86", "87", "88", "89", "90"]);
        assert_eq!(
            names(&Axis::linear([90.16, 90.21].into_iter())),
            ["90.16", "90.17", "90.18", "90.19", "90.20", "90.21"]
        );
    }

    #[test]
    fn distant_values_have_a_logarithmic_axis() {
        let axis = Axis::of_wide([0.3, 9.0].into_iter());
        assert_eq!(names(&axis), ["0.5", "1", "2", "5", "10"]);
        assert!((axis.share((0.3f64 * 9.0).sqrt()) - 0.5).abs() < 1e-12);
        let axis = Axis::of_wide([0.01, 9000.0].into_iter());
        assert_eq!(names(&axis), ["0.01", "0.1", "1", "10", "100", "1,000", "10,000"]);
    }

    #[test]
    fn one_value_is_in_the_middle() {
        for value in [90.0, 0.5, -3.0] {
            let axis = Axis::of_wide([value, value].into_iter());
            assert!((axis.share(value) - 0.5).abs() < 1e-9, "{axis:?}");
            assert!(names(&axis).len() >= 2, "{axis:?}");
        }
        assert!(Axis::linear([0.0].into_iter()).share(0.0).is_finite());
        assert!(Axis::linear(std::iter::empty()).share(0.5).is_finite());
    }

    #[test]
    fn impossible_values_are_not_named() {
        let axis = Axis::linear([92.0, 100.0].into_iter());
        let ticks = axis.ticks(0.0..=100.0);
        assert_eq!(ticks.last().map(|tick| tick.name.as_str()), Some("100"));
        assert!(
            names(&Axis::linear([0.1, 1.0].into_iter())).first().is_some_and(|name| !name.starts_with('-'))
        );
    }
}
