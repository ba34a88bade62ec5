//! What the last windows of a channel say together.
//!
//! A line that stands in every window at the same order stands out of their mean, where noise has evened out:
//! the mean of `n` windows scatters by a root of `n` less. Prominences of the running mean are therefore
//! stretched about that of noise until noise scatters as it does in one window, and searched by the same rules.
//!
//! On simulated rigs of random geometry, speed, rate and resonance that names a fifth more of the faults than
//! windows by themselves, half as many balls again among them, and on the recorded ones it claims nothing
//! else. Five to ten windows serve alike.

use super::search::{EnvelopeSpectrum, Prominences, Search, Sought};
use super::{ConfirmingBand, Finding};
use crate::bearing::{BearingOrders, Element};
use serde::{Deserialize, Serialize};

/// Windows that the mean looks back on: as many as [`crate::detection::Persistence`] does.
const WINDOWS: u8 = 5;

/// Mean prominence of a line of noise: a Rayleigh distribution's mean over its median.
const NOISE: f32 = 1.064;

/// Prominence at which a line enters the mean at most, so that what knocks once is forgotten as fast as what is
/// weak.
const STRONG: f32 = 10.0;

/// Score that the last window has to have where the mean finds something: noise has 1.4 on average, and what a
/// machine no longer shows is not claimed.
const PRESENT: f64 = 1.9;

/// Lines remembered of a channel, at most: those above are not searched for together. It is enough for 2 kHz at
/// windows of 1 s, and takes 8 kB.
const LINES_MAX: usize = 4_096;

/// Change of the speed, as a share, from which windows are not heard together.
const DRIFT: f64 = 0.01;

/// Change of the speed below which lines are taken to stand where they stood: what a window reads of its speed
/// scatters by as much, and lines that do not move are not to be smeared.
const STEADY: f64 = 0.003;

/// Parts of a prominence that are kept: 1/256, far less than it scatters.
const SCALE: f32 = 256.0;

/// The heights of one window's envelope spectrum, and what was sought in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Envelope {
    pub(super) prominences: Prominences,
    pub(super) sought: Sought,
    pub(super) band_hz: (f64, f64),
    /// The element that the window names by itself and a selected band shows, too.
    pub(super) confirmed: Option<(Element, ConfirmingBand)>,
}

impl Envelope {
    /// The band that confirms that it is this element.
    pub(super) fn confirms(&self, element: Option<Element>) -> Option<ConfirmingBand> {
        let (confirmed, band) = self.confirmed?;
        (element == Some(confirmed)).then_some(band)
    }
}

impl Prominences {
    /// As much of them as is remembered.
    pub(super) fn shortened(mut self) -> Self {
        self.lines.truncate(LINES_MAX);
        self
    }
}

/// The running mean of a channel's envelope spectra.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct EnvelopeMemory {
    /// Mean prominences, in parts of 1 / [`SCALE`].
    lines: Vec<u16>,
    /// What they are of; another one begins anew.
    of: Option<Of>,
    /// Windows in the mean, up to [`WINDOWS`].
    windows: u8,
    /// How many windows of equal weight would scatter as little.
    weight: f32,
}

/// What lines belong together.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Of {
    bearing: BearingOrders,
    spacing_hz: f64,
    /// Of the first window.
    shaft_hz: f64,
    /// Room for the speed's error: lines of a speed that was read stand elsewhere than those of one that was not.
    tolerance: f64,
}

impl EnvelopeMemory {
    /// Takes the next window in; what it and those before say together, if the window itself does not deny it.
    pub fn hear(&mut self, envelope: &Envelope) -> Option<Finding> {
        let Envelope {
            prominences,
            sought,
            band_hz,
            confirmed: _,
        } = envelope;
        self.add(prominences, sought);
        let gain = self.weight.sqrt();
        // The lines are those of the speed at which the memory began.
        let shaft_hz = self.of.map_or(prominences.shaft_hz, |of| of.shaft_hz);
        let stretched = Prominences {
            shaft_hz,
            lines: self
                .lines
                .iter()
                .map(|&line| NOISE + (f32::from(line) / SCALE - NOISE) * gain)
                .collect(),
            ..*prominences
        };
        let mut finding = Search::new(&EnvelopeSpectrum::new(&stretched), sought).finding(*band_hz)?;
        for line in &mut finding.lines {
            line.frequency_hz = line.order * prominences.shaft_hz;
        }
        finding.confirmed = envelope.confirms(finding.element);
        let is_present = |order| EnvelopeSpectrum::new(prominences).score(order) >= PRESENT;
        (finding.element.is_none() || is_present(finding.order)).then_some(finding)
    }

    /// Forgets what it has heard.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn add(&mut self, prominences: &Prominences, sought: &Sought) {
        let lines = &prominences.lines;
        let of = Of {
            bearing: sought.bearing,
            spacing_hz: prominences.spacing_hz,
            shaft_hz: prominences.shaft_hz,
            tolerance: sought.tolerance,
        };
        let at_its_speed = |known: Of| Of {
            shaft_hz: of.shaft_hz,
            ..known
        };
        let change = self
            .of
            .filter(|known| at_its_speed(*known) == of && self.lines.len() == lines.len())
            .map(|known| of.shaft_hz / known.shaft_hz)
            .filter(|change| (change - 1.0).abs() <= DRIFT);
        if change.is_none() {
            self.forget();
            self.of = Some(of);
            self.lines.resize(lines.len(), 0);
        }
        // By order: a line of the first window's speed stands so much higher up now.
        let change = change
            .filter(|change| (change - 1.0).abs() > STEADY)
            .unwrap_or(1.0);
        let at = |index: usize| {
            let moved = (index as f64 * change).round() as usize;
            lines.get(moved).copied().unwrap_or(NOISE)
        };
        self.windows = (self.windows + 1).min(WINDOWS);
        let share = 1.0 / f32::from(self.windows);
        for (index, mean) in self.lines.iter_mut().enumerate() {
            let line = at(index);
            let kept = f32::from(*mean);
            // Rounded, and what is no number becomes 0.
            *mean = (kept + share * (line.clamp(0.0, STRONG) * SCALE - kept) + 0.5) as u16;
        }
        self.weight = if self.windows == 1 {
            1.0
        } else {
            1.0 / ((1.0 - share).powi(2) / self.weight + share.powi(2))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of a linear congruential generator (Knuth, MMIX), as the magnitudes of lines: Rayleigh's distribution,
    /// over its median.
    struct Noise(u64);

    impl Noise {
        fn line(&mut self) -> f32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((self.0 >> 40) as f32 + 1.0) / (1 << 24) as f32;
            (-uniform.ln() / 2f32.ln()).sqrt()
        }

        /// A window of half-hertz lines at 30 Hz, in which three harmonics of an order stand so high.
        fn window(&mut self, order: f64, height: f32) -> Envelope {
            // Two lines to a resolution: neighbours are alike.
            let lines: Vec<f32> = (0..1_000).map(|_| self.line()).collect();
            let mut lines: Vec<f32> = lines.into_iter().flat_map(|line| [line, line]).collect();
            for harmonic in 1..=3 {
                let line = (f64::from(harmonic) * order * 30.0 / 0.5).round() as usize;
                lines[line] = lines[line].max(height);
            }
            Envelope {
                prominences: Prominences {
                    lines,
                    spacing_hz: 0.5,
                    shaft_hz: 30.0,
                },
                sought: Sought::exactly("6205".parse().unwrap()),
                band_hz: (1.0, 5_000.0),
                confirmed: None,
            }
        }
    }

    fn alone(envelope: &Envelope) -> Option<Finding> {
        EnvelopeMemory::default().hear(envelope)
    }

    #[test]
    fn what_no_window_says_alone_several_say_together() {
        let mut noise = Noise(1);
        let mut memory = EnvelopeMemory::default();
        let order = 1.002 * "6205".parse::<BearingOrders>().unwrap().outer_race;
        let windows: Vec<_> = (0..8).map(|_| noise.window(order, 3.2)).collect();
        let named = windows.iter().filter(|window| alone(window).is_some()).count();
        assert!(named <= 2, "{named} of 8 windows say so alone");
        let last = windows.iter().map(|window| memory.hear(window)).last().flatten();
        let finding = last.expect("together they do");
        assert_eq!(finding.element, Some(Element::OuterRace));
        assert!((finding.order / order - 1.0).abs() < 0.003, "{}", finding.order);
    }

    #[test]
    fn noise_stays_noise_however_long_it_is_heard() {
        let mut noise = Noise(2);
        let mut memory = EnvelopeMemory::default();
        for window in 0..300 {
            assert_eq!(memory.hear(&noise.window(3.6, 0.0)), None, "window {window}");
        }
    }

    #[test]
    fn what_is_no_longer_there_is_no_longer_claimed() {
        let mut noise = Noise(3);
        let mut memory = EnvelopeMemory::default();
        for _ in 0..10 {
            assert!(memory.hear(&noise.window(3.59, 30.0)).is_some());
        }
        let claims = (0..10).filter(|_| memory.hear(&noise.window(3.59, 0.0)).is_some());
        assert!(claims.count() <= 2, "a window that shows nothing denies it");
    }

    #[test]
    fn a_speed_that_changes_a_little_is_followed_by_order() {
        let mut noise = Noise(6);
        let mut memory = EnvelopeMemory::default();
        let order = 1.002 * "6205".parse::<BearingOrders>().unwrap().outer_race;
        let mut last = None;
        for window in 0..8 {
            // To 0.9 % above the first and back.
            let change = 1.0 + 0.0045 * f64::from([0, 1, 2, 2, 1, 0, 1, 2][window]);
            let mut envelope = noise.window(order * change, 4.0);
            envelope.prominences.shaft_hz = 30.0 * change;
            last = memory.hear(&envelope);
            assert_eq!(usize::from(memory.windows), (window + 1).min(WINDOWS.into()));
        }
        let finding = last.expect("heard together");
        assert_eq!(finding.element, Some(Element::OuterRace));
        assert!((finding.order / order - 1.0).abs() < 0.003, "{}", finding.order);
    }

    #[test]
    fn another_bearing_or_speed_begins_anew() {
        let mut noise = Noise(4);
        let mut memory = EnvelopeMemory::default();
        for _ in 0..5 {
            memory.hear(&noise.window(3.59, 30.0));
        }
        let mut other = noise.window(3.59, 0.0);
        other.prominences.shaft_hz = 29.0;
        memory.hear(&other);
        assert_eq!((memory.windows, memory.weight), (1, 1.0));
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_survives_a_checkpoint() {
        let mut noise = Noise(5);
        let mut envelope = noise.window(3.59, 30.0);
        envelope.prominences.lines = vec![f32::NAN; 100_000];
        envelope.prominences = envelope.prominences.shortened();
        let mut memory = EnvelopeMemory::default();
        memory.hear(&envelope);
        let saved = postcard::to_stdvec(&memory).unwrap();
        assert!(saved.len() < 4 * LINES_MAX, "{}", saved.len());
        assert_eq!(postcard::from_bytes::<EnvelopeMemory>(&saved).unwrap(), memory);
    }
}
