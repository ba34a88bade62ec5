//! Bearings whose geometry is published.
//!
//! A bearing that is not here is declared where it stands, or once for the whole plant (`[[bearing]]` in the fleet
//! file). What a maker builds under a designation can differ from another's: where the maker states orders, those
//! are to be preferred.

use super::{BearingError, BearingGeometry, BearingOrders};

/// The orders of a catalogued designation; suffixes for seals, cage and clearance do not change them
/// (`6205-2RS JEM` is a 6205).
pub(super) fn orders(designation: &str) -> Result<BearingOrders, BearingError> {
    let by_geometry = || find(GEOMETRIES, designation).map(|geometry| geometry.orders());
    let by_order = || find(BALL_PASSES, designation).map(|(balls, order)| of_ball_pass(*balls, *order));
    by_geometry()
        .or_else(by_order)
        .ok_or_else(|| BearingError::UnknownDesignation {
            designation: designation.to_owned(),
        })
}

/// Every designation.
pub(super) fn designations() -> String {
    let by_geometry = GEOMETRIES.iter().map(|(name, _)| *name);
    let by_order = BALL_PASSES.iter().map(|(name, _)| *name);
    by_geometry.chain(by_order).collect::<Vec<_>>().join(", ")
}

fn find<'a, T>(table: &'a [(&str, T)], designation: &str) -> Option<&'a T> {
    let entry = table.iter().find(|(name, _)| names(designation, name));
    entry.map(|(_, found)| found)
}

/// Whether a designation, as somebody wrote it, is that name with or without suffixes.
pub fn names(designation: &str, name: &str) -> bool {
    let given = designation.trim();
    given
        .get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
        && !given[name.len()..].starts_with(|next: char| next.is_ascii_digit())
}

/// The orders of a ball bearing without contact angle, from the number of its balls and the order at which they
/// pass the outer race: that order is balls / 2 x (1 - ball over pitch diameter).
fn of_ball_pass(balls: u8, outer_race: f64) -> BearingOrders {
    BearingGeometry {
        balls,
        ball_diameter: 1.0 - 2.0 * outer_race / f64::from(balls),
        pitch_diameter: 1.0,
        contact_angle_degrees: 0.0,
    }
    .orders()
}

const fn deep_groove(balls: u8, ball_diameter: f64, pitch_diameter: f64) -> BearingGeometry {
    BearingGeometry {
        balls,
        ball_diameter,
        pitch_diameter,
        contact_angle_degrees: 0.0,
    }
}

/// Designations and geometry in millimetres.
const GEOMETRIES: &[(&str, BearingGeometry)] = &[
    // The drive end and the fan end of the rig of Case Western Reserve University, whose Bearing Data Center
    // gives the dimensions in inches.
    ("6205", deep_groove(9, 7.940_04, 39.039_8)),
    ("6203", deep_groove(8, 6.746_24, 28.498_8)),
    // Balls of 5/16, 3/8 and 7/16 inch on the mean of bore and outer diameter; the same orders as Timken gives for
    // its sizes 204K, 206K and 207K.
    ("6204", deep_groove(8, 7.937_5, 33.5)),
    ("6206", deep_groove(9, 9.525, 46.0)),
    ("6207", deep_groove(9, 11.112_5, 53.5)),
    // PRONOSTIA (P. Nectoux et al., 2012).
    ("6804", deep_groove(13, 3.5, 25.6)),
    // XJTU-SY (B. Wang et al., IEEE Trans. Reliab. 69, 2020): LDK.
    ("UER204", deep_groove(8, 7.92, 34.55)),
    // University of Ottawa (H. Huang and N. Baddour, Data in Brief 21, 2018): MB.
    ("ER16K", deep_groove(9, 7.94, 38.52)),
    ("ER-16K", deep_groove(9, 7.94, 38.52)),
    // University of Cincinnati (J. Lee et al., 2007): Rexnord, tapered rollers.
    (
        "ZA-2115",
        BearingGeometry {
            balls: 16,
            ball_diameter: 8.4074,
            pitch_diameter: 71.501,
            contact_angle_degrees: 15.17,
        },
    ),
];

/// Number of balls and order of the outer race of wide-inner-ring ball bearings, by basic outer ring size: *Timken
/// Ball Bearing Housed Unit Catalog*, table A-9. 305K and 306K are left out, since the table repeats another size's
/// numbers there.
const BALL_PASSES: &[(&str, (u8, f64))] = &[
    ("9104", (9, 3.578)),
    ("9105", (9, 3.574)),
    ("9106", (11, 4.588)),
    ("202K", (8, 3.125)),
    ("203K", (8, 3.053)),
    ("204K", (8, 3.052)),
    ("205K", (9, 3.574)),
    ("206K", (9, 3.568)),
    ("207K", (9, 3.565)),
    ("208K", (9, 3.547)),
    ("209K", (9, 3.621)),
    ("210K", (10, 4.093)),
    ("211K", (10, 4.078)),
    ("212K", (10, 4.066)),
    ("213K", (10, 4.099)),
    ("214K", (10, 4.104)),
    ("303K", (7, 2.545)),
    ("304K", (7, 2.574)),
    ("307K", (8, 3.006)),
    ("308K", (8, 3.023)),
    ("309K", (8, 3.037)),
    ("310K", (8, 3.047)),
    ("311K", (8, 3.057)),
    ("312K", (8, 3.064)),
    ("314K", (8, 3.076)),
    ("315K", (8, 3.081)),
    ("316K", (8, 3.086)),
    ("318K", (8, 3.093)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(designation: &str, cage: f64, spin: f64, outer_race: f64, inner_race: f64) {
        let found = orders(designation).unwrap();
        for (got, expected) in [
            (found.cage, cage),
            (found.ball / 2.0, spin),
            (found.outer_race, outer_race),
            (found.inner_race, inner_race),
        ] {
            assert!(
                (got / expected - 1.0).abs() < 2e-3,
                "{designation}: {got} is not {expected}"
            );
        }
    }

    /// Columns of the maker's table that were not entered here: cage, spin of a ball, inner race.
    #[test]
    fn what_follows_from_balls_and_outer_race_is_what_the_maker_states() {
        check("9106", 0.417, 2.933, 4.588, 6.412);
        check("203K", 0.382, 1.994, 3.053, 4.947);
        check("208K", 0.394, 2.256, 3.547, 5.453);
        check("211K", 0.408, 2.620, 4.078, 5.922);
        check("303K", 0.364, 1.696, 2.545, 4.455);
        check("318K", 0.387, 2.091, 3.093, 4.907);
    }

    #[test]
    fn sizes_agree_between_makers() {
        check("6204", 0.382, 1.992, 3.052, 4.948);
        check("6206", 0.396, 2.311, 3.568, 5.432);
        check("6207", 0.396, 2.303, 3.565, 5.435);
        check("ER16K", 0.397, 2.322, 3.57, 5.43);
    }

    #[test]
    fn every_entry_is_found_by_its_own_name_and_belongs_to_a_bearing() {
        let all = designations();
        for name in all.split(", ") {
            let found = orders(name).unwrap();
            let declared =
                BearingOrders::declared(found.outer_race, found.inner_race, found.ball, found.cage);
            assert_eq!(declared, Ok(found), "{name}");
            assert_eq!(orders(&format!("{name}-2RS")), Ok(found), "{name}");
        }
        assert!(all.split(", ").count() > 35);
    }
}
