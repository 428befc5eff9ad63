//! `[lora]`: low-rank adapters in place of training every weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::one_or_many::OneOrMany;
use super::parse::Table;
use crate::fault::Fault;
use crate::node::Node;

/// What `[lora]` says; Hu et al. 2021 (arXiv:2106.09685). Names and defaults are PEFT's where it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "rank": "r", "lora_r": "r", "lora_rank": "r", "lora_alpha": "alpha", "lora_dropout": "dropout",
    "targets": "target_modules", "lora_target_modules": "target_modules", "lora_target": "target_modules",
    "target": "target_modules", "rslora": "use_rslora", "lora_modules_to_save": "modules_to_save",
    "path": "adapter", "adapter_name_or_path": "adapter"
}))]
pub struct LoraTable {
    /// Rank of the adapters; at least 1, default 8.
    #[schemars(range(min = 1))]
    pub r: usize,
    /// The adapters' part is multiplied by `alpha / r`; above 0, default 16.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Dropout of the adapters' input; 0 to below 1, default 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Layers that get an adapter: `"all-linear"`, an expression for whole names, or a list of names such as `["q_proj", "v_proj"]`; default `"all-linear"`.
    pub target_modules: OneOrMany<String>,
    /// Multiply by `alpha / √r` instead; default `false`.
    pub use_rslora: bool,
    /// Layers that learn as a whole and are saved with the adapters; a classifier's head and other new layers are without being named.
    pub modules_to_save: Vec<String>,
    /// Adapter to start from, a folder in PEFT's layout or a hub id; its own settings then count.
    #[schemars(length(min = 1))]
    pub adapter: Option<String>,
}

impl Default for LoraTable {
    fn default() -> Self {
        Self {
            r: 8,
            alpha: 16.0,
            dropout: 0.0,
            target_modules: OneOrMany(vec!["all-linear".to_owned()]),
            use_rslora: false,
            modules_to_save: Vec::new(),
            adapter: None,
        }
    }
}

impl Table for LoraTable {
    const KEY: &'static str = "lora";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        if self.target_modules.iter().any(|name| name.trim().is_empty()) || self.target_modules.is_empty() {
            let fault = written.fault_at("target_modules", "`target_modules` must not be empty").with_help(
                "write `target_modules = \"all-linear\"`, or names such as `[\"q_proj\", \"v_proj\"]`",
            );
            faults.push(fault);
        }
        let all = self.target_modules.iter().any(|name| name == "all-linear");
        if all && self.target_modules.len() > 1 {
            let message = "`all-linear` stands for every layer: no other names can be beside it";
            faults.push(written.fault_at("target_modules", message));
        }
        for key in ["r", "alpha", "target_modules", "use_rslora", "modules_to_save"] {
            if self.adapter.is_some() && written.get(key).is_some() {
                let message = format!("`{key}` is that of the adapter in `adapter`");
                faults.push(written.fault_at(key, message).with_help("remove one of the two"));
            }
        }
    }
}
