//! A shaft, its coupling, its foundation, its blades and the field that turns it, by velocity.

use super::criteria::Criteria;
use super::orders::{Orders, Shape};
use super::{Cause, Evidence, Outcome, SupportingLine, Suspicion, Train, Undetermined};

/// Half orders that looseness needs, or orders from [`HIGH_ORDERS`].
const HALF_ORDERS_MIN: usize = 2;
const HALF_ORDERS: [f64; 4] = [0.5, 1.5, 2.5, 3.5];
const HIGH_ORDERS_MIN: usize = 4;
const HIGH_ORDERS: std::ops::RangeInclusive<u16> = 4..=10;

/// The frequencies that a motor of an undeclared supply may have, Hz.
const LINE_FREQUENCIES: [f64; 2] = [50.0, 60.0];

/// How far below its synchronous speed a motor may turn: beyond that it is no motor of that field.
const SLIP_MAX: f64 = 0.06;

/// What the shaft says.
pub(super) fn examine(evidence: &Evidence<'_>, train: &Train, criteria: &Criteria) -> Outcome {
    let Some(limit) = train.limit_mm_s else {
        return Outcome::Undetermined(Undetermined::NothingDeclared);
    };
    let Some(lines) = evidence.velocity else {
        return Outcome::Undetermined(Undetermined::NoSpectrum);
    };
    let orders = Orders::new(
        (lines, Shape::Integrated),
        evidence.shaft_hz,
        evidence.usable_hz,
        criteria,
    );
    let orders = match orders {
        Ok(orders) => orders,
        Err(reason) => return Outcome::Undetermined(reason),
    };
    let overall = orders.overall();
    // What is no number is above no limit.
    if overall.is_nan() || overall <= limit {
        return Outcome::Quiet;
    }
    let view = View {
        orders,
        overall,
        train,
        criteria,
    };
    view.judge()
}

struct View<'a> {
    orders: Orders<'a>,
    overall: f64,
    train: &'a Train,
    criteria: &'a Criteria,
}

impl View<'_> {
    fn judge(&self) -> Outcome {
        let smeared = [1.0, 2.0]
            .into_iter()
            .filter_map(|order| self.orders.at(order))
            .any(|line| !self.orders.is_sharp(&line) && self.is_large(&line));
        if smeared {
            return Outcome::Undetermined(Undetermined::SpeedDiffers);
        }
        let mut suspected: Vec<Suspicion> = [
            self.unbalance(),
            self.misalignment(),
            self.looseness(),
            self.blade_pass(),
            self.electrical(),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (suspected.pop(), suspected.is_empty()) {
            (Some(suspicion), true) if !self.is_ambiguous(&suspicion) => Outcome::Suspected(suspicion),
            (Some(_), _) => Outcome::Undetermined(Undetermined::Ambiguous),
            (None, _) => Outcome::Undetermined(Undetermined::LikeNone),
        }
    }

    fn is_large(&self, line: &SupportingLine) -> bool {
        line.rms >= self.criteria.beside_unbalance * self.overall
    }

    fn unbalance(&self) -> Option<Suspicion> {
        // Along the shaft, 1x is a bend or misalignment rather than unbalance.
        if self.train.axial {
            return None;
        }
        let first = self.orders.at(1.0)?;
        let others = HALF_ORDERS.into_iter().chain((2..=10).map(f64::from));
        let highest = others.map(|order| self.orders.height(order)).fold(0.0, f64::max);
        (highest <= self.criteria.beside_unbalance * first.rms)
            .then(|| self.suspicion(Cause::Unbalance, self.criteria.share, vec![first]))
            .flatten()
    }

    fn misalignment(&self) -> Option<Suspicion> {
        let (first, second) = (self.orders.at(1.0)?, self.orders.at(2.0)?);
        let others = HALF_ORDERS.into_iter().chain((4..=10).map(f64::from));
        let highest = others.map(|order| self.orders.height(order)).fold(0.0, f64::max);
        let fits = second.rms >= self.criteria.second_over_first * first.rms
            && self.orders.height(3.0) <= second.rms
            && highest <= self.criteria.beside_misalignment * second.rms;
        let lines = [Some(first), Some(second), self.orders.at(3.0)];
        fits.then(|| {
            self.suspicion(
                Cause::Misalignment,
                self.criteria.share,
                lines.into_iter().flatten().collect(),
            )
        })
        .flatten()
    }

    fn looseness(&self) -> Option<Suspicion> {
        let highest = (1..=3)
            .map(|order| self.orders.height(f64::from(order)))
            .fold(0.0, f64::max);
        let stands = |order: f64| {
            self.orders
                .at(order)
                .filter(|line| line.rms >= self.criteria.loose * highest)
        };
        // A loose shaft still turns: what stands at such an order alone is something else.
        self.orders.at(1.0)?;
        let halves: Vec<_> = HALF_ORDERS.into_iter().filter_map(stands).collect();
        let high: Vec<_> = HIGH_ORDERS
            .filter(|order| !self.is_somebody_elses(f64::from(*order)))
            .filter_map(|order| stands(f64::from(order)))
            .collect();
        if halves.len() < HALF_ORDERS_MIN && high.len() < HIGH_ORDERS_MIN {
            return None;
        }
        let low = (1..=3).filter_map(|order| self.orders.at(f64::from(order)));
        let lines = low.chain(halves).chain(high).collect();
        self.suspicion(Cause::Looseness, self.criteria.share_of_loose, lines)
    }

    fn blade_pass(&self) -> Option<Suspicion> {
        // Three blades cannot be told from a shaft's own third order.
        let blades = self.train.blades.filter(|blades| *blades > 3)?;
        let line = self.orders.at(blades.into())?;
        self.suspicion(Cause::BladePass, self.criteria.share_of_one, vec![line])
    }

    fn electrical(&self) -> Option<Suspicion> {
        let hz = 2.0 * self.train.line_hz?;
        // The supply's own frequency is good to a percent.
        let line = self.orders.at_hz(hz, 0.01 * hz)?;
        self.suspicion(Cause::Electrical, self.criteria.share_of_one, vec![line])
    }

    /// A suspicion, if the lines hold that share of the overall's power.
    fn suspicion(&self, cause: Cause, least: f64, lines: Vec<SupportingLine>) -> Option<Suspicion> {
        let power: f64 = lines.iter().map(|line| line.rms * line.rms).sum();
        let share = power / (self.overall * self.overall);
        (share >= least).then(|| Suspicion {
            cause,
            score: share.min(1.0),
            lines,
            band_hz: self.orders.band_hz(),
        })
    }

    /// Whether an order is that of the blades, the teeth or the field.
    fn is_somebody_elses(&self, order: f64) -> bool {
        let wheels = [self.train.blades, self.train.teeth]
            .into_iter()
            .flatten()
            .map(f64::from);
        let is_of_wheel = wheels.into_iter().any(|wheel| (order / wheel).fract() == 0.0);
        is_of_wheel || self.is_of_the_field(order * self.orders.shaft_hz())
    }

    /// Whether twice the line frequency lies within a line's width.
    fn is_of_the_field(&self, hz: f64) -> bool {
        self.train
            .line_hz
            .is_some_and(|line_hz| (hz - 2.0 * line_hz).abs() < self.orders.width_hz())
    }

    /// Whether the line that decides may be something else as well.
    fn is_ambiguous(&self, suspicion: &Suspicion) -> bool {
        let shaft_hz = self.orders.shaft_hz();
        match suspicion.cause {
            // Where the supply is not declared, twice the speed of a motor of one pole pair may be its field.
            Cause::Misalignment => {
                let may_be_field = |line_hz: f64| {
                    let slip = 1.0 - shaft_hz / line_hz;
                    (-0.005..SLIP_MAX).contains(&slip)
                };
                match self.train.line_hz {
                    Some(_) => self.is_of_the_field(2.0 * shaft_hz),
                    None => LINE_FREQUENCIES.into_iter().any(may_be_field),
                }
            }
            Cause::BladePass => suspicion
                .lines
                .iter()
                .any(|line| self.is_of_the_field(line.frequency_hz)),
            Cause::Electrical => suspicion.lines.iter().any(|line| {
                let nearest = (line.frequency_hz / shaft_hz).round() * shaft_hz;
                (line.frequency_hz - nearest).abs() < self.orders.width_hz()
            }),
            Cause::Unbalance => self.is_of_the_field(shaft_hz),
            Cause::Looseness | Cause::GearMesh => false,
        }
    }
}
