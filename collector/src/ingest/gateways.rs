//! What gateways last said about themselves: for people, not for the pipeline.

use crate::command::CommandRow;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use trunnion_common::id::GatewayId;
use trunnion_common::message::{CommandResult, GatewayStatus, Phase};
use trunnion_common::time::EventTime;

/// Gateways listed; each has a certificate of its own, so this bounds a mistake and no plant.
pub const GATEWAYS_MAX: usize = 4_096;

/// The last word of every gateway. Cloning shares the table: ingest writes it, anybody reads it.
///
/// It is kept in memory alone, since a gateway says it all again within a heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Gateways(Arc<RwLock<BTreeMap<GatewayId, Gateway>>>);

/// The last word of one gateway.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gateway {
    /// When anything came from it, on the collector's clock.
    pub heard: EventTime,
    /// Whether it has come since it was last reported gone.
    pub connected: bool,
    /// Its last status.
    pub status: Option<GatewayStatus>,
    /// What is wanted of it and its nodes, and what became of that.
    pub commands: Vec<CommandRow>,
}

/// What a gateway said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// A block or a Hello.
    Something,
    Status(GatewayStatus),
    Result(CommandResult),
}

impl Gateways {
    /// Everything as it is now.
    pub fn snapshot(&self) -> BTreeMap<GatewayId, Gateway> {
        // Nobody panics under this lock; were it so, the table would still be whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gateways that are there now.
    pub(super) fn connected(&self) -> Vec<GatewayId> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let connected = table.iter().filter(|(_, gateway)| gateway.connected);
        connected.map(|(id, _)| id.clone()).collect()
    }

    /// What there is to say of commands now, to gateways that have been heard.
    pub(super) fn show(&self, mut rows: BTreeMap<GatewayId, Vec<CommandRow>>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (id, gateway) in table.iter_mut() {
            gateway.commands = rows.remove(id).unwrap_or_default();
        }
    }

    pub(super) fn note(&self, id: &GatewayId, word: Word, now: EventTime) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(id) && table.len() >= GATEWAYS_MAX {
            return;
        }
        // The last will of an older connection may come after the birth of the next.
        if let (Word::Status(status), Some(known)) =
            (&word, table.get(id).and_then(|known| known.status.as_ref()))
            && status.phase == Phase::Death
            && (status.life, status.connection) != (known.life, known.connection)
        {
            return;
        }
        let gateway = table.entry(id.clone()).or_insert(Gateway {
            heard: now,
            connected: true,
            status: None,
            commands: Vec::new(),
        });
        gateway.heard = now;
        gateway.connected = true;
        match word {
            Word::Something => {}
            Word::Status(status) => {
                gateway.connected = status.phase != Phase::Death;
                gateway.status = Some(status);
            }
            // What it says of commands is in the journal.
            Word::Result(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::message::GatewayHealth;

    fn status(phase: Phase, life: u64, connection: u64) -> Word {
        Word::Status(GatewayStatus {
            phase,
            agent_version: heapless::String::new(),
            utc: EventTime(0),
            nodes: 0,
            spool_blocks: 0,
            spool_bytes: 0,
            life,
            connection,
            health: GatewayHealth::default(),
        })
    }

    #[test]
    fn a_last_will_that_comes_after_the_next_birth_takes_nobody_away() {
        let id = GatewayId::from_urn("urn:trunnion:plant:gw-1").unwrap();
        for (script, connected) in [
            (&[(Phase::Birth, 1, 1), (Phase::Death, 1, 1)][..], false),
            (
                &[(Phase::Birth, 1, 1), (Phase::Birth, 1, 2), (Phase::Death, 1, 1)],
                true,
            ),
            (
                &[(Phase::Birth, 1, 2), (Phase::Birth, 2, 1), (Phase::Death, 1, 2)],
                true,
            ),
            (
                &[(Phase::Birth, 1, 1), (Phase::Death, 1, 1), (Phase::Birth, 2, 1)],
                true,
            ),
            (
                &[
                    (Phase::Birth, 1, 1),
                    (Phase::Heartbeat, 1, 1),
                    (Phase::Death, 1, 1),
                    (Phase::Death, 1, 2),
                ],
                false,
            ),
            (&[(Phase::Death, 1, 1)], false),
        ] {
            let gateways = Gateways::default();
            for &(phase, life, connection) in script {
                gateways.note(&id, status(phase, life, connection), EventTime(1));
            }
            assert_eq!(gateways.snapshot()[&id].connected, connected, "{script:?}");
        }
    }
}
