//! Rolling-element bearings: geometry to fault orders.

mod catalogue;

pub use catalogue::names;
pub use trunnion_common::bearing::Element;

use std::str::FromStr;
use thiserror::Error;
use trunnion_common::watch::NEIGHBOURS_MAX;

/// A bearing's fault frequencies in orders (multiples of shaft speed), outer ring standing.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct BearingOrders {
    /// Ball pass, outer race (BPFO).
    pub outer_race: f64,
    /// Ball pass, inner race (BPFI).
    pub inner_race: f64,
    /// Twice the ball spin frequency (2 x BSF): a defect meets both races once a turn.
    pub ball: f64,
    /// Cage (FTF).
    pub cage: f64,
}

impl BearingOrders {
    /// The order of one element.
    pub const fn of(&self, element: Element) -> f64 {
        match element {
            Element::OuterRace => self.outer_race,
            Element::InnerRace => self.inner_race,
            Element::Ball => self.ball,
            Element::Cage => self.cage,
        }
    }

    /// The orders of all, as [`Element::ALL`] has them.
    pub fn each(&self) -> [f64; 4] {
        Element::ALL.map(|element| self.of(element))
    }

    /// The same bearing by the speed of a shaft that turns `ratio` times as slowly as its own.
    #[must_use]
    pub fn scaled(&self, ratio: f64) -> Self {
        Self {
            outer_race: ratio * self.outer_race,
            inner_race: ratio * self.inner_race,
            ball: ratio * self.ball,
            cage: ratio * self.cage,
        }
    }

    /// Orders as declared, for a bearing whose maker gives them.
    ///
    /// Refused when they cannot belong to a bearing with its outer ring standing: the cage turns at
    /// less than half the shaft's speed, and both ball-pass orders are whole multiples (the number of
    /// balls) of what the cage turns relative to each ring, so that they stand to each other as those
    /// two do. 1 % is left for a maker's rounding.
    pub fn declared(outer_race: f64, inner_race: f64, ball: f64, cage: f64) -> Result<Self, BearingError> {
        let orders = [outer_race, inner_race, ball, cage];
        if !orders.iter().all(|order| order.is_finite() && *order > 0.0) {
            return Err(BearingError::OrderNotPositive);
        }
        if cage >= 0.5 {
            return Err(BearingError::CageTooFast { cage });
        }
        let expected = outer_race * (1.0 - cage) / cage;
        if (inner_race / expected - 1.0).abs() > 0.01 {
            return Err(BearingError::RacesDisagree { inner_race, expected });
        }
        Ok(Self {
            outer_race,
            inner_race,
            ball,
            cage,
        })
    }
}

impl From<[f64; 4]> for BearingOrders {
    /// Orders as [`Self::each`] gives them.
    fn from([outer_race, inner_race, ball, cage]: [f64; 4]) -> Self {
        Self {
            outer_race,
            inner_race,
            ball,
            cage,
        }
    }
}

/// The other bearings of a machine, as heard at one of its shafts: orders are multiples of that shaft's speed.
///
/// Bounded, to be copied along with each window: [`Self::MAX`] of them, and further ones are not known of.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Neighbours([Option<BearingOrders>; Self::MAX]);

impl Neighbours {
    /// Bearings at the most: three more shafts of two.
    pub const MAX: usize = NEIGHBOURS_MAX;

    /// Those that are known.
    pub fn iter(&self) -> impl Iterator<Item = &BearingOrders> {
        self.0.iter().flatten()
    }
}

impl FromIterator<BearingOrders> for Neighbours {
    fn from_iter<T: IntoIterator<Item = BearingOrders>>(bearings: T) -> Self {
        let mut known = Self::default();
        for (place, bearing) in known.0.iter_mut().zip(bearings) {
            *place = Some(bearing);
        }
        known
    }
}

impl FromStr for BearingOrders {
    type Err = BearingError;

    /// The orders of a catalogued designation; suffixes for seals, cage and clearance do not change
    /// them (`6205-2RS JEM` is a 6205).
    fn from_str(designation: &str) -> Result<Self, BearingError> {
        catalogue::orders(designation)
    }
}

/// The dimensions that decide the fault orders. Lengths in any one unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BearingGeometry {
    balls: u8,
    ball_diameter: f64,
    pitch_diameter: f64,
    contact_angle_degrees: f64,
}

impl BearingGeometry {
    /// Checked dimensions: 3 balls or more, that fit side by side on the pitch circle, at a contact
    /// angle from 0 to below 90 degrees.
    pub fn new(
        balls: u8,
        ball_diameter: f64,
        pitch_diameter: f64,
        contact_angle_degrees: f64,
    ) -> Result<Self, BearingError> {
        if !(ball_diameter > 0.0 && pitch_diameter.is_finite()) {
            return Err(BearingError::DiameterNotPositive);
        }
        if balls < 3 || f64::from(balls) * ball_diameter > std::f64::consts::PI * pitch_diameter {
            return Err(BearingError::BallsDoNotFit {
                balls,
                ball_diameter,
                pitch_diameter,
            });
        }
        if !(0.0..90.0).contains(&contact_angle_degrees) {
            return Err(BearingError::ContactAngle {
                degrees: contact_angle_degrees,
            });
        }
        Ok(Self {
            balls,
            ball_diameter,
            pitch_diameter,
            contact_angle_degrees,
        })
    }

    /// Fault orders of rolling without slip, outer ring standing (T. A. Harris and M. N. Kotzalas,
    /// *Essential Concepts of Bearing Technology*, 5th ed. 2006, chapter 10; R. B. Randall and
    /// J. Antoni, "Rolling element bearing diagnostics: a tutorial", *Mech. Syst. Signal Process.* 25,
    /// 2011, equations 1 to 4).
    pub fn orders(&self) -> BearingOrders {
        let balls = f64::from(self.balls);
        let diameters = self.ball_diameter / self.pitch_diameter;
        let ratio = diameters * self.contact_angle_degrees.to_radians().cos();
        BearingOrders {
            outer_race: balls / 2.0 * (1.0 - ratio),
            inner_race: balls / 2.0 * (1.0 + ratio),
            ball: (1.0 - ratio * ratio) / diameters,
            cage: (1.0 - ratio) / 2.0,
        }
    }
}

/// Why a bearing was refused.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum BearingError {
    /// Not in the catalogue.
    #[error(
        "bearing {designation:?} is not in the catalogue: give its geometry or its orders (catalogued: {})",
        catalogue::designations()
    )]
    UnknownDesignation {
        /// As given.
        designation: String,
    },
    /// A diameter is zero, negative or not a number.
    #[error("ball and pitch diameter must be positive numbers in the same unit")]
    DiameterNotPositive,
    /// Too few balls, or more than the pitch circle holds.
    #[error(
        "{balls} balls of diameter {ball_diameter} do not make a bearing of pitch diameter {pitch_diameter}: \
         3 or more must fit on the pitch circle"
    )]
    BallsDoNotFit {
        /// Number of balls.
        balls: u8,
        /// Their diameter.
        ball_diameter: f64,
        /// Diameter of the circle of their centres.
        pitch_diameter: f64,
    },
    /// Outside 0 to 90 degrees.
    #[error("contact angle of {degrees} degrees: it must be from 0 to below 90")]
    ContactAngle {
        /// As given.
        degrees: f64,
    },
    /// An order is zero, negative or not a number.
    #[error("fault orders must be positive numbers (multiples of shaft speed)")]
    OrderNotPositive,
    /// A cage that is not slower than half the shaft.
    #[error(
        "cage order {cage}: with the outer ring standing it is below 0.5; is it in Hz, or the outer ring's?"
    )]
    CageTooFast {
        /// As given.
        cage: f64,
    },
    /// The orders of the races and the cage exclude each other.
    #[error(
        "inner-race order {inner_race} does not fit the outer race and the cage, which give {expected:.4}"
    )]
    RacesDisagree {
        /// As given.
        inner_race: f64,
        /// What the other two imply.
        expected: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: BearingOrders, outer_race: f64, inner_race: f64, ball: f64, cage: f64) {
        for (got, expected) in [
            (found.outer_race, outer_race),
            (found.inner_race, inner_race),
            (found.ball, ball),
            (found.cage, cage),
        ] {
            assert!((got / expected - 1.0).abs() < 5e-4, "{got} is not {expected}");
        }
    }

    /// Published by the Case Western Reserve University Bearing Data Center.
    #[test]
    fn catalogued_bearings_have_their_published_orders() {
        check("6205".parse().unwrap(), 3.5848, 5.4152, 4.7135, 0.39828);
        check("6205-2RS JEM".parse().unwrap(), 3.5848, 5.4152, 4.7135, 0.39828);
        check("6203-2RS".parse().unwrap(), 3.0530, 4.9469, 3.9874, 0.3817);
    }

    /// At 2000 rpm: BPFO 236.4, BPFI 296.9, BSF 139.9, FTF 14.8 Hz.
    #[test]
    fn a_contact_angle_counts() {
        let hz = 2000.0 / 60.0;
        check(
            "za-2115".parse().unwrap(),
            236.4 / hz,
            296.9 / hz,
            2.0 * 139.9 / hz,
            14.775 / hz,
        );
    }

    #[test]
    fn an_unknown_designation_names_the_known_ones() {
        let error = "NU999".parse::<BearingOrders>().unwrap_err();
        assert!(error.to_string().contains("6205"), "{error}");
        assert!("".parse::<BearingOrders>().is_err());
        assert!(
            "620".parse::<BearingOrders>().is_err(),
            "a part is not a designation"
        );
        assert!(
            "62051".parse::<BearingOrders>().is_err(),
            "nor is a longer number"
        );
    }

    #[test]
    fn impossible_geometry_is_refused() {
        assert!(BearingGeometry::new(9, 7.94, 39.04, 0.0).is_ok());
        assert_eq!(
            BearingGeometry::new(9, 0.0, 39.04, 0.0),
            Err(BearingError::DiameterNotPositive)
        );
        assert_eq!(
            BearingGeometry::new(9, 7.94, f64::NAN, 0.0),
            Err(BearingError::DiameterNotPositive)
        );
        assert!(matches!(
            BearingGeometry::new(2, 7.94, 39.04, 0.0),
            Err(BearingError::BallsDoNotFit { .. })
        ));
        assert!(matches!(
            BearingGeometry::new(16, 7.94, 39.04, 0.0),
            Err(BearingError::BallsDoNotFit { .. })
        ));
        assert!(matches!(
            BearingGeometry::new(9, 7.94, 39.04, 90.0),
            Err(BearingError::ContactAngle { .. })
        ));
    }

    #[test]
    fn so_many_neighbours_are_known_and_no_more() {
        let bearing: BearingOrders = "6205".parse().unwrap();
        let known: Neighbours = (1..=9).map(|ratio| bearing.scaled(ratio.into())).collect();
        assert_eq!(known.iter().count(), Neighbours::MAX);
        let first = known.iter().next().unwrap();
        assert_eq!(
            (first, known.iter().nth(1).unwrap().ball),
            (&bearing, 2.0 * bearing.ball)
        );
    }

    #[test]
    fn declared_orders_must_belong_to_one_bearing() {
        assert!(BearingOrders::declared(3.5848, 5.4152, 4.7134, 0.3983).is_ok());
        assert!(BearingOrders::declared(3.245, 4.755, 5.1092, 0.4056).is_ok());
        assert!(matches!(
            BearingOrders::declared(5.4152, 3.5848, 4.7134, 0.3983),
            Err(BearingError::RacesDisagree { .. })
        ));
        assert!(matches!(
            BearingOrders::declared(107.4, 162.2, 141.2, 11.9),
            Err(BearingError::CageTooFast { .. })
        ));
        assert_eq!(
            BearingOrders::declared(0.0, 5.4, 4.7, 0.4),
            Err(BearingError::OrderNotPositive)
        );
        assert_eq!(
            BearingOrders::declared(3.6, f64::NAN, 4.7, 0.4),
            Err(BearingError::OrderNotPositive)
        );
    }
}
