//! Frequencies of rotary position embeddings, and how they are stretched for long texts.
//!
//! Follows `ROPE_INIT_FUNCTIONS` in Transformers' `modeling_rope_utils.py`: `default`, `linear`, `dynamic`, `yarn`
//! (Peng et al. 2023, arXiv:2309.00071), `longrope` (Ding et al. 2024, arXiv:2402.13753) and `llama3`.

use std::f64::consts::PI;

use distill_ops::RotaryTable;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ConfigError;
use crate::config::Checks;

/// The names of the kinds.
const KINDS: [&str; 6] = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"];

/// `rope_parameters` of a `config.json`, or `rope_theta` and `rope_scaling` of older ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RopeParameters {
    pub(crate) rope_theta: f64,
    #[serde(alias = "type")]
    pub(crate) rope_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_fast: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_slow: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mscale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mscale_all_dim: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_factor: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long_factor: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_rotary_factor: Option<f64>,
}

impl Default for RopeParameters {
    fn default() -> Self {
        Self {
            rope_theta: 10_000.0,
            rope_type: "default".to_owned(),
            factor: None,
            original_max_position_embeddings: None,
            attention_factor: None,
            beta_fast: None,
            beta_slow: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: None,
            low_freq_factor: None,
            high_freq_factor: None,
            short_factor: None,
            long_factor: None,
            partial_rotary_factor: None,
        }
    }
}

impl RopeParameters {
    /// The plain kind with this base.
    pub(crate) fn of_base(rope_theta: f64) -> Self {
        Self { rope_theta, ..Self::default() }
    }

    /// From the keys of a `config.json`, whichever way it writes them.
    pub(crate) fn read(keys: &Map<String, Value>) -> Result<Self, ConfigError> {
        let table = |key: &str| keys.get(key).and_then(Value::as_object).cloned();
        let (key, mut found) = match (table("rope_parameters"), table("rope_scaling")) {
            (Some(parameters), _) => ("rope_parameters", parameters),
            (None, Some(scaling)) => ("rope_scaling", scaling),
            (None, None) => ("rope_theta", Map::new()),
        };
        for outside in ["rope_theta", "original_max_position_embeddings", "partial_rotary_factor"] {
            if let Some(value) = keys.get(outside).filter(|value| !value.is_null()) {
                found.entry(outside).or_insert_with(|| value.clone());
            }
        }
        // Files that say it both ways.
        if found.contains_key("rope_type") {
            found.remove("type");
        }
        found.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(found.clone())).map_err(|error| {
            let reason = error.to_string();
            ConfigError::value(
                key,
                Value::Object(found),
                format!("has a value that cannot be used ({reason})"),
            )
        })
    }

    pub(crate) fn check(&self, head_size: usize, checks: &mut Checks) {
        checks.above_zero("rope_theta", self.rope_theta);
        if !head_size.is_multiple_of(2) && checks.is_clean() {
            checks.fail(ConfigError::value("head_dim", head_size, "must be even for rotary positions"));
        }
        if let Some(part) = self.partial_rotary_factor.filter(|part| *part != 1.0) {
            checks.fail(ConfigError::value("partial_rotary_factor", part, "must be 1"));
        }
        let mut needs = |key: &str, value: Option<f64>| match value {
            Some(value) => checks.above_zero(key, value),
            None => {
                let expected = format!("must have a number for rope type `{}`", self.rope_type);
                checks.fail(ConfigError::value(key, "nothing", expected));
            }
        };
        match self.rope_type.as_str() {
            "default" => {}
            "linear" | "dynamic" => needs("factor", self.factor),
            "yarn" => {
                needs("original_max_position_embeddings", self.original_max_position_embeddings.or(Some(1.0)))
            }
            "llama3" => {
                needs("factor", self.factor);
                needs("low_freq_factor", self.low_freq_factor);
                needs("high_freq_factor", self.high_freq_factor);
                needs("original_max_position_embeddings", self.original_max_position_embeddings);
            }
            "longrope" => {
                needs("original_max_position_embeddings", self.original_max_position_embeddings);
                for (key, factors) in
                    [("short_factor", &self.short_factor), ("long_factor", &self.long_factor)]
                {
                    let found = factors.as_ref().map_or(0, Vec::len);
                    if found != head_size / 2 {
                        let expected = format!("must have {} numbers, half of `head_dim`", head_size / 2);
                        checks.fail(ConfigError::value(key, found, expected));
                    }
                }
            }
            other => {
                let names = KINDS.map(|name| format!("`{name}`")).join(", ");
                checks.fail(ConfigError::value("rope_type", other, format!("must be one of {names}")));
            }
        }
    }
}

/// Rotary positions of one architecture's heads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RotaryEmbedding {
    parameters: RopeParameters,
    head_size: usize,
    max_position_embeddings: usize,
}

impl RotaryEmbedding {
    pub(crate) fn new(parameters: RopeParameters, head_size: usize, max_position_embeddings: usize) -> Self {
        Self { parameters, head_size, max_position_embeddings }
    }

    /// The angles of these places, `[rows, seq]` row by row.
    pub(crate) fn table(&self, position_ids: &[u32], rows: usize) -> RotaryTable {
        let length = position_ids.iter().max().map_or(0, |last| *last as usize + 1);
        let (inv_freq, attention_factor) = self.frequencies(length);
        let inv_freq: Vec<f32> = inv_freq.into_iter().map(|frequency| frequency as f32).collect();
        RotaryTable::new(position_ids, rows, &inv_freq, attention_factor)
    }

    /// `1 / θ^(2i / head_size)`.
    fn plain(&self, theta: f64) -> Vec<f64> {
        (0..self.head_size / 2).map(|i| theta.powf(-(2.0 * i as f64) / self.head_size as f64)).collect()
    }

    /// The frequencies for texts of `length` tokens, and what cosine and sine are multiplied by.
    fn frequencies(&self, length: usize) -> (Vec<f64>, f64) {
        let parameters = &self.parameters;
        let plain = self.plain(parameters.rope_theta);
        let longest = self.max_position_embeddings as f64;
        let original = parameters.original_max_position_embeddings.unwrap_or(longest);
        let factor = parameters.factor.unwrap_or(longest / original);
        match parameters.rope_type.as_str() {
            "linear" => (plain.into_iter().map(|frequency| frequency / factor).collect(), 1.0),
            "dynamic" => {
                // NTK-aware: the base grows with texts that are longer than those of pretraining.
                let size = self.head_size as f64;
                let length = (length as f64).max(original);
                let stretched = factor * length / original - (factor - 1.0);
                (self.plain(parameters.rope_theta * stretched.powf(size / (size - 2.0))), 1.0)
            }
            "yarn" => self.yarn(plain, factor, original),
            "longrope" => {
                let factors =
                    if length as f64 > original { &parameters.long_factor } else { &parameters.short_factor };
                let scale = parameters.attention_factor.unwrap_or_else(|| {
                    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() }
                });
                let factors = factors.iter().flatten();
                (
                    plain.into_iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect(),
                    scale,
                )
            }
            "llama3" => {
                let low = parameters.low_freq_factor.unwrap_or(1.0);
                let high = parameters.high_freq_factor.unwrap_or(4.0);
                let stretch = |frequency: f64| {
                    let wavelength = 2.0 * PI / frequency;
                    if wavelength < original / high {
                        return frequency;
                    }
                    if wavelength > original / low {
                        return frequency / factor;
                    }
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                (plain.into_iter().map(stretch).collect(), 1.0)
            }
            _ => (plain, 1.0),
        }
    }

    fn yarn(&self, plain: Vec<f64>, factor: f64, original: f64) -> (Vec<f64>, f64) {
        let parameters = &self.parameters;
        let scale_of = |scale: f64, m: f64| if scale <= 1.0 { 1.0 } else { 0.1 * m * scale.ln() + 1.0 };
        let attention_factor = parameters.attention_factor.unwrap_or_else(|| {
            match (parameters.mscale, parameters.mscale_all_dim) {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale_of(factor, m) / scale_of(factor, all),
                _ => scale_of(factor, 1.0),
            }
        });
        let size = self.head_size as f64;
        let dimension =
            |turns: f64| size * (original / (turns * 2.0 * PI)).ln() / (2.0 * parameters.rope_theta.ln());
        let or = |value: Option<f64>, default: f64| value.filter(|value| *value != 0.0).unwrap_or(default);
        let (mut low, mut high) =
            (dimension(or(parameters.beta_fast, 32.0)), dimension(or(parameters.beta_slow, 1.0)));
        if parameters.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(size - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, frequency): (usize, f64)| {
            let kept = 1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            frequency / factor * (1.0 - kept) + frequency * kept
        };
        (plain.into_iter().enumerate().map(blend).collect(), attention_factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn embedding(keys: Value) -> RotaryEmbedding {
        let Value::Object(keys) = keys else { unreachable!() };
        let parameters = RopeParameters::read(&keys).unwrap();
        let mut checks = Checks::default();
        parameters.check(8, &mut checks);
        checks.finish().unwrap();
        RotaryEmbedding::new(parameters, 8, 64)
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} instead of {expected}");
        }
    }

    #[test]
    fn both_ways_to_write_them_are_read() {
        let new = embedding(
            json!({"rope_parameters": {"rope_theta": 5000.0, "rope_type": "linear", "factor": 2.0}}),
        );
        let old = embedding(json!({"rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}));
        assert_eq!(new, old);
        close(
            &new.frequencies(1).0,
            &[0.5, 5000f64.powf(-0.25) / 2.0, 5000f64.powf(-0.5) / 2.0, 5000f64.powf(-0.75) / 2.0],
        );
        assert_eq!(embedding(json!({"rope_scaling": null})).parameters, RopeParameters::default());
    }

    #[test]
    fn short_texts_are_not_stretched() {
        let dynamic = embedding(json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}));
        let plain = embedding(json!({}));
        close(&dynamic.frequencies(64).0, &plain.frequencies(64).0);
        assert!(dynamic.frequencies(128).0[3] < plain.frequencies(128).0[3] / 4.0);
        let long = embedding(json!({"rope_scaling": {
            "rope_type": "longrope", "original_max_position_embeddings": 32,
            "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0, 2.0, 4.0, 8.0]
        }}));
        close(&long.frequencies(32).0, &plain.frequencies(32).0);
        close(&[long.frequencies(33).0[3] * 8.0], &[plain.frequencies(33).0[3]]);
        close(&[long.frequencies(1).1], &[(1.0 + 2f64.ln() / 32f64.ln()).sqrt()]);
    }

    #[test]
    fn fast_frequencies_stay_and_slow_ones_are_divided() {
        let llama3 = embedding(json!({"rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32
        }}));
        let (plain, found) = (embedding(json!({})).frequencies(1).0, llama3.frequencies(1).0);
        close(&[found[0], found[3]], &[plain[0], plain[3] / 8.0]);
        let yarn = embedding(json!({"rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16
        }}));
        let (found, scale) = yarn.frequencies(1);
        close(&[found[3], scale], &[plain[3] / 4.0, 0.1 * 4f64.ln() + 1.0]);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let faults = |keys: Value| {
            let Value::Object(keys) = keys else { unreachable!() };
            let mut checks = Checks::default();
            RopeParameters::read(&keys).unwrap().check(8, &mut checks);
            checks.finish().unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(
            faults(json!({"rope_scaling": {"type": "linear"}}))[0].starts_with("`factor` must have a number")
        );
        assert!(faults(json!({"rope_scaling": {"type": "su"}}))[0].contains("`longrope`"));
        assert_eq!(faults(json!({"rope_scaling": {"type": "longrope"}})).len(), 3);
    }
}
