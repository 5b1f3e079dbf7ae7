//! The list of all failpoints, and what a client does so that a server comes there.

/// What brings a server to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is started for the first time.
    FirstStart,
    /// A turn with a retry, a command, a call that asks and a call of the client.
    Turn,
    /// A command is interrupted.
    InterruptCommand,
    /// A request to the model is interrupted.
    InterruptModel,
    /// A conversation is too long for the model.
    Summary,
    /// A request that the model refuses.
    Refused,
    /// Agents, environments, keys and sessions are made, changed and deleted.
    Resources,
    /// A session with a long log is deleted.
    LongLog,
    /// It is told to stop while a command runs.
    Stop,
    /// It takes over a session that another server left at work.
    Takeover,
    /// A copy is made beside it.
    Backup,
}

/// A failpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// As the source names it.
    pub(crate) name: &'static str,
    /// What brings a server there.
    pub(crate) deed: Deed,
    /// Where it dies: when it comes there for the n-th time.
    pub(crate) nth: &'static [u32],
    /// The databases on which it is passed, and swept.
    pub(crate) on: On,
}

/// Databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// SQLite; PostgreSQL passes it in the same way.
    Sqlite,
    /// PostgreSQL alone.
    Postgres,
    /// Both, and what happens there differs.
    Both,
}

use Deed::{
    Backup, FirstStart, InterruptCommand, InterruptModel, LongLog, Refused, Resources, Stop,
    Summary, Takeover, Turn,
};

const fn at(name: &'static str, deed: Deed, nth: &'static [u32], on: On) -> Point {
    Point {
        name,
        deed,
        nth,
        on,
    }
}

/// All of them. `main.rs` holds the list against the source.
pub(crate) const POINTS: &[Point] = &[
    // Before all others of their lanes: a store gets its built-in skills once, and a workspace its data key.
    at("store::skill::installed", Resources, &[1], On::Sqlite),
    at("store::vault::key_inserted", Resources, &[1], On::Sqlite),
    at("brain::begun", Turn, &[1], On::Sqlite),
    at("brain::span_start", Turn, &[1, 2], On::Sqlite),
    at("brain::span_started", Turn, &[1, 2], On::Sqlite),
    at("brain::failed", Turn, &[1], On::Sqlite),
    at("brain::rescheduled", Turn, &[1], On::Sqlite),
    at("brain::resume", Turn, &[1, 2], On::Sqlite),
    at("brain::answer", Turn, &[1, 2], On::Sqlite),
    at("brain::answered", Turn, &[1], On::Sqlite),
    at("brain::claimed", Turn, &[1, 2], On::Sqlite),
    at("brain::provision", Turn, &[1], On::Sqlite),
    at("brain::intent", Turn, &[1], On::Sqlite),
    at("brain::intended", Turn, &[1], On::Sqlite),
    at("brain::result", Turn, &[1, 2], On::Sqlite),
    at("brain::resulted", Turn, &[1, 2], On::Sqlite),
    at("brain::rest", Turn, &[1], On::Sqlite),
    at("brain::rested", Turn, &[1, 2], On::Sqlite),
    at("brain::interrupt", InterruptCommand, &[1], On::Sqlite),
    at("brain::cut_off", InterruptModel, &[1], On::Sqlite),
    at("brain::compact", Summary, &[1], On::Sqlite),
    at("brain::overflowed", Summary, &[1], On::Sqlite),
    at("brain::summary", Summary, &[1], On::Sqlite),
    at("brain::summarised", Summary, &[1], On::Sqlite),
    at("brain::give_up", Refused, &[1], On::Sqlite),
    at("hands::after_tree", Turn, &[1], On::Sqlite),
    at("hands::after_folders", Turn, &[1], On::Sqlite),
    at("hands::before_record", Turn, &[1], On::Sqlite),
    at("hands::after_record", Turn, &[1], On::Sqlite),
    at("hands::after_spawn", Turn, &[1], On::Sqlite),
    at("hands::after_attach", Turn, &[1], On::Sqlite),
    at("hands::pool_filled", Turn, &[1], On::Sqlite),
    at("hands::pool_announced", Turn, &[1], On::Sqlite),
    at("hands::pool_shared", Turn, &[1], On::Sqlite),
    at("hands::pool_noted", Turn, &[1], On::Sqlite),
    at("hands::pool_recorded", Turn, &[1], On::Sqlite),
    at("hands::pool_taken", Turn, &[1], On::Sqlite),
    at("hands::before_end", Resources, &[1], On::Sqlite),
    at("hands::after_discard", Resources, &[1], On::Sqlite),
    at("hands::before_pack", Turn, &[1], On::Sqlite),
    at("server::checkpoint_begun", Turn, &[1], On::Sqlite),
    at("server::checkpoint_packed", Turn, &[1], On::Sqlite),
    at("server::checkpoint_finished", Turn, &[1], On::Sqlite),
    at("server::session_stored", Turn, &[1], On::Sqlite),
    at("server::events_stored", Turn, &[1, 2], On::Sqlite),
    at("server::captured", Turn, &[1], On::Sqlite),
    at("server::session_updated", Resources, &[1], On::Sqlite),
    at("server::session_archived", Resources, &[1], On::Sqlite),
    at("server::session_deleted", Resources, &[1], On::Sqlite),
    at("server::file_synced", FirstStart, &[1, 2], On::Sqlite),
    at("server::first_key_written", FirstStart, &[1], On::Sqlite),
    at("server::first_key_stored", FirstStart, &[1], On::Sqlite),
    at("server::address_written", FirstStart, &[1], On::Sqlite),
    at("vault::master::written", FirstStart, &[1], On::Sqlite),
    at("store::vault::adopted", FirstStart, &[1], On::Both),
    at("store::migrate::before", FirstStart, &[1], On::Both),
    at("store::migrate::after", FirstStart, &[1], On::Both),
    at("store::agent::bumped", Resources, &[1], On::Sqlite),
    at("store::environment::updated", Resources, &[1], On::Sqlite),
    at("store::environment::deleted", Resources, &[1], On::Sqlite),
    at("store::skill::inserted", Resources, &[1], On::Sqlite),
    at("store::skill::versioned", Resources, &[1], On::Sqlite),
    at("store::skill::version_deleted", Resources, &[1], On::Both),
    at("store::skill::deleted", Resources, &[1], On::Both),
    at("store::file::inserted", Resources, &[1], On::Sqlite),
    at("store::file::deleted", Resources, &[1], On::Both),
    at("store::file::blob_removed", Resources, &[1], On::Sqlite),
    at("store::checkpoint::begun", Turn, &[1], On::Both),
    at("store::checkpoint::finished", Turn, &[1], On::Both),
    at("store::capture::wanted", Turn, &[1], On::Both),
    at("store::capture::finished", Turn, &[1], On::Both),
    at("store::vault::inserted", Resources, &[1], On::Sqlite),
    at("store::vault::updated", Resources, &[1], On::Sqlite),
    at("store::vault::archived", Resources, &[1], On::Both),
    at("store::vault::deleted", Resources, &[1], On::Both),
    at("store::credential::inserted", Resources, &[1], On::Both),
    at("store::credential::updated", Resources, &[1], On::Sqlite),
    at("store::credential::archived", Resources, &[1], On::Sqlite),
    at("store::credential::deleted", Resources, &[1], On::Sqlite),
    at("store::memory_store::inserted", Resources, &[1], On::Sqlite),
    at("store::memory_store::updated", Resources, &[1], On::Sqlite),
    at("store::memory_store::archived", Resources, &[1], On::Sqlite),
    at("store::memory_store::deleted", Resources, &[1], On::Both),
    at("store::memory_store::purged", Resources, &[1], On::Both),
    at("store::memory::written", Resources, &[1, 3], On::Both),
    at("store::memory::deleted", Resources, &[1], On::Both),
    at(
        "store::memory_version::redacted",
        Resources,
        &[1],
        On::Sqlite,
    ),
    at("store::placeholders::made", Resources, &[1], On::Both),
    at("store::audit::appended", Resources, &[1, 3], On::Sqlite),
    at("store::user_profile::inserted", Resources, &[1], On::Sqlite),
    at("store::user_profile::updated", Resources, &[1], On::Sqlite),
    at("store::user_profile::deleted", Resources, &[1], On::Sqlite),
    at(
        "store::user_profile::link_inserted",
        Resources,
        &[1],
        On::Sqlite,
    ),
    at("store::workspace::inserted", Resources, &[1], On::Sqlite),
    at("store::idempotency::claimed", Resources, &[1], On::Sqlite),
    at("store::idempotency::marked", Resources, &[1], On::Sqlite),
    at("store::idempotency::answered", Resources, &[1], On::Sqlite),
    at("server::idempotent_run", Resources, &[1], On::Sqlite),
    at("server::idempotent_answered", Resources, &[1], On::Sqlite),
    at("store::key::inserted", Resources, &[1], On::Sqlite),
    at("store::key::revoked", Resources, &[1], On::Sqlite),
    at("store::session::created", Turn, &[1], On::Both),
    at("store::session::granted", Turn, &[1, 2], On::Both),
    at("store::session::deleted", Resources, &[1], On::Both),
    at("store::session::purged", LongLog, &[1], On::Sqlite),
    at("store::log::inserted", Turn, &[1, 4, 8], On::Both),
    at("store::lease::guarded", Turn, &[1, 3], On::Both),
    at("store::lease::claimed", Takeover, &[1], On::Both),
    at("store::lease::rested", Turn, &[1, 2], On::Sqlite),
    at("store::lease::at_once", Turn, &[1, 4], On::Postgres),
    at("store::lease::released", Stop, &[1], On::Both),
    at("store::lease::renewed", Turn, &[1], On::Postgres),
    at("store::group::before_begin", Turn, &[6, 11], On::Sqlite),
    at("store::group::after_job", Turn, &[7, 12], On::Sqlite),
    at("store::group::before_commit", Turn, &[8, 13], On::Sqlite),
    at("store::group::after_commit", Turn, &[6, 11], On::Sqlite),
    at("store::group::before_publish", Turn, &[7, 12], On::Sqlite),
    at(
        "store::group::before_acknowledge",
        Turn,
        &[8, 13],
        On::Sqlite,
    ),
    at(
        "store::transaction::before_begin",
        Turn,
        &[8, 14],
        On::Postgres,
    ),
    at(
        "store::transaction::after_job",
        Turn,
        &[7, 12],
        On::Postgres,
    ),
    at(
        "store::transaction::before_commit",
        Turn,
        &[6, 11],
        On::Postgres,
    ),
    at(
        "store::transaction::after_commit",
        Turn,
        &[7, 12],
        On::Postgres,
    ),
    at(
        "store::transaction::before_publish",
        Turn,
        &[8, 13],
        On::Postgres,
    ),
    at(
        "store::transaction::before_acknowledge",
        Turn,
        &[7, 11],
        On::Postgres,
    ),
    at("store::backup::copied", Backup, &[1], On::Sqlite),
    at("store::backup::before_rename", Backup, &[1], On::Sqlite),
    at("store::backup::after_rename", Backup, &[1], On::Sqlite),
];

/// Points that a test of another room dies at, and that test.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("brain::clone_joined", "brain, kept_clones"),
    ("brain::list", "brain, mcp_crashes"),
    ("brain::listed", "brain, mcp_crashes"),
    ("brain::memory_change", "brain, memory"),
    ("brain::memory_changed", "brain, memory"),
    ("store::credential::claimed", "vault, refresh_deaths"),
    ("store::vault::replaced", "vault, rotation"),
    ("store::vault::rewrapped", "vault, rotation"),
    ("vault::master::finished", "vault, rotation"),
    ("vault::oauth::answered", "vault, refresh_deaths"),
    ("vault::oauth::claimed", "vault, refresh_deaths"),
    ("vault::rotate::aside", "vault, rotation"),
    ("vault::rotate::committed", "vault, rotation"),
];
