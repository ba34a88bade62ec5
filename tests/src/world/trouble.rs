//! What goes wrong in a world, and how it ends.

use super::chance::Chance;
use super::faults::{Fault, Weather};
use super::{EPOCH_UTC, Event, World};
use anyhow::Result;
use trunnion_common::time::ClockQuality;

impl World<'_> {
    /// Whether small faults happen now.
    pub(super) fn is_troubled(&self) -> bool {
        !self.is_calm
    }

    pub(super) fn set_weather(&mut self) {
        for gateway in &mut self.gateways {
            gateway.spool.fails_one_in = self.weather.spool;
        }
        self.collector.disk.set_failing(self.weather.journal);
    }

    /// From now on all is well; what is down or cut comes back when its time has come.
    pub(super) fn calm(&mut self) -> Result<()> {
        self.is_calm = true;
        self.weather = Weather {
            line: 0,
            network: 0,
            spool: 0,
            journal: 0,
            ..self.weather.clone()
        };
        self.set_weather();
        self.collector.disk.set_full(false);
        for gateway in &mut self.gateways {
            gateway.spool.is_full = false;
            gateway.spool.set_cramped(false);
            gateway.is_partitioned = false;
        }
        Ok(())
    }

    pub(super) fn trouble(&mut self) -> Result<()> {
        if self.is_calm {
            return Ok(());
        }
        let pick = self.chance.below(self.weather.events.len() as u64) as usize;
        let gateway = self.chance.below(self.gateways.len() as u64) as usize;
        let line = self.chance.below(self.lines.len() as u64) as usize;
        match self.weather.events[pick] {
            Fault::LineCut => self.cut_line(line),
            Fault::NodeReboot => self.reboot(line),
            Fault::AgentCrash => self.crash_agent(gateway),
            Fault::GatewayRestored => self.restore_gateway(gateway),
            Fault::SpoolFull => {
                self.gateways[gateway].spool.is_full = true;
                let room = self.chance.millis(500, 5_000);
                self.after(room, Event::SpoolRoom { gateway });
            }
            Fault::DiskFilled => {
                self.faults.note(Fault::DiskFilled);
                self.gateways[gateway].spool.set_cramped(true);
                let room = self.chance.millis(500, 8_000);
                self.after(room, Event::DiskRoom { gateway });
            }
            Fault::GatewayClockJump => {
                self.faults.note(Fault::GatewayClockJump);
                let jump = clock_jump(&mut self.chance);
                let quality = [ClockQuality::Free, ClockQuality::Synchronised];
                let quality = quality[self.chance.below(2) as usize];
                self.gateways[gateway].set_clock(jump, quality);
            }
            Fault::SessionCut => {
                if let Some((session, _)) = self.session_of_agent(gateway) {
                    self.faults.note(Fault::SessionCut);
                    self.cut(session);
                }
            }
            Fault::Partition => {
                self.faults.note(Fault::Partition);
                self.gateways[gateway].is_partitioned = true;
                if let Some((session, _)) = self.session_of_agent(gateway) {
                    self.cut(session);
                }
                let over = self.chance.millis(500, 10_000);
                self.after(over, Event::PartitionOver { gateway });
            }
            how @ (Fault::CollectorKill | Fault::CollectorCrash) => self.end_collector(how)?,
            Fault::CollectorCrashInDisk => self.collector.disk.crash_after(1 + self.chance.below(6)),
            Fault::CollectorRestored => self.restore_collector()?,
            Fault::CollectorStall => {
                self.faults.note(Fault::CollectorStall);
                self.stalled_until = self.now + self.chance.millis(500, 6_000);
            }
            Fault::JournalFull => {
                self.collector.disk.set_full(true);
                let room = self.chance.millis(500, 5_000);
                self.after(room, Event::JournalRoom);
            }
            Fault::CollectorClockJump => {
                self.faults.note(Fault::CollectorClockJump);
                self.collector_utc = EPOCH_UTC.saturating_add(clock_jump(&mut self.chance));
            }
            _ => {}
        }
        let next = self.chance.millis(100, self.weather.event_every);
        self.after(next, Event::Trouble);
        Ok(())
    }
}

/// Seconds, days or a decade, either way.
fn clock_jump(chance: &mut Chance) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let most = [SECOND, 86_400 * SECOND, 3_650 * 86_400 * SECOND][chance.below(3) as usize];
    let jump = chance.below(most as u64) as i64;
    if chance.one_in(2) { jump } else { -jump }
}
