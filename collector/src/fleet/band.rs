//! Bands of a measurement point's own: which part of the spectrum is trended, and from where on it is told.

use super::section::Section;
use trunnion_common::feature::band::Band;
use trunnion_common::feature::definition::{BANDS_MAX, WatchedBand};

/// A band of a point, and the limits that hold whatever is normal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PointBand {
    /// What is trended.
    pub watched: WatchedBand,
    /// ALERT and ALARM, in mm/s or in the channel's unit; none: it is judged against its normal alone.
    pub limits: Option<[f32; 2]>,
}

/// The bands of a point, in the order of the file.
pub(super) fn read_bands(point: &Section<'_>) -> Vec<PointBand> {
    let sections = point.tables("band");
    if let Some(beyond) = sections.get(BANDS_MAX) {
        let what = format!("{} bands are more than a point can have", sections.len());
        point
            .source
            .refuse(&beyond.at, what, format!("leave at most {BANDS_MAX}"));
    }
    sections.iter().filter_map(read_band).collect()
}

fn read_band(section: &Section<'_>) -> Option<PointBand> {
    let (hz, orders) = (section.pair("hz"), section.pair("orders"));
    let velocity = match section.text("quantity") {
        None => false,
        Some(("velocity", _)) => true,
        Some((word, at)) => {
            let what = format!("a band is not told as {word:?}");
            let fix = "write \"velocity\" for mm/s, or leave it out for what the channel measures";
            section.source.refuse(&at, what, fix);
            false
        }
    };
    let limits = section
        .positive("alert")
        .map(|(alert, _)| alert as f32)
        .zip(section.positive("alarm"))
        .map(|(alert, (alarm, at))| (alert, alarm as f32, at));
    if section.has("alert") != section.has("alarm") {
        let fix = "give both limits, or none to judge it against its normal alone";
        section
            .source
            .refuse(&section.at, "a band has an alert and an alarm", fix);
    }
    if let Some((alert, alarm, at)) = &limits
        && alarm <= alert
    {
        let what = format!("an alarm at {alarm} is not above an alert at {alert}");
        section.source.refuse(at, what, "make alarm the larger one");
    }
    let (edges, band): (_, fn(f32, f32) -> Band) = match (hz, orders) {
        (Some(edges), None) => (edges, |low, high| Band::Hz { low, high }),
        (None, Some(edges)) => (edges, |low, high| Band::Orders { low, high }),
        _ => {
            let fix = "give either hz = [low, high], or orders = [low, high] of the shaft's speed";
            section
                .source
                .refuse(&section.at, "a band lies in Hz or in orders", fix);
            return None;
        }
    };
    let ((low, high), at) = edges;
    if !(0.0 <= low && low < high) {
        let what = format!("a band from {low} to {high} is none");
        section.source.refuse(&at, what, "give the lower edge first");
    }
    Some(PointBand {
        watched: WatchedBand {
            band: band(low as f32, high as f32),
            velocity,
        },
        limits: limits.map(|(alert, alarm, _)| [alert, alarm]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Fleet, Problem};
    use super::*;
    use trunnion_common::feature::FeatureKind;

    /// A fleet of one channel, whose asset and point have further keys.
    fn fleet(asset: &str, bands: &str) -> Result<Fleet, Vec<Problem>> {
        let text = format!(
            "[[site]]\nid = \"plant\"\n[[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n{asset}\n\
             [[site.area.asset.shaft]]\nid = \"s\"\nrpm = 1500\n\
             [[site.area.asset.point]]\nid = \"p\"\nshaft = \"s\"\n{bands}\n\
             [[site.area.asset.point.channel]]\nnode = \"00000000000000a1\"\nchannel = 0\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]\n"
        );
        Fleet::parse(&text, "f")
    }

    fn band(keys: &str) -> String {
        format!("[[site.area.asset.point.band]]\n{keys}\n")
    }

    #[test]
    fn bands_are_trended_and_watched_in_the_order_of_the_file() {
        let bands = band("orders = [0.8, 1.2]\nquantity = \"velocity\"\nalert = 2\nalarm = 4.5")
            + &band("hz = [900, 1100]");
        let fleet = fleet("", &bands).unwrap();
        let (_, _, site) = fleet.channels().next().unwrap();
        let basis = site.basis(12_000.0, 5_000.0, 1.0);
        let [Some(first), Some(second), None, None] = basis.bands else {
            panic!("{basis:?}");
        };
        assert_eq!(first.band, Band::Orders { low: 0.8, high: 1.2 });
        assert!(first.velocity && !second.velocity);
        assert_eq!(
            second.band,
            Band::Hz {
                low: 900.0,
                high: 1_100.0
            }
        );
        let watched = &site.monitor.as_ref().unwrap().watched;
        let kinds: Vec<_> = watched.iter().map(|watched| watched.kind).collect();
        assert_eq!(kinds, [FeatureKind::Rms, FeatureKind::Band1, FeatureKind::Band2]);
        assert_eq!(watched[1].absolute, Some([2.0, 4.5]));
        assert_eq!(watched[2].absolute, None);
        assert_eq!(watched[2].relative, watched[0].relative);
    }

    #[test]
    fn what_cannot_be_a_band_is_refused_with_what_to_do() {
        let many = band("hz = [1, 2]").repeat(BANDS_MAX + 1);
        let alarm = |feature: &str| {
            format!("[[site.area.asset.condition.alarm]]\nfeature = \"{feature}\"\nalert = 1\nalarm = 2\n")
        };
        let alarms: String = ["mean", "peak", "peak_to_peak", "crest_factor", "skewness"]
            .map(alarm)
            .concat();
        for (asset, bands, expected) in [
            ("", band(""), "lies in Hz or in orders"),
            (
                "",
                band("hz = [1, 2]\norders = [1, 2]"),
                "lies in Hz or in orders",
            ),
            ("", band("hz = [2, 1]"), "a band from 2 to 1 is none"),
            ("", band("hz = [1, 2]\nalert = 2"), "has an alert and an alarm"),
            (
                "",
                band("hz = [1, 2]\nalert = 2\nalarm = 2"),
                "is not above an alert",
            ),
            (
                "",
                band("hz = [1, 2]\nquantity = \"force\""),
                "not told as \"force\"",
            ),
            ("", many, "5 bands are more than a point can have"),
            (
                &alarms,
                band("hz = [1, 2]").repeat(3),
                "are more than can be watched",
            ),
        ] {
            let problems = fleet(asset, &bands).unwrap_err();
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(
                told.iter().any(|told| told.contains(expected)),
                "{bands}: {told:?}"
            );
        }
    }
}
