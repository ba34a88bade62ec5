//! Worlds that follow a script in the place of chance: what was delivered after a backup of a collector that ran was
//! done with before the collector returned to it.

use super::{Event, Outcome, World};
use anyhow::{Result, bail};
use std::time::Duration;
use trunnion_agent::port::PortEvent;
use trunnion_common::sample::LossCause;

/// When the backup is made.
const BACKUP: Duration = Duration::from_secs(4);

/// So long is delivered after it.
const DELIVERED: Duration = Duration::from_secs(3);

/// From one look at whether agents have anything left to the next, and how often.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 2_500;

/// How long each further start of an agent is cut off before the next one, or before the collector returns.
const IDLE: Duration = Duration::from_millis(700);

/// From the return of the collector to that of the lines.
const BACK: Duration = Duration::from_secs(5);

/// How a scripted world ended.
#[derive(Clone, Debug)]
pub struct Returned {
    /// As any other.
    pub outcome: Outcome,
    /// Samples that nobody holds any more, for all that the ledger knows.
    pub not_held: u64,
    /// Samples that it cannot explain.
    pub unexplained: u64,
}

/// Agents deliver after a backup of the running collector until they have nothing left; they are started anew so
/// many times and deliver nothing; the collector returns to the backup and hears them.
pub fn return_to_live_backup(seed: u64, starts: u32) -> Result<Returned> {
    super::set_out(seed, None, |mut world| {
        world.return_to_live_backup(starts)?;
        world.run()?;
        let rows = world.collector.rows().values();
        let is_not_held = |(cause, _): &&(LossCause, u64)| *cause == LossCause::NotHeld;
        let lost = rows.clone().flat_map(|row| row.lost.iter().filter(is_not_held));
        let not_held = lost.map(|(_, samples)| samples).sum();
        let unexplained = rows.map(|row| row.unexplained).sum();
        Ok(Returned {
            outcome: world.judge(seed)?,
            not_held,
            unexplained,
        })
    })
}

impl World<'_> {
    fn return_to_live_backup(&mut self, starts: u32) -> Result<()> {
        self.calm()?;
        self.run_until(BACKUP)?;
        self.restore_collector()?;
        self.run_until(self.now + DELIVERED)?;
        for line in 0..self.lines.len() {
            let (gateway, port) = (self.lines[line].gateway, self.lines[line].port);
            self.lines[line].is_cut = true;
            self.gateways[gateway].handle_port(port, PortEvent::Closed, self.now);
        }
        for gateway in 0..self.gateways.len() {
            self.part_when_done(gateway)?;
        }
        for _ in 0..starts {
            for gateway in 0..self.gateways.len() {
                self.gateways[gateway].stop();
                self.start_agent(gateway);
            }
            self.run_until(self.now + IDLE)?;
        }
        self.restore_collector()?;
        for gateway in 0..self.gateways.len() {
            self.after(BACK, Event::PartitionOver { gateway });
        }
        for line in 0..self.lines.len() {
            self.after(BACK, Event::LineBack { line });
        }
        Ok(())
    }

    /// Cuts a gateway off in a moment in which the collector has all that it had.
    fn part_when_done(&mut self, gateway: usize) -> Result<()> {
        for _ in 0..LOOKS {
            if self.gateways[gateway].spool.keys().next().is_none() {
                self.gateways[gateway].is_partitioned = true;
                if let Some((session, _)) = self.session_of_agent(gateway) {
                    self.cut(session);
                }
                return Ok(());
            }
            self.run_until(self.now + LOOK)?;
        }
        bail!("gateway {gateway} is never done with what it delivers")
    }
}
