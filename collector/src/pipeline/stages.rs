//! Which stage the pipeline is at. The pipeline says it and reads no clock; who wants to know how long each
//! stage takes ([`super::runner`]) brings one along.

use std::fmt;

/// Part of the work of the pipeline's thread. Their times add up to all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nothing is committed that has not been applied.
    Wait,
    /// Commits are read from the journal.
    Read,
    /// Blocks are taken apart: known before, clock fix, ledger, samples put into their windows.
    Decode,
    /// Watermarks, and which windows they fire.
    Windows,
    /// Features of fired windows, detection and advisories.
    Features,
    /// The state is copied for a checkpoint, and parts of one are written.
    Checkpoint,
    /// Outputs are written.
    State,
}

impl Stage {
    /// All of them, in the order of a commit's way.
    pub const ALL: [Self; 7] = [
        Self::Wait,
        Self::Read,
        Self::Decode,
        Self::Windows,
        Self::Features,
        Self::Checkpoint,
        Self::State,
    ];

    /// Its name in figures.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Windows => "windows",
            Self::Features => "features",
            Self::Checkpoint => "checkpoint",
            Self::State => "state",
        }
    }
}

/// Whoever is told of each change of stage; nobody, unless it is asked for.
#[derive(Default)]
pub(super) struct StageWatch {
    tell: Option<Box<dyn FnMut(Stage) + Send>>,
    at: Option<Stage>,
}

impl StageWatch {
    /// Tells every change from now on.
    pub(super) fn new(tell: impl FnMut(Stage) + Send + 'static) -> Self {
        Self {
            tell: Some(Box::new(tell)),
            at: None,
        }
    }

    /// The next stage begins. One that goes on is not told again.
    pub(super) fn enter(&mut self, stage: Stage) {
        if let Some(tell) = &mut self.tell
            && self.at != Some(stage)
        {
            self.at = Some(stage);
            tell(stage);
        }
    }
}

impl fmt::Debug for StageWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageWatch")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
