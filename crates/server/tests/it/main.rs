//! Stories told through HTTP, each on SQLite and on PostgreSQL.

mod agents;
mod app;
mod budgets;
mod confirmations;
mod doors;
mod environments;
mod event_lists;
mod events;
mod first_start;
mod inspection;
mod interrupts;
mod judging;
mod reconnects;
mod roles;
mod rules_agents;
mod rules_calls;
mod rules_changes;
mod rules_doors;
mod rules_sessions;
mod rules_streams;
mod session_changes;
mod session_lists;
mod sessions;
mod streams;
mod system_messages;
mod threads;
