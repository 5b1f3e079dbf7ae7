//! Commands of builds, beside what sessions are: one step, and what waits for steps.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use manyhands_sandboxd::bridge::{self, Keeper};
use manyhands_sandboxd::door::porch::Porch;
use manyhands_sandboxd::door::{self, Door};
use manyhands_sandboxd::filter;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, WaitOptions, set_dumpable_behavior, wait};

/// Runs `[--filter FILE]... [--door SOCKET] -- PROGRAM ARGUMENT...` to its end and ends as it did: under these filters and with
/// the way out of a sandbox. What it says of its failures is said with the rest.
pub(crate) fn run(
    mut words: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let usage = || {
        let usage = "run [--filter FILE]... [--door SOCKET] -- PROGRAM";
        io::Error::new(io::ErrorKind::InvalidInput, usage)
    };
    let mut door = None;
    loop {
        let word = words.next().ok_or_else(usage)?;
        if word == "--" {
            break;
        }
        let value = words.next().ok_or_else(usage)?;
        match word.to_str() {
            // Before there are threads, so that they hold for all of us.
            Some("--filter") if door.is_none() => filter::install(Path::new(&value))?,
            Some("--door") if door.is_none() => door = Some(value),
            _ => return Err(usage().into()),
        }
    }
    let program = words.next().ok_or_else(usage)?;
    if let Some(socket) = door {
        Door::bind(door::ADDRESS, socket)?.serve()?;
    }
    let said = io::stdout().as_fd().try_clone_to_owned()?;
    let status = Command::new(&program)
        .args(words)
        .stderr(said)
        .status()
        .map_err(|error| {
            let program = program.display();
            match error.kind() {
                io::ErrorKind::NotFound => {
                    io::Error::other(format!("{program} is not installed in this system"))
                }
                _ => io::Error::other(format!("{program} cannot be started: {error}")),
            }
        })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Waits for so many seconds as process 1, whose part it is to wait for those that have nobody else. With the number of a user
/// after them it has the port of the way out as well, for carriers of that user's.
pub(crate) fn hold(
    mut words: impl Iterator<Item = String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let seconds = words.next().ok_or("a number of seconds is missing")?;
    if let Some(user) = words.next() {
        // A step is root, but must not write our memory.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Porch::bind(door::ADDRESS, Keeper(user.parse()?))?.serve()?;
        bridge::announce(Path::new(bridge::LOBBY))?;
    }
    let clock = Command::new("/proc/self/exe")
        .args(["rest", &seconds])
        .spawn()?;
    let clock = Pid::from_child(&clock);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, _))) if ended == clock => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends after so many seconds.
pub(crate) fn rest(
    mut words: impl Iterator<Item = String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let seconds = words.next().ok_or("a number of seconds is missing")?;
    std::thread::sleep(Duration::from_secs(seconds.parse()?));
    Ok(())
}
