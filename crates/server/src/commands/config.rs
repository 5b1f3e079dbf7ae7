//! `manyhands config`: the effective settings, without secrets.

use super::out::Out;
use crate::config::show::show;
use crate::config::{Config, Flags};

/// What `manyhands config` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The same flags as `serve`.
    #[command(flatten)]
    pub flags: Flags,
}

/// Prints the effective settings as TOML.
///
/// # Errors
/// When a setting makes no sense.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.flags)?;
    let mut out = Out::standard();
    out.text(show(&config));
    out.finish()
}
