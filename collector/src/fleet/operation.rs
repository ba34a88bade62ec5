//! Which slow channels tell how an asset is operated: its speed, its load, and whether it runs.
//!
//! ```toml
//! [site.area.asset.operation]  # optional, as is every key
//! speed = "drive/speed"        # point and channel; rpm of that point's shaft, and the others by their ratio
//! load = "drive/current"       # in whose unit load_edges are
//! running = "drive/current"    # it runs while this is above running_above
//! running_above = 5.0
//! fresh_s = 60                 # a reading counts for so long
//! ```

use super::section::Section;
use super::{ChannelSite, Fleet};
use crate::state::SeriesKey;
use trunnion_common::operation::{Operation, Witness};
use trunnion_common::quantity::Quantity;

/// A reading of a witness counts for so long unless the file says otherwise, seconds: as long as a channel may
/// be quiet before it counts as silent.
const FRESH_S: f64 = 60.0;

/// Reads an asset's table.
pub(super) fn read_operation(asset: &Section<'_>, id: &str, fleet: &Fleet) -> Option<Operation> {
    let section = asset.table("operation", "operation")?;
    let speed = witness(&section, "speed", id, fleet).and_then(|(witness, site)| {
        if site.unit.quantity() == Quantity::Speed {
            return Some((witness, site.shaft_hz));
        }
        let what = format!("speed is told by a channel in {}", site.unit.symbol());
        section.source.refuse(&section.at, what, "name a channel in rpm");
        None
    });
    let load = witness(&section, "load", id, fleet);
    let running = witness(&section, "running", id, fleet);
    let above = section.number("running_above").map(|(above, _)| above as f32);
    if section.has("running") != section.has("running_above") {
        let fix = "give both running and running_above, or neither";
        section.source.refuse(
            &section.at,
            "whether it runs is told by a channel and a threshold",
            fix,
        );
    }
    let fresh = section
        .positive("fresh_s")
        .map_or(FRESH_S, |(seconds, _)| seconds);
    Some(Operation {
        speed,
        load: load.map(|(witness, _)| witness),
        running: running.map(|(witness, _)| witness).zip(above),
        fresh_ns: (fresh.min(86_400.0) * 1e9) as i64,
    })
}

/// The channel of the asset that a key names as `point/channel`.
fn witness<'f>(
    section: &Section<'_>,
    key: &'static str,
    asset: &str,
    fleet: &'f Fleet,
) -> Option<(Witness, &'f ChannelSite)> {
    let (name, at) = section.text(key)?;
    let found = name.split_once('/').and_then(|(point, channel)| {
        let place = SeriesKey {
            asset: asset.to_owned(),
            point: point.to_owned(),
            channel: channel.to_owned(),
        };
        let key = fleet.places.get(&place)?;
        Some((key, fleet.channels.get(key)?))
    });
    let fix = "name a channel of this asset as \"point/channel\"";
    let Some((&(node, channel), site)) = found else {
        let what = format!("there is no channel {name:?} here");
        section.source.refuse(&at, what, fix);
        return None;
    };
    if site.is_vibration() {
        let what = format!("{name:?} measures vibration");
        section.source.refuse(&at, what, "name a slow channel");
        return None;
    }
    let witness = Witness {
        node,
        channel,
        unit: site.unit,
        gain: site.gain,
    };
    Some((witness, site))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::operating::Operating;
    use trunnion_diagnosis::features::ShaftSpeed;

    fn text(operation: &str) -> String {
        let channel = |id: &str, number: u8, what: &str| {
            format!(
                "[[site.area.asset.point.channel]]\nid = \"{id}\"\nnode = \"00000000000000a1\"\n\
                 channel = {number}\n{what}\n"
            )
        };
        let slow = |quantity: &str, unit: &str| {
            format!("quantity = \"{quantity}\"\nunit = \"{unit}\"\nrange = 2000\nband_hz = [0, 1]")
        };
        let fast = "quantity = \"acceleration\"\nunit = \"g\"\naxis = \"v\"\nrange = 16\nband_hz = [1, 5000]";
        format!(
            "[[site]]\nid = \"plant\"\n[[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n\
             [site.area.asset.operation]\n{operation}\n\
             [[site.area.asset.shaft]]\nid = \"motor\"\nrpm = 1500\nspeed_tolerance_percent = 2\n\
             [[site.area.asset.shaft]]\nid = \"fan\"\ndriven_by = \"motor\"\nratio = 0.5\n\
             [[site.area.asset.point]]\nid = \"drive\"\nshaft = \"motor\"\n{}{}\
             [[site.area.asset.point]]\nid = \"fan-de\"\nshaft = \"fan\"\n{}",
            channel("speed", 0, &slow("speed", "rpm")),
            channel("current", 1, &slow("current", "A")),
            channel("v", 2, fast),
        )
    }

    fn operating(operation: &str, rpm: Option<f32>, ampere: Option<f32>) -> Operating {
        told(operation, rpm, ampere).0
    }

    /// How the machine is operated, and the speed of the fan's shaft.
    fn told(operation: &str, rpm: Option<f32>, ampere: Option<f32>) -> (Operating, ShaftSpeed) {
        let fleet = Fleet::parse(&text(operation), "f").unwrap_or_else(|problems| panic!("{problems:#?}"));
        let place = SeriesKey {
            asset: "fan".into(),
            point: "fan-de".into(),
            channel: "v".into(),
        };
        let site = fleet.site(&place).unwrap();
        let operating = fleet.operating(site, |(_, channel)| if channel.get() == 0 { rpm } else { ampere });
        (operating, fleet.shaft(site, &operating))
    }

    #[test]
    fn without_witnesses_the_declared_speed_is_what_is_known() {
        let operating = operating("", Some(900.0), Some(3.0));
        assert_eq!(operating.speed_hz, Some(12.5));
        assert_eq!((operating.is_running, operating.load), (None, None));
    }

    #[test]
    fn a_measured_speed_goes_before_the_declared_one_and_reaches_every_shaft() {
        let operation = "speed = \"drive/speed\"\nload = \"drive/current\"";
        let told = operating(operation, Some(900.0), Some(3.0));
        assert_eq!((told.speed_hz, told.load), (Some(7.5), Some(3.0)));
        assert_eq!(told.is_running, Some(true));
        let unknown = operating(operation, None, None);
        assert_eq!((unknown.speed_hz, unknown.is_running), (None, None));
        assert_eq!(unknown.declared_hz, Some(12.5));
        assert_eq!(operating(operation, Some(10.0), None).is_running, Some(false));
    }

    #[test]
    fn a_shaft_turns_as_measured_where_a_channel_is_to_tell_it_and_as_declared_elsewhere() {
        let measured = "speed = \"drive/speed\"";
        for (operation, rpm, expected) in [
            ("", Some(900.0), ShaftSpeed::declared(12.5, 0.02)),
            (measured, Some(900.0), ShaftSpeed::measured(7.5)),
            // Measured to be as declared, and so known better than that.
            (measured, Some(1500.0), ShaftSpeed::measured(12.5)),
            (measured, None, ShaftSpeed::UNKNOWN),
        ] {
            assert_eq!(told(operation, rpm, None).1, expected, "{operation} {rpm:?}");
        }
    }

    #[test]
    fn a_current_above_a_threshold_says_that_it_runs() {
        let operation = "running = \"drive/current\"\nrunning_above = 5";
        let is_running = |ampere| operating(operation, None, ampere).is_running;
        assert_eq!(is_running(Some(5.1)), Some(true));
        assert_eq!(is_running(Some(5.0)), Some(false));
        assert_eq!(is_running(None), None);
    }

    #[test]
    fn what_cannot_tell_is_refused_with_what_to_do() {
        for (operation, expected) in [
            ("speed = \"drive/torque\"", "there is no channel \"drive/torque\""),
            ("speed = \"drive/current\"", "told by a channel in A"),
            ("load = \"fan-de/v\"", "measures vibration"),
            ("running = \"drive/current\"", "a channel and a threshold"),
            ("fresh_s = 0", "is not above 0"),
            ("torque = \"drive/current\"", "has no torque"),
        ] {
            let problems = Fleet::parse(&text(operation), "f").unwrap_err();
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(
                told.iter().any(|told| told.contains(expected)),
                "{operation}: {told:?}"
            );
        }
    }
}
