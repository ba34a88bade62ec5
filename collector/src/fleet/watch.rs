//! What a gateway judges the channels that it hears by, when the file wants it to: as the collector does.

use super::section::Section;
use super::{ChannelSite, Fleet};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::velocity::Passband;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::monitor::{Settings, Severity};
use trunnion_common::quantity::{Quantity, Unit};
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
    /// How each vibration channel is watched by its gateway. Baselines are not the file's to know.
    pub(super) fn watches(&self) -> impl Iterator<Item = ((NodeId, ChannelId), Watch)> {
        self.channels.iter().filter_map(|(name, site)| {
            let quantity = site.unit.quantity();
            let is_vibration = matches!(quantity, Quantity::Acceleration | Quantity::Velocity);
            let asset = self.assets.iter().find(|asset| asset.id == site.series.asset)?;
            is_vibration.then(|| (*name, watch(site, &asset.judging)))
        })
    }
}

fn watch(site: &ChannelSite, judging: &super::Judging) -> Watch {
    let speed_hz = (site.shaft_hz > 0.0).then_some(site.shaft_hz as f32);
    let band = Passband::for_speed(site.shaft_hz);
    let severity = judging.criterion.map(|criterion| Severity {
        criterion,
        kind: FeatureKind::VelocityRms,
        unit: Some(Unit::MillimetrePerSecond),
        band_hz: Some([band.low_hz, band.high_hz]),
        trip: judging.trip,
    });
    let settings = Settings {
        severity,
        // The file's bound is the settings'.
        watched: judging.watched.iter().copied().collect(),
        gate: judging.gate,
        regimes: judging.regimes.clone(),
        persistence: judging.persistence,
        // What is normal is learned and agreed on at the collector.
        learning: None,
        range: Some(site.range as f32),
        ..Settings::default()
    };
    Watch {
        settings,
        gain: site.gain as f32,
        speed_hz,
        baselines: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fleet;
    use trunnion_common::id::{GatewayId, Name};

    fn wanted(gateway: &str) -> crate::command::Wanted {
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.gateway]]\nid = \"gw-1\"\n{gateway}\n\
             [[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n\
             iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 2\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"-v\"\nrange = 16\nband_hz = [1, 5000]\n"
        );
        Fleet::parse(&text, "fleet.toml").unwrap().wanted()
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
