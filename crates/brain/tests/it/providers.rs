//! One suite for all providers that ask an endpoint: the same scripts, the same faults, the same outcome in each wire
//! form.

mod conversations;
mod errors;
mod sessions;
mod stage;
mod streams;
