//! Lines of a spectrum by order of the shaft's speed.

use super::criteria::Criteria;
use super::{SupportingLine, Undetermined};
use trunnion_common::feature::band::Lines;

/// Lines of the spectrum to an order, at least: fewer, and a harmonic stands on its neighbour's flank.
const LINES_PER_ORDER: f64 = 5.0;

/// How far a known speed may be off: what an induction motor's load changes, and a declared speed is
/// rounded by.
const SPEED_ERROR: f64 = 0.015;

/// The same once the speed has been read from its own line.
const READ_ERROR: f64 = 0.003;

/// Lines on either side whose floor a line stands on, and the share of them that lies below it: where half
/// orders stand six lines apart, their lobes take five of six.
const FLOOR_REACH: usize = 24;
const FLOOR_SHARE: f32 = 0.1;

/// What has been done to lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// As the window leaves them.
    Plain,
    /// Each divided by its frequency, which leans a low line to the left.
    Integrated,
}

/// A spectrum, and the speed as its lines have it.
pub(super) struct Orders<'a> {
    lines: Lines<'a>,
    shape: Shape,
    usable_hz: (f64, f64),
    shaft_hz: f64,
    /// In parts: how far a line may be from its order.
    error: f64,
    criteria: &'a Criteria,
}

impl<'a> Orders<'a> {
    /// The orders of a shaft that turns at about `shaft_hz`. Where its own line stands out, it says how fast
    /// exactly.
    pub(super) fn new(
        (lines, shape): (Lines<'a>, Shape),
        shaft_hz: f64,
        usable_hz: (f64, f64),
        criteria: &'a Criteria,
    ) -> Result<Self, Undetermined> {
        if shaft_hz < LINES_PER_ORDER * lines.resolution_hz {
            return Err(Undetermined::Unresolved);
        }
        let known = Self {
            lines,
            shape,
            usable_hz,
            shaft_hz,
            error: SPEED_ERROR,
            criteria,
        };
        let read = known.at(1.0).map(|line| line.frequency_hz);
        Ok(match read {
            Some(shaft_hz) => Self {
                shaft_hz,
                error: READ_ERROR,
                ..known
            },
            None => known,
        })
    }

    /// Speed of the shaft, Hz.
    pub(super) const fn shaft_hz(&self) -> f64 {
        self.shaft_hz
    }

    /// Distance at which two lines are two, Hz.
    pub(super) fn width_hz(&self) -> f64 {
        3.0 * self.lines.resolution_hz
    }

    /// The line at an order, if one stands out there.
    pub(super) fn at(&self, order: f64) -> Option<SupportingLine> {
        self.at_hz(order * self.shaft_hz, order * self.shaft_hz * self.error)
    }

    /// The line within `error_hz` of a frequency, or half a line, if one stands out there.
    pub(super) fn at_hz(&self, hz: f64, error_hz: f64) -> Option<SupportingLine> {
        let (low, high) = self.usable_hz;
        if hz < low || hz > high {
            return None;
        }
        let line = self
            .lines
            .line_near(hz, error_hz + 0.6 * self.lines.resolution_hz)?;
        let floor = self.lines.floor(
            line.index,
            FLOOR_REACH,
            FLOOR_SHARE,
            &mut [0.0; 2 * FLOOR_REACH + 1],
        );
        let prominence = self.lines.heights[line.index] / floor.max(f32::MIN_POSITIVE);
        let frequency_hz = match self.shape {
            Shape::Plain => line.hz,
            Shape::Integrated => self.upright(line.index),
        };
        (f64::from(prominence) >= self.criteria.stands_out).then(|| SupportingLine {
            order: frequency_hz / self.shaft_hz,
            frequency_hz,
            rms: f64::from(line.rms),
            prominence: f64::from(prominence.min(f32::MAX)),
        })
    }

    /// Where a line is that was divided by its frequency, Hz: by its shape before that.
    fn upright(&self, index: usize) -> f64 {
        let before: Vec<f32> = (index.saturating_sub(1)..=index + 1)
            .map(|index| {
                self.lines
                    .heights
                    .get(index)
                    .map_or(0.0, |height| height * index as f32)
            })
            .collect();
        let lines = Lines {
            heights: &before,
            resolution_hz: self.lines.resolution_hz,
        };
        let shift_hz = lines.summit_hz(1) - self.lines.resolution_hz;
        index as f64 * self.lines.resolution_hz + shift_hz
    }

    /// Height at an order; 0 where nothing stands out.
    pub(super) fn height(&self, order: f64) -> f64 {
        self.at(order).map_or(0.0, |line| line.rms)
    }

    /// Whether a line is as narrow as its window makes it: a shaft whose speed changes smears its own.
    pub(super) fn is_sharp(&self, line: &SupportingLine) -> bool {
        let reach = 4.0 * self.lines.resolution_hz;
        let around = self
            .lines
            .band_rms(line.frequency_hz - reach, line.frequency_hz + reach);
        around.is_none_or(|around| line.rms >= self.criteria.sharp * f64::from(around))
    }

    /// The band that was looked at, Hz.
    pub(super) fn band_hz(&self) -> (f64, f64) {
        (self.usable_hz.0, self.usable_hz.1.min(self.lines.high_hz()))
    }

    /// RMS of all of it.
    pub(super) fn overall(&self) -> f64 {
        let (low, high) = self.band_hz();
        self.lines.band_rms(low, high).map_or(0.0, f64::from)
    }
}
