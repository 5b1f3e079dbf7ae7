//! A command that has the way out of a sandbox and nobody who asks for more: one step of a build.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitCode};

use manyhands_sandboxd::door::{self, Door};

/// Runs `--door SOCKET -- PROGRAM ARGUMENT...` to its end and ends as it did.
pub(crate) fn run(
    mut words: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "run --door SOCKET -- PROGRAM");
    let mut expect = |word: &str| words.next().filter(|found| found == word).ok_or_else(usage);
    expect("--door")?;
    let socket = words.next().ok_or_else(usage)?;
    words.next().filter(|word| word == "--").ok_or_else(usage)?;
    let program = words.next().ok_or_else(usage)?;
    Door::bind(door::ADDRESS, socket)?.serve()?;
    let status = Command::new(&program).args(words).status();
    let status = status.map_err(|error| {
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
