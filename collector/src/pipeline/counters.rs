//! What the pipeline has seen since the journal began, by verdict.

use crate::dead_letter::DeadReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts that follow from the journal alone; a replay gives the same.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that came again and were recognised.
    pub frames_duplicated: u64,
    /// Samples placed in event time.
    pub samples_stored: u64,
    /// Samples placed that came as history.
    pub samples_backfilled: u64,
    /// Samples that came after their window had fired and was no longer kept.
    pub samples_late: u64,
    /// Samples stamped too far ahead of the journal's clock to be put into a window.
    pub samples_ahead: u64,
    /// Live samples stamped too far behind it.
    pub samples_behind: u64,
    /// Readings that are no number that can be added up, or beyond the most that a window counts.
    pub samples_unusable: u64,
    /// Readings of one channel more than a stream tells apart.
    pub samples_no_room: u64,
    /// Windows fired.
    pub windows_fired: u64,
    /// Windows fired with too little in them to decide on.
    pub windows_undecided: u64,
    /// Windows fired once more, with what history or a late frame added.
    pub windows_corrected: u64,
    /// Windows fired or corrected that history is in: they say nothing of now.
    pub windows_backfilled: u64,
    /// Windows of channels whose unit contradicts the fleet file; shown as unassigned.
    pub windows_contradicted: u64,
    /// Windows on which no search for faults was made, because the pipeline was too far behind.
    pub windows_shed: u64,
    /// Windows examined for what may be wrong with the shaft and what hangs on it.
    pub windows_examined: u64,
    /// Events that nodes reported.
    pub node_events: u64,
    /// Reports of features that nodes computed; what becomes of them, `derived_stored` and `derived_refused` count.
    pub reports_kept: u64,
    /// Advisories raised.
    pub advisories_raised: u64,
    /// Advisories cleared.
    pub advisories_cleared: u64,
    /// Faults that history shows.
    pub advisories_found: u64,
    /// Stretches of features computed at agents that were placed in event time.
    pub derived_stored: u64,
    /// Those that were not: nothing explained them in time, or what explained them is absurd.
    pub derived_refused: u64,
    /// Times an agent told of a node's alarm, repeats included.
    pub alarms_told: u64,
    /// Times an agent told of what it holds against a machine itself.
    pub conditions_told: u64,
    /// Clock fixes that never came, in whose place the time of arrival stands.
    pub fixes_by_arrival: u64,
    /// Windows of readings that fired before their time, as their channel had too many.
    pub windows_given_up: u64,
    /// Times a window was told before it fired.
    pub windows_updated: u64,
    /// Rows of readings that told of a remaining life by what was learned of a fleet.
    pub life_rows: u64,
    /// Rows that lacked a reading.
    pub life_rows_incomplete: u64,
    /// Times that what was learned of a fleet was taken in.
    pub models_taken: u64,
    /// What was learned of fleets and cannot be read, or has no room.
    pub models_refused: u64,
    /// Dead letters of late samples and wrong clocks whose node had too many in that hour: the journal has
    /// what is in them.
    pub letters_not_kept: u64,
    /// Times a dead letter was replayed.
    pub letters_replayed: u64,
    /// Samples of theirs that came into their windows by it.
    pub samples_replayed: u64,
    /// Dead letters by reason, those not kept included.
    pub dead_letters: BTreeMap<DeadReason, u64>,
}

impl Counters {
    /// All of them by label.
    pub fn labelled(&self) -> Vec<(String, u64)> {
        let plain = [
            ("frames_duplicated", self.frames_duplicated),
            ("samples_stored", self.samples_stored),
            ("samples_backfilled", self.samples_backfilled),
            ("samples_late", self.samples_late),
            ("samples_ahead", self.samples_ahead),
            ("samples_behind", self.samples_behind),
            ("samples_unusable", self.samples_unusable),
            ("windows_fired", self.windows_fired),
            ("windows_undecided", self.windows_undecided),
            ("windows_corrected", self.windows_corrected),
            ("windows_backfilled", self.windows_backfilled),
            ("windows_contradicted", self.windows_contradicted),
            ("windows_shed", self.windows_shed),
            ("windows_examined", self.windows_examined),
            ("node_events", self.node_events),
            ("reports_kept", self.reports_kept),
            ("derived_stored", self.derived_stored),
            ("derived_refused", self.derived_refused),
            ("alarms_told", self.alarms_told),
            ("conditions_told", self.conditions_told),
            ("advisories_raised", self.advisories_raised),
            ("advisories_cleared", self.advisories_cleared),
            ("advisories_found", self.advisories_found),
            ("fixes_by_arrival", self.fixes_by_arrival),
            ("samples_no_room", self.samples_no_room),
            ("windows_given_up", self.windows_given_up),
            ("windows_updated", self.windows_updated),
            ("life_rows", self.life_rows),
            ("life_rows_incomplete", self.life_rows_incomplete),
            ("models_taken", self.models_taken),
            ("models_refused", self.models_refused),
            ("letters_not_kept", self.letters_not_kept),
            ("letters_replayed", self.letters_replayed),
            ("samples_replayed", self.samples_replayed),
        ];
        let plain = plain.map(|(label, count)| (label.to_owned(), count));
        let dead = self.dead_letters.iter();
        let dead = dead.map(|(reason, &count)| (format!("dead_letters_{}", reason.label()), count));
        plain.into_iter().chain(dead).collect()
    }
}
