//! What a gateway judges the channels that it hears by, when the file wants it to: as the collector does.

use super::section::Section;
use super::{Fleet, Group, GroupKey, series_of};
use crate::command::Wanted;
use crate::state::{BaselineRow, NormalRow, SeriesKey};
use crate::window::WindowSettings;
use std::collections::BTreeMap;
use trunnion_common::baseline::{Normal, WATCHED_MAX};
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::monitor::{REGIMES_MAX, Settings};
use trunnion_common::operating::Regime;
use trunnion_common::watch::{BearingSearch, GroupWatch, SlowWatch, SpectrumWatch, UnusualWatch, Watch};
use trunnion_diagnosis::bearing::BearingOrders;

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
    /// How each channel is watched by its gateway: as the collector's monitor judges it, vibrations by windows of
    /// a second and slow channels by those of the collector, and without learning. What is normal is learned and
    /// agreed on at the collector.
    pub(super) fn watches(
        &self,
        windows: &WindowSettings,
    ) -> impl Iterator<Item = ((NodeId, ChannelId), Watch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let asset = self.assets.iter().find(|asset| asset.id == site.series.asset)?;
            let slow = site.slow.as_ref().map(|slow| SlowWatch {
                unit: site.unit,
                below: slow.below,
                size_ns: windows.scalar_size_ns,
                offset_ns: windows.offset_ns,
                coverage_min_permille: windows.coverage_min_permille,
            });
            let settings = match slow {
                Some(_) => site.monitor.clone()?,
                None => Settings {
                    learning: None,
                    interval_ns: Settings::default().interval_ns,
                    ..asset.judging.monitor(site, None)
                },
            };
            let watch = Watch {
                settings,
                gain: site.gain as f32,
                speed_hz: (site.shaft_hz > 0.0).then_some(site.shaft_hz as f32),
                baselines: Default::default(),
                operation: self.operation(&site.series.asset).cloned().unwrap_or_default(),
                slow,
            };
            (slow.is_some() || site.is_vibration()).then_some((*name, watch))
        })
    }

    /// For what each channel beside a bearing is searched by its gateway: as it is at the collector.
    pub(super) fn searches(&self) -> impl Iterator<Item = ((NodeId, ChannelId), BearingSearch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let search = BearingSearch {
                speed_tolerance: site.speed_tolerance,
                bearing: site.bearing?.each(),
                neighbours: site.neighbours.iter().map(BearingOrders::each).collect(),
                band_high_hz: site.band_high_hz,
            };
            site.is_vibration().then_some((*name, search))
        })
    }

    /// What is looked for in the spectra of each channel by its gateway: as it is at the collector.
    pub(super) fn examinations(&self) -> impl Iterator<Item = ((NodeId, ChannelId), SpectrumWatch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let spectra = SpectrumWatch {
                teeth: site.train.teeth,
                blades: site.train.blades,
                line_hz: site.train.line_hz,
                axial: site.train.axial,
                band_hz: [site.band_low_hz, site.band_high_hz],
                envelope_hz: site.envelope_hz.map(<[f32; 2]>::from),
                bands: site.bands.iter().map(|band| band.watched).collect(),
            };
            site.is_vibration().then_some((*name, spectra))
        })
    }

    /// Which slow channels a gateway judges by themselves, and over how long it averages them: as the collector does.
    pub(super) fn unusuals(&self) -> impl Iterator<Item = ((NodeId, ChannelId), UnusualWatch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let unusual = UnusualWatch {
                alone_ns: Some(site.slow.as_ref()?.alone_ns?),
                group: None,
            };
            Some((*name, unusual))
        })
    }

    /// Gives the gateways what people have accepted as normal; what is proposed or closed is none of it.
    pub fn adopt(&self, wanted: &mut Wanted, baselines: &[BaselineRow]) {
        let mut by_series: BTreeMap<&SeriesKey, Vec<&BaselineRow>> = BTreeMap::new();
        for row in baselines.iter().filter(|row| row.closed.is_none()) {
            by_series.entry(&row.series).or_default().push(row);
        }
        for ((node, channel), watch) in &mut wanted.watches {
            let Some(site) = self.channel(*node, *channel) else {
                continue;
            };
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
        for (key, group) in self.groups() {
            let rows = by_series.get(&series_of(key)).into_iter().flatten();
            let watches = rows.filter_map(|row| self.group_watch(key, group, row));
            for watch in watches {
                if let Some(first) = watch.channels.first().copied() {
                    wanted.unusuals.entry(first).or_default().group = Some(watch);
                }
            }
        }
    }

    /// How a gateway judges a group; none of what is not accepted, or was learned of other channels.
    fn group_watch(&self, key: &GroupKey, group: &Group, row: &BaselineRow) -> Option<GroupWatch> {
        row.accepted?;
        let learned = row.normals.iter().map(|normal| &normal.feature);
        if !learned.eq(&group.channels) {
            return None;
        }
        let name = |channel: &String| {
            let (point, channel) = channel.split_once('/')?;
            let series = SeriesKey {
                asset: key.0.clone(),
                point: point.to_owned(),
                channel: channel.to_owned(),
            };
            self.places.get(&series).copied()
        };
        let names: Option<Vec<_>> = group.channels.iter().map(name).collect();
        let channels = heapless::Vec::from_slice(&names?).ok()?;
        let running = match group.running {
            Some((place, above)) => {
                let witness = || Some(self.operation(&key.0)?.running?.0.name());
                Some((channels.get(place).copied().or_else(witness)?, above))
            }
            None => None,
        };
        let watch = GroupWatch {
            channels,
            running,
            every_ns: group.every_ns,
            settings: group.settings,
            persistence: group.persistence,
            generation: row.generation,
            learned: row.group.as_deref()?.clone(),
        };
        watch.is_sound().then_some(watch)
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
    use crate::state::{BaselineRow, NormalRow, SeriesKey, learned_of_two};
    use crate::window::WindowSettings;
    use trunnion_common::feature::FeatureKind;
    use trunnion_common::id::{GatewayId, Name};
    use trunnion_common::operating::Regime;
    use trunnion_common::quantity::Unit;
    use trunnion_common::time::EventTime;
    use trunnion_diagnosis::bearing::{BearingOrders, Neighbours};

    fn wanted(gateway: &str) -> Wanted {
        fleet(gateway, "").wanted(&WindowSettings::default())
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
            group: None,
        }
    }

    #[test]
    fn a_gateway_is_given_what_was_accepted_and_not_what_is_proposed_or_closed() {
        let fleet = fleet("watch = \"on\"", "");
        let given = |row: BaselineRow| {
            let mut wanted = fleet.wanted(&WindowSettings::default());
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
        let (key, watch) = fleet
            .wanted(&WindowSettings::default())
            .watches
            .into_iter()
            .next()
            .unwrap();
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

    /// A fan with a current that tells whether it runs, and a thermometer.
    fn operated() -> Fleet {
        operated_with("")
    }

    fn operated_with(condition: &str) -> Fleet {
        let slow = |id: &str, channel: u8, quantity: &str, unit: &str, keys: &str| {
            format!(
                "[[site.area.asset.point.channel]]\nid = \"{id}\"\nnode = \"00000000000000a1\"\n\
                 channel = {channel}\nquantity = \"{quantity}\"\nunit = \"{unit}\"\nrange = 150\n{keys}\n"
            )
        };
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\nwatch = \"on\"\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n{condition}\
             [site.area.asset.operation]\nrunning = \"p/current\"\nrunning_above = 5\nfresh_s = 30\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n{}{}\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]\n",
            slow("current", 0, "current", "A", "sensitivity = 0.5"),
            slow(
                "warm",
                1,
                "temperature",
                "degC",
                "alert = 80\nalert_below = 5\nexpected_s = 60"
            ),
        );
        Fleet::parse(&text, "fleet.toml").unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    #[test]
    fn a_gateway_is_told_who_says_how_the_machine_is_operated() {
        let wanted = operated().wanted(&WindowSettings::default());
        assert_eq!(wanted.watches.len(), 3);
        for watch in wanted.watches.values() {
            let (witness, above) = watch.operation.running.unwrap();
            assert_eq!((witness.name().0.get(), witness.name().1.get()), (0xa1, 0));
            assert_eq!((witness.unit, witness.gain, above), (Unit::Ampere, 0.5, 5.0));
            assert_eq!(watch.operation.fresh_ns, 30_000_000_000);
        }
    }

    #[test]
    fn a_gateway_judges_slow_channels_by_the_settings_and_windows_of_the_collector() {
        let windows = WindowSettings {
            scalar_size_ns: 20_000_000_000,
            ..WindowSettings::default()
        };
        let fleet = operated();
        let wanted = fleet.wanted(&windows);
        let (key, watch) = wanted.watches.iter().nth(1).unwrap();
        let site = fleet.channel(key.0, key.1).unwrap();
        assert_eq!(Some(&watch.settings), site.monitor.as_ref());
        let slow = watch.slow.unwrap();
        assert_eq!(slow.below, Some([5.0, f32::NEG_INFINITY]));
        assert_eq!(
            (slow.unit, slow.size_ns, slow.coverage_min_permille),
            (Unit::DegreeCelsius, 20_000_000_000, 950)
        );
    }

    #[test]
    fn a_gateway_is_given_what_was_accepted_of_a_group_and_how_channels_are_judged_by_themselves() {
        let fleet =
            operated_with("[site.area.asset.condition]\nunusual_alone_s = 300\nunusual_together_s = 20\n");
        let learned = learned_of_two();
        let given = |accepted, closed, features: [&str; 2]| {
            let normal = |feature: &str| NormalRow {
                feature: feature.into(),
                centre: 2.0,
                spread: 1.0,
            };
            let row = BaselineRow {
                series: SeriesKey {
                    asset: "fan".into(),
                    point: "*".into(),
                    channel: "*".into(),
                },
                generation: 3,
                normals: features.map(normal).into(),
                group: Some(Box::new(learned.clone())),
                ..baseline("", accepted, closed)
            };
            let mut wanted = fleet.wanted(&WindowSettings::default());
            fleet.adopt(&mut wanted, &[row]);
            wanted.unusuals.into_values().collect::<Vec<_>>()
        };
        let names = ["p/current", "p/warm"];
        let unusuals = given(Some(7), None, names);
        let alone: Vec<_> = unusuals.iter().map(|unusual| unusual.alone_ns).collect();
        assert_eq!(alone, [Some(300_000_000_000); 2]);
        let group = unusuals[0].group.as_ref().unwrap();
        let channels: Vec<_> = group.channels.iter().map(|(_, channel)| channel.get()).collect();
        assert_eq!((&channels[..], group.generation), (&[0, 1][..], 3));
        assert_eq!((group.every_ns, &group.learned), (20_000_000_000, &learned));
        let (witness, above) = group.running.unwrap();
        assert_eq!((witness, above), (group.channels[0], 5.0));
        assert!(unusuals[1].group.is_none(), "the first tells of it");
        for (accepted, closed, names) in [
            (None, None, names),
            (Some(7), Some(9), names),
            (Some(7), None, ["p/current", "p/cold"]),
        ] {
            let unusuals = given(accepted, closed, names);
            assert!(unusuals.iter().all(|unusual| unusual.group.is_none()));
        }
    }

    #[test]
    fn a_gateway_searches_for_the_bearing_beside_the_sensor_as_the_collector_does() {
        let bearings = "[[site.area.asset.shaft.bearing]]\nid = \"de\"\ndesignation = \"6205\"\n\
                        [[site.area.asset.shaft.bearing]]\nid = \"nde\"\ndesignation = \"6203\"\n\
                        [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\nbearing = \"de\"\n";
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\nwatch = \"on\"\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\nspeed_tolerance_percent = 2\n{bearings}\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]\n"
        );
        let fleet = Fleet::parse(&text, "fleet.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
        let wanted = fleet.wanted(&WindowSettings::default());
        let (key, search) = wanted.searches.iter().next().unwrap();
        let site = fleet.channel(key.0, key.1).unwrap();
        assert_eq!(BearingOrders::from(search.bearing), site.bearing.unwrap());
        let neighbours: Neighbours = search
            .neighbours
            .iter()
            .copied()
            .map(BearingOrders::from)
            .collect();
        assert_eq!((neighbours, neighbours.iter().count()), (site.neighbours, 1));
        assert_eq!((search.speed_tolerance, search.band_high_hz), (0.02, 5_000.0));
        assert!(
            Fleet::parse(&text.replace("\"on\"", "\"off\""), "fleet.toml")
                .unwrap()
                .wanted(&WindowSettings::default())
                .searches
                .is_empty()
        );
    }

    #[test]
    fn a_gateway_looks_for_in_spectra_what_the_collector_does() {
        let band = "[[site.area.asset.point.band]]\norders = [5.5, 7.5]\nquantity = \"velocity\"\nalert = 1\nalarm = 2\n";
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\nwatch = \"on\"\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\nline_hz = 50\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\nteeth = 23\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n{band}\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]\n"
        );
        let fleet = Fleet::parse(&text, "fleet.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
        let wanted = fleet.wanted(&WindowSettings::default());
        let (key, spectra) = wanted.examinations.iter().next().unwrap();
        let site = fleet.channel(key.0, key.1).unwrap();
        assert_eq!((spectra.teeth, spectra.line_hz), (Some(23), Some(50.0)));
        assert_eq!(
            (spectra.blades, spectra.axial),
            (site.train.blades, site.train.axial)
        );
        assert_eq!(spectra.band_hz, [1.0, 5_000.0]);
        assert_eq!(spectra.bands[..], [site.bands[0].watched]);
        // A thermometer has no spectrum.
        let wanted = operated().wanted(&WindowSettings::default());
        assert_eq!((wanted.watches.len(), wanted.examinations.len()), (3, 1));
    }

    #[test]
    fn a_gateway_watches_only_when_it_is_told_to() {
        assert!(wanted("").watching.is_empty() && wanted("watch = \"off\"").watching.is_empty());
    }
}
