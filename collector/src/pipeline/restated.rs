//! Settings that hold from the journal's beginning: how history is computed anew.
//!
//! A pipeline that begins with a [`Restatement`] obeys its settings and none that the journal holds, until
//! it comes to the entry by which that restatement was put in force
//! ([`Entry::Restated`](crate::journal::Entry::Restated)); from there on it obeys what the journal says, as
//! any other does. So outputs stay a function of a prefix of the journal: whoever reads from the beginning
//! looks ahead for the last such entry ([`look_ahead`]) and begins with it.

use super::{Pipeline, PipelineState};
use crate::journal::{Entry, JournalError, Position, Reader, Segments};
use crate::settings::{Settings, SettingsError};
use serde::{Deserialize, Serialize};
use trunnion_common::time::EventTime;

/// A computation of history with settings of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restatement {
    /// Which it is; drawn at random.
    pub id: u64,
    /// The settings, as [`Settings::to_text`] writes them.
    pub text: String,
}

/// The restatement that a pipeline began with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    id: u64,
    /// Whether the journal's own settings hold again.
    over: bool,
}

impl Pipeline {
    /// A pipeline before the journal's first entry, to which the restatement's settings hold from the
    /// beginning of time.
    pub fn restated(restatement: &Restatement) -> Result<Self, SettingsError> {
        let settings = Settings::parse(&restatement.text)?;
        let mut state = PipelineState::default();
        let beginning = EventTime(i64::MIN);
        state.settings.change(settings, beginning, beginning, false);
        state.restated = Some(Begun {
            id: restatement.id,
            over: false,
        });
        Ok(Self::resume(state))
    }

    /// Which restatement it began with.
    pub fn began_with(&self) -> Option<u64> {
        self.state.restated.map(|begun| begun.id)
    }

    /// Whether what it has computed is in keeping with a restatement that it comes to: its own, or one of
    /// those that its own came after.
    pub fn is_in_keeping_with(&self, id: u64) -> bool {
        self.state
            .restated
            .is_some_and(|begun| begun.id == id || !begun.over)
    }

    /// Whether the journal's settings are passed over for now.
    pub(super) fn is_restating(&self) -> bool {
        self.state.restated.is_some_and(|begun| !begun.over)
    }

    pub(super) fn handle_restated(&mut self, id: u64) {
        if let Some(begun) = &mut self.state.restated
            && begun.id == id
        {
            begun.over = true;
        }
    }
}

/// The last restatement that the journal holds between two positions: one pass over what lies there, which
/// costs a small part of what computing it does.
pub fn look_ahead(
    segments: &Segments,
    from: Position,
    upto: Position,
) -> Result<Option<Restatement>, JournalError> {
    let mut last = None;
    let mut reader = Reader::open(segments, from)?;
    while let Some(commit) = reader.next_commit(upto)? {
        for (_, entry) in commit.entries {
            if let Entry::Restated { id, text } = entry {
                last = Some(Restatement { id, text });
            }
        }
    }
    Ok(last)
}
