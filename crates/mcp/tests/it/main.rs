//! The client against servers of all kinds: hostile ones that a test scripts byte by byte, and the official ones.

mod calls;
mod conformance;
mod credentials;
mod greetings;
mod kept;
mod lists;
mod official;
mod older;
mod peers;
mod probe;
mod streams;
mod world;
