//! The client against servers of all kinds: hostile ones that a test scripts byte by byte, and the official ones.

mod calls;
mod credentials;
mod greetings;
mod lists;
mod older;
mod streams;
mod world;
