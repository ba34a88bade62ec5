//! How event time is cut: the kinds of windows, and which of them an event belongs to. Pure.

use serde::{Deserialize, Serialize};

/// The longest size, slide or gap, nanoseconds: 366 days.
pub const SIZE_MAX_NS: i64 = 366 * 86_400 * 1_000_000_000;

/// Most hopping windows that an event may belong to: each one is a state of its own.
pub const OVERLAP_MAX: i64 = 64;

/// A kind of window with its lengths, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Side by side: each event belongs to one.
    Tumbling {
        /// Length.
        size_ns: i64,
    },
    /// One begins each slide: each event belongs to size / slide of them.
    Hopping {
        /// Length.
        size_ns: i64,
        /// From the start of one to the start of the next.
        slide_ns: i64,
    },
    /// As long as events come: `[first, last + gap)`.
    Session {
        /// An event this much after the last one, or later, begins a new session.
        gap_ns: i64,
    },
}

/// A kind of window whose lengths have been checked, and where its grid lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Shape {
    kind: Kind,
    offset_ns: i64,
}

/// A shape as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    kind: Kind,
    offset_ns: i64,
}

/// Lengths that make no windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShapeError {
    /// A length is not positive, or longer than [`SIZE_MAX_NS`].
    #[error("{what} is {found} ns; it must be from 1 ns to 366 days")]
    Length {
        /// Which one: `size`, `slide` or `gap`.
        what: &'static str,
        /// What it is.
        found: i64,
    },
    /// Windows would be of unequal weight.
    #[error("a size of {size_ns} ns is no multiple of the slide of {slide_ns} ns; choose one that is")]
    NoMultiple {
        /// The size.
        size_ns: i64,
        /// The slide.
        slide_ns: i64,
    },
    /// An event would belong to too many.
    #[error("each event would belong to {found} windows, more than {OVERLAP_MAX}; choose a longer slide")]
    Overlap {
        /// To how many.
        found: i64,
    },
    /// Sessions begin where their events do.
    #[error("sessions have no grid, so an offset of {offset_ns} ns means nothing; leave it out")]
    Offset {
        /// The offset.
        offset_ns: i64,
    },
}

impl Shape {
    /// Windows of a kind, on a grid this far from the epoch (nanoseconds, either way; 0 for sessions).
    pub fn new(kind: Kind, offset_ns: i64) -> Result<Self, ShapeError> {
        let length = |what, found| match found {
            1..=SIZE_MAX_NS => Ok(()),
            _ => Err(ShapeError::Length { what, found }),
        };
        match kind {
            Kind::Tumbling { size_ns } => length("size", size_ns)?,
            Kind::Hopping { size_ns, slide_ns } => {
                length("size", size_ns)?;
                length("slide", slide_ns)?;
                if size_ns % slide_ns != 0 {
                    return Err(ShapeError::NoMultiple { size_ns, slide_ns });
                }
                let found = size_ns / slide_ns;
                if found > OVERLAP_MAX {
                    return Err(ShapeError::Overlap { found });
                }
            }
            Kind::Session { gap_ns } => {
                length("gap", gap_ns)?;
                if offset_ns != 0 {
                    return Err(ShapeError::Offset { offset_ns });
                }
            }
        }
        Ok(Self { kind, offset_ns })
    }

    /// The kind of window.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Distance of the grid from the epoch, nanoseconds.
    pub const fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// Start and end of each window that an event of this time belongs to, the latest first; of a session,
    /// what the event alone would make. Held at the ends of the range.
    pub fn windows(&self, time: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (first, slide, size, count) = match self.kind {
            Kind::Tumbling { size_ns } => (self.start_before(time, size_ns), size_ns, size_ns, 1),
            Kind::Hopping { size_ns, slide_ns } => {
                let first = self.start_before(time, slide_ns);
                (first, slide_ns, size_ns, size_ns / slide_ns)
            }
            Kind::Session { gap_ns } => (i128::from(time), gap_ns, gap_ns, 1),
        };
        (0..count).map(move |back| {
            let start = first - i128::from(back) * i128::from(slide);
            (saturate(start), saturate(start + i128::from(size)))
        })
    }

    /// The last start on the grid that is not after `time`.
    fn start_before(&self, time: i64, slide: i64) -> i128 {
        let time = i128::from(time);
        time - (time - i128::from(self.offset_ns)).rem_euclid(i128::from(slide))
    }
}

impl TryFrom<Written> for Shape {
    type Error = ShapeError;

    fn try_from(written: Written) -> Result<Self, ShapeError> {
        Self::new(written.kind, written.offset_ns)
    }
}

impl From<Shape> for Written {
    fn from(Shape { kind, offset_ns }: Shape) -> Self {
        Self { kind, offset_ns }
    }
}

fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(kind: Kind, offset_ns: i64, time: i64) -> Vec<(i64, i64)> {
        Shape::new(kind, offset_ns).unwrap().windows(time).collect()
    }

    #[test]
    fn a_tumbling_window_begins_at_the_epoch_plus_its_offset() {
        let kind = Kind::Tumbling { size_ns: 10 };
        assert_eq!(windows(kind, 0, 0), [(0, 10)]);
        assert_eq!(windows(kind, 0, 10), [(10, 20)], "the end is exclusive");
        assert_eq!(windows(kind, 3, 12), [(3, 13)]);
        assert_eq!(windows(kind, 13, 12), [(3, 13)], "an offset counts by its rest");
    }

    #[test]
    fn before_the_epoch_and_with_negative_offsets_the_grid_goes_on() {
        let kind = Kind::Tumbling { size_ns: 10 };
        assert_eq!(windows(kind, 0, -1), [(-10, 0)]);
        assert_eq!(windows(kind, 0, -10), [(-10, 0)]);
        assert_eq!(windows(kind, 0, -11), [(-20, -10)]);
        assert_eq!(windows(kind, -3, -4), [(-13, -3)]);
        assert_eq!(windows(kind, -3, 0), [(-3, 7)]);
    }

    #[test]
    fn an_event_belongs_to_size_by_slide_hopping_windows() {
        let kind = Kind::Hopping {
            size_ns: 30,
            slide_ns: 10,
        };
        assert_eq!(windows(kind, 0, 25), [(20, 50), (10, 40), (0, 30)]);
        assert_eq!(windows(kind, 0, -5), [(-10, 20), (-20, 10), (-30, 0)]);
        assert_eq!(windows(kind, 4, 4), [(4, 34), (-6, 24), (-16, 14)]);
    }

    #[test]
    fn lengths_that_make_no_windows_are_refused_with_the_reason() {
        let refused = |kind, offset| Shape::new(kind, offset).unwrap_err().to_string();
        let odd = Kind::Hopping {
            size_ns: 25,
            slide_ns: 10,
        };
        assert!(refused(odd, 0).contains("25 ns is no multiple of the slide of 10 ns"));
        let dense = Kind::Hopping {
            size_ns: 65,
            slide_ns: 1,
        };
        assert!(refused(dense, 0).contains("65 windows"));
        assert!(refused(Kind::Tumbling { size_ns: 0 }, 0).contains("size is 0 ns"));
        assert!(refused(Kind::Session { gap_ns: -1 }, 0).contains("gap is -1 ns"));
        assert!(refused(Kind::Session { gap_ns: 1 }, 5).contains("sessions have no grid"));
    }

    #[test]
    fn a_shape_that_was_written_down_is_checked_when_it_is_read() {
        let shape = Shape::new(Kind::Tumbling { size_ns: 5 }, -2).unwrap();
        let bytes = postcard::to_stdvec(&shape).unwrap();
        assert_eq!(postcard::from_bytes::<Shape>(&bytes), Ok(shape));
        let wrong = Written {
            kind: Kind::Tumbling { size_ns: 0 },
            offset_ns: 0,
        };
        assert!(postcard::from_bytes::<Shape>(&postcard::to_stdvec(&wrong).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn each_window_of_an_event_holds_it_and_lies_on_the_grid(
            (slide, overlap, offset, time) in (1i64..1_000, 1i64..9, -5_000i64..5_000, -1_000_000i64..1_000_000),
        ) {
            let kind = Kind::Hopping { size_ns: slide * overlap, slide_ns: slide };
            let found = windows(kind, offset, time);
            prop_assert_eq!(found.len() as i64, overlap);
            for (start, end) in found {
                prop_assert!(start <= time && time < end);
                prop_assert_eq!((start - offset).rem_euclid(slide), 0);
            }
        }

        #[test]
        fn no_time_is_out_of_range(time in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()]) {
            for kind in [Kind::Tumbling { size_ns: SIZE_MAX_NS }, Kind::Session { gap_ns: SIZE_MAX_NS }] {
                let (start, end) = windows(kind, 0, time)[0];
                prop_assert!(start <= time && time <= end);
            }
        }
    }
}
