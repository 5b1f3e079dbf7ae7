//! What the kernel knows of a process, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// Private memory a process has written to, in bytes: what would be gained if it ended.
pub(crate) fn private_dirty(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).context(path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let field = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = field.context("no Private_Dirty")?.parse()?;
    Ok(kilobytes * 1024)
}

/// Processor time a process has used, its threads together, children not counted.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).context(path)?;
    // The name in parentheses may hold spaces; the fields after it are fixed.
    let (_, fields) = text.rsplit_once(')').context("no process name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("too few fields")?.parse()?) };
    let total = ticks()? + ticks()?;
    let rate = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(total as f64 / rate as f64))
}

/// Lets this process, and the servers it starts, open as many files as the machine allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Lowering nothing: if it fails, the rows with many connections say so.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// `ext4 (/dev/sda1)` and the like for the file system that holds `folder`.
pub(crate) fn file_system(folder: &std::path::Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder
            .starts_with(point)
            .then_some((point.len(), kind.to_owned(), device.to_owned()))
    });
    let mount = mounts.max_by_key(|(length, ..)| *length);
    mount.map_or("unknown".to_owned(), |(_, kind, device)| {
        format!("{kind} ({device})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_figures() {
        let own = std::process::id();
        let before = private_dirty(own).unwrap();
        let block = vec![1u8; 32 << 20];
        let after = private_dirty(own).unwrap();
        assert!(
            after >= before + (block.len() as u64 / 2),
            "{before} then {after}"
        );
        let before = cpu(own).unwrap();
        let mut spins = 0u64;
        while cpu(own).unwrap() == before {
            spins = std::hint::black_box(spins + 1);
        }
        assert!(cpu(own).unwrap() > before);
    }
}
