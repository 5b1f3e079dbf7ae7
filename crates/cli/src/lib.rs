//! The command-line client
