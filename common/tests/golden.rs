//! Golden bytes of wire version 1: one line `name = hex` per message in `golden/wire_v1.txt`.
//!
//! These bytes are the compatibility promise. A line that has been released is never edited; a change
//! of meaning is a new wire version with a file of its own. New messages are appended with
//! `TRUNNION_GOLDEN=append cargo test -p trunnion-common --test golden`, which refuses to change a line.
#![allow(
    clippy::unwrap_used,
    reason = "a test: what is unwrapped was written a few lines above"
)]

use heapless::Vec as Bounded;
use std::collections::BTreeMap;
use std::fmt::Debug;
use trunnion_common::ack::{Ack, AckLevel, Extent, HeldEpoch, Hello, JournalMark};
use trunnion_common::bearing::{Claim, ClaimBand, ClaimLine, Element};
use trunnion_common::block::*;
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::detection::hotelling::CHANNELS_MAX;
use trunnion_common::detection::multivariate;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::WatchedBand;
use trunnion_common::frame::*;
use trunnion_common::id::*;
use trunnion_common::level::{Level, Persistence};
use trunnion_common::message::{
    self, Action, BackfillOrder, Command, CommandOutcome, CommandResult, GatewayClock, GatewayHealth,
    GatewaySettings, GatewayStatus, MESSAGE_MAX, Phase, SignedCommand,
};
use trunnion_common::monitor::{self, Basis, Condition, Evidence, Watched};
use trunnion_common::operation::{Operation, Witness};
use trunnion_common::quantity::Unit;
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::sample::{LossCause, NoData};
use trunnion_common::sequence::{Range, SequenceSet};
use trunnion_common::severity::{Group, Standard, Support};
use trunnion_common::shaft::{Cause, ShaftClaim, ShaftLine};
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_common::watch::{
    BearingSearch, GroupWatch, LocalCondition, LocalFinding, LocalSuspicion, LocalUnusual, SlowWatch,
    SpectrumWatch, UnusualRow, UnusualWatch, Watch,
};

fn node() -> NodeId {
    NodeId::new(0x0011_2233_4455_6677).unwrap()
}

fn boot() -> BootId {
    BootId::new(3, 0xdead_beef)
}

fn channel(n: u16) -> ChannelId {
    ChannelId::new(n).unwrap()
}

fn range(first: u64, end: u64) -> Range {
    Range::new(first, end).unwrap()
}

fn list<T: Clone, const N: usize>(items: &[T]) -> Bounded<T, N> {
    Bounded::from_slice(items).ok().unwrap()
}

fn utc() -> EventTime {
    EventTime(1_790_000_000_123_456_789)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every payload of the node line, by name.
fn payloads() -> Vec<(&'static str, Payload<'static>)> {
    let descriptor = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 16.0 / 32_768.0,
        rate_mhz: 12_000_000,
        range: 16.0,
        band_low_hz: 2.0,
        band_high_hz: 5_000.0,
    };
    vec![
        (
            "frame.describe",
            Payload::Describe(Describe {
                revision: 1,
                channels: list(&[descriptor]),
            }),
        ),
        (
            "frame.waveform",
            Payload::Waveform(Waveform {
                revision: 1,
                channel: channel(0),
                first_sample: 4_800,
                count: 3,
                packing: Packing::I16,
                data: &[1, 0, 0xff, 0xff, 0, 0x80],
            }),
        ),
        (
            "frame.waveform.predicted",
            Payload::Waveform(Waveform {
                revision: 1,
                channel: channel(0),
                first_sample: 4_800,
                count: PREDICTED.1,
                packing: Packing::Predicted,
                data: &PREDICTED.0,
            }),
        ),
        (
            "frame.scalar",
            Payload::Scalar(Scalar {
                revision: 1,
                channel: channel(1),
                first_sample: 7,
                readings: list(&[Ok(41.5), Err(NoData::BusError)]),
            }),
        ),
        (
            "frame.feature",
            Payload::Feature(FeatureReport {
                revision: 1,
                channel: channel(0),
                first_sample: 0,
                count: 12_000,
                features: list(&[(FeatureKind::Rms, 0.5), (FeatureKind::KurtosisExcess, 3.25)]),
            }),
        ),
        (
            "frame.event",
            Payload::Event(Event {
                severity: Severity::Alarm,
                kind: EventKind::LimitExceeded,
                channel: Some(channel(1)),
                repeats: 2,
                value: 85.0,
            }),
        ),
        (
            "frame.event.watchdog_bite",
            Payload::Event(Event {
                severity: Severity::Alarm,
                kind: EventKind::WatchdogBite,
                channel: None,
                repeats: 1,
                value: 0.0,
            }),
        ),
        (
            "frame.event.stack_used",
            Payload::Event(Event {
                severity: Severity::Info,
                kind: EventKind::StackUsed,
                channel: None,
                repeats: 1,
                value: 34_612.0,
            }),
        ),
        (
            "frame.event.no_crystal",
            Payload::Event(Event {
                severity: Severity::Alarm,
                kind: EventKind::NoCrystal,
                channel: None,
                repeats: 1,
                value: 0.0,
            }),
        ),
        (
            "frame.status",
            Payload::Status(Status {
                channels: list(&[ChannelStatus {
                    produced: 12_000,
                    held_from: 11_040,
                    drops: list(&[(LossCause::OutboxFull, 480)]),
                }]),
                held: [list(&[range(5, 7)]), list(&[range(23, 25)])],
                next: [8, 25],
                outbox_used: 2_048,
                outbox_capacity: 65_536,
                reset: ResetCause::PowerOn,
            }),
        ),
        (
            "frame.time_reply",
            Payload::TimeReply(TimeReply {
                request: 9,
                received: NodeTicks(1_000_100),
                sent: NodeTicks(1_000_160),
            }),
        ),
        (
            "frame.settings_result",
            Payload::SettingsResult(SettingsResult {
                command: 4,
                outcome: SettingsOutcome::Applied,
            }),
        ),
        (
            "frame.poll",
            Payload::Poll(Poll {
                address: LineAddress(1),
                master: MasterId(0x0102_0304_0506_0708),
                upto: [8, 23],
                credit: 65_536,
            }),
        ),
        ("frame.discover", Payload::Discover),
        ("frame.assign", Payload::Assign(LineAddress(12))),
        (
            "frame.time_request",
            Payload::TimeRequest(TimeRequest { request: 9 }),
        ),
        (
            "frame.settings",
            Payload::Settings(Settings {
                command: 4,
                plans: list(&[
                    ChannelPlan::Raw,
                    ChannelPlan::Features { window: 12_000 },
                    ChannelPlan::Scheduled {
                        window: 12_000,
                        samples: 24_000,
                        every_s: 3_600,
                    },
                    ChannelPlan::Off,
                ]),
            }),
        ),
        (
            "frame.settings_triggered",
            Payload::Settings(Settings {
                command: 8,
                plans: list(&[ChannelPlan::Triggered {
                    window: 12_000,
                    samples: 24_000,
                    every_s: 60,
                    trigger: Trigger {
                        channel: channel(1),
                        low_milli: -500,
                        high_milli: 25_000,
                    },
                }]),
            }),
        ),
        (
            "frame.settings_result_overfull",
            Payload::SettingsResult(SettingsResult {
                command: 8,
                outcome: SettingsOutcome::Overfull {
                    needs: 160_000,
                    may: 64_512,
                },
            }),
        ),
        (
            "frame.feature_octaves",
            Payload::Feature(FeatureReport {
                revision: 1,
                channel: channel(0),
                first_sample: 12_000,
                count: 12_000,
                features: FeatureKind::OCTAVES.into_iter().map(|kind| (kind, 0.5)).collect(),
            }),
        ),
        (
            "frame.identify",
            Payload::Identify(Identify {
                seconds: 10,
                command: 6,
            }),
        ),
        (
            "frame.capture",
            Payload::Capture(Capture {
                command: 5,
                channel: channel(0),
                samples: 24_000,
            }),
        ),
        (
            "frame.settings_slow",
            Payload::Settings(Settings {
                command: 10,
                plans: list(&[
                    ChannelPlan::Slow {
                        window: 60_000,
                        waveform: None,
                        trigger: None,
                    },
                    ChannelPlan::Slow {
                        window: 60_000,
                        waveform: Some((120_000, 3_600)),
                        trigger: Some(Trigger {
                            channel: channel(1),
                            low_milli: 500,
                            high_milli: 1_500,
                        }),
                    },
                ]),
            }),
        ),
        (
            "frame.calibrate",
            Payload::Calibrate(Calibrate {
                command: 9,
                channel: channel(1),
                calibration: Calibration {
                    gain_ppm: 1_020_408,
                    offset_milli: -400,
                },
            }),
        ),
        (
            "frame.settings_result_bad_calibration",
            Payload::SettingsResult(SettingsResult {
                command: 9,
                outcome: SettingsOutcome::BadCalibration,
            }),
        ),
    ]
}

/// Whether an agent says it, and the time reply if it is one.
fn told_apart(payload: &Payload<'_>) -> (bool, Option<TimeReply>) {
    match payload {
        Payload::Poll(_)
        | Payload::Discover
        | Payload::Assign(_)
        | Payload::TimeRequest(_)
        | Payload::Settings(_)
        | Payload::Identify(_)
        | Payload::Capture(_)
        | Payload::Calibrate(_) => (true, None),
        Payload::TimeReply(reply) => (false, Some(*reply)),
        Payload::Describe(_)
        | Payload::Waveform(_)
        | Payload::Scalar(_)
        | Payload::Feature(_)
        | Payload::Event(_)
        | Payload::Status(_)
        | Payload::SettingsResult(_) => (false, None),
    }
}

fn header(class: Class) -> Header {
    Header {
        version: 1,
        address: LineAddress(1),
        node: node(),
        boot: boot(),
        class,
        sequence: 24,
        ticks: NodeTicks(1_000_000),
    }
}

/// The bytes of each body, by kind.
fn bodies() -> Vec<(&'static str, Kind, Vec<u8>)> {
    fn body<T: serde::Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = vec![0; 4_096];
        let used = postcard::to_slice(value, &mut bytes).unwrap().len();
        bytes.truncate(used);
        bytes
    }
    let mut raw = [0; FRAME_MAX];
    let frame = encode(&header(Class::Essential), &Payload::Discover, &mut raw).unwrap();
    let record = FrameRecord {
        arrival: utc(),
        fix: 2,
        frame,
    };
    let holding = Holding {
        node: node(),
        boot: boot(),
        channels: list(&[ChannelHolding {
            channel: channel(0),
            produced: 12_000,
            at_node: 11_520,
            at_agent: Some(range(9_600, 11_520)),
        }]),
    };
    vec![
        (
            "block.frames",
            Kind::Frames,
            [body(&record), body(&record)].concat(),
        ),
        (
            "block.readings",
            Kind::Readings,
            body(&Readings {
                node: node(),
                boot: boot(),
                sequence: 1,
                channel: channel(2),
                unit: Unit::Ampere,
                first_sample: 60,
                fix: 0,
                readings: list(&[(NodeTicks(5), Ok(1.5)), (NodeTicks(6), Err(NoData::CableOff))]),
            }),
        ),
        (
            "block.clock_fix",
            Kind::ClockFix,
            body(&ClockFix {
                node: node(),
                boot: boot(),
                number: 2,
                ticks: NodeTicks(1_000_130),
                utc: utc(),
                error_ns: 250_000,
                quality: ClockQuality::Synchronised,
            }),
        ),
        (
            "block.gap",
            Kind::Gap,
            body(&Gap {
                node: node(),
                boot: boot(),
                class: Class::Waveform,
                ranges: list(&[range(3, 9)]),
                cause: LossCause::OutboxFull,
            }),
        ),
        (
            "block.tombstone",
            Kind::Tombstone,
            body(&Tombstone {
                epoch: Epoch(0x1112_1314_1516_1718),
                blocks: range(4, 6),
                cause: LossCause::SpoolEvicted,
                frames: list(&[(node(), boot(), Class::Waveform, list(&[range(100, 160)]))]),
                samples: list(&[(node(), boot(), channel(0), 28_800)]),
            }),
        ),
        (
            "block.derived",
            Kind::Derived,
            body(&Derived {
                node: node(),
                boot: boot(),
                channel: channel(0),
                first_sample: 0,
                count: 12_000,
                features: list(&[(FeatureKind::Rms, 0.5)]),
                ticks: NodeTicks(1_000_130),
                fix: 2,
                revision: 1,
            }),
        ),
        (
            "block.advisory",
            Kind::Advisory,
            body(&LocalAdvisory {
                node: node(),
                boot: boot(),
                channel: Some(channel(0)),
                raised: utc(),
                evidence: list(&[(FeatureKind::EnvelopeInnerRace, 4.5)]),
                kind: Some(EventKind::LimitExceeded),
                severity: Severity::Alarm,
                last: utc().plus_nanos(5),
                repeats: 3,
                value: 12.5,
            }),
        ),
        (
            "block.condition",
            Kind::Condition,
            body(&LocalCondition {
                node: node(),
                boot: boot(),
                channel: channel(0),
                condition: Condition::Deviation(FeatureKind::Rms),
                level: Level::Alarm,
                raised: utc(),
                at: utc().plus_nanos(5),
                evidence: Some(Evidence {
                    kind: Some(FeatureKind::Rms),
                    value: 2.5,
                    limit: 2.0,
                    normal: Some(0.5),
                    basis: Basis::Baseline,
                    fault: None,
                }),
                standard: Some(Standard::Iso20816Part3(Group::Medium, Support::Rigid)),
            }),
        ),
        (
            "block.finding",
            Kind::Finding,
            body(&LocalFinding {
                told: LocalCondition {
                    node: node(),
                    boot: boot(),
                    channel: channel(0),
                    condition: Condition::Bearing(Some(Element::InnerRace)),
                    level: Level::Alarm,
                    raised: utc(),
                    at: utc().plus_nanos(5),
                    evidence: None,
                    standard: None,
                },
                claim: Some(Claim {
                    order: 5.43,
                    score: 7.5,
                    runner_up: 1.5,
                    band_hz: [1.0, 5_000.0],
                    lines: list(&[ClaimLine {
                        order: 5.43,
                        frequency_hz: 135.75,
                        harmonic: 1,
                        prominence: 9.5,
                    }]),
                    confirmed: Some(ClaimBand {
                        band_hz: [2_500.0, 3_750.0],
                        kurtosis: 4.5,
                        score: 6.5,
                    }),
                }),
            }),
        ),
        (
            "block.suspicion",
            Kind::Suspicion,
            body(&LocalSuspicion {
                told: LocalCondition {
                    node: node(),
                    boot: boot(),
                    channel: channel(0),
                    condition: Condition::Suspected(Cause::Unbalance),
                    level: Level::Alarm,
                    raised: utc(),
                    at: utc().plus_nanos(5),
                    evidence: None,
                    standard: None,
                },
                claim: Some(ShaftClaim {
                    score: 0.875,
                    band_hz: [5.0, 1_000.0],
                    lines: list(&[ShaftLine {
                        order: 1.0,
                        frequency_hz: 25.0,
                        rms: 5.5,
                        prominence: 80.0,
                    }]),
                }),
            }),
        ),
        (
            "block.unusual",
            Kind::Unusual,
            body(&LocalUnusual {
                told: LocalCondition {
                    node: node(),
                    boot: boot(),
                    channel: channel(1),
                    condition: Condition::UnusualTogether,
                    level: Level::Alert,
                    raised: utc(),
                    at: utc().plus_nanos(5),
                    evidence: None,
                    standard: None,
                },
                shown: Some(UnusualRow {
                    value: 1.5,
                    limit: 1.0,
                    residual: Some(2.5),
                    contributions: list(&[((node(), channel(1)), 0.75), ((node(), channel(2)), 0.25)]),
                }),
            }),
        ),
        (
            "block.describe",
            Kind::Describe,
            body(&GatewayDescribe {
                agent_version: "0.1.0".try_into().unwrap(),
                started: utc(),
            }),
        ),
        ("block.status", Kind::Status, body(&holding)),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    fn bytes<T>(value: T) -> Vec<u8>
    where
        T: serde::Serialize + for<'de> serde::Deserialize<'de> + PartialEq + Debug,
    {
        let mut room = vec![0; MESSAGE_MAX];
        let bytes = message::encode(&value, &mut room).unwrap().to_vec();
        assert_eq!(message::decode::<T>(&bytes).unwrap(), value);
        let mut longer = bytes.clone();
        longer.push(7);
        assert_eq!(
            message::decode::<T>(&longer).unwrap(),
            value,
            "fields of a later version are ignored"
        );
        bytes
    }
    let epoch = Epoch(0x1112_1314_1516_1718);
    let journal = JournalId(0x2122_2324_2526_2728);
    let mark = JournalMark {
        name: journal,
        extent: Extent(0x0000_0003_0000_1000),
    };
    vec![
        (
            "ack",
            bytes(Ack {
                epoch,
                received: SequenceSet::from_parts(10, &[range(12, 14)]).unwrap(),
                credit_bytes: 4 << 20,
                utc: utc(),
                journal: journal.into(),
                level: AckLevel::Local,
            }),
        ),
        (
            "ack_with_extent",
            bytes(Ack {
                epoch,
                received: SequenceSet::new(),
                credit_bytes: 4 << 20,
                utc: utc(),
                journal: mark,
                level: AckLevel::Replicated,
            }),
        ),
        (
            "hello",
            bytes(Hello {
                epochs: list(&[HeldEpoch {
                    epoch,
                    next: 14,
                    held: list(&[range(10, 12)]),
                    freed_by: Some(journal),
                }]),
                start: MasterId(0x0123_4567),
                number: 2,
                former: list(&[MasterId(0x89ab)]),
                journals: list(&[]),
            }),
        ),
        (
            "hello_after_journals",
            bytes(Hello {
                journals: list(&[journal, journal.named_by(7)].map(JournalMark::from)),
                ..Hello::first(MasterId(0x0123_4567), list(&[]))
            }),
        ),
        (
            "hello_with_extents",
            bytes(Hello {
                journals: list(&[mark, journal.named_by(7).into()]),
                ..Hello::first(MasterId(0x0123_4567), list(&[]))
            }),
        ),
        (
            "reject",
            bytes(Reject {
                crc: 0x1234_5678,
                reason: RejectReason::LengthMismatch,
            }),
        ),
        (
            "status",
            bytes(GatewayStatus {
                phase: Phase::Heartbeat,
                agent_version: "0.1.0".try_into().unwrap(),
                utc: utc(),
                nodes: 2,
                spool_blocks: 3,
                spool_bytes: 190_000,
                life: 0x2122_2324_2526_2728,
                connection: 4,
                health: GatewayHealth {
                    clock: GatewayClock::Collector,
                    clock_floor: utc(),
                    clock_steps: 1,
                    holds_s: Some(540_000),
                    drains_s: Some(2_280),
                    written_per_day_bytes: Some(21_000_000_000),
                    flash_life_days: None,
                },
            }),
        ),
        ("command", signed_command()),
        (
            "result",
            bytes(CommandResult {
                number: 7,
                outcome: CommandOutcome::RefusedByNode(SettingsOutcome::LineTooSlow),
                highest: 9,
            }),
        ),
    ]
}

/// A command as it is signed, in the message that carries it.
fn signed_command() -> Vec<u8> {
    let (mut inner, mut room) = ([0; 256], [0; 512]);
    let command = Command {
        number: 7,
        expires: utc(),
        action: Action::Settings {
            node: node(),
            plans: list(&[ChannelPlan::Off, ChannelPlan::Features { window: 4_096 }]),
        },
    };
    let inner = postcard::to_slice(&command, &mut inner).unwrap();
    assert_eq!(postcard::from_bytes::<Command>(inner).unwrap(), command);
    let signed = SignedCommand {
        command: inner,
        scheme: 0x0403,
        signature: &[1, 2, 3],
        chain: list(&[&[4, 5][..], &[6]]),
    };
    let bytes = message::encode(&signed, &mut room).unwrap().to_vec();
    assert_eq!(message::decode::<SignedCommand<'_>>(&bytes).unwrap(), signed);
    bytes
}

/// A thermometer of a machine whose current tells whether it runs.
fn slow_watch() -> Watch {
    let current = Witness {
        node: node(),
        channel: channel(2),
        unit: Unit::Ampere,
        gain: 1.0,
    };
    let watched = Watched {
        kind: FeatureKind::Mean,
        absolute: Some([80.0, 95.0]),
        relative: None,
    };
    Watch {
        settings: monitor::Settings {
            watched: list(&[watched]),
            learning: None,
            range: Some(150.0),
            ..monitor::Settings::default()
        },
        gain: 1.0,
        speed_hz: None,
        baselines: Bounded::new(),
        operation: Operation {
            speed: None,
            load: Some(current),
            running: Some((current, 5.0)),
            fresh_ns: 60_000_000_000,
        },
        slow: Some(SlowWatch {
            unit: Unit::DegreeCelsius,
            below: Some([5.0, 2.0]),
            size_ns: 10_000_000_000,
            offset_ns: 0,
            coverage_min_permille: 950,
        }),
    }
}

/// So many slow channels, of which the first tells whether the machine runs, and what may be learned of them.
fn group_watch(channels: u16) -> GroupWatch {
    let numbers = |number: f64| Bounded::<f64, CHANNELS_MAX>::from_iter((0..channels).map(|_| number));
    const CELLS_MAX: usize = CHANNELS_MAX * CHANNELS_MAX;
    let cells = 0..channels.pow(2);
    let matrix = |number: f64| {
        let cells = cells.clone().map(|_| number);
        (channels, Bounded::<f64, CELLS_MAX>::from_iter(cells))
    };
    // Mean, scale, metric and residual; the limit of T-squared, and the largest Q.
    let learned = (
        (numbers(40.5), numbers(1.5), matrix(0.75), matrix(0.25)),
        30.0,
        0.5,
    );
    let learned = postcard::to_slice(&learned, &mut [0; 8_192]).unwrap().to_vec();
    GroupWatch {
        channels: (0..channels).map(|place| (node(), channel(place))).collect(),
        running: Some(((node(), channel(0)), 5.0)),
        every_ns: 10_000_000_000,
        settings: multivariate::Settings::default(),
        persistence: Persistence::default(),
        generation: 2,
        learned: postcard::from_bytes(&learned).unwrap(),
    }
}

#[test]
fn a_group_of_the_most_channels_fits_many_times_into_a_message() {
    let most = CHANNELS_MAX as u16;
    let group = GroupWatch {
        running: Some(((NodeId::new(u64::MAX).unwrap(), channel(0)), 5.0)),
        channels: (0..most)
            .map(|place| (NodeId::new(u64::MAX).unwrap(), channel(place)))
            .collect(),
        ..group_watch(most)
    };
    assert!(group.is_sound());
    let action = Action::Unusual {
        node: node(),
        channel: channel(0),
        unusual: Some(UnusualWatch {
            alone_ns: Some(i64::MAX),
            group: Some(group),
        }),
    };
    let bytes = postcard::to_slice(&action, &mut [0; MESSAGE_MAX]).unwrap().len();
    assert!(
        (4_300..4_700).contains(&bytes) && 13 * bytes < MESSAGE_MAX,
        "{bytes}"
    );
}

/// Every action, as its bytes in a command.
fn actions() -> Vec<(&'static str, Action)> {
    vec![
        (
            "settings",
            Action::Settings {
                node: node(),
                plans: list(&[ChannelPlan::Raw]),
            },
        ),
        (
            "watch_no_more",
            Action::WatchPlain {
                node: node(),
                channel: channel(1),
                watch: None,
            },
        ),
        (
            "identify",
            Action::Identify {
                node: node(),
                seconds: 5,
            },
        ),
        (
            "capture",
            Action::Capture {
                node: node(),
                channel: channel(1),
                samples: 4_096,
            },
        ),
        (
            "calibrate",
            Action::Calibrate {
                node: node(),
                channel: channel(1),
                calibration: Calibration {
                    gain_ppm: 1_020_408,
                    offset_milli: -400,
                },
            },
        ),
        (
            "watch",
            Action::Watch {
                node: node(),
                channel: channel(1),
                watch: Some(slow_watch()),
            },
        ),
        (
            "search",
            Action::Search {
                node: node(),
                channel: channel(1),
                search: Some(BearingSearch {
                    speed_tolerance: 0.02,
                    bearing: [3.585, 5.415, 4.713, 0.398],
                    neighbours: list(&[[3.053, 4.947, 3.987, 0.382]]),
                    band_high_hz: 10_000.0,
                }),
            },
        ),
        (
            "examine",
            Action::Examine {
                node: node(),
                channel: channel(1),
                spectra: Some(SpectrumWatch {
                    teeth: Some(23),
                    blades: None,
                    line_hz: Some(50.0),
                    axial: true,
                    band_hz: [1.0, 5_000.0],
                    envelope_hz: Some([2_000.0, 4_000.0]),
                    bands: list(&[WatchedBand {
                        band: Band::Orders { low: 5.5, high: 7.5 },
                        velocity: true,
                    }]),
                }),
            },
        ),
        (
            "unusual",
            Action::Unusual {
                node: node(),
                channel: channel(1),
                unusual: Some(UnusualWatch {
                    alone_ns: Some(300_000_000_000),
                    group: Some(group_watch(2)),
                }),
            },
        ),
        (
            "gateway",
            Action::Gateway(GatewaySettings {
                heartbeat_interval_ms: Some(5_000),
                live_share_percent: Some(70),
                backfill_order: Some(BackfillOrder::NewestFirst),
                backfill_kib_s: Some(512),
            }),
        ),
    ]
}

/// Samples that a prediction of the first order is part of, and an escape; and how many.
const PREDICTED: ([u8; 79], u16) = (
    [
        15, 160, 35, 168, 239, 172, 8, 19, 66, 163, 73, 251, 148, 152, 142, 100, 38, 111, 78, 127, 43, 110,
        232, 139, 107, 253, 10, 253, 222, 204, 189, 204, 61, 244, 54, 136, 0, 219, 128, 7, 56, 91, 238, 19,
        255, 255, 211, 137, 131, 20, 44, 3, 80, 94, 26, 128, 48, 54, 18, 227, 0, 59, 142, 195, 49, 78, 56,
        17, 66, 201, 82, 50, 142, 66, 97, 116, 21, 11, 128,
    ],
    64,
);

#[test]
fn packed_samples_are_read_as_they_always_were() {
    let samples = trunnion_common::packing::unpack(&PREDICTED.0, PREDICTED.1.into()).unwrap();
    let taken = |i: i32| ((i * i * 37) % 201 - 100 + if i == 40 { 20_000 } else { 0 }) as i16;
    assert!(samples.into_iter().eq((0..64).map(taken)));
}

/// All golden bytes, by name; every one is decoded again on the way and compared.
fn current() -> BTreeMap<String, String> {
    let mut golden = BTreeMap::new();
    for (name, payload) in payloads() {
        let class = if matches!(payload, Payload::Waveform(_)) {
            Class::Waveform
        } else {
            Class::Essential
        };
        let (mut raw, mut line, mut buffer) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX], [0; LINE_FRAME_MAX]);
        let raw = encode(&header(class), &payload, &mut raw).unwrap();
        let line = stuff(raw, &mut line).unwrap();
        let mut decoder = Decoder::new(&mut buffer);
        let decoded = decoder.feed(line).frame.unwrap().unwrap();
        assert_eq!(decoded.header(), &header(class));
        assert_eq!(decoded.payload().unwrap(), payload, "{name}");
        let (is_downlink, reply) = told_apart(&payload);
        assert_eq!(
            decoded.downlink(),
            is_downlink.then_some(payload.clone()),
            "{name}"
        );
        assert_eq!(decoded.time_reply(), reply, "{name}");
        golden.insert(name.to_owned(), hex(line));
    }
    for (name, kind, body) in bodies() {
        let envelope = Envelope::new(Epoch(0x1112_1314_1516_1718), 5, Lane::Live, kind);
        let bytes = [&envelope.encode(&body)[..], &body].concat();
        let block = Block::parse(&bytes).unwrap();
        assert_eq!(block.envelope, envelope);
        assert_eq!(block.lane(), Lane::Live);
        match block.decode().unwrap() {
            Body::Frames(records) => assert_eq!(records.map(Result::unwrap).count(), 2),
            Body::Status(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Derived(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Advisory(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Condition(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Finding(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Suspicion(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            Body::Unusual(records) => assert_eq!(records.map(Result::unwrap).count(), 1),
            _ => {}
        }
        golden.insert(name.to_owned(), hex(&bytes));
    }
    for (name, bytes) in messages() {
        golden.insert(format!("message.{name}"), hex(&bytes));
    }
    for (name, action) in actions() {
        let mut room = [0; 512];
        let bytes = postcard::to_slice(&action, &mut room).unwrap();
        assert_eq!(postcard::from_bytes::<Action>(bytes).unwrap(), action);
        golden.insert(format!("action.{name}"), hex(bytes));
    }
    golden
}

fn committed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire_v1.txt")
}

#[test]
fn every_message_has_the_bytes_of_its_version() {
    let (current, mut committed) = (current(), committed());
    for (name, bytes) in &committed {
        assert_eq!(
            current.get(name),
            Some(bytes),
            "{name} is a promise and may not change"
        );
    }
    if std::env::var("TRUNNION_GOLDEN").as_deref() == Ok("append") {
        committed.extend(current.clone());
        let lines: String = committed
            .iter()
            .map(|(name, bytes)| format!("{name} = {bytes}\n"))
            .collect();
        std::fs::write(path(), lines).unwrap();
    }
    let missing: Vec<_> = current
        .keys()
        .filter(|name| !committed.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "no golden bytes yet for {missing:?}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_block_is_noticed() {
    for (name, kind, body) in bodies() {
        let envelope = Envelope::new(Epoch(1), 5, Lane::Live, kind);
        let mut bytes = [&envelope.encode(&body)[..], &body].concat();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::parse(&bytes).is_err(), "{name}, bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(Block::parse(&bytes[..cut]).is_err(), "{name}, cut to {cut}");
        }
    }
}

#[test]
fn a_body_of_a_later_version_is_still_a_block() {
    let mut envelope = Envelope::new(Epoch(1), 0, Lane::Live, Kind::Frames);
    for (version, kind, codec, reason) in [
        (2, Kind::Frames as u8, 0, RejectReason::BodyVersion),
        (1, 99, 0, RejectReason::BodyKind),
        (1, Kind::Frames as u8, 9, RejectReason::BodyCodec),
    ] {
        (envelope.body_version, envelope.kind, envelope.codec) = (version, kind, codec);
        let bytes = [&envelope.encode(b"future")[..], b"future"].concat();
        let block = Block::parse(&bytes).expect("the envelope is frozen");
        assert_eq!(block.decode(), Err(reason));
    }
}

proptest::proptest! {
    /// Whatever arrives, a decoder answers with a value or a reason.
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        if let Ok(frame) = RawFrame::parse(&bytes) {
            let _ = frame.payload();
        }
        // The same bytes behind a right checksum reach the postcard decoders.
        let crc = trunnion_common::codec::crc32c(&bytes).to_le_bytes();
        if let Ok(frame) = RawFrame::parse(&[&bytes[..], &crc].concat()) {
            let _ = frame.payload();
        }
        let mut raw = [0; FRAME_MAX];
        let head = postcard::to_slice(&header(Class::Essential), &mut raw).unwrap();
        let mut framed = [&head[..], &bytes].concat();
        let crc = trunnion_common::codec::crc32c(&framed).to_le_bytes();
        framed.extend(crc);
        if let Ok(Payload::Waveform(waveform)) = RawFrame::parse(&framed).and_then(|frame| frame.payload()) {
            let _ = waveform.samples().map(Iterator::count);
        }
        for kind in Kind::ALL {
            let envelope = Envelope::new(Epoch(1), 0, Lane::Live, kind);
            let block = [&envelope.encode(&bytes)[..], &bytes].concat();
            match Block::parse(&block).unwrap().decode() {
                Ok(Body::Frames(records)) => records.flatten().for_each(|record| {
 let _ = RawFrame::parse(record.frame);
 }),
                Ok(Body::Status(records)) => drop(records.count()),
                _ => {}
            }
        }
        let message = [&[1][..], &bytes].concat();
        let _ = message::decode::<Ack>(&message);
        let _ = message::decode::<Hello>(&message);
        let _ = message::decode::<Reject>(&message);
        let _ = message::decode::<GatewayStatus>(&message);
        let _ = message::decode::<SignedCommand<'_>>(&message);
        let _ = postcard::from_bytes::<Command>(&message);
        let _ = message::decode::<CommandResult>(&message);
    }
}
