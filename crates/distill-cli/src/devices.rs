//! What there is to compute on.

use crate::terminal::Paint;
use crate::terminal::table::Facts;
use distill_ops::{DeviceSpec, ISA_VARIABLE, Isa, describe, isa, resolve, threads};
use distill_recipe::DtypeChoice;
use distill_train::precision_for;
use serde::Serialize;

/// Every device that a recipe can name, and what the kernels of `flex` find in this processor.
#[derive(Debug, Serialize)]
pub struct Devices {
    /// What `auto` stands for; `None` if nothing can be used.
    auto: Option<String>,
    /// What `dtype = "auto"` stands for on that device.
    auto_dtype: Option<String>,
    /// The instruction set that the kernels use.
    instruction_set: String,
    /// Those that this processor has, slowest first.
    instruction_sets: Vec<String>,
    /// What the environment variable that chooses one says.
    isa_variable: Option<String>,
    /// Threads for tensor work on the CPU.
    threads: usize,
    devices: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    usable: bool,
    /// Why not.
    reason: Option<String>,
}

/// GPUs that are looked for; more have not been seen in one machine.
const MOST_GPUS: usize = 64;

impl Devices {
    /// Asks each device whether it answers.
    pub fn look() -> Self {
        let mut devices =
            vec![entry(DeviceSpec::Flex), entry(DeviceSpec::NdArray), entry(DeviceSpec::Cuda(0))];
        let more = (1..MOST_GPUS).map(|index| entry(DeviceSpec::Cuda(index)));
        devices.extend(more.take_while(|entry| entry.usable));
        let auto = resolve(DeviceSpec::Auto).ok();
        let auto_dtype = auto.as_ref().and_then(|device| precision_for(DtypeChoice::Auto, device).ok());
        Self {
            auto: auto.as_ref().map(describe),
            auto_dtype: auto_dtype.map(|precision| precision.to_string()),
            instruction_set: isa().to_string(),
            instruction_sets: Isa::available().iter().map(ToString::to_string).collect(),
            isa_variable: std::env::var(ISA_VARIABLE).ok(),
            threads: threads(),
            devices,
        }
    }

    /// A table, with a line end.
    pub fn render(&self, paint: Paint, width: usize) -> String {
        let mut facts = Facts::new(paint);
        for device in &self.devices {
            let state = match &device.reason {
                None => paint.green("ready"),
                Some(reason) => paint.dim(reason),
            };
            facts.add(&device.name, state);
        }
        let auto = self.auto.as_deref().unwrap_or("nothing");
        facts.add("auto", format!("stands for {auto}"));
        facts.add("instructions", self.instructions());
        facts.add(ISA_VARIABLE, self.variable());
        facts.add("threads", self.threads.to_string());
        if let Some(dtype) = &self.auto_dtype {
            facts.add("dtype", format!("`auto` stands for {dtype}"));
        }
        facts.lines(width).join("\n") + "\n"
    }

    fn instructions(&self) -> String {
        format!("{}; this processor has {}", self.instruction_set, self.instruction_sets.join(", "))
    }

    fn variable(&self) -> String {
        match &self.isa_variable {
            None => "not set".to_owned(),
            Some(asked) if self.instruction_sets.contains(asked) => format!("set to {asked}"),
            Some(asked) => {
                format!(
                    "set to {asked}, which this processor does not have: {} is used",
                    self.instruction_set
                )
            }
        }
    }
}

fn entry(spec: DeviceSpec) -> Entry {
    let reason = resolve(spec).err().map(|error| error.to_string());
    Entry { name: spec.to_string(), usable: reason.is_none(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_listed_with_its_state() {
        let devices = Devices::look();
        let text = devices.render(Paint::PLAIN, 80);
        for name in ["flex", "ndarray", "cuda", "auto", "instructions", "DISTILL_ISA", "threads", "dtype"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
        }
        assert!(devices.devices.iter().all(|device| device.usable == device.reason.is_none()));
    }

    #[test]
    fn tells_what_the_processor_has_and_what_is_used() {
        let ready = |name: &str| Entry { name: name.to_owned(), usable: true, reason: None };
        let mut devices = Devices {
            auto: Some("flex".to_owned()),
            auto_dtype: Some("f32".to_owned()),
            instruction_set: "avx2".to_owned(),
            instruction_sets: ["portable", "avx2"].map(str::to_owned).to_vec(),
            isa_variable: Some("amx".to_owned()),
            threads: 2,
            devices: vec![ready("flex"), ready("ndarray")],
        };
        insta::assert_snapshot!(devices.render(Paint::PLAIN, 80));
        devices.isa_variable = Some("avx2".to_owned());
        assert_eq!(devices.variable(), "set to avx2");
        devices.isa_variable = None;
        assert_eq!(devices.variable(), "not set");
    }
}
