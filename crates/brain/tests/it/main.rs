//! Wakes told as stories: a real store, fake hands, a scripted model over HTTP.

mod bed;
mod budgets;
mod compaction;
mod confirmations;
mod crashes;
mod crashes_asking;
mod custom;
mod deaths;
mod failures;
mod faults;
mod interrupts;
mod judging;
mod loss;
mod metering;
mod outage;
mod packages;
mod plain;
mod prefixes;
mod providers;
mod rules_turn;
mod system_messages;
mod tools;
mod watchdog;
mod web;
mod wedges;
