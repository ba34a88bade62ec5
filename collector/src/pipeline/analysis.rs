//! From a fired window to its features: the stage that runs on several cores.
//!
//! Ledger and windows come before it and follow the journal; detection and advisories come behind it and
//! follow the order in which windows fired. In between, what a window says depends on that window alone. So
//! the windows of a commit are computed side by side, those of a channel by one and the same worker, and
//! come out in the order in which they went in: with one worker or many, the outputs are the same bytes.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | windows that wait | [`WINDOWS_MAX`], [`SAMPLES_MAX`] | they are computed before the next one is taken |

use super::ChannelKey;
use super::firing::labelled;
use super::streams::summarise;
use crate::state::SeriesKey;
use crate::window::Fired;
use std::num::NonZeroUsize;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::Basis;
use trunnion_common::operating::Operating;
use trunnion_diagnosis::detection::Verdict;
use trunnion_diagnosis::diagnosis::{Examination, Outcome};
use trunnion_diagnosis::features::{Analyzer, Depth, Envelope, PointContext};

/// Windows taken before they are computed.
pub(super) const WINDOWS_MAX: usize = 1_024;

/// Samples taken before they are computed: 16 MiB.
pub(super) const SAMPLES_MAX: usize = 4 << 20;

/// From so many samples on, several workers are faster than one: a thread costs as much to start as some
/// thousand samples to analyse.
const SHARED_FROM: usize = 32_768;

/// A window that has fired, with everything that its features depend on.
#[derive(Debug)]
pub(super) struct Pending {
    /// Whose.
    pub(super) key: ChannelKey,
    /// Where its features belong.
    pub(super) series: SeriesKey,
    /// Whether the fleet file knows the channel.
    pub(super) assigned: bool,
    /// From the channel's unit to the one that the fleet file wants; 1 where it does not know the channel.
    pub(super) gain: f32,
    /// What is known of the machine.
    pub(super) context: PointContext,
    /// How the machine was operated, as far as that was known when the window fired.
    pub(super) operating: Operating,
    /// What its values are computed from.
    pub(super) basis: Basis,
    /// When it is examined for what may be wrong; none: it is not.
    pub(super) examination: Option<Examination>,
    /// How much is computed.
    pub(super) depth: Depth,
    /// As it fired before, where it is made again.
    pub(super) before: Option<Fired>,
    /// The samples.
    pub(super) window: Fired,
}

impl Pending {
    /// What orders of the shaft follow from: the speed that it had, where a channel tells that.
    fn basis_now(&self) -> Basis {
        Basis {
            shaft_hz: self.operating.speed_hz.map_or(self.basis.shaft_hz, f64::from),
            ..self.basis
        }
    }
}

/// A window and what it says.
#[derive(Debug)]
pub(super) struct Evaluated {
    /// The window as it fired.
    pub(super) pending: Pending,
    /// The values that it had before, where it is made again.
    pub(super) old: Option<Vec<(&'static str, f32)>>,
    /// What it says now.
    pub(super) said: Said,
}

/// What a window says.
#[derive(Debug)]
pub(super) struct Said {
    /// Of a fast channel's.
    pub(super) features: Vec<(FeatureKind, f32)>,
    /// Everything by label.
    pub(super) values: Vec<(&'static str, f32)>,
    /// What detection is told of this window by itself.
    pub(super) verdict: Verdict,
    /// What detection hears together with the windows before.
    pub(super) envelope: Option<Envelope>,
    /// What it says of the cause; none where nobody looked.
    pub(super) outcome: Option<Outcome>,
    /// Whether that took an examination.
    pub(super) is_examined: bool,
}

/// Windows that wait, and those who compute them.
pub(super) struct Analysis {
    /// One for each worker, with plans of its own; there is at least one.
    analyzers: Vec<Analyzer>,
    pending: Vec<Pending>,
    samples: usize,
}

impl Analysis {
    /// With so many workers.
    pub(super) fn new(workers: NonZeroUsize) -> Self {
        Self {
            analyzers: (0..workers.get()).map(|_| Analyzer::new()).collect(),
            pending: Vec::new(),
            samples: 0,
        }
    }

    /// Takes a window. Once it [is full](Self::is_full), [`Self::run`] comes first.
    pub(super) fn push(&mut self, pending: Pending) {
        let before = pending.before.as_ref().map_or(0, |before| before.samples.len());
        self.samples += pending.window.samples.len() + before;
        self.pending.push(pending);
    }

    /// Whether no more windows may wait.
    pub(super) const fn is_full(&self) -> bool {
        self.pending.len() >= WINDOWS_MAX || self.samples >= SAMPLES_MAX
    }

    /// What the windows say, in the order in which they were taken.
    pub(super) fn run(&mut self) -> Vec<Evaluated> {
        let pending = std::mem::take(&mut self.pending);
        let samples = std::mem::take(&mut self.samples);
        let workers = self.analyzers.len();
        if workers == 1 || pending.len() < 2 || samples < SHARED_FROM {
            let analyzer = &mut self.analyzers[0];
            return pending
                .into_iter()
                .map(|window| evaluate(analyzer, window))
                .collect();
        }
        let mut shares: Vec<Vec<(usize, Pending)>> = (0..workers).map(|_| Vec::new()).collect();
        for (place, window) in pending.into_iter().enumerate() {
            shares[worker(window.key, workers)].push((place, window));
        }
        let mut evaluated: Vec<(usize, Evaluated)> = std::thread::scope(|scope| {
            let mut shares = self.analyzers.iter_mut().zip(shares);
            let own = shares.next();
            let others: Vec<_> = shares
                .filter(|(_, share)| !share.is_empty())
                .map(|(analyzer, share)| scope.spawn(|| evaluate_all(analyzer, share)))
                .collect();
            let own = own.map(|(analyzer, share)| evaluate_all(analyzer, share));
            let others = others.into_iter().flat_map(|worker| match worker.join() {
                Ok(evaluated) => evaluated,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            own.into_iter().flatten().chain(others).collect()
        });
        evaluated.sort_unstable_by_key(|(place, _)| *place);
        evaluated.into_iter().map(|(_, evaluated)| evaluated).collect()
    }
}

/// Who computes the windows of a channel.
fn worker((node, channel): ChannelKey, workers: usize) -> usize {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4): neighbours go apart.
    let key = node.get().wrapping_mul(16).wrapping_add(channel.index() as u64);
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % workers
}

fn evaluate_all(analyzer: &mut Analyzer, share: Vec<(usize, Pending)>) -> Vec<(usize, Evaluated)> {
    let evaluate = |(place, window)| (place, evaluate(analyzer, window));
    share.into_iter().map(evaluate).collect()
}

/// What a window says, and what it said before.
fn evaluate(analyzer: &mut Analyzer, mut pending: Pending) -> Evaluated {
    let before = pending.before.take();
    let old = before.map(|before| say(analyzer, &pending, before).values);
    // What has been computed is not kept while others are.
    let samples = std::mem::take(&mut pending.window.samples);
    let window = Fired {
        samples,
        ..pending.window.clone()
    };
    let said = say(analyzer, &pending, window);
    Evaluated { pending, old, said }
}

/// What such samples say at that place.
fn say(analyzer: &mut Analyzer, place: &Pending, mut window: Fired) -> Said {
    if place.gain != 1.0 {
        window.samples.iter_mut().for_each(|sample| *sample *= place.gain);
    }
    let coverage = window.coverage;
    if !window.decided {
        return Said {
            features: Vec::new(),
            values: Vec::new(),
            verdict: Verdict::Undecided { coverage },
            envelope: None,
            outcome: None,
            is_examined: false,
        };
    }
    if !window.signal.waveform {
        return Said {
            features: Vec::new(),
            values: summarise(&window.samples),
            verdict: Verdict::Healthy,
            envelope: None,
            outcome: None,
            is_examined: false,
        };
    }
    let found = analyzer.measure(&window.samples, &place.basis, &place.context, place.depth);
    let examination = place.examination.as_ref();
    let examination = examination.filter(|_| place.depth == Depth::Full && !place.operating.hides_orders());
    let is_examined = examination.is_some_and(|examination| examination.is_worth(&found.values));
    let outcome = examination.map(|examination| match is_examined {
        true => analyzer.examine(&window.samples, &place.basis_now(), examination.train()),
        false => Outcome::Quiet,
    });
    Said {
        outcome,
        is_examined,
        verdict: match place.depth {
            Depth::Full if !place.operating.hides_orders() => Verdict::of(coverage, &found),
            // Nobody has looked, or could: that is not the same as healthy.
            Depth::Full | Depth::Severity => Verdict::Undecided { coverage },
        },
        values: labelled(&found.values),
        features: found.values,
        envelope: found.envelope,
    }
}
