//! The six tools of the agent toolset that work inside a sandbox (runtime TL-1).

mod input;

pub use input::{Bash, Edit, Glob, Grep, Input, Read, Write};
