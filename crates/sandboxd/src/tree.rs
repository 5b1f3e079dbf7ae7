//! Which processes belong to a call, and how they are ended (security TOOL-1).
//!
//! A call owns its shell, what descends from it, and what has been orphaned to us since the call began. What ran
//! before the call began (a service that an earlier command left) is not its own, nor is what that starts.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Every process there was at some moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot(HashSet<Id>);

/// A process id and the start time that tells it from a later process of the same id.
type Id = (i32, u64);

#[derive(Debug, Clone, Copy)]
struct Process {
    id: Id,
    parent: i32,
}

impl Snapshot {
    /// What runs now.
    pub(crate) fn now() -> Self {
        Self(processes().into_iter().map(|process| process.id).collect())
    }
}

/// Kills what belongs to the call of `shell` that began at `before`. When it returns, everything has been signalled
/// and none of it can start anything more.
pub(crate) fn kill_call(shell: Pid, before: &Snapshot) {
    let shell = shell.as_raw_nonzero().get();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut signalled = HashSet::new();
    loop {
        let found: Vec<Id> = doomed(&processes(), shell, own, before)
            .into_iter()
            .filter(|id| signalled.insert(*id))
            .collect();
        if found.is_empty() {
            return;
        }
        for (pid, _) in found {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn doomed(all: &[Process], shell: i32, own: i32, before: &Snapshot) -> Vec<Id> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let older = |process: &Process| before.0.contains(&process.id);
    let mut found = Vec::new();
    let mut open: Vec<&Process> = all
        .iter()
        .filter(|process| process.id.0 == shell || (process.parent == own && !older(process)))
        .collect();
    while let Some(process) = open.pop() {
        found.push(process.id);
        let below = children.get(&process.id.0).into_iter().flatten();
        open.extend(below.copied().filter(|child| !older(child)));
    }
    found
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Reads a line of `/proc/PID/stat`; `None` for one that has ended and only waits to be waited for.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    // The name in parentheses may hold anything, also parentheses.
    let fields: Vec<&str> = stat
        .get(stat.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .collect();
    let (state, parent, start) = (
        *fields.first()?,
        fields.get(1)?.parse().ok()?,
        fields.get(19)?.parse().ok()?,
    );
    (!matches!(state, "Z" | "X")).then_some(Process {
        id: (pid, start),
        parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_1_what_a_call_owns() {
        #[track_caller]
        fn check(all: &[(i32, i32)], before: &[i32], expected: &[i32]) {
            let all: Vec<_> = all
                .iter()
                .map(|(pid, parent)| Process {
                    id: (*pid, 5),
                    parent: *parent,
                })
                .collect();
            let before = Snapshot(before.iter().map(|pid| (*pid, 5)).collect());
            let mut found: Vec<_> = doomed(&all, 10, 1, &before)
                .into_iter()
                .map(|(pid, _)| pid)
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected);
        }
        // The shell and what descends from it.
        check(
            &[(1, 0), (10, 1), (11, 10), (12, 11)],
            &[1, 10],
            &[10, 11, 12],
        );
        // A daemon of this call, orphaned to us.
        check(
            &[(1, 0), (10, 1), (20, 1), (21, 20)],
            &[1, 10],
            &[10, 20, 21],
        );
        // Services of earlier calls: one under the shell, one orphaned, and what they start now.
        check(
            &[(1, 0), (10, 1), (30, 10), (31, 30), (40, 1), (41, 40)],
            &[1, 10, 30, 40],
            &[10],
        );
        // A process that took over the id of one from before is a new one.
        let reused = Snapshot(HashSet::from([(50, 4)]));
        let all = [Process {
            id: (50, 5),
            parent: 1,
        }];
        assert_eq!(doomed(&all, 10, 1, &reused), [(50, 5)]);
    }

    #[test]
    fn stat_lines() {
        let line = "7 (a) (b) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987 1 2 3";
        let found = parse(7, line).unwrap();
        assert_eq!((found.id, found.parent), ((7, 987), 3));
        assert!(parse(7, &line.replace(" S ", " Z ")).is_none());
        assert!(parse(7, "7 (cut").is_none());
    }
}
