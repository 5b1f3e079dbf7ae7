//! Hands from outside: one contract for all providers, then what the `namespace` and the `container` provider promise
//! beyond it.
//!
//! Sandboxes need the program `manyhands-sandboxd` beside the tests: build the whole workspace first, as
//! `make test` does.

mod checkpoint;
mod container_door;
mod container_files;
mod container_packages;
mod container_tree;
mod containers;
mod contract;
#[cfg(feature = "failpoints")]
mod crash;
mod door;
mod escape;
mod files;
mod host;
mod isolation;
mod joined;
mod lifecycle;
mod limits;
mod links;
mod memory;
mod ordinary;
mod packages;
mod pool;
mod search;
mod skills;
mod survival;
mod teardown;
