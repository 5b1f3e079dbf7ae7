//! The server's commands, one file each. They print for people; errors carry a hint.

pub mod audit;
pub mod backup;
pub mod config;
pub mod doctor;
pub mod egress;
pub mod environment_keys;
mod keeper;
pub mod keys;
mod out;
pub mod serve;
pub mod verify;
pub mod workspaces;
