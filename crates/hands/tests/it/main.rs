//! Hands from outside: one contract for all providers, then what the `namespace` provider promises beyond it.
//!
//! Sandboxes need the program `manyhands-sandboxd` beside the tests: build the whole workspace first, as
//! `make test` does.

mod contract;
#[cfg(feature = "failpoints")]
mod crash;
mod host;
mod isolation;
mod lifecycle;
mod limits;
mod survival;
