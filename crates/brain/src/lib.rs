//! The harness: who thinks, one wake at a time
