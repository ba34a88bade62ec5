//! What a gateway judges the channels that it hears by, when the file wants it to: as the collector does.

use super::Fleet;
use super::section::Section;
use crate::command::Wanted;
use crate::state::{BaselineRow, NormalRow, SeriesKey};
use std::collections::BTreeMap;
use trunnion_common::baseline::{Normal, WATCHED_MAX};
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::monitor::{REGIMES_MAX, Settings};
use trunnion_common::operating::Regime;
use trunnion_common::watch::Watch;

/// Whether a gateway section has its gateway watch.
pub(super) fn read_watching(gateway: &Section<'_>) -> bool {
    match gateway.text("watch") {
        None | Some(("off", _)) => false,
        Some(("on", _)) => true,
        Some((word, at)) => {
            let what = format!("a gateway does not watch {word:?}");
            gateway.source.refuse(&at, what, "write \"on\" or \"off\"");
            false
        }
    }
}

impl Fleet {
    /// How each vibration channel is watched by its gateway: as the collector's monitor judges it, by windows
    /// of a second, and without learning. What is normal is learned and agreed on at the collector.
    pub(super) fn watches(&self) -> impl Iterator<Item = ((NodeId, ChannelId), Watch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let asset = self.assets.iter().find(|asset| asset.id == site.series.asset)?;
            let settings = Settings {
                learning: None,
                interval_ns: Settings::default().interval_ns,
                ..asset.judging.monitor(site, None)
            };
            let watch = Watch {
                settings,
                gain: site.gain as f32,
                speed_hz: (site.shaft_hz > 0.0).then_some(site.shaft_hz as f32),
                baselines: Default::default(),
            };
            site.is_vibration().then_some((*name, watch))
        })
    }

    /// Gives the gateways what people have accepted as normal; what is proposed or closed is none of it.
    ///
    /// A gateway hears no witnesses: where a channel tells the speed, it cannot tell regimes of the speed
    /// apart, and judges by absolute limits there.
    pub fn adopt(&self, wanted: &mut Wanted, baselines: &[BaselineRow]) {
        let mut by_series: BTreeMap<&SeriesKey, Vec<&BaselineRow>> = BTreeMap::new();
        for row in baselines.iter().filter(|row| row.closed.is_none()) {
            by_series.entry(&row.series).or_default().push(row);
        }
        for ((node, channel), watch) in &mut wanted.watches {
            let Some(site) = self.channel(*node, *channel) else {
                continue;
            };
            let operation = self.operation(&site.series.asset);
            let is_told_apart = watch.settings.regimes.tells_speeds_apart();
            if is_told_apart && operation.is_some_and(super::Operation::tells_speed) {
                continue;
            }
            let rows = by_series.get(&site.series).into_iter().flatten();
            let accepted = rows.filter_map(|row| {
                let normals = row.normals.iter().filter_map(normal).take(WATCHED_MAX).collect();
                let regime = Regime {
                    speed: row.speed_regime,
                    load: row.load_regime,
                };
                Some((regime, normals, row.accepted?))
            });
            watch.baselines = accepted.take(REGIMES_MAX).collect();
        }
    }
}

/// As a monitor knows it; none of a feature that this build does not know.
fn normal(row: &NormalRow) -> Option<Normal> {
    Some(Normal {
        kind: FeatureKind::from_label(&row.feature)?,
        centre: row.centre,
        spread: row.spread,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Fleet;
    use crate::command::Wanted;
    use crate::state::{BaselineRow, NormalRow, SeriesKey};
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::id::{GatewayId, Name};
    use trunnion_common::operating::Regime;
    use trunnion_common::time::EventTime;

    fn wanted(gateway: &str) -> Wanted {
        fleet(gateway, "").wanted()
    }

    fn fleet(gateway: &str, asset: &str) -> Fleet {
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\n{gateway}\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n\
             iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n{asset}\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"-v\"\nrange = 16\nband_hz = [1, 5000]\n"
        );
        Fleet::parse(&text, "fleet.toml").unwrap()
    }

    fn baseline(channel: &str, accepted: Option<i64>, closed: Option<i64>) -> BaselineRow {
        BaselineRow {
            series: SeriesKey {
                asset: "fan".into(),
                point: "p".into(),
                channel: channel.into(),
            },
            generation: 0,
            speed_regime: 0,
            load_regime: 0,
            stage: String::new(),
            windows: 300,
            learned: None,
            accepted: accepted.map(EventTime),
            closed: closed.map(EventTime),
            note: None,
            normals: vec![NormalRow {
                feature: "rms".into(),
                centre: 0.4,
                spread: 0.1,
            }],
        }
    }

    #[test]
    fn a_gateway_is_given_what_was_accepted_and_not_what_is_proposed_or_closed() {
        let fleet = fleet("watch = \"on\"", "");
        let given = |row: BaselineRow| {
            let mut wanted = fleet.wanted();
            fleet.adopt(&mut wanted, &[row]);
            let (_, watch) = wanted.watches.into_iter().next().unwrap();
            watch.baselines
        };
        let id = "acceleration-v";
        let adopted = given(baseline(id, Some(7), None));
        let (regime, normals, accepted) = &adopted[0];
        assert_eq!((*regime, *accepted), (Regime::default(), EventTime(7)));
        let normal = normals[0];
        assert_eq!(
            (normal.kind, normal.centre, normal.spread),
            (FeatureKind::Rms, 0.4, 0.1)
        );
        assert!(given(baseline(id, None, None)).is_empty());
        assert!(given(baseline(id, Some(7), Some(9))).is_empty());
        assert!(given(baseline("other", Some(7), None)).is_empty());
    }

    #[test]
    fn a_gateway_and_the_collector_judge_by_the_same_settings() {
        let fleet = fleet("watch = \"on\"", "");
        let (key, watch) = fleet.wanted().watches.into_iter().next().unwrap();
        let site = fleet.channel(key.0, key.1).unwrap();
        let own = site.monitor.clone().unwrap();
        assert_eq!(watch.settings.severity, own.severity);
        assert_eq!(watch.settings.watched, own.watched);
        assert_eq!(watch.settings.range, own.range);
    }

    #[test]
    fn a_gateway_that_is_to_watch_judges_as_the_asset_is_judged() {
        let wanted = wanted("watch = \"on\"");
        let name = |text| Name::new(text).unwrap();
        let gateway = GatewayId {
            site: name("plant"),
            gateway: name("gw-1"),
        };
        assert!(wanted.watching.contains(&gateway));
        let ((node, channel), watch) = wanted.watches.iter().next().unwrap();
        assert_eq!((node.get(), channel.get()), (0xa1, 2));
        assert_eq!((watch.gain, watch.speed_hz), (-1.0, Some(25.0)));
        let severity = watch.settings.severity.unwrap();
        assert_eq!(severity.criterion.standard().edition(), "ISO 20816-3:2022");
        assert_eq!(severity.band_hz, Some([10.0, 1_000.0]));
        assert_eq!(watch.settings.learning, None);
    }

    #[test]
    fn a_gateway_watches_only_when_it_is_told_to() {
        assert!(wanted("").watching.is_empty() && wanted("watch = \"off\"").watching.is_empty());
    }
}
