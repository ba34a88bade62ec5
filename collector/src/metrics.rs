//! The collector's counters, defined in one place.

use crate::prognosis::Outlook;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use trunnion_common::time::EventTime;

/// A figure that is no whole number.
pub type Real = Gauge<f64, AtomicU64>;

/// A reason out of a closed list; never text from outside.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct Reason {
    /// The list's label.
    pub reason: &'static str,
}

/// A cause of loss out of the contract's list.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct Cause {
    /// The list's label.
    pub cause: &'static str,
}

/// A stage of the pipeline ([`crate::pipeline::Stage`]).
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct StageLabel {
    /// Its label.
    pub stage: &'static str,
}

/// A lane of the pipeline.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct LaneLabel {
    /// `live`, or `backfill` for history.
    pub lane: &'static str,
}

/// What is said of the end of a channel's machine ([`crate::prognosis::Outlook`]).
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct OutlookLabel {
    /// Its label.
    pub outlook: &'static str,
}

/// Which of a lane's channels is spoken of.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct LagLabel {
    /// `live`, or `backfill` for history.
    pub lane: &'static str,
    /// `median`, or `slowest`.
    pub channel: &'static str,
}

/// The lanes by their labels: live, and history.
pub const LANES: [&str; 2] = ["live", "backfill"];

/// Every figure on `/metrics`. Cloning shares the figures.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// The journal's time of what is applied, and the clock's of the last checkpoint; nanoseconds, 0
    /// before there was one. Ages are told as of when they are asked for: a pipeline that stands still
    /// cannot say how long it does.
    applied: Arc<AtomicI64>,
    checkpointed: Arc<AtomicI64>,
    /// Connections let through the door.
    pub door_admitted: Counter,
    /// Connections and clients refused or cut at the door.
    pub door_refused: Family<Reason, Counter>,
    /// Sessions open at the door.
    pub door_sessions: Gauge,
    /// Times the embedded broker was restarted.
    pub broker_restarts: Counter,
    /// Connections to a broker of the plant's own that were subscribed.
    pub broker_connections: Counter,
    /// Connections to a broker of the plant's own that ended or never came to be.
    pub broker_disconnections: Family<Reason, Counter>,
    /// Messages for gateways that were not sent.
    pub downlinks_dropped: Family<Reason, Counter>,
    /// Blocks committed to the journal.
    pub blocks_committed: Counter,
    /// Bytes of blocks committed to the journal.
    pub bytes_committed: Counter,
    /// Blocks that came again and were recognised.
    pub blocks_duplicated: Counter,
    /// Blocks that neither their gateway nor the journal has any more, by cause.
    pub blocks_lost: Family<Cause, Counter>,
    /// Messages refused before the journal.
    pub messages_rejected: Family<Reason, Counter>,
    /// Frames that came again and were recognised.
    pub frames_duplicated: Counter,
    /// Frames, blocks or payloads kept as dead letters.
    pub dead_letters: Family<Reason, Counter>,
    /// Samples placed in event time.
    pub samples_stored: Counter,
    /// Windows fired.
    pub windows_fired: Counter,
    /// Windows fired with too little coverage to decide on.
    pub windows_undecided: Counter,
    /// Windows on which no search for faults was made, because the pipeline was too far behind.
    pub windows_shed: Counter,
    /// Samples that came after their window had gone.
    pub samples_late: Counter,
    /// Samples stamped too far ahead of the journal's clock to be put into a window.
    pub samples_ahead: Counter,
    /// Windows fired once more, with what came late.
    pub windows_corrected: Counter,
    /// Channels active in each lane.
    pub watermark_channels: Family<LaneLabel, Gauge>,
    /// From where event time has come, per lane, to the journal's time.
    pub watermark_lag: Family<LagLabel, Real>,
    /// Bytes of the journal that are committed and not applied.
    pub pipeline_backlog: Gauge,
    /// From the journal's time up to which everything is applied, to now. Kept by [`Self::age`].
    pub pipeline_behind: Real,
    /// What the pipeline's thread spent its time on.
    pub pipeline_stage: Family<StageLabel, Counter<f64, AtomicU64>>,
    /// Time since the last checkpoint. Kept by [`Self::age`].
    pub checkpoint_age: Real,
    /// Its size.
    pub checkpoint_size: Gauge,
    /// How long it took to make.
    pub checkpoint_duration: Real,
    /// Advisories raised.
    pub advisories_raised: Counter,
    /// Advisories cleared.
    pub advisories_cleared: Counter,
    /// Windows examined for what may be wrong with a shaft and what hangs on it.
    pub windows_examined: Counter,
    /// Channels whose remaining life is followed, by what is said of it.
    pub prognosis_channels: Family<OutlookLabel, Gauge>,
    /// Shortest remaining life (median) of any of them; absent while none declines.
    pub remaining_life_shortest: Family<OutlookLabel, Real>,
    /// Samples whose whereabouts nobody can explain; anything but 0 is an alarm.
    pub samples_unexplained: Gauge,
    /// Commands given to gateways.
    pub commands_issued: Counter,
    /// Commands sent, repeats included.
    pub commands_sent: Counter,
    /// What became of commands.
    pub command_results: Family<Reason, Counter>,
    /// Segments of the journal that were archived.
    pub journal_segments_archived: Counter,
    /// Segments that were removed from the journal.
    pub journal_segments_removed: Counter,
    /// Times a segment could be neither archived nor removed.
    pub journal_retention_failures: Counter,
    /// Seconds from a window's end (event time) to its published features.
    pub feature_latency: Histogram,
    /// Seconds one journal commit took, fsync included.
    pub commit_duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("trunnion_collector");
        let latency = || {
            Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 60.0,
            ])
        };
        let durations = || {
            Histogram::new([
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
            ])
        };
        macro_rules! register {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
            ($metric:expr, $name:literal, $help:literal, $unit:expr) => {{
                let metric = $metric;
                registry.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        Self {
            door_admitted: register!(
                Counter::default(),
                "door_admitted",
                "Connections let through the door"
            ),
            door_refused: register!(
                Family::default(),
                "door_refused",
                "Clients refused or cut at the door"
            ),
            door_sessions: register!(Gauge::default(), "door_sessions", "Sessions open at the door"),
            broker_restarts: register!(
                Counter::default(),
                "broker_restarts",
                "Restarts of the embedded broker"
            ),
            broker_connections: register!(
                Counter::default(),
                "broker_connections",
                "Connections to the plant's broker"
            ),
            broker_disconnections: register!(
                Family::default(),
                "broker_disconnections",
                "Connections to the plant's broker that ended or failed"
            ),
            downlinks_dropped: register!(
                Family::default(),
                "downlinks_dropped",
                "Messages for gateways that were not sent"
            ),
            blocks_committed: register!(
                Counter::default(),
                "blocks_committed",
                "Blocks committed to the journal"
            ),
            bytes_committed: register!(
                Counter::default(),
                "committed",
                "Bytes of blocks committed to the journal",
                Unit::Bytes
            ),
            blocks_duplicated: register!(Counter::default(), "blocks_duplicated", "Blocks that came again"),
            blocks_lost: register!(
                Family::default(),
                "blocks_lost",
                "Blocks that neither their gateway nor the journal has"
            ),
            messages_rejected: register!(
                Family::default(),
                "messages_rejected",
                "Messages refused before the journal"
            ),
            frames_duplicated: register!(Counter::default(), "frames_duplicated", "Frames that came again"),
            dead_letters: register!(Family::default(), "dead_letters", "Payloads kept as dead letters"),
            samples_stored: register!(
                Counter::default(),
                "samples_stored",
                "Samples placed in event time"
            ),
            windows_fired: register!(Counter::default(), "windows_fired", "Windows fired"),
            windows_undecided: register!(
                Counter::default(),
                "windows_undecided",
                "Windows with too little coverage"
            ),
            windows_shed: register!(
                Counter::default(),
                "windows_shed",
                "Windows on which no search for faults was made"
            ),
            samples_late: register!(
                Counter::default(),
                "samples_late",
                "Samples that came after their window had gone"
            ),
            samples_ahead: register!(
                Counter::default(),
                "samples_ahead",
                "Samples stamped too far ahead of the journal's clock for any window"
            ),
            windows_corrected: register!(
                Counter::default(),
                "windows_corrected",
                "Windows fired once more, with what came late"
            ),
            watermark_channels: register!(
                Family::default(),
                "watermark_channels",
                "Channels active in each lane"
            ),
            watermark_lag: register!(
                Family::default(),
                "watermark_lag",
                "From where a lane's event time has come to the journal's time",
                Unit::Seconds
            ),
            pipeline_backlog: register!(
                Gauge::default(),
                "pipeline_backlog",
                "Committed to the journal and not applied",
                Unit::Bytes
            ),
            pipeline_behind: register!(
                Real::default(),
                "pipeline_behind",
                "From the journal's time that is applied to now",
                Unit::Seconds
            ),
            pipeline_stage: register!(
                Family::default(),
                "pipeline_stage",
                "What the pipeline's thread spent its time on",
                Unit::Seconds
            ),
            checkpoint_age: register!(
                Real::default(),
                "checkpoint_age",
                "Since the last checkpoint of the pipeline",
                Unit::Seconds
            ),
            checkpoint_size: register!(
                Gauge::default(),
                "checkpoint_size",
                "The last checkpoint",
                Unit::Bytes
            ),
            checkpoint_duration: register!(
                Real::default(),
                "checkpoint_duration",
                "How long the last checkpoint kept the pipeline from its work",
                Unit::Seconds
            ),
            applied: Arc::default(),
            checkpointed: Arc::default(),
            advisories_raised: register!(Counter::default(), "advisories_raised", "Advisories raised"),
            advisories_cleared: register!(Counter::default(), "advisories_cleared", "Advisories cleared"),
            windows_examined: register!(
                Counter::default(),
                "windows_examined",
                "Windows examined for what may be wrong with a shaft and what hangs on it"
            ),
            prognosis_channels: register!(
                Family::default(),
                "prognosis_channels",
                "Channels whose remaining life is followed, by what is said of it"
            ),
            remaining_life_shortest: register!(
                Family::default(),
                "remaining_life_shortest",
                "Shortest remaining life of any channel, median; absent while none declines",
                Unit::Seconds
            ),
            samples_unexplained: register!(
                Gauge::default(),
                "samples_unexplained",
                "Samples whose whereabouts nobody can explain"
            ),
            commands_issued: register!(
                Counter::default(),
                "commands_issued",
                "Commands given to gateways"
            ),
            commands_sent: register!(
                Counter::default(),
                "commands_sent",
                "Commands sent, repeats included"
            ),
            command_results: register!(Family::default(), "command_results", "What became of commands"),
            journal_segments_archived: register!(
                Counter::default(),
                "journal_segments_archived",
                "Segments of the journal that were archived"
            ),
            journal_segments_removed: register!(
                Counter::default(),
                "journal_segments_removed",
                "Segments removed from the journal"
            ),
            journal_retention_failures: register!(
                Counter::default(),
                "journal_retention_failures",
                "Times a segment could be neither archived nor removed"
            ),
            feature_latency: register!(
                latency(),
                "feature_latency",
                "From a window's end to its published features",
                Unit::Seconds
            ),
            commit_duration: register!(
                durations(),
                "commit_duration",
                "One journal commit, fsync included",
                Unit::Seconds
            ),
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// Everything up to this time of the journal has been applied, but so many bytes of it.
    pub fn observe_progress(&self, applied: EventTime, backlog: u64) {
        self.applied.store(applied.0, Ordering::Relaxed);
        self.pipeline_backlog
            .set(i64::try_from(backlog).unwrap_or(i64::MAX));
    }

    /// A checkpoint of that size was written at `now`, by the clock; it kept the pipeline from its work for
    /// `seconds`.
    pub fn observe_checkpoint(&self, now: EventTime, bytes: usize, seconds: f64) {
        self.checkpointed.store(now.0, Ordering::Relaxed);
        self.checkpoint_size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.checkpoint_duration.set(seconds);
    }

    /// How many channels there are by what is said of their end, and the shortest remaining life, seconds.
    pub fn observe_outlooks(&self, channels: [u64; Outlook::LABELS.len()], shortest_s: Option<f64>) {
        for (outlook, channels) in Outlook::LABELS.into_iter().zip(channels) {
            let channels = i64::try_from(channels).unwrap_or(i64::MAX);
            self.prognosis_channels
                .get_or_create(&OutlookLabel { outlook })
                .set(channels);
        }
        match shortest_s {
            Some(seconds) => {
                let outlook = Outlook::LABELS[0];
                let declining = OutlookLabel { outlook };
                self.remaining_life_shortest
                    .get_or_create(&declining)
                    .set(seconds);
            }
            None => self.remaining_life_shortest.clear(),
        }
    }

    /// Brings the ages up to `now`; how far the pipeline is behind, and how old its last checkpoint is,
    /// seconds. Neither is known before there was one.
    pub fn age(&self, now: EventTime) -> [Option<f64>; 2] {
        let since = |then: &AtomicI64, gauge: &Real| {
            let then = then.load(Ordering::Relaxed);
            let seconds = (then != 0).then(|| now.nanos_since(EventTime(then)).max(0) as f64 / 1e9)?;
            gauge.set(seconds);
            Some(seconds)
        };
        [
            since(&self.applied, &self.pipeline_behind),
            since(&self.checkpointed, &self.checkpoint_age),
        ]
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_life_is_told_only_while_something_declines() {
        let metrics = Metrics::default();
        metrics.observe_outlooks([1, 2, 0, 0], Some(3_600.0));
        let text = metrics.render();
        let shortest = "trunnion_collector_remaining_life_shortest_seconds{outlook=\"declining\"} 3600.0";
        assert!(text.contains(shortest), "{text}");
        assert!(text.contains("trunnion_collector_prognosis_channels{outlook=\"before_onset\"} 2"));
        metrics.observe_outlooks([0, 3, 0, 0], None);
        assert!(!metrics.render().contains("remaining_life_shortest_seconds{"));
    }
}
