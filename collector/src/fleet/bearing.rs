//! Bearings of the fleet file: the plant's own catalogue, and those of the shafts.

use super::section::Section;
use std::collections::BTreeMap;
use std::ops::Range;
use trunnion_diagnosis::bearing::{BearingError, BearingGeometry, BearingOrders, names};

/// Designations of the plant's own.
pub(super) type Catalogue = BTreeMap<String, BearingOrders>;

/// The plant's own designations.
pub(super) fn read_catalogue(root: &Section<'_>) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for bearing in root.tables("bearing") {
        let designation = bearing
            .text("designation")
            .filter(|(name, _)| !name.trim().is_empty());
        let designation = bearing.require("designation", designation, "say what it is called");
        if bearing.has("geometry") == bearing.has("orders") {
            let what = "a bearing of the catalogue is told by geometry or by orders";
            bearing
                .source
                .refuse(&bearing.at, what, "give exactly one of the two");
            continue;
        }
        let orders = read_dimensions(&bearing);
        let Some(((name, at), orders)) = designation.zip(orders) else {
            continue;
        };
        if catalogue.insert(name.trim().to_owned(), orders).is_some() {
            let what = format!("bearing {name:?} is declared twice");
            bearing.source.refuse(&at, what, "leave one of them out");
        }
    }
    catalogue
}

/// A bearing of a shaft: by a designation of the plant or of the built-in catalogue, by geometry, or by orders.
pub(super) fn read_bearing(bearing: &Section<'_>, catalogue: &Catalogue) -> Option<BearingOrders> {
    let designation = bearing.text("designation");
    let given = ["designation", "geometry", "orders"]
        .into_iter()
        .filter(|key| bearing.has(key))
        .count();
    if given != 1 {
        let what = "a bearing is told in one way, by designation, geometry or orders";
        bearing.source.refuse(
            &bearing.at,
            format!("{what}, and this one in {given}"),
            "give exactly one",
        );
        return None;
    }
    match designation {
        Some((designation, at)) => {
            let own = catalogue.iter().find(|(name, _)| names(designation, name));
            let found = own.map_or_else(|| designation.parse(), |(_, orders)| Ok(*orders));
            checked(bearing, found, &at)
        }
        None => read_dimensions(bearing),
    }
}

/// Geometry or orders, whichever is there.
fn read_dimensions(bearing: &Section<'_>) -> Option<BearingOrders> {
    let (found, at) = if let Some(geometry) = bearing.table("geometry", "geometry") {
        let number = |key| geometry.require(key, geometry.positive(key), "a bearing's orders follow from it");
        let angle = geometry.number("angle_deg").map_or(0.0, |(angle, _)| angle);
        let balls = geometry.whole("balls", u16::from(u8::MAX));
        let balls = geometry.require("balls", balls, "a bearing's orders follow from it");
        let (ball, pitch) = (number("ball_mm"), number("pitch_mm"));
        let made = BearingGeometry::new(balls?.0 as u8, ball?.0, pitch?.0, angle);
        (made.map(|made| made.orders()), geometry.at.clone())
    } else {
        let orders = bearing.table("orders", "set of orders")?;
        let number = |key| {
            orders.require(
                key,
                orders.positive(key),
                "give all four, in multiples of shaft speed",
            )
        };
        let (outer, inner) = (number("outer_race"), number("inner_race"));
        let (ball, cage) = (number("ball"), number("cage"));
        let declared = BearingOrders::declared(outer?.0, inner?.0, ball?.0, cage?.0);
        (declared, orders.at.clone())
    };
    checked(bearing, found, &at)
}

fn checked(
    bearing: &Section<'_>,
    found: Result<BearingOrders, BearingError>,
    at: &Range<usize>,
) -> Option<BearingOrders> {
    match found {
        Ok(found) => Some(found),
        Err(error) => {
            bearing
                .source
                .refuse(at, error.to_string(), "correct the bearing");
            None
        }
    }
}
