//! What a channel measures, and in which unit.

use serde::{Deserialize, Serialize};

/// A physical quantity. Appended to, never reordered: the position is the number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Vibration acceleration.
    Acceleration,
    /// Vibration velocity.
    Velocity,
    /// Vibration displacement.
    Displacement,
    /// Temperature.
    Temperature,
    /// Electric current.
    Current,
    /// Electric potential.
    Voltage,
    /// Pressure.
    Pressure,
    /// Volume flow.
    Flow,
    /// Rotational speed.
    Speed,
}

/// A unit of measure. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Unit {
    /// Standard gravity, 9.80665 m/s2 (ISO 80000-3).
    #[serde(rename = "g")]
    StandardGravity,
    /// Metres per second squared.
    #[serde(rename = "m/s2")]
    MetrePerSecondSquared,
    /// Millimetres per second.
    #[serde(rename = "mm/s")]
    MillimetrePerSecond,
    /// Micrometres.
    #[serde(rename = "um")]
    Micrometre,
    /// Degrees Celsius.
    #[serde(rename = "degC")]
    DegreeCelsius,
    /// Amperes.
    #[serde(rename = "A")]
    Ampere,
    /// Volts.
    #[serde(rename = "V")]
    Volt,
    /// Bar.
    #[serde(rename = "bar")]
    Bar,
    /// Litres per minute.
    #[serde(rename = "l/min")]
    LitrePerMinute,
    /// Revolutions per minute.
    #[serde(rename = "rpm")]
    RevolutionPerMinute,
}

impl Unit {
    /// The quantity this unit measures.
    pub const fn quantity(self) -> Quantity {
        match self {
            Self::StandardGravity | Self::MetrePerSecondSquared => Quantity::Acceleration,
            Self::MillimetrePerSecond => Quantity::Velocity,
            Self::Micrometre => Quantity::Displacement,
            Self::DegreeCelsius => Quantity::Temperature,
            Self::Ampere => Quantity::Current,
            Self::Volt => Quantity::Voltage,
            Self::Bar => Quantity::Pressure,
            Self::LitrePerMinute => Quantity::Flow,
            Self::RevolutionPerMinute => Quantity::Speed,
        }
    }

    /// What values in this unit are multiplied with to be in `other`; none when they measure different
    /// things.
    pub fn factor_to(self, other: Self) -> Option<f64> {
        /// Metres per second squared (ISO 80000-3).
        const STANDARD_GRAVITY: f64 = 9.806_65;
        match (self, other) {
            (Self::StandardGravity, Self::MetrePerSecondSquared) => Some(STANDARD_GRAVITY),
            (Self::MetrePerSecondSquared, Self::StandardGravity) => Some(1.0 / STANDARD_GRAVITY),
            _ if self == other => Some(1.0),
            _ => None,
        }
    }

    /// As written in the fleet file and shown to people.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::StandardGravity => "g",
            Self::MetrePerSecondSquared => "m/s2",
            Self::MillimetrePerSecond => "mm/s",
            Self::Micrometre => "um",
            Self::DegreeCelsius => "degC",
            Self::Ampere => "A",
            Self::Volt => "V",
            Self::Bar => "bar",
            Self::LitrePerMinute => "l/min",
            Self::RevolutionPerMinute => "rpm",
        }
    }
}
