//! Streams of windows over slow channels: which channels, how their time is cut, when they are told.
//!
//! Each stream looks at every channel that its [`Selector`] takes, and a channel may be in several. The
//! stream with the empty name is always there: tumbling windows of
//! [`scalar_size_ns`](crate::window::WindowSettings::scalar_size_ns) over all slow channels. Fast
//! channels have their one analysis window and are in no stream.

use crate::window::shape::{Kind, OVERLAP_MAX, Shape, ShapeError};
use crate::window::stream::{Emit, Rules};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::Arc;
use trunnion_common::id::Name;
use trunnion_common::quantity::{Quantity, Unit};

/// Most streams configured at once: each one costs an accumulator per channel and open window.
pub const STREAMS_MAX: usize = 16;

/// Longest pattern of a selector, bytes: an id has 32, and a pattern of stars is read in its square.
pub const PATTERN_BYTES_MAX: usize = 64;

/// The streams configured, shared: settings are copied wherever they are looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<StreamSettings>", into = "Vec<StreamSettings>")]
pub struct Streams(Arc<[StreamSettings]>);

impl From<Vec<StreamSettings>> for Streams {
    fn from(streams: Vec<StreamSettings>) -> Self {
        Self(streams.into())
    }
}

impl From<Streams> for Vec<StreamSettings> {
    fn from(streams: Streams) -> Self {
        streams.0.to_vec()
    }
}

impl Deref for Streams {
    type Target = [StreamSettings];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// One stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSettings {
    /// What its series are called by, beside the channel; empty for the stream that is always there.
    pub name: String,
    /// Distance of the windows from the epoch, nanoseconds; 0 for sessions.
    pub offset_ns: i64,
    /// How long after its end a window is kept for what comes late, nanoseconds.
    pub lateness_ns: i64,
    /// Whose values share a window.
    pub key: Key,
    /// When a window is told.
    pub emit: Emit,
    /// Whether p50, p95 and p99 are kept too.
    pub quantiles: bool,
    /// How its time is cut.
    pub shape: Kind,
    /// Which channels it looks at.
    pub select: Selector,
}

/// Whose values share a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Each channel's its own.
    Channel,
    /// Those of all channels of an asset. A window waits for all of them that are not idle.
    Asset,
}

/// Which channels a stream looks at: all that meet every condition given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// What they measure.
    pub quantity: Option<Quantity>,
    /// In which unit their values are told: the fleet file's, or the node's for those it does not name.
    pub unit: Option<Unit>,
    /// Asset id, with `*` for any characters.
    pub asset: Option<String>,
    /// Point id, likewise.
    pub point: Option<String>,
    /// Channel id, likewise.
    pub channel: Option<String>,
}

/// What makes a stream impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamFault {
    /// Lengths have to be positive and of this world, and a lateness no less than nothing.
    #[error("has a length or a lateness out of bounds")]
    Length,
    /// What does not divide would put some instants into one window more than others.
    #[error("hops by a slide that does not divide its size")]
    NoMultiple,
    /// Each value would be added to too many accumulators.
    #[error("puts each value into more than {OVERLAP_MAX} windows")]
    TooManyHops,
    /// Sessions begin where their values do.
    #[error("has an offset, which sessions have none of")]
    Offset,
    /// Values of different units have no sum.
    #[error("joins the channels of an asset without naming their unit")]
    NoUnit,
    /// A name stands in addresses and rows.
    #[error("has a name that is not 1 to 32 of a-z, 0-9 and -")]
    Name,
    /// A longer pattern matches no id.
    #[error("has a pattern of more than {PATTERN_BYTES_MAX} bytes")]
    Pattern,
}

impl StreamSettings {
    /// What its windows are cut and told by.
    pub fn rules(&self) -> Result<Rules, StreamFault> {
        let shape = Shape::new(self.shape, self.offset_ns).map_err(|error| match error {
            ShapeError::Length { .. } => StreamFault::Length,
            ShapeError::NoMultiple { .. } => StreamFault::NoMultiple,
            ShapeError::Overlap { .. } => StreamFault::TooManyHops,
            ShapeError::Offset { .. } => StreamFault::Offset,
        })?;
        if self.lateness_ns < 0 {
            return Err(StreamFault::Length);
        }
        Ok(Rules {
            shape,
            lateness_ns: self.lateness_ns,
            emit: self.emit,
            quantiles: self.quantiles,
        })
    }

    /// Whether such a stream can be configured.
    pub fn check(&self) -> Result<(), StreamFault> {
        self.rules()?;
        if self.key == Key::Asset && self.select.unit.is_none() {
            return Err(StreamFault::NoUnit);
        }
        if Name::new(&self.name).is_err() {
            return Err(StreamFault::Name);
        }
        let Selector {
            asset,
            point,
            channel,
            ..
        } = &self.select;
        let longest = [asset, point, channel]
            .into_iter()
            .flatten()
            .map(String::len)
            .max();
        if longest.is_some_and(|bytes| bytes > PATTERN_BYTES_MAX) {
            return Err(StreamFault::Pattern);
        }
        Ok(())
    }
}

impl Selector {
    /// Whether the channel of that place, whose values are told in `unit`, is looked at.
    pub fn takes(&self, asset: &str, point: &str, channel: &str, unit: Unit) -> bool {
        let meets =
            |pattern: &Option<String>, id: &str| pattern.as_ref().is_none_or(|pattern| matches(pattern, id));
        self.quantity.is_none_or(|quantity| unit.quantity() == quantity)
            && self.unit.is_none_or(|wanted| wanted == unit)
            && meets(&self.asset, asset)
            && meets(&self.point, point)
            && meets(&self.channel, channel)
    }
}

/// Whether a text is what the pattern says; `*` stands for any characters, none included.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the last star does not fit: after the star, one character on.
    let mut star = None;
    while seen < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, seen));
            at += 1;
        } else if pattern.get(at) == Some(&text[seen]) {
            (at, seen) = (at + 1, seen + 1);
        } else if let Some((after, from)) = star {
            (at, seen) = (after, from + 1);
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamSettings {
        StreamSettings {
            name: "warmth".to_owned(),
            offset_ns: 0,
            lateness_ns: 0,
            key: Key::Channel,
            emit: Emit::Close,
            quantiles: false,
            shape: Kind::Hopping {
                size_ns: 60,
                slide_ns: 20,
            },
            select: Selector::default(),
        }
    }

    #[test]
    fn a_stream_that_cannot_be_is_refused_with_its_reason() {
        type Spoil = fn(&mut StreamSettings);
        let hops = |stream: &mut StreamSettings, size_ns, slide_ns| {
            stream.shape = Kind::Hopping { size_ns, slide_ns };
        };
        assert_eq!(stream().check(), Ok(()));
        let cases: [(Spoil, StreamFault); 9] = [
            (|s| s.shape = Kind::Session { gap_ns: 0 }, StreamFault::Length),
            (|s| s.shape = Kind::Tumbling { size_ns: -1 }, StreamFault::Length),
            (|s| s.lateness_ns = -1, StreamFault::Length),
            (
                |s| (s.shape, s.offset_ns) = (Kind::Session { gap_ns: 9 }, 1),
                StreamFault::Offset,
            ),
            (|s| s.key = Key::Asset, StreamFault::NoUnit),
            (|s| s.name = String::new(), StreamFault::Name),
            (|s| s.name = "Too Warm".to_owned(), StreamFault::Name),
            (|s| s.select.asset = Some("*".repeat(65)), StreamFault::Pattern),
            (|s| s.select.channel = Some("*".repeat(65)), StreamFault::Pattern),
        ];
        for (spoil, fault) in cases {
            let mut spoilt = stream();
            spoil(&mut spoilt);
            assert_eq!(spoilt.check(), Err(fault));
        }
        for (size_ns, slide_ns, fault) in [
            (50, 20, StreamFault::NoMultiple),
            (20, 60, StreamFault::NoMultiple),
            (65, 1, StreamFault::TooManyHops),
            (60, 0, StreamFault::Length),
        ] {
            let mut spoilt = stream();
            hops(&mut spoilt, size_ns, slide_ns);
            assert_eq!(spoilt.check(), Err(fault), "{size_ns} by {slide_ns}");
        }
    }

    #[test]
    fn a_selector_takes_what_meets_every_condition() {
        let takes = |select: &Selector| select.takes("fan-3", "motor-de", "temp", Unit::DegreeCelsius);
        let mut select = Selector::default();
        assert!(takes(&select), "no condition");
        select.asset = Some("fan-*".to_owned());
        select.quantity = Some(Quantity::Temperature);
        assert!(takes(&select));
        select.unit = Some(Unit::Ampere);
        assert!(!takes(&select));
        select.unit = Some(Unit::DegreeCelsius);
        select.point = Some("*-nde".to_owned());
        assert!(!takes(&select));
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, fits) in [
            ("fan-3", "fan-3", true),
            ("fan-3", "fan-33", false),
            ("fan-*", "fan-", true),
            ("*-3", "fan-3-3", true),
            ("*a*b*", "xxaxxaxb", true),
            ("*a*b", "ab-", false),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
