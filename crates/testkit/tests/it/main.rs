//! The testkit's own stories: its model over real HTTP, its stub, its database.

mod model;
