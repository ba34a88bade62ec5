//! From a frame or readings to samples in event time: ledger, window, watermark.

use super::streams::{Destination, Readings as SlowReadings};
use super::waiting::Origin;
use super::{Pipeline, sample_range};
use crate::dead_letter::{DeadReason, Form};
use crate::ledger::AccountKey;
use crate::watermark::Arrival;
use crate::window::{Misplaced, Run, Signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::block::Readings;
use trunnion_common::frame::{Class, Header, Payload, RawFrame};
use trunnion_common::id::NodeId;
use trunnion_common::reject::RejectReason;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

impl Pipeline {
    /// Places the samples of a frame that has waited; what it says if they have to wait again.
    pub(super) fn take_frame(&mut self, origin: &Origin, fix: u32, bytes: &[u8]) -> Option<Missing> {
        let (header, payload) = parsed(bytes);
        self.take_samples(origin, fix, (&header, &payload), bytes)
    }

    /// Places a frame's samples; what it says if they have to wait.
    pub(super) fn take_samples(
        &mut self,
        origin: &Origin,
        fix: u32,
        frame: (&Header, &Payload<'_>),
        bytes: &[u8],
    ) -> Option<Missing> {
        match self.explain_samples(origin, fix, frame) {
            Ok(Ok(samples)) => {
                if let Some(reason) = self.place(&samples) {
                    self.bury_misplaced(origin, samples.account.0, reason, (Form::Frame, bytes));
                }
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

    /// As [`Self::explain_samples`], of a frame that has waited.
    pub(super) fn explain_frame(&self, origin: &Origin, fix: u32, bytes: &[u8]) -> Explained {
        let (header, payload) = parsed(bytes);
        self.explain_samples(origin, fix, (&header, &payload))
    }

    /// A frame's samples with their time and unit, or what they wait for, or why they are refused.
    fn explain_samples(
        &self,
        origin: &Origin,
        fix: u32,
        (header, payload): (&Header, &Payload<'_>),
    ) -> Explained {
        let (account, range) =
            sample_range(header, payload).expect("its range was looked at when it came, and has not changed");
        let refused = |reason| (reason, account, range);
        let Some(boot) = self.state.boots.get(&(header.node, header.boot)) else {
            return Ok(Err(Missing::Table));
        };
        let revision = match payload {
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
        let values = match payload {
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
        let Some(all) = self.explain_readings(origin, readings) else {
            return Some(Missing::Fix);
        };
        let reasons = all.iter().filter_map(|samples| self.place(samples));
        // One letter for all of them; each is placed.
        let misplaced = reasons.fold(None, |first: Option<DeadReason>, reason| first.or(Some(reason)));
        if let Some(reason) = misplaced {
            let bytes = postcard::to_stdvec(readings).unwrap_or_default();
            self.bury_misplaced(origin, readings.node, reason, (Form::Readings, &bytes));
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

    /// Samples whose time and unit are known: ledger, window, watermark. Why some have found no window, if so.
    fn place(&mut self, samples: &Samples) -> Option<DeadReason> {
        if samples.origin.replayed {
            self.place_again(samples);
            return None;
        }
        let new = self.state.ledger.store(samples.account, samples.range);
        let (node, boot, channel_id) = samples.account;
        let key = (node, channel_id);
        let now = self.state.now;
        let settings = self.state.settings.at(now).windows;
        let whole = samples.run();
        let count: u64 = new.iter().map(|part| part.count()).sum();
        let counters = &mut self.state.counters;
        counters.samples_stored += count;
        counters.samples_backfilled += if whole.backfill { count } else { 0 };
        // A clock that is wrong moves no watermark and fires no window, its own channel's included.
        let last = whole.time_after(samples.range.count().saturating_sub(1));
        if last.nanos_since(now) > settings.lead_ns {
            counters.samples_ahead += count;
            self.put_aside(samples.account, &new);
            return Some(DeadReason::ClockAhead);
        }
        if !whole.backfill && now.nanos_since(whole.time) > settings.behind_ns {
            counters.samples_behind += count;
            self.put_aside(samples.account, &new);
            return Some(DeadReason::ClockBehind);
        }
        let (mut late, mut elsewhere) = (0, Vec::new());
        for part in new {
            let skipped = part.first() - whole.first;
            let at = skipped as usize;
            let run = Run {
                first: part.first(),
                time: whole.time_after(skipped),
                values: &samples.values[at..at + part.count() as usize],
                ..whole
            };
            late += if samples.signal.waveform {
                let schedule = &self.state.settings;
                let channel = self.state.channels.or_default(key);
                let cut = |time| schedule.cut(time, true);
                let misplaced = channel.windows.place(&run, cut, &settings, now);
                self.state.counters.samples_ahead += misplaced.ahead;
                if misplaced != Misplaced::default() {
                    elsewhere.push(part);
                }
                misplaced.late
            } else {
                let times = (0..part.count()).map(|n| run.time_after(n));
                let values: Vec<_> = times.zip(run.values.iter().copied()).collect();
                let readings = SlowReadings {
                    key,
                    signal: samples.signal,
                    backfill: whole.backfill,
                    values: &values,
                };
                let taken = self.take_slow(&readings, Destination::All);
                self.state.counters.samples_unusable += taken.unusable;
                self.state.counters.samples_no_room += taken.no_room;
                for late in taken.late_in {
                    let name = &self.definitions[late.definition].stream.name;
                    if let Some(index) = Range::one(part.first() + late.at as u64) {
                        self.state.letters.put_aside(name, samples.account, index);
                    }
                }
                taken.late
            };
        }
        self.state.counters.samples_late += late;
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
        let channel = self.state.channels.or_default(key);
        channel.watermark.observe(&arrival, received, now);
        for part in elsewhere {
            self.put_misplaced_aside(samples.account, &whole, part);
        }
        (late > 0).then_some(DeadReason::TooLate)
    }

    /// Samples that are in no window of any stream, unless they are replayed one day.
    pub(super) fn put_aside(&mut self, account: AccountKey, parts: &[Range]) {
        for part in parts {
            for definition in &self.definitions {
                self.state
                    .letters
                    .put_aside(&definition.stream.name, account, *part);
            }
        }
    }

    /// A frame or readings some of whose samples found no window. One node with a broken clock must not
    /// push out everybody's letters: of each reason it has [`LETTERS_PER_HOUR`], and the journal the rest.
    fn bury_misplaced(&mut self, origin: &Origin, node: NodeId, reason: DeadReason, payload: (Form, &[u8])) {
        if self.state.quotas.take(node, reason, self.state.now) {
            return self.bury(origin, reason, payload);
        }
        let counters = &mut self.state.counters;
        *counters.dead_letters.entry(reason).or_default() += 1;
        counters.letters_not_kept += 1;
    }
}

/// Dead letters kept of one node's misplaced samples per reason and hour of the journal's clock.
pub const LETTERS_PER_HOUR: u32 = 60;

/// How many such letters were kept in this hour. Bounded by the nodes told apart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Quotas {
    /// Hours of the journal's clock.
    hour: i64,
    kept: BTreeMap<(NodeId, DeadReason), u32>,
}

impl Quotas {
    /// Whether one more is kept.
    fn take(&mut self, node: NodeId, reason: DeadReason, now: EventTime) -> bool {
        const HOUR_NS: i64 = 3_600 * 1_000_000_000;
        let hour = now.0.div_euclid(HOUR_NS);
        if hour != self.hour {
            self.hour = hour;
            self.kept.clear();
        }
        let kept = self.kept.entry((node, reason)).or_default();
        *kept += 1;
        *kept <= LETTERS_PER_HOUR
    }
}

/// A frame that was parsed when it came.
fn parsed(bytes: &[u8]) -> (Header, Payload<'_>) {
    let frame = RawFrame::parse(bytes).ok();
    frame
        .and_then(|frame| Some((*frame.header(), frame.payload().ok()?)))
        .expect("the frame was parsed when it came, and has waited unchanged")
}

/// What becomes of a frame's samples: they are explained, or wait, or are refused.
pub(super) type Explained = Result<Result<Samples, Missing>, (RejectReason, AccountKey, Range)>;

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

impl Samples {
    /// As windows take them. What is replayed is history.
    pub(super) fn run(&self) -> Run<'_> {
        Run {
            boot: self.account.1,
            first: self.range.first(),
            time: self.time,
            signal: self.signal,
            values: &self.values,
            backfill: self.origin.backfill || self.origin.replayed,
        }
    }
}

/// What samples wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Fix,
    Table,
}
