//! Wakes told as stories: a real store, fake hands, a scripted model over HTTP.

mod bed;
mod confirmations;
mod crashes;
mod custom;
mod failures;
mod interrupts;
mod plain;
mod prefixes;
mod tools;
