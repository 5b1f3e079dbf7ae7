//! OAuth credentials against a real authorization server, on every database, and with several servers on one of them.

mod bed;
mod refresh;
mod replicas;
mod tokens;
mod troubles;
