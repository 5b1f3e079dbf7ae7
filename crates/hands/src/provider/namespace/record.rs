//! What a session's folder tells about its sandbox: which start was the last.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::files;
use crate::provider::Network;

const NAME: &str = "record.json";

/// The last start, written before it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider) struct Record {
    /// The instance that was to be started.
    pub(in crate::provider) instance: String,
    /// The boot of this host that it was started in: no process outlives that.
    boot: String,
    /// What it may reach: whoever finds it opens the same door. Without it, it may reach nothing.
    #[serde(default)]
    pub(in crate::provider) network: Option<Network>,
    /// The name that its control group is called after, where that is not the session's: it waited under this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::provider) waited_as: Option<String>,
}

/// A name for a start; never given twice.
pub(super) fn new_instance() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(in crate::provider) fn write(
    folder: &Path,
    instance: &str,
    network: &Network,
) -> io::Result<()> {
    let record = Record {
        instance: instance.to_owned(),
        boot: boot()?,
        network: Some(network.clone()),
        waited_as: None,
    };
    replace(folder, &record)
}

/// Records a start for no session yet: what waits under this name may reach nothing.
pub(super) fn write_waiting(folder: &Path, instance: &str, name: &str) -> io::Result<()> {
    let record = Record {
        instance: instance.to_owned(),
        boot: boot()?,
        network: None,
        waited_as: Some(name.to_owned()),
    };
    replace(folder, &record)
}

/// Records what the sandbox may reach from now on, whose last start `record` was.
pub(super) fn write_given(folder: &Path, record: Record, network: &Network) -> io::Result<()> {
    let network = Some(network.clone());
    replace(folder, &Record { network, ..record })
}

fn replace(folder: &Path, record: &Record) -> io::Result<()> {
    files::replace(&folder.join(NAME), &serde_json::to_vec(record)?, 0o600)
}

/// The last start, if it was in this boot of the host. One that cannot be read is as good as none: the sandbox it
/// was about ends itself.
pub(in crate::provider) fn read(folder: &OwnedFd) -> io::Result<Option<Record>> {
    let file = match openat(
        folder,
        NAME,
        OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record: Option<Record> = serde_json::from_reader(std::fs::File::from(file)).ok();
    let boot = boot()?;
    Ok(record.filter(|record| record.boot == boot))
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_in_its_own_boot_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = files::open_directory(home.path()).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
        write(home.path(), "one", &Network::default()).unwrap();
        assert_eq!(read(&folder).unwrap().unwrap().instance, "one");
        for text in [r#"{"instance": "one", "boot": "another"}"#, "{", ""] {
            files::replace(&home.path().join(NAME), text.as_bytes(), 0o600).unwrap();
            assert_eq!(read(&folder).unwrap(), None, "{text}");
        }
    }

    /// security NET-1, NET-8: what waits for a session reaches nothing, and what is given to one reaches what that one may.
    #[test]
    fn net_1_a_sandbox_reaches_nothing_before_it_has_a_session() {
        let home = tempfile::tempdir().unwrap();
        let folder = files::open_directory(home.path()).unwrap();
        write_waiting(home.path(), "one", ".pool-1").unwrap();
        let waiting = read(&folder).unwrap().unwrap();
        assert_eq!(waiting.network, None);
        let network = Network {
            mcp_hosts: vec!["mcp.example.com".to_owned()],
            ..Network::default()
        };
        write_given(home.path(), waiting.clone(), &network).unwrap();
        let given = read(&folder).unwrap().unwrap();
        assert_eq!(given.network, Some(network));
        assert_eq!(given.instance, "one");
        assert_eq!(given.waited_as.as_deref(), Some(".pool-1"));
    }
}
