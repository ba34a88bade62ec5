//! What the fleet file wants of nodes and gateways: sampling plans and the gateways' own settings.

use super::section::Section;
use std::ops::RangeInclusive;
use trunnion_common::frame::{ChannelPlan, Trigger};
use trunnion_common::id::{CHANNELS_MAX, ChannelId, GatewayId, Name};
use trunnion_common::message::{BackfillOrder, GatewaySettings};

/// What a node takes as a window or waveform; its own firmware has the last word.
const SAMPLES: RangeInclusive<u32> = 16..=1 << 24;

/// From one waveform to the next, seconds; at most thirty days.
const EVERY_S: RangeInclusive<u32> = 1..=30 * 86_400;

/// As in the agent's configuration.
const HEARTBEAT_MS: RangeInclusive<u32> = 1_000..=600_000;
const LIVE_SHARE_PERCENT: RangeInclusive<u32> = 1..=99;
const BACKFILL_KIB_S: RangeInclusive<u32> = 1..=1 << 30;

/// The plan of a channel section, if it has one.
pub(super) fn read_plan(channel: &Section<'_>) -> Option<ChannelPlan> {
    const FIX: &str = "write \"off\", \"raw\", { window = SAMPLES }, or { window = SAMPLES, samples = SAMPLES, every_s = SECONDS }, the last also with when = { channel = NUMBER, low = VALUE, high = VALUE }";
    if let Some((word, at)) = channel.text_unless_table("plan") {
        return match word {
            "off" => Some(ChannelPlan::Off),
            "raw" => Some(ChannelPlan::Raw),
            _ => {
                let what = format!("there is no plan {word:?}");
                channel.source.refuse(&at, what, FIX);
                None
            }
        };
    }
    let plan = channel.table_unless_text("plan", "plan")?;
    let window = plan.count("window", SAMPLES);
    let window = plan.require("window", window, "give the samples of a feature window")?;
    let (samples, every_s) = (plan.count("samples", SAMPLES), plan.count("every_s", EVERY_S));
    let trigger = plan.table("when", "trigger").map(|table| read_trigger(&table));
    if !plan.has("samples") && !plan.has("every_s") && !plan.has("when") {
        return Some(ChannelPlan::Features { window });
    }
    let samples = plan.require("samples", samples, "give the samples of a waveform")?;
    let every_s = plan.require(
        "every_s",
        every_s,
        "give the seconds from one waveform to the next",
    )?;
    if !plan.has("when") {
        return Some(ChannelPlan::Scheduled {
            window,
            samples,
            every_s,
        });
    }
    Some(ChannelPlan::Triggered {
        window,
        samples,
        every_s,
        trigger: trigger??,
    })
}

/// What a channel of the node must say for a waveform to begin: at least one limit.
fn read_trigger(table: &Section<'_>) -> Option<Trigger> {
    const FIX: &str = "give the lowest value, the highest, or both, in the channel's unit";
    let channel = table.whole("channel", CHANNELS_MAX as u16 - 1);
    let channel = table.require(
        "channel",
        channel,
        "give the number of a channel of the same node",
    );
    let limit = |key| table.number(key).map(|(value, _)| (1e3 * value).round() as i32);
    let (low, high) = (limit("low"), limit("high"));
    if low.is_none() && high.is_none() {
        table.require::<()>("low", None, FIX);
        return None;
    }
    let trigger = Trigger {
        channel: ChannelId::new(channel?.0)?,
        low_milli: low.unwrap_or(i32::MIN),
        high_milli: high.unwrap_or(i32::MAX),
    };
    if trigger.low_milli > trigger.high_milli {
        let (_, at) = table.number("low")?;
        table
            .source
            .refuse(&at, "this trigger's low is above its high", FIX);
        return None;
    }
    Some(trigger)
}

/// A gateway section of a site: which, and what is wanted of it.
pub(super) fn read_gateway(
    gateway: &Section<'_>,
    site: &str,
    id: &str,
) -> Option<(GatewayId, GatewaySettings)> {
    let settings = GatewaySettings {
        heartbeat_interval_ms: gateway.count("heartbeat_interval_ms", HEARTBEAT_MS),
        live_share_percent: gateway
            .count("live_share_percent", LIVE_SHARE_PERCENT)
            .and_then(|percent| u8::try_from(percent).ok()),
        backfill_order: read_order(gateway),
        backfill_kib_s: gateway.count("backfill_kib_s", BACKFILL_KIB_S),
    };
    // A name that does not do has been refused where it stands.
    let (site, gateway) = (Name::new(site).ok()?, Name::new(id).ok()?);
    Some((GatewayId { site, gateway }, settings))
}

fn read_order(gateway: &Section<'_>) -> Option<BackfillOrder> {
    let (word, at) = gateway.text("backfill_order")?;
    let known = [BackfillOrder::OldestFirst, BackfillOrder::NewestFirst];
    let found = known.into_iter().find(|order| order.label() == word);
    if found.is_none() {
        let what = format!("a backlog does not drain {word:?}");
        let fix = "write \"oldest_first\" or \"newest_first\"";
        gateway.source.refuse(&at, what, fix);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Fleet;
    use super::*;
    use crate::window::WindowSettings;
    use trunnion_common::id::NodeId;

    fn fleet(plan: &str, gateway: &str) -> String {
        fleet_at(1_500, plan, gateway)
    }

    fn fleet_at(rpm: u32, plan: &str, gateway: &str) -> String {
        format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\n{gateway}\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = {rpm}\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"+v\"\nrange = 16\nband_hz = [1, 5000]\n{plan}\n"
        )
    }

    fn plans(plan: &str) -> Vec<ChannelPlan> {
        let wanted = Fleet::parse(&fleet(plan, ""), "fleet.toml")
            .unwrap()
            .wanted(&WindowSettings::default());
        wanted
            .nodes
            .get(&NodeId::new(0xa1).unwrap())
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn a_plan_stands_with_its_channel_and_the_others_of_the_node_are_raw() {
        use ChannelPlan::{Features, Off, Raw, Scheduled};
        assert!(plans("").is_empty(), "a node without a plan is left alone");
        assert_eq!(plans("plan = \"off\""), [Raw, Raw, Off]);
        assert_eq!(plans("plan = \"raw\""), [Raw; 3]);
        assert_eq!(
            plans("plan = { window = 4096 }"),
            [Raw, Raw, Features { window: 4096 }]
        );
        let scheduled = Scheduled {
            window: 4096,
            samples: 8192,
            every_s: 600,
        };
        let text = "plan = { window = 4096, samples = 8192, every_s = 600 }";
        assert_eq!(plans(text), [Raw, Raw, scheduled]);
        let text =
            "plan = { window = 4096, samples = 8192, every_s = 600, when = { channel = 1, low = -0.5 } }";
        let triggered = ChannelPlan::Triggered {
            window: 4096,
            samples: 8192,
            every_s: 600,
            trigger: Trigger {
                channel: ChannelId::new(1).unwrap(),
                low_milli: -500,
                high_milli: i32::MAX,
            },
        };
        assert_eq!(plans(text), [Raw, Raw, triggered]);
    }

    #[test]
    fn features_of_a_machine_below_600_rpm_tell_its_velocity_from_2_hz_on() {
        let wanted = |rpm, plan| {
            let fleet = Fleet::parse(&fleet_at(rpm, plan, ""), "fleet.toml").unwrap();
            fleet.wanted(&WindowSettings::default()).nodes[&NodeId::new(0xa1).unwrap()][2]
        };
        let slow = |waveform, trigger| ChannelPlan::Slow {
            window: 4096,
            waveform,
            trigger,
        };
        let features = "plan = { window = 4096 }";
        assert_eq!(wanted(599, features), slow(None, None));
        assert_eq!(wanted(600, features), ChannelPlan::Features { window: 4096 });
        assert_eq!(wanted(60, "plan = \"raw\""), ChannelPlan::Raw);
        let scheduled = "plan = { window = 4096, samples = 8192, every_s = 600 }";
        assert_eq!(wanted(60, scheduled), slow(Some((8192, 600)), None));
        let triggered = "plan = { window = 4096, samples = 8192, every_s = 600, when = { channel = 1, low = 1, high = 2 } }";
        let trigger = Trigger {
            channel: ChannelId::new(1).unwrap(),
            low_milli: 1_000,
            high_milli: 2_000,
        };
        assert_eq!(wanted(60, triggered), slow(Some((8192, 600)), Some(trigger)));
    }

    #[test]
    fn settings_of_gateways_stand_with_their_site() {
        let text = fleet(
            "",
            "heartbeat_interval_ms = 2000\nlive_share_percent = 60\nbackfill_order = \"newest_first\"\nbackfill_kib_s = 9",
        );
        let wanted = Fleet::parse(&text, "fleet.toml")
            .unwrap()
            .wanted(&WindowSettings::default());
        let ((gateway, settings), 1) = (wanted.gateways.iter().next().unwrap(), wanted.gateways.len()) else {
            panic!("{wanted:?}");
        };
        assert_eq!(gateway.to_string(), "plant/gw-1");
        let expected = GatewaySettings {
            heartbeat_interval_ms: Some(2_000),
            live_share_percent: Some(60),
            backfill_order: Some(BackfillOrder::NewestFirst),
            backfill_kib_s: Some(9),
        };
        assert_eq!(*settings, expected);
    }

    #[test]
    fn what_is_no_plan_is_refused_where_it_stands() {
        for (plan, expected) in [
            ("plan = \"fast\"", "there is no plan \"fast\""),
            ("plan = 5", "plan of this channel is integer"),
            ("plan = {}", "this plan has no window"),
            (
                "plan = { window = 3 }",
                "window = 3 of this plan is no such number",
            ),
            ("plan = { window = 16, samples = 16 }", "this plan has no every_s"),
            ("plan = { window = 16, every_s = 1 }", "this plan has no samples"),
            ("plan = { windw = 16 }", "a plan has no windw"),
            (
                "plan = { window = 16, when = { channel = 0, low = 1 } }",
                "this plan has no samples",
            ),
            (
                "plan = { window = 16, samples = 16, every_s = 1, when = { channel = 0 } }",
                "this trigger has no low",
            ),
            (
                "plan = { window = 16, samples = 16, every_s = 1, when = { channel = 0, low = 2, high = 1 } }",
                "low is above its high",
            ),
            (
                "plan = { window = 16, samples = 16, every_s = 1, when = { low = 2 } }",
                "this trigger has no channel",
            ),
        ] {
            let problems = Fleet::parse(&fleet(plan, ""), "fleet.toml").unwrap_err();
            let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(
                text.iter().any(|text| text.contains(expected)),
                "{plan}: {text:?}"
            );
        }
        for gateway in [
            "heartbeat_interval_ms = 1",
            "live_share_percent = 100",
            "backfill_order = \"random\"",
            "endpoints = []",
            "[[site.gateway]]\nid = \"gw-1\"",
        ] {
            assert!(
                Fleet::parse(&fleet("", gateway), "fleet.toml").is_err(),
                "{gateway}"
            );
        }
    }
}
