//! The tools and the supervisor, from outside and without a sandbox around them.

mod files;
mod serving;
mod shell;
mod supervisor;
