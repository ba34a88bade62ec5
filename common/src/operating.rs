//! How a machine is operated: whether it runs, whether it runs steadily, and in which regime.
//!
//! A machine that is off is not healthy, and one that runs up is not ill: only steady running is judged, and
//! always against what is normal at that speed and load. [`Gate`] tells the states apart from one window to
//! the next; [`Regimes`] says which normal applies.

use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// What is known about a machine's operation during a window. `None` is not known.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Operating {
    /// Whether it runs, from a witness other than the vibration itself: current, a speed, a contact.
    pub is_running: Option<bool>,
    /// Shaft speed, Hz, measured, or declared where nothing measures it.
    pub speed_hz: Option<f32>,
    /// Declared shaft speed, Hz: by which a standard applies or does not while the speed is not known.
    pub declared_hz: Option<f32>,
    /// Load, in whatever the regimes are declared in.
    pub load: Option<f32>,
}

impl Operating {
    /// Whether orders of the shaft say nothing: the machine stands still, or turns at a speed that is measured and
    /// not known now.
    pub fn hides_orders(&self) -> bool {
        self.is_running == Some(false) || (self.speed_hz.is_none() && self.declared_hz.is_some())
    }
}

/// In which state a window was taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// It stands still.
    Off,
    /// It has just begun to run, or its speed changes.
    Transient,
    /// It runs, and did so before at the same speed.
    Steady,
}

impl Run {
    /// The state on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Transient => "transient",
            Self::Steady => "steady",
        }
    }
}

/// What tells the states apart.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateSettings {
    /// Vibration (RMS about the mean, in the channel's unit) below which the machine counts as off where no
    /// other witness says whether it runs; none: it always counts as running.
    pub off_below: Option<f32>,
    /// A speed that differs by more than this share from the window before is a change of speed.
    pub speed_change: f32,
    /// So long after it began to run, or its speed changed, it is not steady yet, nanoseconds.
    pub settle_ns: i64,
}

impl Default for GateSettings {
    /// Speed within 2 % and for 10 s: the slip of a loaded induction motor moves by about 2 %, and is no
    /// change of speed; a fan or a pump on line voltage is up to speed within 10 s.
    fn default() -> Self {
        Self {
            off_below: None,
            speed_change: 0.02,
            settle_ns: 10_000_000_000,
        }
    }
}

/// Tells run states apart, window by window.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Gate {
    /// Since when it has run at this speed; none while it is off. The first window seen counts as steady from
    /// its start: nobody saw it run up.
    since: Option<EventTime>,
    /// Speed of the last window.
    speed_hz: Option<f32>,
    has_seen: bool,
}

impl Gate {
    /// Takes the next window: from when to when, its vibration (RMS about the mean), and how the machine is
    /// operated.
    pub fn handle_window(
        &mut self,
        (start, end): (EventTime, EventTime),
        rms: Option<f32>,
        operating: &Operating,
        settings: &GateSettings,
    ) -> Run {
        let is_first = !core::mem::replace(&mut self.has_seen, true);
        if self.is_off(rms, operating, settings) {
            (self.since, self.speed_hz) = (None, None);
            return Run::Off;
        }
        let before = core::mem::replace(&mut self.speed_hz, operating.speed_hz);
        let has_changed = matches!(
            (before, operating.speed_hz),
            (Some(before), Some(now)) if (now - before).abs() > settings.speed_change * before.abs()
        );
        if self.since.is_none() || has_changed {
            let settled = start.plus_nanos(settings.settle_ns.saturating_neg());
            self.since = Some(if is_first { settled } else { start });
        }
        match self.since {
            Some(since) if end.nanos_since(since) <= settings.settle_ns => Run::Transient,
            _ => Run::Steady,
        }
    }

    fn is_off(&self, rms: Option<f32>, operating: &Operating, settings: &GateSettings) -> bool {
        if let Some(is_running) = operating.is_running {
            return !is_running;
        }
        matches!((rms, settings.off_below), (Some(rms), Some(floor)) if rms < floor)
    }
}

/// Edges of a quantity at most, so regimes by it less one.
pub const EDGES_MAX: usize = 7;

/// Where one regime ends and the next begins.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Regimes {
    /// Of the speed, Hz, rising.
    speed_hz: Vec<f32, EDGES_MAX>,
    /// Of the load, rising.
    load: Vec<f32, EDGES_MAX>,
}

/// One of the regimes: speed and load between edges, by number from 0. A quantity that is not known has the
/// number after the last, so that its windows are no other regime's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Regime {
    /// Of the speed.
    pub speed: u8,
    /// Of the load.
    pub load: u8,
}

impl Regimes {
    /// Regimes between edges that rise; none where they do not, or are too many. Without edges there is one.
    pub fn new(speed_hz: &[f32], load: &[f32]) -> Option<Self> {
        let rises = |edges: &[f32]| {
            edges.iter().all(|edge| edge.is_finite()) && edges.windows(2).all(|pair| pair[0] < pair[1])
        };
        if !(rises(speed_hz) && rises(load)) {
            return None;
        }
        Some(Self {
            speed_hz: Vec::from_slice(speed_hz).ok()?,
            load: Vec::from_slice(load).ok()?,
        })
    }

    /// The regime of an operation. A value on an edge belongs to the lower one.
    pub fn regime(&self, operating: &Operating) -> Regime {
        let place = |edges: &[f32], value: Option<f32>| match value {
            _ if edges.is_empty() => 0,
            Some(value) if value.is_finite() => edges.iter().filter(|edge| value > **edge).count() as u8,
            _ => edges.len() as u8 + 1,
        };
        Regime {
            speed: place(&self.speed_hz, operating.speed_hz),
            load: place(&self.load, operating.load),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Windows of 1 s one after another, as (RMS, is it running, speed); says the states by first letter.
    fn states(settings: &GateSettings, windows: &[(f32, Option<bool>, Option<f32>)]) -> std::string::String {
        let mut gate = Gate::default();
        let state = |(second, (rms, is_running, speed_hz)): (usize, &(f32, Option<bool>, Option<f32>))| {
            let operating = Operating {
                is_running: *is_running,
                speed_hz: *speed_hz,
                ..Operating::default()
            };
            let start = EventTime(second as i64 * SECOND);
            let run = gate.handle_window(
                (start, start.plus_nanos(SECOND)),
                Some(*rms),
                &operating,
                settings,
            );
            run.label().chars().next().unwrap()
        };
        windows.iter().enumerate().map(state).collect()
    }

    fn settled_in(seconds: i64) -> GateSettings {
        GateSettings {
            off_below: Some(0.1),
            settle_ns: seconds * SECOND,
            ..GateSettings::default()
        }
    }

    #[test]
    fn a_machine_is_steady_some_time_after_it_began_to_run() {
        let (off, on) = ((0.01, None, None), (1.0, None, None));
        assert_eq!(states(&settled_in(2), &[off, on, on, on, on, off, on]), "ottssot");
        assert_eq!(states(&settled_in(0), &[off, on, off]), "oso");
    }

    #[test]
    fn a_machine_that_already_runs_when_first_seen_is_steady() {
        let on = (1.0, None, Some(25.0));
        assert_eq!(states(&settled_in(2), &[on, on, on]), "sss");
    }

    #[test]
    fn a_change_of_speed_is_a_transient_and_slip_is_not() {
        let at = |hz| (1.0, None, Some(hz));
        let settings = settled_in(1);
        assert_eq!(states(&settings, &[at(25.0), at(25.4), at(25.0)]), "sss");
        assert_eq!(
            states(&settings, &[at(25.0), at(30.0), at(30.0), at(30.0)]),
            "stss"
        );
        assert_eq!(
            states(&settings, &[at(25.0), at(27.0), at(29.0), at(31.0), at(31.0)]),
            "sttts"
        );
    }

    #[test]
    fn another_witness_outweighs_the_vibration() {
        let settings = settled_in(0);
        assert_eq!(
            states(&settings, &[(1.0, Some(false), None), (0.01, Some(true), None)]),
            "os"
        );
        let without_floor = GateSettings {
            off_below: None,
            ..settings
        };
        assert_eq!(states(&without_floor, &[(0.0, None, None)]), "s");
    }

    #[test]
    fn regimes_lie_between_edges_and_the_unknown_is_one_of_its_own() {
        let regimes = Regimes::new(&[10.0, 20.0], &[50.0]).unwrap();
        let regime = |speed_hz, load| {
            let Regime { speed, load } = regimes.regime(&Operating {
                speed_hz,
                load,
                ..Operating::default()
            });
            (speed, load)
        };
        assert_eq!(regime(Some(10.0), Some(50.0)), (0, 0));
        assert_eq!(regime(Some(10.1), Some(50.1)), (1, 1));
        assert_eq!(regime(Some(99.0), None), (2, 2));
        assert_eq!(regime(None, Some(f32::NAN)), (3, 2));
        assert_eq!(
            Regimes::default().regime(&Operating::default()),
            Regime::default()
        );
    }

    #[test]
    fn edges_that_do_not_rise_are_none() {
        assert_eq!(Regimes::new(&[2.0, 1.0], &[]), None);
        assert_eq!(Regimes::new(&[], &[1.0, 1.0]), None);
        assert_eq!(Regimes::new(&[f32::NAN], &[]), None);
        assert_eq!(Regimes::new(&[1.0; 8], &[]), None);
        assert!(Regimes::new(&[], &[]).is_some());
    }
}
