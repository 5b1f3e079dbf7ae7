//! The harness: who thinks, one wake at a time. Keeps nothing between wakes.

pub mod models;
