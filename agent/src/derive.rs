//! Features at intake, so that what a waveform said outlives the waveform. Pure.
//!
//! The samples of each channel are cut into stretches of [`Settings::window`] by the channel's rate,
//! aligned to the sample index: stretch `k` begins at sample `k * n`, whatever was lost before. Of a
//! stretch only the [`Moments`] are kept, never the samples. A hole ends a piece; a frame that comes
//! again later and fills the hole joins the pieces. Each piece becomes one [`Derived`] of consecutive
//! samples when its stretch is complete, when the channel has moved on or fallen silent, or before
//! waveforms are evicted.
//!
//! Features are scaled to the channel's unit by its table, which a node sends to every new master. The
//! records go to the essential chain. They ride in its commit of each second, and one more is made
//! before a tombstone takes the place of waveforms: so the features of a waveform are on disk no later
//! than its directory is removed. What a kill costs is the features of the last second or two of each
//! channel, and of those that come before the table: their waveforms are in the spool all the same. A
//! stop in good order writes short stretches instead.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | channels | [`CHANNELS_MAX`] | samples of further ones are skipped, counted |
//! | pieces of a channel | [`PIECES_MAX`] | the first becomes a record |
//! | records not fetched | [`BODIES_MAX`] of [`BODY_BYTES`] | further ones are dropped, counted |

use crate::intake::BootKey;
use crate::retention::DerivedPlan;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trunnion_common::block::Derived;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::moments::Moments;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::frame::{Describe, Waveform};
use trunnion_common::id::ChannelId;
use trunnion_common::time::NodeTicks;

/// Most channels at once, over all nodes: as many as a gateway's lines carry, at a kilobyte each.
pub const CHANNELS_MAX: usize = 1_024;

/// Most pieces of one channel: as many as a few lost frames leave of the stretches that are open.
pub const PIECES_MAX: usize = 8;

/// Bytes of records after which the next block is begun.
pub const BODY_BYTES: usize = 64 * 1_024;

/// Most full bodies that wait to be fetched: a second's worth of [`CHANNELS_MAX`] takes two.
pub const BODIES_MAX: usize = 8;

/// Stretches that stay open behind the newest one: a lost frame is repeated within a few polls.
const OPEN_BEHIND: u64 = 2;

/// A channel silent for this long has its pieces made into records.
const SILENCE: Duration = Duration::from_secs(5);

/// Most samples of a stretch: its count must fit a record, and its time a trend.
const SAMPLES_MAX: u64 = 1 << 28;

/// What is computed at intake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whether anything is.
    pub enabled: bool,
    /// Length of a stretch by the channel's rate, as long as there is room for one record each.
    pub window: Duration,
}

/// Samples that gave no features, and records that could not be kept, since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Records made.
    pub records: u64,
    /// Samples skipped: no table yet, one channel too many, or no room for features at all.
    pub samples_skipped: u64,
    /// Records dropped because nobody fetched them.
    pub records_dropped: u64,
}

/// The features of all channels, in the making.
#[derive(Clone, Debug)]
pub struct Derive {
    settings: Settings,
    plan: DerivedPlan,
    tables: BTreeMap<BootKey, Table>,
    channels: BTreeMap<(BootKey, ChannelId), Channel>,
    out: Records,
}

#[derive(Clone, Debug)]
struct Table {
    revision: u16,
    /// Worth of a least significant bit, and the rate in millihertz.
    channels: Vec<(f32, u32)>,
}

#[derive(Clone, Debug)]
struct Channel {
    revision: u16,
    scale: f64,
    /// Samples of a stretch.
    size: u64,
    /// In order of their first samples.
    pieces: Vec<Piece>,
    newest: u64,
    heard: Duration,
}

/// Consecutive samples of one stretch.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: u64,
    moments: Moments,
    ticks: NodeTicks,
    fix: u32,
}

/// Records back to back, until they are fetched.
#[derive(Clone, Debug, Default)]
struct Records {
    bodies: VecDeque<Vec<u8>>,
    tally: Tally,
}

impl Derive {
    /// Nothing heard yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            plan: DerivedPlan::Full,
            tables: BTreeMap::new(),
            channels: BTreeMap::new(),
            out: Records::default(),
        }
    }

    /// How much room there is for features, from now on.
    pub fn handle_plan(&mut self, plan: DerivedPlan) {
        if plan != self.plan {
            self.plan = plan;
            self.close_all();
        }
    }

    /// A node's channel table.
    pub fn handle_describe(&mut self, key: BootKey, describe: &Describe) {
        let channels = describe
            .channels
            .iter()
            .map(|channel| (channel.scale, channel.rate_mhz));
        let table = Table {
            revision: describe.revision,
            channels: channels.collect(),
        };
        self.tables.insert(key, table);
    }

    /// Takes in samples that were not taken in before. `ticks` is the node's clock at the first of
    /// them, `fix` the clock fix in force.
    pub fn handle_waveform(
        &mut self,
        key: BootKey,
        ticks: NodeTicks,
        fix: u32,
        waveform: &Waveform<'_>,
        now: Duration,
    ) {
        if !self.settings.enabled {
            return;
        }
        if self.take(key, ticks, fix, waveform, now).is_none() {
            self.out.tally.samples_skipped += u64::from(waveform.count);
        }
    }

    fn take(
        &mut self,
        key: BootKey,
        ticks: NodeTicks,
        fix: u32,
        waveform: &Waveform<'_>,
        now: Duration,
    ) -> Option<()> {
        let table = self
            .tables
            .get(&key)
            .filter(|table| table.revision == waveform.revision)?;
        let (scale, rate_mhz) = *table.channels.get(waveform.channel.index())?;
        let size = self
            .plan
            .window(self.settings.window)
            .and_then(|window| samples_in(window, rate_mhz))?;
        let end = waveform.first_sample.checked_add(u64::from(waveform.count))?;
        let mut samples = waveform.samples().ok()?;
        let is_known = self.channels.contains_key(&(key, waveform.channel));
        if !is_known && self.channels.len() >= CHANNELS_MAX {
            return None;
        }
        let channel = self
            .channels
            .entry((key, waveform.channel))
            .or_insert_with(|| Channel {
                revision: waveform.revision,
                scale: f64::from(scale),
                size,
                pieces: Vec::new(),
                newest: 0,
                heard: now,
            });
        if (channel.revision, channel.size) != (waveform.revision, size) {
            channel.close_while((key, waveform.channel), &mut self.out, |_| true);
            (channel.revision, channel.scale, channel.size) = (waveform.revision, f64::from(scale), size);
        }
        channel.heard = now;
        let mut first = waveform.first_sample;
        while first < end {
            let upto = (first / size + 1).saturating_mul(size).min(end);
            let behind = first - waveform.first_sample;
            let piece = Moments::of(samples.by_ref().take((upto - first) as usize)).map(|moments| Piece {
                first,
                moments,
                ticks: ticks.plus_micros(behind.saturating_mul(MICROS_MILLI) / u64::from(rate_mhz)),
                fix,
            });
            channel.add(piece?);
            first = upto;
        }
        channel.newest = channel.newest.max(end);
        let newest = channel.newest / size;
        channel.close_complete((key, waveform.channel), &mut self.out);
        channel.close_while((key, waveform.channel), &mut self.out, |channel| {
            channel.pieces.len() > PIECES_MAX || channel.pieces[0].first / size + OPEN_BEHIND < newest
        });
        Some(())
    }

    /// Forgets the boots that are not known any more; their pieces become records.
    pub fn retain(&mut self, knows: impl Fn(BootKey) -> bool) {
        self.tables.retain(|key, _| knows(*key));
        let out = &mut self.out;
        self.channels.retain(|name, channel| {
            let stays = knows(name.0);
            if !stays {
                channel.close_while(*name, out, |_| true);
            }
            stays
        });
    }

    /// Makes records of what has begun before a sample, as before its waveform is evicted.
    pub fn close_before(&mut self, key: BootKey, channel: ChannelId, end: u64) {
        let name = (key, channel);
        if let Some(channel) = self.channels.get_mut(&name) {
            channel.close_while(name, &mut self.out, |channel| channel.pieces[0].first < end);
        }
    }

    /// Makes records of all that has begun, as before a stop.
    pub fn close_all(&mut self) {
        for (name, channel) in &mut self.channels {
            channel.close_while(*name, &mut self.out, |_| true);
        }
    }

    /// Makes records of channels that have fallen silent.
    pub fn handle_time(&mut self, now: Duration) {
        for (name, channel) in &mut self.channels {
            if channel.heard + SILENCE <= now {
                channel.close_while(*name, &mut self.out, |_| true);
            }
        }
    }

    /// Bodies of blocks, each of [`Derived`]s, until there is none.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.out.bodies.pop_front()
    }

    /// What was counted since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.out.tally)
    }
}

/// Microseconds in a second, times thousandths of a hertz per hertz.
const MICROS_MILLI: u64 = 1_000_000_000;

/// How many samples of a channel a window holds; none for a channel without a rate.
fn samples_in(window: Duration, rate_mhz: u32) -> Option<u64> {
    let micros = window.as_micros();
    let samples = micros * u128::from(rate_mhz) / u128::from(MICROS_MILLI);
    (rate_mhz > 0).then(|| {
        u64::try_from(samples)
            .unwrap_or(SAMPLES_MAX)
            .clamp(1, SAMPLES_MAX)
    })
}

impl Channel {
    /// Adds a piece that lies within one stretch, and joins it with its neighbours there.
    fn add(&mut self, new: Piece) {
        let at = self.pieces.partition_point(|piece| piece.first < new.first);
        let stretch = new.first / self.size;
        let continues = |piece: &Piece, next: &Piece| {
            piece.end() == next.first && piece.first / self.size == next.first / self.size
        };
        debug_assert!((new.end() - 1) / self.size == stretch, "cut at the stretch's end");
        let before = at
            .checked_sub(1)
            .filter(|&before| continues(&self.pieces[before], &new));
        let here = match before {
            Some(before) => {
                self.pieces[before].moments.join(&new.moments);
                before
            }
            None => {
                self.pieces.insert(at, new);
                at
            }
        };
        let is_joined = self
            .pieces
            .get(here + 1)
            .is_some_and(|next| continues(&self.pieces[here], next));
        if is_joined {
            let next = self.pieces.remove(here + 1);
            self.pieces[here].moments.join(&next.moments);
        }
    }

    /// Makes records of the stretches that are complete.
    fn close_complete(&mut self, name: (BootKey, ChannelId), out: &mut Records) {
        let (revision, scale, size) = (self.revision, self.scale, self.size);
        self.pieces.retain(|piece| {
            let is_complete = u64::from(piece.moments.count()) == size;
            if is_complete {
                out.push(name, revision, scale, piece);
            }
            !is_complete
        });
    }

    /// Makes records of pieces, from the first on, for as long as that is called for.
    fn close_while(&mut self, name: (BootKey, ChannelId), out: &mut Records, is_due: impl Fn(&Self) -> bool) {
        while !self.pieces.is_empty() && is_due(self) {
            let piece = self.pieces.remove(0);
            out.push(name, self.revision, self.scale, &piece);
        }
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.first + u64::from(self.moments.count())
    }
}

impl Records {
    fn push(
        &mut self,
        ((node, boot), channel): (BootKey, ChannelId),
        revision: u16,
        scale: f64,
        piece: &Piece,
    ) {
        let Some(statistics) = piece.moments.statistics(scale) else {
            self.tally.samples_skipped += u64::from(piece.moments.count());
            return;
        };
        let derived = Derived {
            node,
            boot,
            channel,
            first_sample: piece.first,
            count: piece.moments.count(),
            features: features(&statistics).collect(),
            ticks: piece.ticks,
            fix: piece.fix,
            revision,
        };
        let is_full = self.bodies.back().is_none_or(|body| body.len() >= BODY_BYTES);
        if is_full && self.bodies.len() >= BODIES_MAX {
            self.tally.records_dropped += 1;
            return;
        }
        if is_full {
            self.bodies.push_back(Vec::new());
        }
        if let Some(body) = self.bodies.back_mut() {
            let filled = postcard::to_extend(&derived, std::mem::take(body));
            *body = filled.expect("a vector takes any length, and the contract's types encode");
            self.tally.records += 1;
        }
    }
}

/// What is told of a stretch: everything of it that needs neither spectrum nor geometry.
pub(crate) fn features(statistics: &Statistics) -> impl Iterator<Item = (FeatureKind, f32)> {
    let shape = statistics.shape.map(|shape| {
        [
            (FeatureKind::CrestFactor, shape.crest_factor),
            (FeatureKind::KurtosisExcess, shape.kurtosis_excess),
            (FeatureKind::Skewness, shape.skewness),
        ]
    });
    [
        (FeatureKind::Mean, statistics.mean),
        (FeatureKind::Rms, statistics.rms),
        (FeatureKind::Peak, statistics.peak),
        (FeatureKind::PeakToPeak, statistics.peak_to_peak),
    ]
    .into_iter()
    .chain(shape.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::block::Records as Decoded;
    use trunnion_common::frame::{ChannelDescriptor, Packing};
    use trunnion_common::id::{BootId, NodeId};
    use trunnion_common::quantity::Unit;

    const RATE: u64 = 1_000;
    const SCALE: f32 = 0.25;

    fn key(boot: u64) -> BootKey {
        (NodeId::new(9).unwrap(), BootId::from_u64(boot))
    }

    fn describe(revision: u16) -> Describe {
        let channel = ChannelDescriptor {
            unit: Unit::StandardGravity,
            scale: SCALE,
            rate_mhz: (RATE * 1_000) as u32,
            range: 16.0,
            band_low_hz: 1.0,
            band_high_hz: 400.0,
        };
        Describe {
            revision,
            channels: [channel].into_iter().collect(),
        }
    }

    fn sample(index: u64) -> i16 {
        ((index.wrapping_mul(0x9e37_79b9) >> 7) % 4_001) as i16 - 2_000
    }

    fn frame(derive: &mut Derive, key: BootKey, revision: u16, first: u64, end: u64, now: Duration) {
        let data: Vec<u8> = (first..end)
            .flat_map(|index| sample(index).to_le_bytes())
            .collect();
        let waveform = Waveform {
            revision,
            channel: ChannelId::new(0).unwrap(),
            first_sample: first,
            count: (end - first) as u16,
            packing: Packing::I16,
            data: &data,
        };
        derive.handle_waveform(key, NodeTicks(1_000_000 * first / RATE), 3, &waveform, now);
    }

    fn derive() -> Derive {
        let mut derive = Derive::new(Settings {
            enabled: true,
            window: Duration::from_secs(1),
        });
        derive.handle_describe(key(1), &describe(1));
        derive
    }

    fn records(derive: &mut Derive) -> Vec<Derived> {
        let mut records = Vec::new();
        while let Some(body) = derive.poll() {
            records.extend(Decoded::<Derived>::new(&body).map(Result::unwrap));
        }
        records
    }

    fn ranges(records: &[Derived]) -> Vec<(u64, u64)> {
        records
            .iter()
            .map(|record| (record.first_sample, record.first_sample + u64::from(record.count)))
            .collect()
    }

    fn check_values(record: &Derived) {
        let end = record.first_sample + u64::from(record.count);
        let scaled: Vec<f32> = (record.first_sample..end)
            .map(|index| f32::from(sample(index)) * SCALE)
            .collect();
        let expected: Vec<_> = features(&Statistics::of(&scaled).unwrap()).collect();
        for ((kind, got), (wanted, value)) in record.features.iter().zip(&expected) {
            assert_eq!(kind, wanted);
            assert!(
                (got - value).abs() <= 1e-4 * value.abs().max(1.0),
                "{kind:?}: {got} is not {value}"
            );
        }
        assert_eq!(record.features.len(), expected.len());
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn stretches_are_cut_at_whole_seconds_of_samples_and_say_what_the_collector_would() {
        let mut derive = derive();
        // Heard from the middle of a second on, in frames that straddle its end.
        for first in (350..3_100).step_by(275) {
            frame(&mut derive, key(1), 1, first, first + 275, NOW);
        }
        let made = records(&mut derive);
        assert_eq!(ranges(&made), [(1_000, 2_000), (2_000, 3_000), (350, 1_000)]);
        assert_eq!(
            (made[0].ticks, made[0].fix, made[0].revision),
            (NodeTicks(1_000_000), 3, 1)
        );
        made.iter().for_each(check_values);
        derive.close_all();
        assert_eq!(ranges(&records(&mut derive)), [(3_000, 3_100)]);
    }

    #[test]
    fn a_gap_ends_a_piece_and_a_frame_that_comes_later_joins_what_it_fits_between() {
        let mut derive = derive();
        for first in [0, 100, 300, 400, 600, 700, 800, 900, 200] {
            frame(&mut derive, key(1), 1, first, first + 100, NOW);
        }
        assert!(records(&mut derive).is_empty());
        let mut late = derive.clone();
        frame(&mut late, key(1), 1, 500, 600, NOW);
        let whole = records(&mut late);
        assert_eq!(ranges(&whole), [(0, 1_000)]);
        check_values(&whole[0]);
        frame(&mut derive, key(1), 1, 3_000, 3_100, NOW);
        let pieces = records(&mut derive);
        assert_eq!(ranges(&pieces), [(0, 500), (600, 1_000)]);
        pieces.iter().for_each(check_values);
        assert_eq!(pieces[1].ticks, NodeTicks(600_000));
    }

    #[test]
    fn without_its_table_nothing_can_be_said_of_a_sample() {
        let mut derive = derive();
        frame(&mut derive, key(2), 1, 0, 400, NOW);
        frame(&mut derive, key(1), 2, 0, 500, NOW);
        assert_eq!(derive.take_tally().samples_skipped, 900);
        derive.handle_describe(key(1), &describe(2));
        frame(&mut derive, key(1), 2, 1_000, 2_000, NOW);
        assert_eq!(ranges(&records(&mut derive)), [(1_000, 2_000)]);
        assert_eq!(derive.take_tally().samples_skipped, 0);
    }

    #[test]
    fn when_room_is_short_stretches_are_longer_and_at_last_there_are_none() {
        let mut derive = derive();
        frame(&mut derive, key(1), 1, 0, 500, NOW);
        derive.handle_plan(DerivedPlan::Thin(10));
        assert_eq!(
            ranges(&records(&mut derive)),
            [(0, 500)],
            "what was begun ends short"
        );
        for first in (500..20_000).step_by(500) {
            frame(&mut derive, key(1), 1, first, first + 500, NOW);
        }
        assert_eq!(ranges(&records(&mut derive)), [(10_000, 20_000)]);
        derive.handle_plan(DerivedPlan::Stop);
        let _ = records(&mut derive);
        let _ = derive.take_tally();
        frame(&mut derive, key(1), 1, 20_000, 20_500, NOW);
        derive.close_all();
        assert!(records(&mut derive).is_empty());
        assert_eq!(derive.take_tally().samples_skipped, 500);
    }

    #[test]
    fn what_has_begun_before_a_sample_is_told_and_what_begins_after_goes_on() {
        let mut derive = derive();
        for first in [0, 100, 400, 1_000, 1_100] {
            frame(&mut derive, key(1), 1, first, first + 100, NOW);
        }
        derive.close_before(key(1), ChannelId::new(0).unwrap(), 1_000);
        derive.close_before(key(7), ChannelId::new(0).unwrap(), 5_000);
        assert_eq!(ranges(&records(&mut derive)), [(0, 200), (400, 500)]);
        derive.close_before(key(1), ChannelId::new(0).unwrap(), 1_001);
        assert_eq!(ranges(&records(&mut derive)), [(1_000, 1_200)]);
    }

    #[test]
    fn a_silent_channel_and_a_forgotten_boot_leave_what_they_had() {
        let mut derive = derive();
        frame(&mut derive, key(1), 1, 0, 300, NOW);
        derive.handle_time(NOW + SILENCE - Duration::from_millis(1));
        assert!(records(&mut derive).is_empty());
        derive.handle_time(NOW + SILENCE);
        assert_eq!(ranges(&records(&mut derive)), [(0, 300)]);
        frame(&mut derive, key(1), 1, 300, 400, NOW);
        derive.retain(|_| false);
        assert_eq!(ranges(&records(&mut derive)), [(300, 400)]);
        assert!(derive.channels.is_empty() && derive.tables.is_empty());
    }

    #[test]
    fn channels_and_records_are_bounded_and_what_is_left_out_is_counted() {
        let mut derive = derive();
        for boot in 0..CHANNELS_MAX as u64 + 1 {
            derive.handle_describe(key(boot), &describe(1));
            frame(&mut derive, key(boot), 1, 0, 10, NOW);
        }
        assert_eq!(derive.channels.len(), CHANNELS_MAX);
        assert_eq!(derive.take_tally().samples_skipped, 10);
        let (mut rounds, mut dropped) = (0, 0);
        while dropped == 0 {
            rounds += 1;
            assert!(rounds < 1_000, "records pile up without end");
            for boot in 0..CHANNELS_MAX as u64 {
                frame(&mut derive, key(boot), 1, rounds * 20, rounds * 20 + 10, NOW);
            }
            derive.close_all();
            dropped = derive.take_tally().records_dropped;
        }
        assert_eq!(derive.out.bodies.len(), BODIES_MAX);
        assert!(derive.out.bodies.iter().all(|body| body.len() < BODY_BYTES + 200));
    }

    #[test]
    fn switched_off_it_costs_and_says_nothing() {
        let mut derive = Derive::new(Settings {
            enabled: false,
            window: Duration::from_secs(1),
        });
        derive.handle_describe(key(1), &describe(1));
        frame(&mut derive, key(1), 1, 0, 2_000, NOW);
        derive.close_all();
        assert!(records(&mut derive).is_empty());
        assert_eq!(derive.take_tally(), Tally::default());
    }

    proptest! {
        /// Frames in whatever order, some lost: each sample is in one record at most, those that came
        /// are in one, and no record holds another.
        #[test]
        fn every_sample_that_came_is_in_exactly_one_record(
            frames in prop::collection::btree_set(0u64..120, 1..80).prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut derive = derive();
            for n in &frames {
                frame(&mut derive, key(1), 1, n * 97, (n + 1) * 97, NOW);
            }
            derive.close_all();
            let made = records(&mut derive);
            let mut counted = vec![0; 121 * 97];
            for record in &made {
                check_values(record);
                for index in record.first_sample..record.first_sample + u64::from(record.count) {
                    counted[index as usize] += 1;
                }
            }
            for (index, times) in counted.iter().enumerate() {
                let came = frames.contains(&(index as u64 / 97));
                prop_assert_eq!(*times, i32::from(came), "sample {}", index);
            }
        }
    }
}
