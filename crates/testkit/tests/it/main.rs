//! The testkit's own stories: its model over real HTTP, its stub, its database.

mod daemon;
mod model;
mod postgres;
mod stub;
