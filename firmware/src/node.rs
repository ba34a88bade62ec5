//! The node state machine: bytes, samples and the time in; bytes to write and the next deadline out.

use crate::channel::{Account, Channel, DATA_MAX, Forming, write_samples};
use crate::event_log::EventLog;
use crate::link::{Link, Verdict, Wiring};
use crate::outbox::{Entry, Kind, NoRoom, Outbox};
use crate::plan::{FILTERED_MAX, Filters, Report};
use crate::sensor::Sensor;
use crate::settings::{self, Image, ImageError, Kept, LineSpeed};
use core::num::NonZeroU32;
use heapless::Vec;
use trunnion_common::codec::Decoder;
use trunnion_common::frame::{
    Calibrate, Calibration, Capture, ChannelStatus, Class, Describe, Event, EventKind, FRAME_MAX,
    FeatureReport, HELD_RANGES_MAX, Identify, Packing, Payload, Poll, READINGS_MAX, RawFrame, ResetCause,
    Scalar, Settings, SettingsOutcome, SettingsResult, Severity, Status, TimeReply, Waveform, encode,
};
use trunnion_common::id::{BootId, CHANNELS_MAX, ChannelId, LineAddress, NodeId};
use trunnion_common::sample::{LossCause, Reading};
use trunnion_common::sequence::Range;
use trunnion_common::time::NodeTicks;

/// From one status to the next, microseconds.
pub const STATUS_MICROS: u64 = 1_000_000;

/// Samples of each axis taken from a sensor at a time.
const READ_SAMPLES: usize = 128;

/// Who this node is, in this life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The microcontroller's own id.
    pub node: NodeId,
    /// This life.
    pub boot: BootId,
    /// Where it is on the line, until it is assigned another place.
    pub address: LineAddress,
    /// Who else is there.
    pub wiring: Wiring,
    /// Why it started.
    pub reset: ResetCause,
}

/// The memory a node works in, supplied by its owner.
#[derive(Debug)]
pub struct Memory<'m> {
    /// Unacknowledged frames of the essential class: at least [`crate::outbox::ESSENTIAL_MIN`].
    pub essential: &'m mut [u8],
    /// Unacknowledged frames of the waveform class: at least [`crate::outbox::WAVEFORM_MIN`].
    pub waveform: &'m mut [u8],
    /// One for each channel that takes samples, which are the first ones of the table. The others take readings alone.
    pub forming: &'m mut [Forming],
    /// The frame being received: [`trunnion_common::codec::LINE_FRAME_MAX`] bytes take any.
    pub line: &'m mut [u8],
}

/// Why a node cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeError {
    /// A part of the outbox cannot hold the least it must.
    OutboxTooSmall,
    /// This channel declares no sample rate.
    NoRate(usize),
}

impl core::fmt::Display for NodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OutboxTooSmall => f.write_str("the outbox has less memory than the least a node needs"),
            Self::NoRate(channel) => write!(f, "channel {channel} declares a sample rate of 0"),
        }
    }
}

impl core::error::Error for NodeError {}

/// The channel table has no such channel, or it takes readings and no samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownChannel;

/// A sensor node.
///
/// Feed it with the `handle_*` methods in any order; then call [`Node::poll_transmit`] until it returns
/// 0, then wait for more input or for [`Node::poll_timeout`], whichever comes first. Time is the node's
/// ticks and must not run backwards.
#[derive(Debug)]
pub struct Node<'m> {
    reset: ResetCause,
    revision: u16,
    channels: Vec<Channel<'m>, CHANNELS_MAX>,
    outbox: Outbox<'m>,
    link: Link,
    decoder: Decoder<'m>,
    events: EventLog,
    /// Those of the first channels.
    filters: [Option<Filters>; FILTERED_MAX],
    describe_due: bool,
    last_status: NodeTicks,
    identify_until: NodeTicks,
    line_speed: LineSpeed,
    packing: Packing,
    memory: SettingsMemory,
    /// Number of the last capture or identification carried out.
    order: Option<u32>,
}

/// The board's memory for settings.
#[derive(Debug)]
enum SettingsMemory {
    /// There is none.
    Absent,
    Idle,
    /// These are to be stored.
    Due(Kept),
    /// The board is storing these.
    Storing(Kept),
}

impl<'m> Node<'m> {
    /// A node at the beginning of its life, at tick 0: its table and the boot event are queued.
    pub fn new(identity: Identity, table: &Describe, memory: Memory<'m>) -> Result<Self, NodeError> {
        let mut rates = table.channels.iter().map(|descriptor| descriptor.rate_mhz);
        if let Some(position) = rates.position(|rate_mhz| rate_mhz == 0) {
            return Err(NodeError::NoRate(position));
        }
        let outbox = Outbox::new(memory.essential, memory.waveform).ok_or(NodeError::OutboxTooSmall)?;
        // Made where it is returned: a node is some kilobytes, and each move takes as much of the stack.
        let mut made = Ok(Self {
            reset: identity.reset,
            revision: table.revision,
            channels: Vec::new(),
            outbox,
            link: Link::new(identity.node, identity.boot, identity.address, identity.wiring),
            decoder: Decoder::new(memory.line),
            events: EventLog::default(),
            filters: [const { None }; FILTERED_MAX],
            describe_due: true,
            last_status: NodeTicks(0),
            identify_until: NodeTicks(0),
            line_speed: LineSpeed::Unknown,
            packing: Packing::I16,
            memory: SettingsMemory::Absent,
            order: None,
        });
        if let Ok(node) = &mut made {
            node.begin(table, memory.forming);
        }
        made
    }

    #[inline(never)]
    fn begin(&mut self, table: &Describe, forming: &'m mut [Forming]) {
        let mut forming = forming.iter_mut();
        for descriptor in &table.channels {
            let forming = forming.next().map_or(&mut [][..], |forming| &mut forming[..]);
            if let Some(rate) = NonZeroU32::new(descriptor.rate_mhz) {
                let pushed = self.channels.push(Channel::new(*descriptor, rate, forming));
                debug_assert!(pushed.is_ok(), "both tables have the same bound");
            }
        }
        self.events
            .note(NodeTicks(0), event(EventKind::Boot, Severity::Info, 1));
        self.queue_table(NodeTicks(0));
        self.queue_events();
    }

    /// Takes bytes from the line.
    pub fn handle_bytes(&mut self, now: NodeTicks, bytes: &[u8]) {
        // The decoder steps aside while its frame, which borrows from it, is handled.
        let mut decoder = core::mem::replace(&mut self.decoder, Decoder::new(&mut []));
        let mut rest = bytes;
        while !rest.is_empty() {
            let fed = decoder.feed(rest);
            rest = &rest[fed.taken..];
            // A damaged frame needs no answer: the agent repeats what it does not get answered.
            if let Some(Ok(frame)) = fed.frame {
                self.handle_frame(now, &frame);
            }
        }
        self.decoder = decoder;
    }

    /// Tells how fast the line is: a plan that needs too much of it is refused from now on.
    pub fn set_line_speed(&mut self, speed: LineSpeed) {
        self.line_speed = speed;
    }

    /// Until settings say otherwise, everything is sent raw as far as the line carries it, and the channels that need most
    /// in features of a second each, the last of the table first.
    pub fn plan_for_line(&mut self) {
        let plans = settings::first_plans(&self.rates(), self.line_speed);
        for (channel, plan) in self.channels.iter_mut().zip(plans) {
            channel.execution.apply(plan);
        }
    }

    /// How waveforms are written from now on: [`Packing::I16`] until told otherwise. A collector that is too
    /// old for a packing keeps the frames as dead letters.
    pub fn set_packing(&mut self, packing: Packing) {
        self.packing = packing;
    }

    /// Tells that the board has memory that outlives a reset, and what is stored there, if anything ever
    /// was. On an error the channels go on as they are, and settings can be stored all the same.
    pub fn restore_settings(&mut self, image: Option<&[u8]>) -> Result<(), ImageError> {
        self.memory = SettingsMemory::Idle;
        let Some(image) = image else {
            return Ok(());
        };
        let kept = settings::from_image(image)?;
        if kept.settings.plans.len().max(kept.calibrations.len()) > self.channels.len() {
            return Err(ImageError::OtherTable);
        }
        self.apply(NodeTicks(0), &kept);
        Ok(())
    }

    /// Settings to be stored in memory that outlives a reset, in place of what is there: all of the image
    /// or nothing of it. [`Self::handle_settings_stored`] must be told how it went.
    pub fn poll_settings(&mut self) -> Option<Image> {
        match core::mem::replace(&mut self.memory, SettingsMemory::Idle) {
            SettingsMemory::Due(kept) => {
                let image = settings::to_image(&kept);
                self.memory = SettingsMemory::Storing(kept);
                Some(image)
            }
            other => {
                self.memory = other;
                None
            }
        }
    }

    /// Whether the settings that [`Self::poll_settings`] handed out are stored: only then they are in force.
    pub fn handle_settings_stored(&mut self, now: NodeTicks, is_stored: bool) {
        let kept = match core::mem::replace(&mut self.memory, SettingsMemory::Idle) {
            SettingsMemory::Storing(kept) => kept,
            other => {
                self.memory = other;
                return;
            }
        };
        let outcome = if is_stored {
            self.apply(now, &kept);
            SettingsOutcome::Applied
        } else {
            SettingsOutcome::NotStored
        };
        self.report_outcome(now, kept.settings.command, outcome);
    }

    /// Takes consecutive samples of a channel, the first of them taken at `first`.
    pub fn handle_samples(
        &mut self,
        channel: ChannelId,
        first: NodeTicks,
        samples: &[i16],
    ) -> Result<(), UnknownChannel> {
        let state = self.channels.get(channel.index());
        if !state.is_some_and(Channel::takes_samples) {
            return Err(UnknownChannel);
        }
        let mut taken = 0;
        while taken < samples.len() {
            let may_begin = self.may_begin(channel);
            let state = &mut self.channels[channel.index()];
            let ticks = state.ticks_after(first, taken);
            let (part, is_sent) =
                state
                    .execution
                    .next_part(ticks, samples.len() - taken, state.rate_mhz, may_begin);
            let part = &samples[taken..taken + part];
            if is_sent {
                if state.execution.take_triggered() {
                    state.recall(ticks);
                }
                self.form(channel, ticks, part);
            } else {
                // What comes after a pause does not share a frame with what came before it.
                self.queue_formed(channel);
                let state = &mut self.channels[channel.index()];
                if state.execution.plan().trigger().is_some() {
                    state.remember(part);
                }
            }
            self.condense(channel, ticks, part);
            taken += part.len();
        }
        Ok(())
    }

    /// Takes consecutive readings of a slow channel, the first of them made at `first`.
    pub fn handle_readings(
        &mut self,
        channel: ChannelId,
        first: NodeTicks,
        readings: &[Reading],
    ) -> Result<(), UnknownChannel> {
        let mut taken = 0;
        while taken < readings.len() {
            let may_begin = self.may_begin(channel);
            let state = self.channels.get_mut(channel.index()).ok_or(UnknownChannel)?;
            let ticks = state.ticks_after(first, taken);
            let count = (readings.len() - taken).min(READINGS_MAX);
            let (part, is_sent) = state.execution.next_part(ticks, count, state.rate_mhz, may_begin);
            let part = &readings[taken..taken + part];
            if is_sent {
                self.queue_readings(channel, ticks, part);
            }
            for (at, reading) in part.iter().enumerate() {
                let state = &mut self.channels[channel.index()];
                let ticks = state.ticks_after(ticks, at);
                match reading.map(|told| state.calibration().apply(told)) {
                    Ok(value) if value.is_finite() => {
                        let report = state.execution.feed_reading(ticks, value);
                        self.queue_report(channel, report);
                    }
                    Ok(_) | Err(_) => state.execution.skip(1),
                }
            }
            taken += part.len();
        }
        Ok(())
    }

    /// Books `count` samples that the channel should have had next and never will, unless its plan is to
    /// sample nothing.
    pub fn handle_missed(
        &mut self,
        channel: ChannelId,
        count: u64,
        cause: impl Into<LossCause>,
    ) -> Result<(), UnknownChannel> {
        // Samples on both sides of a gap do not share a frame.
        self.queue_formed(channel);
        let state = self.channels.get_mut(channel.index()).ok_or(UnknownChannel)?;
        state.execution.skip(count);
        state.forget();
        if state.execution.is_sampling() {
            state.produced += count;
            state.drop_samples(cause.into(), count);
        }
        Ok(())
    }

    /// Empties a sensor's queue into its channels: its axes into `first` and those that follow it in the table.
    pub fn sample<const AXES: usize>(
        &mut self,
        now: NodeTicks,
        first: ChannelId,
        sensor: &mut impl Sensor<AXES>,
    ) -> Result<(), UnknownChannel> {
        let mut samples = [[0; AXES]; READ_SAMPLES];
        let mut of_axis = [0; READ_SAMPLES];
        loop {
            let batch = sensor.read(now, &mut samples);
            for (axis, position) in (first.get()..).take(AXES).enumerate() {
                let channel = ChannelId::new(position).ok_or(UnknownChannel)?;
                if let Some((count, cause)) = batch.missed {
                    self.handle_missed(channel, count, cause)?;
                }
                for (place, sample) in of_axis.iter_mut().zip(&samples[..batch.taken]) {
                    *place = sample[axis];
                }
                self.handle_samples(channel, batch.first, &of_axis[..batch.taken])?;
            }
            if batch.taken < samples.len() {
                return Ok(());
            }
        }
    }

    /// Tells that the sample rate of `count` channels from `first` on, which one sensor samples, has been measured: the
    /// table has it under a new revision, which every sample from now on names. A window under way is not reported, since
    /// its filters are of the former rate.
    pub fn set_rate(
        &mut self,
        now: NodeTicks,
        first: ChannelId,
        count: usize,
        rate_mhz: NonZeroU32,
    ) -> Result<(), UnknownChannel> {
        let channels = first.index()..first.index() + count;
        if channels.end > self.channels.len() {
            return Err(UnknownChannel);
        }
        self.close_table();
        for state in &mut self.channels[channels] {
            state.rate_mhz = rate_mhz;
            state.descriptor.rate_mhz = rate_mhz.get();
            state.execution.skip(0);
        }
        self.queue_table(now);
        Ok(())
    }

    /// A channel's reading as it truly is, for whoever judges it before it is taken.
    pub fn calibrated(&self, channel: ChannelId, reading: Reading) -> Reading {
        let state = self.channels.get(channel.index());
        let calibration = state.map_or(Calibration::NONE, Channel::calibration);
        reading.map(|told| calibration.apply(told))
    }

    /// Takes what there is to tell of the life before this one: it goes before everything that this one
    /// samples.
    pub fn handle_former(&mut self, event: Event) {
        self.events.note(NodeTicks(0), event);
        self.queue_events();
    }

    /// Takes an event that the board or a driver noticed.
    pub fn handle_event(&mut self, now: NodeTicks, event: Event) {
        self.events.note(now, event);
    }

    /// Writes whole frames for the line to `out`, which has at least
    /// [`trunnion_common::codec::LINE_FRAME_MAX`] bytes, and returns how many bytes; 0 when there is
    /// nothing to send now. Call it right before the line can take them: time replies are stamped here.
    pub fn poll_transmit(&mut self, now: NodeTicks, out: &mut [u8]) -> usize {
        for position in 0..self.channels.len() {
            if self.channels[position].deadline().is_some_and(|at| at <= now) {
                self.queue_formed(channel_id(position));
            }
        }
        if self.link.handle_time(now, &mut self.outbox) {
            self.announce(now);
        }
        if self.link.may_send() {
            if self.describe_due {
                self.queue_table(now);
            }
            self.queue_events();
            if self.next_status().is_some_and(|at| at <= now) {
                self.queue_status(now);
            }
        }
        self.link.poll_transmit(now, &mut self.outbox, out)
    }

    /// When to call [`Node::poll_transmit`] again if nothing else happens.
    pub fn poll_timeout(&self) -> Option<NodeTicks> {
        let forming = self.channels.iter().filter_map(Channel::deadline).min();
        [forming, self.next_status(), self.link.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Which channel table holds now: it is counted up with every change.
    pub const fn revision(&self) -> u16 {
        self.revision
    }

    /// Whether somebody asked this node to show where it is: the board lights its lamp.
    pub fn is_identifying(&self, now: NodeTicks) -> bool {
        now < self.identify_until
    }

    /// Where the samples of a channel have gone.
    pub fn account(&self, channel: ChannelId) -> Result<Account, UnknownChannel> {
        let state = self.channels.get(channel.index()).ok_or(UnknownChannel)?;
        let framed: u64 = Class::ALL
            .into_iter()
            .flat_map(|class| self.outbox.held(class))
            .filter(|entry| entry.kind == Kind::Samples && usize::from(entry.channel) == channel.index())
            .map(|entry| u64::from(entry.samples))
            .sum();
        let forming = state.formed().map_or(0, |(_, first, _)| state.produced - first);
        Ok(Account {
            produced: state.produced,
            acknowledged: state.acknowledged,
            held: framed + forming,
            dropped: state.drops(),
        })
    }

    fn handle_frame(&mut self, now: NodeTicks, frame: &RawFrame<'_>) {
        let header = frame.header();
        // What nodes send is an echo of the line.
        let Some(payload) = frame.downlink() else { return };
        if !self.link.is_addressed(header) {
            return;
        }
        if matches!(payload, Payload::Discover) {
            // An agent that asks this cannot know the node yet, so it names nobody. What is not for everybody
            // is another node's answer.
            match self.link.wiring() {
                Wiring::Own => self.announce(now),
                Wiring::Shared if header.address == LineAddress::BROADCAST => {
                    self.link
                        .handle_discover(now, header, self.line_speed.bytes_per_s());
                }
                Wiring::Shared => {}
            }
            return;
        }
        if !self.link.is_named(header) {
            return;
        }
        match payload {
            Payload::Poll(poll) => self.handle_poll(now, &poll),
            Payload::Assign(address) => self.link.assign(address),
            Payload::TimeRequest(request) => {
                let reply = Payload::TimeReply(TimeReply {
                    request: request.request,
                    received: now,
                    sent: now,
                });
                self.answer(now, Kind::TimeReply, &reply);
            }
            Payload::Settings(settings) => self.handle_settings(now, settings),
            Payload::Identify(identify) => self.handle_identify(now, identify),
            Payload::Capture(capture) => self.handle_capture(now, capture),
            Payload::Calibrate(calibrate) => self.handle_calibrate(now, calibrate),
            Payload::Discover => {}
            // No agent says these.
            Payload::Describe(_)
            | Payload::Waveform(_)
            | Payload::Scalar(_)
            | Payload::Feature(_)
            | Payload::Event(_)
            | Payload::Status(_)
            | Payload::TimeReply(_)
            | Payload::SettingsResult(_) => {}
        }
    }

    fn handle_settings(&mut self, now: NodeTicks, settings: Settings) {
        let rates = self.rates();
        let mut kept = self.in_force(settings.command);
        match settings::judge(&settings, &kept.settings.plans, &rates, self.line_speed) {
            Some(outcome) => self.report_outcome(now, settings.command, outcome),
            None => {
                kept.settings = settings;
                self.keep_settings(now, kept);
            }
        }
    }

    fn handle_calibrate(&mut self, now: NodeTicks, calibrate: Calibrate) {
        let at = calibrate.channel.index();
        let outcome = match self.channels.get(at) {
            None => Some(SettingsOutcome::UnknownChannel),
            Some(state) => {
                settings::judge_calibration(&calibrate, state.descriptor.unit, state.calibration())
            }
        };
        match outcome {
            Some(outcome) => self.report_outcome(now, calibrate.command, outcome),
            None => {
                let mut kept = self.in_force(calibrate.command);
                kept.calibrations = self.channels.iter().map(Channel::calibration).collect();
                kept.calibrations[at] = calibrate.calibration;
                if kept.calibrations.iter().all(|one| *one == Calibration::NONE) {
                    kept.calibrations.clear();
                }
                self.keep_settings(now, kept);
            }
        }
    }

    /// What is so now, to be changed by a command.
    fn rates(&self) -> Vec<u32, CHANNELS_MAX> {
        let rates = self.channels.iter().map(|channel| channel.descriptor.rate_mhz);
        rates.collect()
    }

    fn in_force(&self, command: u32) -> Kept {
        let channels = || self.channels.iter();
        let is_calibrated = channels().any(|channel| channel.calibration() != Calibration::NONE);
        let calibrated = channels().filter(|_| is_calibrated);
        Kept {
            settings: Settings {
                command,
                plans: channels().map(|channel| channel.execution.plan()).collect(),
            },
            calibrations: calibrated.map(Channel::calibration).collect(),
        }
    }

    /// These are in force as soon as the board has stored them.
    fn keep_settings(&mut self, now: NodeTicks, kept: Kept) {
        match &self.memory {
            SettingsMemory::Absent => {
                self.report_outcome(now, kept.settings.command, SettingsOutcome::NotStored);
            }
            // One thing after the other: the agent asks again.
            SettingsMemory::Storing(_) => {}
            SettingsMemory::Idle | SettingsMemory::Due(_) => self.memory = SettingsMemory::Due(kept),
        }
    }

    fn handle_identify(&mut self, now: NodeTicks, identify: Identify) {
        let outcome = if self.is_first(identify.command) {
            self.identify_until = now.plus_micros(u64::from(identify.seconds) * 1_000_000);
            SettingsOutcome::Applied
        } else {
            SettingsOutcome::Unchanged
        };
        self.report_outcome(now, identify.command, outcome);
    }

    fn handle_capture(&mut self, now: NodeTicks, capture: Capture) {
        let outcome = if capture.channel.index() >= self.channels.len() {
            SettingsOutcome::UnknownChannel
        } else if !(1..=settings::SAMPLES_MAX).contains(&capture.samples) {
            SettingsOutcome::BadPlan
        } else if self.is_first(capture.command) {
            let channel = &mut self.channels[capture.channel.index()];
            channel.execution.capture(capture.samples);
            SettingsOutcome::Applied
        } else {
            SettingsOutcome::Unchanged
        };
        self.report_outcome(now, capture.command, outcome);
    }

    /// Whether a number has not just been carried out: the agent repeats what it hears no answer to.
    fn is_first(&mut self, command: u32) -> bool {
        self.order.replace(command) != Some(command)
    }

    fn report_outcome(&mut self, now: NodeTicks, command: u32, outcome: SettingsOutcome) {
        let result = Payload::SettingsResult(SettingsResult { command, outcome });
        self.answer(now, Kind::Notice, &result);
    }

    fn apply(&mut self, now: NodeTicks, kept: &Kept) {
        let of = |position| kept.calibrations.get(position).copied();
        let of = |position| of(position).unwrap_or(Calibration::NONE);
        let mut channels = self.channels.iter().enumerate();
        if channels.any(|(position, channel)| channel.calibration() != of(position)) {
            self.close_table();
            for (position, channel) in self.channels.iter_mut().enumerate() {
                channel.calibrate(of(position));
            }
            self.queue_table(now);
        }
        for (position, channel) in self.channels.iter_mut().enumerate() {
            channel.forget();
            channel
                .execution
                .apply(settings::plan_of(&kept.settings.plans, position));
        }
    }

    /// The table is about to change: what has been taken belongs to the former one.
    fn close_table(&mut self) {
        for position in 0..self.channels.len() {
            self.queue_formed(channel_id(position));
            self.channels[position].forget();
        }
        self.revision = self.revision.wrapping_add(1);
    }

    fn handle_poll(&mut self, now: NodeTicks, poll: &Poll) {
        let verdict = self.link.handle_poll(now, poll);
        if verdict == Verdict::Refused {
            return;
        }
        for class in Class::ALL {
            let upto = poll.upto[class.index()];
            let channels = &mut self.channels;
            self.link
                .handle_acknowledgement(now, class, upto, &mut self.outbox, |entry| {
                    if let Some(channel) = channels.get_mut(usize::from(entry.channel)) {
                        channel.acknowledged += u64::from(entry.samples);
                    }
                });
        }
        match verdict {
            Verdict::Refused | Verdict::Obeyed { rivals: 0 } => {}
            // Reported when the old master goes on polling: a foreign poll alone may be its successor.
            Verdict::Obeyed { rivals } => {
                self.events
                    .note(now, event(EventKind::SecondMaster, Severity::Warning, rivals));
            }
            Verdict::NewMaster => {
                for class in Class::ALL {
                    self.link.resend(class, &mut self.outbox);
                }
                // Its predecessor knew the table, it may not.
                let mut held = self.outbox.held(Class::Essential);
                self.describe_due |= !held.any(|entry| entry.kind == Kind::Describe);
            }
        }
    }

    /// Sends one frame unasked: the first that is held or, when all is acknowledged, the table.
    fn announce(&mut self, now: NodeTicks) {
        if self.outbox.held(Class::Essential).next().is_none() {
            self.queue_table(now);
        }
        self.link.announce(&mut self.outbox);
    }

    /// Queues an answer; without room there is none, and the agent asks again.
    fn answer(&mut self, now: NodeTicks, kind: Kind, payload: &Payload<'_>) {
        let _: Result<(), NoRoom> = self.queue_control(kind, now, payload);
    }

    fn queue_table(&mut self, now: NodeTicks) {
        let table = Payload::Describe(Describe {
            revision: self.revision,
            channels: self.channels.iter().map(|channel| channel.descriptor).collect(),
        });
        self.describe_due = self.queue_control(Kind::Describe, now, &table).is_err();
    }

    fn queue_events(&mut self) {
        while let Some((ticks, event)) = self.events.oldest() {
            if self
                .queue_control(Kind::Notice, ticks, &Payload::Event(event))
                .is_err()
            {
                return;
            }
            self.events.remove_oldest();
        }
    }

    fn queue_status(&mut self, now: NodeTicks) {
        self.outbox.remove_status();
        let status = Payload::Status(self.status());
        // Without room it waits for the next second, which will know better anyway.
        let _: Result<(), NoRoom> = self.queue_control(Kind::Status, now, &status);
        self.last_status = now;
    }

    /// When the next status is due, if it can be sent: one that waits for the line would be out of date,
    /// and each that is replaced before it is heard leaves a hole in the numbers.
    fn next_status(&self) -> Option<NodeTicks> {
        let can_be_sent = self.link.may_send()
            && self.link.is_polled_since(self.last_status)
            && self.outbox.is_all_sent(Class::Essential);
        can_be_sent.then(|| self.last_status.plus_micros(STATUS_MICROS))
    }

    /// The status, as of now; its own frame is not counted.
    fn status(&self) -> Status {
        let mut held_from = [None; CHANNELS_MAX];
        for entry in Class::ALL.into_iter().flat_map(|class| self.outbox.held(class)) {
            if entry.kind == Kind::Samples {
                held_from[usize::from(entry.channel)].get_or_insert(entry.first_sample);
            }
        }
        let channels = self.channels.iter().zip(held_from).map(|(channel, framed)| {
            let forming = channel.formed().map(|(_, first, _)| first);
            ChannelStatus {
                produced: channel.produced,
                held_from: framed.or(forming).unwrap_or(channel.produced),
                drops: channel.drops(),
            }
        });
        Status {
            channels: channels.collect(),
            held: Class::ALL.map(|class| held_ranges(self.outbox.held(class))),
            next: [
                self.outbox.next(Class::Essential) + 1,
                self.outbox.next(Class::Waveform),
            ],
            outbox_used: self.outbox.used() as u32,
            outbox_capacity: self.outbox.capacity() as u32,
            reset: self.reset,
        }
    }

    /// Whether a waveform of the channel may begin now: whether what its plan makes it wait for is so.
    fn may_begin(&self, channel: ChannelId) -> bool {
        let state = self.channels.get(channel.index());
        let Some(trigger) = state.and_then(|state| state.execution.plan().trigger()) else {
            return true;
        };
        let level = self
            .channels
            .get(trigger.channel.index())
            .and_then(|state| state.execution.level());
        level.is_some_and(|level| trigger.is_met_by(level))
    }

    /// Puts samples into the channel's forming frame, and full ones into the outbox.
    fn form(&mut self, channel: ChannelId, first: NodeTicks, samples: &[i16]) {
        let mut taken = 0;
        while taken < samples.len() {
            let state = &mut self.channels[channel.index()];
            taken += state.fill(state.ticks_after(first, taken), &samples[taken..], self.packing);
            if state.is_full(self.packing) {
                self.queue_piece(channel);
            }
        }
    }

    /// Lets samples into the channel's features.
    fn condense(&mut self, channel: ChannelId, first: NodeTicks, samples: &[i16]) {
        let mut taken = 0;
        while taken < samples.len() {
            let state = &mut self.channels[channel.index()];
            let ticks = state.ticks_after(first, taken);
            let filters = self.filters.get_mut(channel.index());
            let (fed, report) = state
                .execution
                .feed(ticks, &samples[taken..], &state.descriptor, filters);
            taken += fed;
            self.queue_report(channel, report);
        }
    }

    fn queue_readings(&mut self, channel: ChannelId, ticks: NodeTicks, readings: &[Reading]) {
        let state = &mut self.channels[channel.index()];
        let (first_sample, calibration) = (state.produced, state.calibration());
        state.produced += readings.len() as u64;
        let payload = Payload::Scalar(Scalar {
            revision: self.revision,
            channel,
            first_sample,
            readings: readings
                .iter()
                .map(|reading| reading.map(|told| calibration.apply(told)))
                .collect(),
        });
        let mut frame = [0; FRAME_MAX];
        let length = self.encode(Class::Essential, ticks, &payload, &mut frame);
        let count = readings.len();
        self.keep_samples(Class::Essential, channel, first_sample, count, &frame[..length]);
    }

    fn queue_report(&mut self, channel: ChannelId, report: Option<Report>) {
        let Some(report) = report else {
            return;
        };
        let payload = Payload::Feature(FeatureReport {
            revision: self.revision,
            channel,
            first_sample: report.first_sample,
            count: report.count,
            features: report.features,
        });
        let mut frame = [0; FRAME_MAX];
        let length = self.encode(Class::Essential, report.ticks, &payload, &mut frame);
        self.keep(
            Kind::Features,
            Class::Essential,
            channel,
            (0, 0),
            &frame[..length],
        );
    }

    /// Queues all of the channel's forming frame, if there is one.
    fn queue_formed(&mut self, channel: ChannelId) {
        while self.queue_piece(channel) {}
    }

    /// Queues one frame of what is forming; whether there was something.
    fn queue_piece(&mut self, channel: ChannelId) -> bool {
        let Some(state) = self.channels.get(channel.index()) else {
            return false;
        };
        let Some((ticks, first_sample, samples)) = state.formed() else {
            return false;
        };
        let mut data = [0; DATA_MAX];
        let (packing, count, data) = write_samples(samples, self.packing, &mut data);
        let payload = Payload::Waveform(Waveform {
            revision: self.revision,
            channel,
            first_sample,
            count: count as u16,
            packing,
            data,
        });
        let mut frame = [0; FRAME_MAX];
        let length = self.encode(Class::Waveform, ticks, &payload, &mut frame);
        self.channels[channel.index()].take_formed(count);
        self.keep_samples(Class::Waveform, channel, first_sample, count, &frame[..length]);
        true
    }

    fn keep_samples(
        &mut self,
        class: Class,
        channel: ChannelId,
        first_sample: u64,
        count: usize,
        frame: &[u8],
    ) {
        self.keep(Kind::Samples, class, channel, (first_sample, count as u32), frame);
    }

    /// Keeps a frame that may push out older ones of its class, and may be pushed out.
    fn keep(
        &mut self,
        kind: Kind,
        class: Class,
        channel: ChannelId,
        (first_sample, samples): (u64, u32),
        frame: &[u8],
    ) {
        let entry = Entry {
            kind,
            channel: channel.index() as u8,
            samples,
            first_sample,
            sequence: self.outbox.next(class),
        };
        let channels = &mut self.channels;
        let mut drop_entry = |entry: Entry| {
            channels[usize::from(entry.channel)]
                .drop_samples(LossCause::OutboxFull, u64::from(entry.samples));
        };
        if self.outbox.push(class, entry, frame, &mut drop_entry).is_err() {
            drop_entry(entry);
        }
    }

    fn queue_control(&mut self, kind: Kind, ticks: NodeTicks, payload: &Payload<'_>) -> Result<(), NoRoom> {
        let mut frame = [0; FRAME_MAX];
        let length = self.encode(Class::Essential, ticks, payload, &mut frame);
        let entry = Entry::control(kind, self.outbox.next(Class::Essential));
        self.outbox
            .push(Class::Essential, entry, &frame[..length], |_| {})
    }

    fn encode(
        &self,
        class: Class,
        ticks: NodeTicks,
        payload: &Payload<'_>,
        frame: &mut [u8; FRAME_MAX],
    ) -> usize {
        let header = self.link.header(class, self.outbox.next(class), ticks);
        // A waveform is cut to fit; the rest is bounded by its tables. The longest, a status of sixteen
        // channels that all lose samples for three reasons, fits while counts stay below 2^49.
        match encode(&header, payload, frame) {
            Ok(frame) => frame.len(),
            Err(_) => unreachable!("every payload of a node fits a frame"),
        }
    }
}

/// One event, `repeats` times.
fn event(kind: EventKind, severity: Severity, repeats: u32) -> Event {
    Event {
        severity,
        kind,
        channel: None,
        repeats,
        value: 0.0,
    }
}

fn channel_id(position: usize) -> ChannelId {
    ChannelId::new(position as u16).expect("the table has at most CHANNELS_MAX channels")
}

/// The numbers of `entries` as ranges. When they need more than a status has room for, the last range
/// runs over the holes behind it: too much is claimed as held, never too little, and the lowest holes
/// are always exact, so the agent can close them and the next status shows the following ones.
fn held_ranges(entries: impl Iterator<Item = Entry>) -> Vec<Range, HELD_RANGES_MAX> {
    let mut ranges: Vec<Range, HELD_RANGES_MAX> = Vec::new();
    for sequence in entries.map(|entry| entry.sequence) {
        let full = ranges.is_full();
        match ranges.last_mut() {
            Some(last) if full || last.end() == sequence => {
                let first = last.first();
                *last = Range::new(first, sequence + 1).unwrap_or(*last);
            }
            _ => {
                let pushed = Range::one(sequence).map(|range| ranges.push(range));
                debug_assert!(matches!(pushed, Some(Ok(()))), "not full");
            }
        }
    }
    ranges
}
