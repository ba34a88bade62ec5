//! The shafts of an asset: how fast they turn, what drives them, and what bearings they turn in.

use super::Names;
use super::bearing::{Catalogue, read_bearing};
use super::section::{At, Section};
use std::collections::BTreeMap;
use trunnion_diagnosis::bearing::{BearingOrders, Neighbours};
use trunnion_diagnosis::features::ShaftSpeed;

/// A shaft as far as the points need it. What is `None` was refused.
pub(super) struct Shaft {
    pub(super) hz: Option<f64>,
    /// Of the speed, as a share.
    pub(super) tolerance: f64,
    pub(super) teeth: Option<u16>,
    pub(super) blades: Option<u16>,
    pub(super) bearings: BTreeMap<String, Option<BearingOrders>>,
}

/// The bearings of a machine that are heard beside the one of that name at that shaft; those of its own shaft first.
pub(super) fn neighbours(shafts: &BTreeMap<String, Shaft>, shaft: &str, bearing: &str) -> Neighbours {
    let Some(own) = shafts.get(shaft) else {
        return Neighbours::default();
    };
    let here = own.bearings.iter().filter(|(id, _)| *id != bearing);
    let here = here.filter_map(|(_, orders)| *orders);
    let elsewhere = shafts.iter().filter(|(id, _)| *id != shaft);
    let elsewhere = elsewhere
        .filter_map(|(_, other)| Some((other, other.hz? / own.hz?)))
        .flat_map(|(other, ratio)| {
            let orders = other.bearings.values().flatten();
            orders.map(move |orders| orders.scaled(ratio))
        });
    here.chain(elsewhere).collect()
}

/// The shafts of an asset, by id.
pub(super) fn read_shafts(asset: &Section<'_>, catalogue: &Catalogue) -> BTreeMap<String, Shaft> {
    /// The shaft that drives, where that is said, and the ratio.
    type Drive<'t> = (At<&'t str>, Option<f64>);
    let mut shafts: BTreeMap<String, Shaft> = BTreeMap::new();
    let mut driven: Vec<(String, Drive<'_>)> = Vec::new();
    let mut names = Names::default();
    for shaft in asset.tables("shaft") {
        let id = names.claim(&shaft);
        let [teeth, blades] = ["teeth", "blades"].map(|wheel| {
            let (count, at) = shaft.whole(wheel, 10_000)?;
            if count == 0 {
                let what = format!("a shaft cannot have 0 {wheel}");
                shaft.source.refuse(&at, what, "leave it out if there are none");
            }
            (count > 0).then_some(count)
        });
        let rpm = shaft.positive("rpm");
        let ratio = shaft.positive("ratio");
        let driver = shaft.text("driven_by");
        match (shaft.has("rpm"), driver) {
            (true, Some((_, at))) => shaft.source.refuse(
                &at,
                "this shaft has a speed and is driven as well",
                "give rpm, or driven_by and ratio",
            ),
            (false, Some(driver)) => {
                let ratio = shaft.require(
                    "ratio",
                    ratio,
                    "give its speed over that of the shaft that drives it",
                );
                driven.push((id.clone(), (driver, ratio.map(|ratio| ratio.0))));
            }
            (false, None) => {
                shaft.require("rpm", rpm.clone(), "give rpm, or driven_by and ratio");
            }
            (true, None) => {}
        }
        let mut bearing_names = Names::default();
        let bearings = shaft.tables("bearing");
        let bearings = bearings
            .iter()
            .map(|bearing| (bearing_names.claim(bearing), read_bearing(bearing, catalogue)))
            .collect();
        let hz = rpm.map(|(rpm, _)| rpm / 60.0);
        shafts.insert(
            id,
            Shaft {
                hz,
                tolerance: read_tolerance(&shaft),
                teeth,
                blades,
                bearings,
            },
        );
    }
    // Each pass resolves at least one shaft, or what is left is a circle or hangs in the air.
    while let Some(at) = driven
        .iter()
        .position(|(_, ((driver, _), _))| !driven.iter().any(|(id, _)| id == driver))
    {
        let (id, ((driver, place), ratio)) = driven.remove(at);
        let Some((hz, tolerance)) = shafts.get(driver).map(|shaft| (shaft.hz, shaft.tolerance)) else {
            let what = format!("there is no shaft {driver:?} here");
            asset
                .source
                .refuse(&place, what, "name another shaft of this asset");
            continue;
        };
        if let Some(shaft) = shafts.get_mut(&id) {
            shaft.hz = hz.zip(ratio).map(|(hz, ratio)| hz * ratio);
            // A belt slips besides, which is for the driven shaft to declare.
            shaft.tolerance = shaft.tolerance.max(tolerance);
        }
    }
    for (id, ((_, place), _)) in driven {
        let what = format!("shaft {id:?} drives itself, in a circle");
        asset
            .source
            .refuse(&place, what, "one shaft of the train needs an rpm");
    }
    shafts
}

/// Widest tolerance of a speed: beyond it, harmonics of the shaft are taken for each other.
const SPEED_TOLERANCE_MAX_PERCENT: f64 = 5.0;

/// How far the speed of a shaft may be off, as a share.
fn read_tolerance(shaft: &Section<'_>) -> f64 {
    let Some((percent, at)) = shaft.positive("speed_tolerance_percent") else {
        return ShaftSpeed::FINE;
    };
    if percent > SPEED_TOLERANCE_MAX_PERCENT {
        let what = format!("a speed that may be {percent} % off tells no orders apart");
        let how = format!("give at most {SPEED_TOLERANCE_MAX_PERCENT}, or the speed at this load");
        shaft.source.refuse(&at, what, how);
    }
    0.01 * percent.min(SPEED_TOLERANCE_MAX_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaft(hz: Option<f64>, bearings: &[(&str, &str)]) -> Shaft {
        let orders = |(id, designation): &(&str, &str)| ((*id).to_owned(), designation.parse().ok());
        Shaft {
            hz,
            tolerance: ShaftSpeed::FINE,
            teeth: None,
            blades: None,
            bearings: bearings.iter().map(orders).collect(),
        }
    }

    #[test]
    fn neighbours_are_heard_at_the_speed_of_the_point_s_shaft() {
        let shafts = BTreeMap::from([
            (
                "motor".to_owned(),
                shaft(Some(30.0), &[("drive", "6205"), ("fan", "6203")]),
            ),
            ("screw".to_owned(), shaft(Some(15.0), &[("foot", "6205")])),
            ("unknown".to_owned(), shaft(None, &[("foot", "6205")])),
        ]);
        let of = |designation: &str| designation.parse::<BearingOrders>().unwrap();
        let found = |shaft: &str, bearing: &str| -> Vec<BearingOrders> {
            neighbours(&shafts, shaft, bearing).iter().copied().collect()
        };
        assert_eq!(found("motor", "drive"), [of("6203"), of("6205").scaled(0.5)]);
        assert_eq!(
            found("screw", "foot"),
            [of("6205").scaled(2.0), of("6203").scaled(2.0)]
        );
        assert_eq!(found("gone", "foot"), []);
    }
}
