//! How a machine was operated during a window, by the slow channels that tell it
//! ([`Operation`](trunnion_common::operation::Operation)).
//!
//! Of a witness, the reading counts that was taken last at or before the window's end, among the live readings,
//! in event time, that the journal holds before what made the window fire. So a replay sees the same one. A
//! reading that the journal holds only later counts for none of the windows before it; where witness and
//! vibration come through different gateways, that depends on which of them was journaled first.
//!
//! The values of a window never follow from other channels: what a witness says bears on verdicts and conditions.

use super::{ChannelKey, Pipeline};
use crate::fleet::{ChannelSite, Fleet};
use trunnion_common::operating::Operating;
use trunnion_common::time::EventTime;

impl Pipeline {
    /// How the machine at a place was operated at a time.
    pub(super) fn operating_at(&self, fleet: &Fleet, site: &ChannelSite, at: EventTime) -> Operating {
        let operation = fleet.operation(&site.series.asset);
        let fresh_ns = operation.map_or(0, |operation| operation.fresh_ns);
        let reading = |key: ChannelKey| {
            let recent = self.state.channels.get(&key)?.slow.recent.as_deref()?;
            recent.at(at, fresh_ns)
        };
        fleet.operating(site, reading)
    }
}

/// Readings of a witness in a checkpoint: as they stand, none for the many channels that are no witness.
pub(super) mod readings {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use trunnion_common::operation::Recent;

    pub(in super::super) fn serialize<S: Serializer>(
        recent: &Option<Box<Recent>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match recent {
            Some(recent) => recent.serialize(serializer),
            None => Recent::default().serialize(serializer),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Recent>>, D::Error> {
        let recent = Recent::deserialize(deserializer)?;
        Ok((!recent.is_empty()).then(|| Box::new(recent)))
    }
}
