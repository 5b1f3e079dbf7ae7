//! The entry that stands for all before it: a summary, and what of the transcript goes on.

use std::collections::{BTreeSet, VecDeque};

use indexmap::IndexMap;
use manyhands_protocol::EventId;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::memory::MemoryStoreResource;
use manyhands_store::Entry;
use serde::{Deserialize, Serialize};

use super::{FoldError, Json, Queued, Role, Status, Transcript};
use crate::compaction;
use crate::mcp::Listings;
use crate::record::StopRecord;
use crate::repositories::Cloned;
use crate::skills::{Announced, Found};

/// Body of a [`COMPACTION`](crate::record::COMPACTION) entry. Nothing before the entry is needed to go on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compaction {
    /// What the model wrote.
    pub(crate) summary: String,
    /// The model that wrote it.
    pub(crate) model: String,
    /// About how many tokens the conversation had.
    pub(crate) tokens_before: u64,
    /// All else that goes on.
    pub(crate) carried: Carried,
}

/// What of a transcript goes on beside the summary. It is on disk: members are added, never renamed or removed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Carried {
    /// The blocks of all system messages, in order (runtime CC-3).
    system: Vec<Json>,
    /// Messages of the user that are taken and not answered.
    fresh: Vec<Json>,
    queued: VecDeque<Queued>,
    status: Status,
    announced: Vec<EventId>,
    owes_answer: bool,
    ending: Option<StopRecord>,
    rounds: u32,
    compactions: u32,
    unfurnished: Option<String>,
    repositories: Vec<Cloned>,
    skills: Vec<Announced>,
    skills_found: Vec<Found>,
    memory: Vec<MemoryStoreResource>,
    absent: BTreeSet<String>,
    unreachable: BTreeSet<String>,
    mcp: Listings,
    agent: Option<Box<SessionAgent>>,
    next_agent: Option<Box<SessionAgent>>,
}

impl Carried {
    /// What goes on of a transcript without open calls, once its conversation is summarised.
    pub(crate) fn of(transcript: &Transcript) -> Self {
        // Each member is named, so that a new one is thought about here: carried, or part of what was summarised.
        let Transcript {
            position: _,
            turns,
            measured: _,
            summary: _,
            kept_system,
            calls: _,
            fresh,
            fresh_system,
            queued,
            status,
            announced,
            // Summaries are made by running turns.
            paused: _,
            owes_answer,
            ending,
            open_span: _,
            rounds,
            compactions,
            overflows: _,
            // The summary is an answer: what failed before it is over.
            retry: _,
            // It stands directly before its event.
            attached: _,
            unfurnished,
            repositories,
            skills,
            skills_found,
            mut skills_known,
            memory,
            absent,
            unreachable,
            mcp,
            agent,
            next_agent,
        } = transcript.clone();
        let systems = turns.into_iter().filter(|turn| turn.role == Role::System);
        let mut system: Vec<Json> = systems.flat_map(|turn| turn.blocks).collect();
        system.extend(kept_system);
        system.extend(fresh_system);
        skills_known.extend(skills_found);
        Self {
            system,
            fresh,
            queued,
            status,
            announced,
            owes_answer,
            ending,
            rounds,
            compactions: compactions + 1,
            unfurnished,
            repositories,
            skills,
            skills_found: skills_known,
            memory,
            absent,
            unreachable,
            mcp,
            agent,
            next_agent,
        }
    }
}

impl Transcript {
    /// What a log says up to its compaction entry, from that entry alone.
    pub(crate) fn from_compaction(entry: &Entry) -> Result<Self, FoldError> {
        let mut transcript = Self {
            position: entry.position - 1,
            ..Self::default()
        };
        transcript.fold(entry)?;
        Ok(transcript)
    }

    /// The conversation begins anew with the summary.
    pub(super) fn compact(&mut self, compaction: Compaction) {
        let Carried {
            system,
            fresh,
            queued,
            status,
            announced,
            owes_answer,
            ending,
            rounds,
            compactions,
            unfurnished,
            repositories,
            skills,
            skills_found,
            memory,
            absent,
            unreachable,
            mcp,
            agent,
            next_agent,
        } = compaction.carried;
        *self = Self {
            position: self.position,
            turns: Vec::new(),
            measured: 0,
            summary: Some(compaction::block(&compaction.summary)),
            kept_system: system,
            calls: IndexMap::new(),
            fresh,
            fresh_system: Vec::new(),
            queued,
            status,
            announced,
            paused: false,
            owes_answer,
            ending,
            open_span: None,
            rounds,
            compactions,
            overflows: 0,
            retry: None,
            attached: None,
            unfurnished,
            repositories,
            skills,
            skills_found: Vec::new(),
            skills_known: skills_found,
            memory,
            absent,
            unreachable,
            mcp,
            agent,
            next_agent,
        };
    }
}
