//! What of `/proc` a sandbox does not see or cannot change, beyond what its user may not anyway (security SBX-1).

use std::path::Path;

use super::arguments::Arguments;

/// Settings of the kernel and of devices: shown, never written.
const KEPT: [&str; 5] = [
    "/proc/sys",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sysrq-trigger",
];

/// Files about the host as a whole.
const HIDDEN_FILES: [&str; 14] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/interrupts",
    "/proc/config.gz",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/proc/pagetypeinfo",
];

/// Folders about the host's devices.
const HIDDEN_FOLDERS: [&str; 4] = ["/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/driver"];

/// Adds what covers them, where this host has them, to options that have made `/proc`.
pub(super) fn mask(arguments: &mut Arguments) {
    let here = |path: &&&str| Path::new(path).exists();
    for path in KEPT.iter().filter(here) {
        arguments.add(&["--ro-bind", path, path]);
    }
    for path in HIDDEN_FILES.iter().filter(here) {
        arguments.add(&["--ro-bind", "/dev/null", path]);
    }
    for path in HIDDEN_FOLDERS.iter().filter(here) {
        arguments.add(&["--tmpfs", path, "--remount-ro", path]);
    }
}
