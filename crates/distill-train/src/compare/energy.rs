//! Energy of the processor, by the counters that Linux shows of RAPL.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux has them: <https://docs.kernel.org/power/powercap/powercap.html>.
const POWERCAP: &str = "/sys/class/powercap";
/// Intel's name for all of them, AMD's too.
const PREFIX: &str = "intel-rapl:";

/// The counters of all processor packages.
#[derive(Clone, Debug)]
pub struct Rapl {
    packages: Vec<Package>,
}

#[derive(Clone, Debug)]
struct Package {
    counter: PathBuf,
    /// Largest value of the counter, in microjoules; after it comes 0.
    range: u64,
}

/// What the counters said at some time, in microjoules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading(Vec<u64>);

impl Rapl {
    /// The counters of this machine; `None` where there are none or this user may not read them.
    pub fn find() -> Option<Self> {
        Self::find_in(Path::new(POWERCAP))
    }

    fn find_in(folder: &Path) -> Option<Self> {
        let mut packages: Vec<Package> = fs::read_dir(folder)
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                // Below a package are its parts, `intel-rapl:0:0`, which are in it already.
                let number = name.strip_prefix(PREFIX)?;
                let path = entry.path();
                let is_package = number.parse::<u32>().is_ok()
                    && fs::read_to_string(path.join("name")).ok()?.starts_with("package");
                let range = number_in(&path.join("max_energy_range_uj"))?;
                is_package.then(|| Package { counter: path.join("energy_uj"), range })
            })
            .collect();
        packages.sort_by(|a, b| a.counter.cmp(&b.counter));
        let found = Self { packages };
        found.read()?;
        (!found.packages.is_empty()).then_some(found)
    }

    /// What the counters say now.
    pub(super) fn read(&self) -> Option<Reading> {
        self.packages.iter().map(|package| number_in(&package.counter)).collect::<Option<_>>().map(Reading)
    }

    /// Joules between two readings, if no counter began anew more than once: that takes minutes at least.
    pub(super) fn joules(&self, before: &Reading, after: &Reading) -> f64 {
        let spent =
            self.packages.iter().zip(before.0.iter().zip(&after.0)).map(|(package, (&before, &after))| {
                if after >= before { after - before } else { package.range.saturating_sub(before) + after }
            });
        spent.sum::<u64>() as f64 * 1e-6
    }
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(folder: &Path, zone: &str, name: &str, energy: &str) {
        let zone = folder.join(zone);
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), format!("{name}\n")).unwrap();
        fs::write(zone.join("max_energy_range_uj"), "1000000\n").unwrap();
        fs::write(zone.join("energy_uj"), format!("{energy}\n")).unwrap();
    }

    #[test]
    fn packages_are_summed_and_nothing_is_counted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let set = |first: &str, second: &str| {
            zone(folder.path(), "intel-rapl:0", "package-0", first);
            zone(folder.path(), "intel-rapl:1", "package-1", second);
        };
        set("100", "200");
        zone(folder.path(), "intel-rapl:0:0", "core", "7");
        zone(folder.path(), "intel-rapl:2", "psys", "9");
        zone(folder.path(), "intel-rapl-mmio:0", "package-0", "100");
        fs::create_dir(folder.path().join("intel-rapl")).unwrap();
        let rapl = Rapl::find_in(folder.path()).unwrap();
        let before = rapl.read().unwrap();
        assert_eq!(before, Reading(vec![100, 200]));
        set("500100", "300200");
        assert!((rapl.joules(&before, &rapl.read().unwrap()) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_counter_that_began_anew_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        zone(folder.path(), "intel-rapl:0", "package-0", "900000");
        let rapl = Rapl::find_in(folder.path()).unwrap();
        let before = rapl.read().unwrap();
        zone(folder.path(), "intel-rapl:0", "package-0", "300000");
        assert!((rapl.joules(&before, &rapl.read().unwrap()) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn without_counters_there_is_no_energy() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Rapl::find_in(folder.path()).is_none());
        assert!(Rapl::find_in(&folder.path().join("nothing")).is_none());
        zone(folder.path(), "intel-rapl:0", "package-0", "secret");
        assert!(Rapl::find_in(folder.path()).is_none(), "a counter that cannot be read is none");
    }
}
