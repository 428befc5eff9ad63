//! What there is to compute on.

use crate::terminal::Paint;
use crate::terminal::table::Facts;
use distill_ops::{DeviceSpec, describe, resolve};
use serde::Serialize;

/// Every device that a recipe can name.
#[derive(Debug, Serialize)]
pub struct Devices {
    /// What `auto` stands for; `None` if nothing can be used.
    auto: Option<String>,
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
        let auto = resolve(DeviceSpec::Auto).ok().map(|device| describe(&device));
        Self { auto, devices }
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
        facts.lines(width).join("\n") + "\n"
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
        for name in ["flex", "ndarray", "cuda", "auto"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
        }
        assert!(devices.devices.iter().all(|device| device.usable == device.reason.is_none()));
    }
}
