//! From a frame or readings to samples in event time: ledger, window, watermark.

use super::waiting::Origin;
use super::{Pipeline, sample_range};
use crate::dead_letter::{DeadReason, Form};
use crate::ledger::AccountKey;
use crate::watermark::Arrival;
use crate::window::{Misplaced, Run, Signal};
use trunnion_common::block::Readings;
use trunnion_common::frame::{Class, Payload, RawFrame};
use trunnion_common::reject::RejectReason;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

impl Pipeline {
    /// Places a frame's samples; what it says if they have to wait.
    pub(super) fn take_frame(&mut self, origin: &Origin, fix: u32, bytes: &[u8]) -> Option<Missing> {
        match self.explain_frame(origin, fix, bytes) {
            Ok(Ok(samples)) => {
                self.place(&samples);
                None
            }
            Ok(Err(missing)) => Some(missing),
            Err((reason, account, range)) => {
                self.refuse(account, range);
                self.bury(origin, DeadReason::Rejected(reason), (Form::Frame, bytes));
                None
            }
        }
    }

    /// A frame's samples with their time and unit, or what they wait for, or why they are refused.
    #[allow(
        clippy::type_complexity,
        reason = "three outcomes, told apart once by the caller"
    )]
    pub(super) fn explain_frame(
        &self,
        origin: &Origin,
        fix: u32,
        bytes: &[u8],
    ) -> Result<Result<Samples, Missing>, (RejectReason, AccountKey, Range)> {
        let parsed = RawFrame::parse(bytes).ok();
        let (header, payload) = parsed
            .and_then(|frame| Some((*frame.header(), frame.payload().ok()?)))
            .expect("the frame was parsed when it came, and has waited unchanged");
        let (account, range) = sample_range(&header, &payload)
            .expect("its range was looked at when it came, and has not changed");
        let refused = |reason| (reason, account, range);
        let Some(boot) = self.state.boots.get(&(header.node, header.boot)) else {
            return Ok(Err(Missing::Table));
        };
        let revision = match &payload {
            Payload::Waveform(waveform) => waveform.revision,
            Payload::Scalar(scalar) => scalar.revision,
            _ => return Err(refused(RejectReason::Payload)),
        };
        let Some(table) = boot.tables.get(&revision) else {
            return Ok(Err(Missing::Table));
        };
        let descriptor = table
            .get(account.2.index())
            .ok_or(refused(RejectReason::UnknownChannel))?;
        if descriptor.rate_mhz == 0 {
            return Err(refused(RejectReason::Payload));
        }
        let values = match &payload {
            Payload::Waveform(waveform) => {
                let raw = waveform.samples().map_err(refused)?;
                raw.map(|raw| f32::from(raw) * descriptor.scale).collect()
            }
            Payload::Scalar(scalar) => scalar
                .readings
                .iter()
                .map(|reading| reading.unwrap_or(f32::NAN))
                .collect(),
            _ => Vec::new(),
        };
        let Some(fix) = boot.fixes.get(&fix) else {
            return Ok(Err(Missing::Fix));
        };
        Ok(Ok(Samples {
            origin: origin.clone(),
            account,
            class: header.class,
            sequence: header.sequence,
            range,
            time: fix.event_time(header.ticks),
            values,
            signal: Signal {
                rate_mhz: descriptor.rate_mhz,
                unit: descriptor.unit,
                band_high_hz: f64::from(descriptor.band_high_hz),
                waveform: matches!(payload, Payload::Waveform(_)),
            },
        }))
    }

    /// Places readings, each at its own time; what it says if they have to wait.
    pub(super) fn take_readings(&mut self, origin: &Origin, readings: &Readings) -> Option<Missing> {
        match self.explain_readings(origin, readings) {
            Some(all) => all.iter().for_each(|samples| self.place(samples)),
            None => return Some(Missing::Fix),
        }
        None
    }

    /// Readings with their times; none if they wait for their clock fix.
    pub(super) fn explain_readings(&self, origin: &Origin, readings: &Readings) -> Option<Vec<Samples>> {
        let boot = self.state.boots.get(&(readings.node, readings.boot))?;
        let fix = boot.fixes.get(&readings.fix)?;
        let numbered = (readings.first_sample..).zip(&readings.readings);
        let samples = numbered.map_while(|(index, (ticks, reading))| {
            Some(Samples {
                origin: origin.clone(),
                account: (readings.node, readings.boot, readings.channel),
                class: Class::Essential,
                sequence: readings.sequence,
                range: Range::one(index)?,
                time: fix.event_time(*ticks),
                values: vec![reading.unwrap_or(f32::NAN)],
                signal: Signal {
                    rate_mhz: 0,
                    unit: readings.unit,
                    band_high_hz: f64::MAX,
                    waveform: false,
                },
            })
        });
        Some(samples.collect())
    }

    /// Samples whose time and unit are known: ledger, window, watermark.
    fn place(&mut self, samples: &Samples) {
        if samples.origin.replayed {
            return self.place_again(samples);
        }
        let new = self.state.ledger.store(samples.account, samples.range);
        let (node, boot, channel_id) = samples.account;
        let channel = self.state.channels.entry((node, channel_id)).or_default();
        let (schedule, now) = (&self.state.settings, self.state.now);
        let settings = schedule.at(now).windows;
        let cut = |time| schedule.cut(time, samples.signal.waveform);
        let whole = Run {
            boot,
            first: samples.range.first(),
            time: samples.time,
            signal: samples.signal,
            values: &samples.values,
            backfill: samples.origin.backfill,
        };
        let mut ahead = 0;
        let mut elsewhere = Vec::new();
        for part in new {
            let skipped = part.first() - whole.first;
            let at = skipped as usize;
            let run = Run {
                first: part.first(),
                time: whole.time_after(skipped),
                values: &samples.values[at..at + part.count() as usize],
                ..whole
            };
            let misplaced = channel.windows.place(&run, cut, &settings, now);
            self.state.counters.samples_stored += part.count();
            self.state.counters.samples_backfilled += if whole.backfill { part.count() } else { 0 };
            self.state.counters.samples_late += misplaced.late;
            ahead += misplaced.ahead;
            if misplaced != Misplaced::default() {
                elsewhere.push(part);
            }
        }
        self.state.counters.samples_ahead += ahead;
        if ahead == 0 {
            let received = self.state.frames.received(node, boot, samples.class);
            let arrival = Arrival {
                boot,
                class: samples.class,
                sequence: samples.sequence,
                samples: samples.range,
                start: whole.time,
                end: whole.time_after(samples.range.count()),
                backfill: whole.backfill,
            };
            channel.watermark.observe(&arrival, &received, now);
        }
        for part in elsewhere {
            self.put_misplaced_aside(samples.account, &whole, part);
        }
    }
}

/// Consecutive samples with everything that explains them.
pub(super) struct Samples {
    pub(super) origin: Origin,
    pub(super) account: AccountKey,
    class: Class,
    sequence: u64,
    pub(super) range: Range,
    pub(super) time: EventTime,
    pub(super) values: Vec<f32>,
    pub(super) signal: Signal,
}

/// What samples wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Fix,
    Table,
}
