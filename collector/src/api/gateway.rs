//! `GET /api/v1/gateways`: who delivers.
//!
//! ```json
//! {"truncated": false, "gateways": [{"gateway": "bremen/gw-1", "connected": true,
//!   "last_heard": "2026-01-31T12:00:00Z", "last_heard_ns": 0, "agent_version": "0.1.0", "nodes": 3,
//!   "spool_blocks": 0, "spool_bytes": 0, "health": {"clock": "synchronised", "clock_floor": 0,
//!   "clock_steps": 0, "holds_s": 532800, "drains_s": 0, "written_per_day_bytes": 21000000000,
//!   "flash_life_days": 1900}, "commands": [
//!     {"kind": "settings", "node": "00000000000000a1", "wanted": "features(4096)", "in_effect": true,
//!      "number": 7, "issued": "2026-01-31T12:00:00Z", "issued_ns": 0, "outcome": "done",
//!      "answered": "2026-01-31T12:00:01Z", "answered_ns": 0}]}]}
//! ```
//!
//! `health` says whose UTC the gateway goes by (`synchronised`, `free`, `collector`, `implausible`), its
//! clock floor in nanoseconds since 1970, and for how many seconds its spool holds out and drains at the
//! present rates; what is not known is null.
//!
//! `commands` has one entry for everything that is or was wanted of the gateway (`gateway`) and its nodes
//! (`settings`; `identify` and `capture` are the last order of a person): what is wanted, whether the
//! gateway has confirmed it, and the last command about it; `number` to `answered_ns` are null before the
//! first one, `outcome` to `answered_ns` before it is answered. `detail` is there where a refusal says more.
//!
//! Gateways are listed once they have been heard since the collector's start. What an agent says of
//! itself (`agent_version` to `health`) is null until its first status.

use super::time::rfc3339;
use super::{Api, clip};
use crate::command::CommandRow;
use crate::ingest::Gateway;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use trunnion_common::frame::{ChannelPlan, SettingsOutcome};
use trunnion_common::id::{ChannelId, GatewayId};
use trunnion_common::message::{Action, CommandOutcome, GatewayHealth, GatewaySettings};
use trunnion_common::watch::{BearingSearch, SpectrumWatch, UnusualWatch, Watch};

/// Most gateways in one answer.
pub const GATEWAYS_MAX: usize = 1_000;

/// The body of the answer.
#[derive(Serialize)]
pub(super) struct Gateways {
    truncated: bool,
    gateways: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    gateway: String,
    connected: bool,
    last_heard: String,
    last_heard_ns: i64,
    agent_version: Option<String>,
    nodes: Option<u16>,
    spool_blocks: Option<u64>,
    spool_bytes: Option<u64>,
    health: Option<GatewayHealth>,
    commands: Vec<Command>,
}

#[derive(Serialize)]
struct Command {
    kind: &'static str,
    node: Option<String>,
    wanted: String,
    in_effect: bool,
    number: Option<u64>,
    issued: Option<String>,
    issued_ns: Option<i64>,
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    answered: Option<String>,
    answered_ns: Option<i64>,
}

pub(super) async fn list(State(api): State<Api>) -> Json<Gateways> {
    let mut gateways = Vec::from_iter((api.gateways)());
    let truncated = clip(&mut gateways, GATEWAYS_MAX);
    let gateways = gateways.into_iter().map(entry).collect();
    Json(Gateways { truncated, gateways })
}

fn entry((id, gateway): (GatewayId, Gateway)) -> Entry {
    let status = gateway.status.as_ref();
    Entry {
        gateway: id.to_string(),
        connected: gateway.connected,
        last_heard: rfc3339(gateway.heard),
        last_heard_ns: gateway.heard.0,
        agent_version: status.map(|status| status.agent_version.as_str().to_owned()),
        nodes: status.map(|status| status.nodes),
        spool_blocks: status.map(|status| status.spool_blocks),
        spool_bytes: status.map(|status| status.spool_bytes),
        health: status.map(|status| status.health),
        commands: gateway.commands.iter().map(command).collect(),
    }
}

fn command(row: &CommandRow) -> Command {
    let issued = row.last.as_ref().map(|last| last.issued);
    let outcome = row.last.as_ref().and_then(|last| last.outcome);
    let answered = outcome.map(|(_, at)| at);
    let (kind, wanted) = match &row.wanted {
        Action::Settings { plans, .. } if plans.is_empty() => ("settings", "raw".to_owned()),
        Action::Settings { plans, .. } => {
            let plans: Vec<String> = plans.iter().map(plan).collect();
            ("settings", plans.join(", "))
        }
        Action::Identify { seconds, .. } => ("identify", format!("{seconds} s")),
        Action::Capture { channel, samples, .. } => {
            ("capture", format!("{samples} samples of channel {channel}"))
        }
        Action::Calibrate {
            channel, calibration, ..
        } => {
            let gain = f64::from(calibration.gain_ppm) / 1e6;
            let offset = f64::from(calibration.offset_milli) / 1e3;
            (
                "calibrate",
                format!("channel {channel}: gain {gain}, offset {offset}"),
            )
        }
        Action::Gateway(settings) => ("gateway", gateway_settings(settings)),
        Action::WatchPlain { channel, watch, .. } => {
            let watch = watch.clone().map(Watch::from);
            ("watch", watched(*channel, watch.as_ref()))
        }
        Action::Watch { channel, watch, .. } => ("watch", watched(*channel, watch.as_ref())),
        Action::Search { channel, search, .. } => ("search", searched(*channel, search.as_ref())),
        Action::Unusual { channel, unusual, .. } => ("unusual", followed(*channel, unusual.as_ref())),
        Action::Examine { channel, spectra, .. } => ("examine", examined(*channel, spectra.as_ref())),
    };
    Command {
        kind,
        node: row.wanted.node().map(|node| node.to_string()),
        wanted,
        in_effect: row.in_effect,
        number: row.last.as_ref().map(|last| last.command.number),
        issued: issued.map(rfc3339),
        issued_ns: issued.map(|at| at.0),
        outcome: outcome.map(|(outcome, _)| outcome.label()),
        detail: outcome.and_then(|(outcome, _)| detail(outcome)),
        answered: answered.map(rfc3339),
        answered_ns: answered.map(|at| at.0),
    }
}

/// What a refusal says beside its label.
fn detail(outcome: CommandOutcome) -> Option<String> {
    match outcome {
        CommandOutcome::RefusedByNode(SettingsOutcome::Overfull { needs, may }) => Some(format!(
            "the node's plans need {needs} bytes a second, and its line has {may} for them: send features only, or waveforms less often"
        )),
        _ => None,
    }
}

fn watched(channel: ChannelId, watch: Option<&Watch>) -> String {
    let Some(watch) = watch else {
        return format!("channel {channel} not watched");
    };
    let severity = watch.settings.severity.iter();
    let severity = severity.map(|severity| severity.criterion.standard().edition());
    let features = watch.settings.watched.iter().map(|watched| watched.kind.label());
    let by: Vec<&str> = severity.chain(features).collect();
    let baselines = watch.baselines.len();
    format!("channel {channel} by {}, {baselines} baseline(s)", by.join(", "))
}

fn searched(channel: ChannelId, search: Option<&BearingSearch>) -> String {
    let Some(search) = search else {
        return format!("channel {channel} not searched");
    };
    let [outer_race, inner_race, ball, cage] = search.bearing;
    format!(
        "channel {channel} for a bearing of outer race {outer_race:.3}, inner race {inner_race:.3}, ball {ball:.3}, \
         cage {cage:.3}"
    )
}

fn followed(channel: ChannelId, unusual: Option<&UnusualWatch>) -> String {
    let alone = unusual.and_then(|unusual| unusual.alone_ns);
    let alone = alone.map(|every_ns| format!("by itself over {} s", every_ns as f64 / 1e9));
    let group = unusual.and_then(|unusual| unusual.group.as_ref());
    let group = group.map(|group| {
        let (others, rows) = (group.channels.len() - 1, group.every_ns as f64 / 1e9);
        format!(
            "with {others} other(s) in rows of {rows} s, by baseline {}",
            group.generation
        )
    });
    let how: Vec<String> = alone.into_iter().chain(group).collect();
    match how.is_empty() {
        true => format!("channel {channel} not followed"),
        false => format!("channel {channel} followed {}", how.join(" and ")),
    }
}

fn examined(channel: ChannelId, spectra: Option<&SpectrumWatch>) -> String {
    let Some(spectra) = spectra else {
        return format!("channel {channel} not examined");
    };
    let wheel = |of: &str, number: Option<u16>| number.map(|number| format!("{number} {of}"));
    let known = [
        wheel("teeth", spectra.teeth),
        wheel("blades", spectra.blades),
        spectra.line_hz.map(|hz| format!("a supply of {hz} Hz")),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let known = match known.is_empty() {
        true => String::new(),
        false => format!(" with {}", known.join(", ")),
    };
    let bands = spectra.bands.len();
    format!("channel {channel} for what its shaft may have{known}, and {bands} band(s) of its own")
}

fn gateway_settings(settings: &GatewaySettings) -> String {
    let number = |key, value: Option<u32>| value.map(|value| format!("{key} = {value}"));
    let order = settings.backfill_order;
    let changed: Vec<String> = [
        number("heartbeat_interval_ms", settings.heartbeat_interval_ms),
        number("live_share_percent", settings.live_share_percent.map(u32::from)),
        order.map(|order| format!("backfill_order = {}", order.label())),
        number("backfill_kib_s", settings.backfill_kib_s),
    ]
    .into_iter()
    .flatten()
    .collect();
    if changed.is_empty() {
        return "its own configuration".into();
    }
    changed.join(", ")
}

fn plan(plan: &ChannelPlan) -> String {
    match plan {
        ChannelPlan::Off => "off".into(),
        ChannelPlan::Raw => "raw".into(),
        ChannelPlan::Features { window } => format!("features({window})"),
        ChannelPlan::Scheduled {
            window,
            samples,
            every_s,
        } => format!("features({window}), {samples} samples every {every_s} s"),
        ChannelPlan::Triggered {
            window,
            samples,
            every_s,
            trigger,
        } => {
            let limit = |word, milli: i32, none| {
                (milli != none).then(|| format!(" {word} {}", f64::from(milli) / 1e3))
            };
            let limits: String = [
                limit("from", trigger.low_milli, i32::MIN),
                limit("to", trigger.high_milli, i32::MAX),
            ]
            .into_iter()
            .flatten()
            .collect();
            let channel = trigger.channel;
            format!(
                "features({window}), {samples} samples every {every_s} s when channel {channel} is{limits}"
            )
        }
        ChannelPlan::Slow {
            window,
            waveform,
            trigger,
        } => {
            let (window, waveform) = (*window, *waveform);
            let same = match waveform.zip(*trigger) {
                Some(((samples, every_s), trigger)) => ChannelPlan::Triggered {
                    window,
                    samples,
                    every_s,
                    trigger,
                },
                None => waveform.map_or(ChannelPlan::Features { window }, |(samples, every_s)| {
                    ChannelPlan::Scheduled {
                        window,
                        samples,
                        every_s,
                    }
                }),
            };
            format!("{}, velocity from 2 Hz", self::plan(&same))
        }
    }
}
