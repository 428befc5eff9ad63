//! What this machine has, and what this process has used.

use std::path::Path;
use sysinfo::{Disks, System};

/// Memory that can be taken without swapping, in bytes; `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    Some(system.available_memory().min(limit)).filter(|&bytes| bytes > 0)
}

/// Free bytes on the disk that holds `path`, or would hold it once it is made; `None` where the system does not say.
pub fn available_disk(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let holds = disks.iter().filter(|disk| existing.starts_with(disk.mount_point()));
    holds.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
}

/// Highest resident memory of this process so far, in bytes (Linux only).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_yet_has_its_parents_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = available_disk(folder.path());
        assert_eq!(here.is_some(), available_disk(&folder.path().join("a/b/c")).is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_used_memory() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
        assert!(available_memory().is_some());
    }
}
