//! Slow channels: by which limits each is judged, and which are judged together.
//!
//! ```toml
//! [site.area.asset.condition]
//! unusual_alone_s = 300        # readings are averaged over so long, and rare ones told; off without
//! unusual_together_s = 10      # rows of an asset's slow channels, which are judged together; off without
//! unusual_rows = 400           # what is normal is proposed after so many
//!
//! [[site.area.asset.point.channel]]
//! quantity = "temperature"
//! alert = 80                   # in its unit, as are the next three; each is optional
//! alarm = 95
//! alert_below = 5
//! alarm_below = 2
//! expected_s = 60              # a window is expected so often
//! group = "cooling"            # judged together with the others of that name; or unusual = "off"
//! ```

use super::condition::Judging;
use super::section::Section;
use super::{ChannelSite, Fleet};
use crate::state::{ALL_CHANNELS, SeriesKey};
use std::collections::BTreeMap;
use trunnion_common::detection::hotelling::CHANNELS_MAX;
use trunnion_common::detection::multivariate::{LEARNING_CELLS, Settings};
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::Name;
use trunnion_common::level::Persistence;
use trunnion_common::monitor::{self, Watched};
use trunnion_common::operating::GateSettings;

/// How a slow channel is judged.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SlowJudging {
    /// ALERT and ALARM for high values, in the channel's unit.
    pub above: Option<[f32; 2]>,
    /// The same for low ones.
    pub below: Option<[f32; 2]>,
    /// From one window to the next, nanoseconds, where that is declared.
    pub expected_ns: Option<i64>,
    /// Over how long readings are averaged that are judged by themselves, nanoseconds.
    pub alone_ns: Option<i64>,
    /// With which channels of its asset it is judged together; none: with none.
    pub group: Option<String>,
}

/// Slow channels of an asset that are judged together.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// `point/channel` of each, in the order of the row.
    pub channels: Vec<String>,
    /// Which place of the row tells whether the asset runs, and above what it does. It is one past the
    /// channels where that channel is none of them.
    pub running: Option<(usize, f32)>,
    /// From one row to the next, nanoseconds.
    pub every_ns: i64,
    /// What the detector is set to.
    pub settings: Settings,
    /// How many rows must agree.
    pub persistence: Persistence,
}

impl Group {
    /// Places of a row: its channels, and who tells whether the asset runs.
    pub fn width(&self) -> usize {
        let running = self.running.map_or(0, |(place, _)| place + 1);
        self.channels.len().max(running)
    }
}

/// A group: its asset and name.
pub type GroupKey = (String, String);

/// Under what a group is told.
pub fn series_of((asset, group): &GroupKey) -> SeriesKey {
    SeriesKey {
        asset: asset.clone(),
        point: ALL_CHANNELS.to_owned(),
        channel: group.clone(),
    }
}

/// The groups of a fleet, and where each channel stands in them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<GroupKey, Group>,
    places: BTreeMap<SeriesKey, Vec<(GroupKey, usize)>>,
}

/// Reads what a channel that does not measure vibration says of how it is judged.
pub(super) fn read_slow(channel: &Section<'_>, judging: &Judging) -> SlowJudging {
    let limits = |channel: &Section<'_>, keys: [&'static str; 2], sign: f64| {
        let alert = channel.number(keys[0]);
        let alarm = channel.number(keys[1]);
        if let (Some((alert, _)), Some((alarm, at))) = (&alert, &alarm)
            && sign * alarm <= sign * alert
        {
            let what = format!("{} = {alarm} is no worse than {} = {alert}", keys[1], keys[0]);
            channel.source.refuse(at, what, "put the alarm beyond the alert");
        }
        let [alert, alarm] = [alert, alarm].map(|limit| limit.map(|(limit, _)| limit as f32));
        let never = (sign * f64::INFINITY) as f32;
        Some([alert.or(alarm)?, alarm.unwrap_or(never)])
    };
    let group = match (channel.text("unusual"), channel.text("group")) {
        (Some(("off", _)), None) => None,
        (Some((_, at)), group) => {
            let what = match group {
                Some(_) => "a channel that is not judged is in no group",
                None => "a channel is judged, or unusual = \"off\"",
            };
            channel.source.refuse(&at, what, "leave unusual out");
            None
        }
        (None, Some((name, at))) => {
            if Name::new(name).is_err() {
                let fix = "use 1 to 32 of a to z, 0 to 9 and -";
                channel.source.refuse(&at, format!("{name:?} is no name"), fix);
            }
            Some(name.to_owned())
        }
        (None, None) => Some(ALL_CHANNELS.to_owned()),
    };
    SlowJudging {
        above: limits(channel, ["alert", "alarm"], 1.0),
        below: limits(channel, ["alert_below", "alarm_below"], -1.0),
        expected_ns: channel
            .positive("expected_s")
            .map(|(seconds, _)| (seconds.min(31.0 * 86_400.0) * 1e9) as i64),
        alone_ns: judging.alone_ns.filter(|_| group.is_some()),
        group,
    }
}

impl Judging {
    /// What the monitor of a slow channel judges by: limits, the instrument, silence. It has no normal: a
    /// temperature has no ratio to one. What is unusual of it, the detectors say.
    pub(super) fn slow_monitor(&self, site: &ChannelSite, slow: &SlowJudging) -> monitor::Settings {
        let watched = Watched {
            kind: FeatureKind::Mean,
            absolute: slow.above,
            relative: None,
        };
        let is_limited = slow.above.is_some() || slow.below.is_some();
        monitor::Settings {
            severity: None,
            watched: is_limited.then_some(watched).into_iter().collect(),
            gate: GateSettings {
                settle_ns: 0,
                ..GateSettings::default()
            },
            persistence: self.persistence,
            learning: None,
            range: Some((site.range * site.gain.abs()) as f32),
            // 0: as long as the windows themselves.
            interval_ns: slow.expected_ns.unwrap_or(0),
            ..monitor::Settings::default()
        }
    }
}

impl Groups {
    /// A channel of an asset.
    fn add(&mut self, key: GroupKey, place: usize, series: SeriesKey) {
        self.places.entry(series).or_default().push((key, place));
    }
}

impl Fleet {
    /// Slow channels that are judged together.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, &Group)> {
        self.groups.by_key.iter()
    }

    /// A group of an asset.
    pub fn group(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.by_key.get(key)
    }

    /// In which groups a channel stands, and at which place of their rows.
    pub fn groups_of(&self, series: &SeriesKey) -> &[(GroupKey, usize)] {
        self.groups.places.get(series).map_or(&[], Vec::as_slice)
    }

    /// The group that a channel is the first of.
    pub fn group_begun_by(&self, series: &SeriesKey) -> Option<&GroupKey> {
        let mut groups = self.groups_of(series).iter();
        groups.find_map(|(key, place)| (*place == 0).then_some(key))
    }

    /// Finds the groups of an asset, once its channels and their witnesses have been read.
    pub(super) fn read_groups(&mut self, asset: &Section<'_>, id: &str, judging: &Judging) {
        let Some(every_ns) = judging.together_ns else {
            return;
        };
        let first = SeriesKey {
            asset: id.to_owned(),
            ..SeriesKey::default()
        };
        let places = self.places.range(first..);
        let places = places.take_while(|(series, _)| series.asset == id);
        let mut members: BTreeMap<String, Vec<SeriesKey>> = BTreeMap::new();
        for (series, key) in places {
            let slow = self.channels.get(key).and_then(|site| site.slow.as_ref());
            if let Some(group) = slow.and_then(|slow| slow.group.clone()) {
                members.entry(group).or_default().push(series.clone());
            }
        }
        let running = self.operations.get(id).and_then(|operation| operation.running);
        let running = running.and_then(|(witness, above)| {
            let site = self.channel(witness.node, witness.channel)?;
            Some((site.series.clone(), above))
        });
        for (name, members) in members {
            // One channel is judged alone.
            if members.len() < 2 {
                continue;
            }
            if members.len() > CHANNELS_MAX {
                let what = format!("{} slow channels are too many to judge together", members.len());
                let fix = format!(
                    "put at most {CHANNELS_MAX} into a group, or leave some out with unusual = \"off\""
                );
                asset.source.refuse(&asset.at, what, fix);
                continue;
            }
            let most = LEARNING_CELLS / members.len();
            let key = (id.to_owned(), name);
            let running = running.as_ref().map(|(series, above)| {
                let place = members.iter().position(|member| member == series);
                if place.is_none() {
                    self.groups.add(key.clone(), members.len(), series.clone());
                }
                (place.unwrap_or(members.len()), *above)
            });
            let group = Group {
                channels: members
                    .iter()
                    .map(|series| format!("{}/{}", series.point, series.channel))
                    .collect(),
                running,
                every_ns,
                settings: Settings {
                    learning: usize::from(judging.unusual_rows).min(most) as u16,
                    ..Settings::default()
                },
                persistence: judging.persistence,
            };
            for (place, series) in members.into_iter().enumerate() {
                self.groups.add(key.clone(), place, series);
            }
            self.groups.by_key.insert(key, group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pump whose asset and first channel have further keys.
    fn parse(condition: &str, channel: &str) -> Result<Fleet, Vec<String>> {
        let slow = |id: &str, number: u8, keys: &str| {
            format!(
                "[[site.area.asset.point.channel]]\nid = \"{id}\"\nnode = \"00000000000000a1\"\nchannel = {number}\n\
                 quantity = \"temperature\"\nunit = \"degC\"\nrange = 150\n{keys}\n"
            )
        };
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"pump\"\n\
             [site.area.asset.condition]\n{condition}\n\
             [site.area.asset.operation]\nrunning = \"p/c\"\nrunning_above = 5\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n{}{}{}",
            slow("a", 0, channel),
            slow("b", 1, ""),
            slow("c", 2, "unusual = \"off\""),
        );
        let told = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect();
        Fleet::parse(&text, "f").map_err(told)
    }

    fn series(channel: &str) -> SeriesKey {
        SeriesKey {
            asset: "pump".into(),
            point: "p".into(),
            channel: channel.into(),
        }
    }

    #[test]
    fn limits_are_high_or_low_and_each_is_optional() {
        let slow = |keys| {
            let fleet = parse("", keys).unwrap();
            let site = fleet.site(&series("a")).unwrap().clone();
            (site.slow.unwrap(), site.monitor.unwrap())
        };
        let (judged, monitor) = slow("alert = 80\nalarm = 95\nalert_below = 5\nexpected_s = 60");
        assert_eq!(judged.above, Some([80.0, 95.0]));
        assert_eq!(judged.below, Some([5.0, f32::NEG_INFINITY]));
        assert_eq!(monitor.interval_ns, 60_000_000_000);
        assert_eq!(monitor.watched[0].absolute, Some([80.0, 95.0]));
        assert_eq!(monitor.learning, None);
        let (judged, monitor) = slow("");
        assert_eq!((judged.above, judged.below), (None, None));
        assert!(monitor.watched.is_empty());
    }

    #[test]
    fn slow_channels_are_judged_together_only_where_the_asset_says_so() {
        assert_eq!(parse("", "").unwrap().groups().count(), 0);
        let fleet = parse("unusual_together_s = 10\nunusual_rows = 6400", "").unwrap();
        let (key, group) = fleet.groups().next().unwrap();
        assert_eq!(key, &("pump".to_owned(), "*".to_owned()));
        assert_eq!(group.channels, ["p/a", "p/b"]);
        // Who tells whether it runs is heard, and not judged.
        assert_eq!((group.running, group.width()), (Some((2, 5.0)), 3));
        assert_eq!(fleet.groups_of(&series("c")), [(key.clone(), 2)]);
        assert_eq!(usize::from(group.settings.learning), LEARNING_CELLS / 2);
        let apart = parse("unusual_together_s = 10", "group = \"cooling\"").unwrap();
        assert_eq!(apart.groups().count(), 0, "one channel is no group");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (keys, expected) in [
            ("alert = 80\nalarm = 70", "alarm = 70 is no worse than alert = 80"),
            ("alert_below = 2\nalarm_below = 5", "alarm_below = 5 is no worse"),
            ("unusual = \"on\"", "leave unusual out"),
            ("unusual = \"off\"\ngroup = \"x\"", "is in no group"),
            ("group = \"Ä\"", "is no name"),
            ("expected_s = 0", "is not above 0"),
        ] {
            let told = parse("", keys).unwrap_err();
            assert!(
                told.iter().any(|told| told.contains(expected)),
                "{keys}: {told:?}"
            );
        }
    }
}
