//! The agent's counters, all in one place. Labels come from enumerations, never from raw text.

use crate::floor::Refusal;
use crate::forecast::Outlook;
use crate::retention::Usage;
use crate::timekeeper::Timekeeper;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use trunnion_common::message::GatewayClock;
use trunnion_common::reject::RejectReason;
use trunnion_common::sample::LossCause;

/// Why something was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: &'static str,
}

/// Why something was lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct CauseLabel {
    cause: &'static str,
}

/// Whose UTC is gone by.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ClockLabel {
    clock: &'static str,
}

/// What retention decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct StepLabel {
    step: &'static str,
}

/// Handles to all counters; clones count into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Bytes read from all lines.
    pub line_bytes: Counter,
    /// Frames heard for the first time.
    pub frames: Counter,
    /// Frames heard again.
    pub frames_duplicate: Counter,
    /// Frames left with the node for now, since too many before them were missing.
    pub frames_deferred: Counter,
    /// Bytes on a line that were no frame, or frames whose payload this version cannot read.
    pub frames_broken: Family<ReasonLabel, Counter>,
    /// Frames that will never come.
    pub frames_lost: Family<CauseLabel, Counter>,
    /// Samples taken in.
    pub samples: Counter,
    /// Boots forgotten to make room.
    pub boots_forgotten: Counter,
    /// Lines given up to another master.
    pub second_masters: Counter,
    /// What happened on lines that several nodes share.
    pub line_changes: Family<ReasonLabel, Counter>,
    /// Polls on such lines that nobody answered.
    pub polls_unanswered: Counter,
    /// Polls and requests dropped because a line did not take them.
    pub writes_dropped: Counter,
    /// Times a port was opened.
    pub port_openings: Counter,
    /// Times a port could not be opened, or was lost.
    pub port_failures: Counter,
    /// Clock fixes made.
    pub clock_fixes: Counter,
    /// Messages on the command topic.
    pub commands: Counter,
    /// Of these, what is not the collector's or no command at all.
    pub commands_refused: Family<ReasonLabel, Counter>,
    /// Answers to commands.
    pub command_results: Family<ReasonLabel, Counter>,
    /// Blocks made durable in the spool.
    pub blocks_stored: Counter,
    /// Times the disk refused a commit, which is then tried again.
    pub commits_refused: Counter,
    /// Blocks made anew of what others refer to in one that was lost.
    pub blocks_remade: Counter,
    /// Blocks lost, each with a tombstone.
    pub blocks_lost: Family<CauseLabel, Counter>,
    /// Frames left with their nodes, because there was no room for them.
    pub frames_declined: Counter,
    /// Changes of what retention asks for, by what it asks for then.
    pub retention_steps: Family<StepLabel, Counter>,
    /// Directories of waveforms evicted.
    pub directories_evicted: Counter,
    /// Databases of the spool that were damaged and set aside.
    pub databases_quarantined: Counter,
    /// Of those, removed since only the newest are kept.
    pub databases_discarded: Counter,
    /// Blocks handed to the connection, repeats included.
    pub blocks_published: Counter,
    /// Bytes of those.
    pub published_bytes: Counter,
    /// Blocks that the collector has made durable.
    pub blocks_acknowledged: Counter,
    /// Messages of the collector that this version cannot read.
    pub messages_refused: Family<ReasonLabel, Counter>,
    /// Blocks and messages that the collector has refused, or keeps and cannot read.
    pub payloads_refused: Family<ReasonLabel, Counter>,
    /// Connections that came up.
    pub connections: Counter,
    /// Connections that failed or ended.
    pub disconnections: Counter,
    /// Connections cut soon after they were made, several in a row: another agent uses this identity.
    pub takeovers: Counter,
    /// Connections given up because the collector said nothing for too long.
    pub silences: Counter,
    /// Times an endpoint of the collector was put out for a while after failing repeatedly.
    pub endpoints_put_out: Counter,
    /// Blocks not acknowledged in time, and sent again.
    pub blocks_overdue: Counter,
    /// Blocks that were handed to the connection as history.
    pub history_published: Counter,
    /// Blocks not acknowledged.
    pub spool_blocks: Gauge,
    /// Bytes of those.
    pub spool_bytes: Gauge,
    /// Bytes of disk that the essential chain takes.
    pub spool_essential_bytes: Gauge,
    /// Bytes of disk that the waveform chain takes.
    pub spool_waveform_bytes: Gauge,
    /// Bytes of disk that damaged databases and blocks take.
    pub spool_quarantine_bytes: Gauge,
    /// Files of the spool that are never made durable: anything but 0 is a fault.
    pub spool_blob_files: Gauge,
    /// Seconds, in steps of ten, that the spool has owed an answer; at 60 the agent ends.
    pub spool_silent_seconds: Gauge,
    /// Bytes that the spool's disk has left.
    pub disk_free_bytes: Gauge,
    /// Nodes heard in the last ten seconds.
    pub nodes: Gauge,
    /// Records of features computed at intake.
    pub derived_records: Counter,
    /// Samples of which no features were computed: their channel table had not come, or for want of room.
    pub derived_samples_skipped: Counter,
    /// Records of features dropped before they were in a block.
    pub derived_records_dropped: Counter,
    /// Alarms of nodes counted into their slots.
    pub alarm_events: Counter,
    /// Slots of alarms folded into their node's overflow slot.
    pub alarms_folded: Counter,
    /// Overflow slots of alarms forgotten.
    pub alarms_forgotten: Counter,
    /// Times the disk refused the file of alarms, which is then tried again.
    pub alarms_refused: Counter,
    /// Slots of alarms with something that the collector does not know.
    pub alarms_untold: Gauge,
    /// Channels watched at this gateway.
    pub watched_channels: Gauge,
    /// Windows judged at this gateway.
    pub windows_judged: Counter,
    /// Of these, windows with too few samples to decide on.
    pub windows_undecided: Counter,
    /// Advisories raised at this gateway.
    pub advisories_raised: Counter,
    /// Changes of advisories dropped before they were told.
    pub advisories_dropped: Counter,
    /// Advisories that stand at this gateway.
    pub advisories_standing: Gauge,
    /// From the close of a window to the advisory that it changed: the longest, seconds.
    pub advisory_seconds_max: Measure,
    /// Windows searched for what is wrong with a bearing.
    pub windows_searched: Counter,
    /// Windows whose spectra were examined for what a shaft may have.
    pub windows_examined: Counter,
    /// Windows that were not searched although something is looked for in them, by reason.
    pub windows_not_searched: Family<ReasonLabel, Counter>,
    /// What a search took: the longest, seconds.
    pub search_seconds_max: Measure,
    /// Times the exit relay did not do as it was told.
    pub relay_failures: Counter,
    /// Times that UTC was set.
    pub clock_steps: Counter,
    /// Whose UTC is gone by: 1 for that one, 0 for the others.
    pub clock: Family<ClockLabel, Gauge>,
    /// The clock floor, seconds since 1970.
    pub clock_floor_seconds: Gauge,
    /// Times that were not taken for the clock floor.
    pub clock_floor_refused: Family<ReasonLabel, Counter>,
    /// Files of the clock floor that were damaged and set aside.
    pub clock_floors_damaged: Counter,
    /// Bytes of blocks made durable in the spool.
    pub stored_bytes: Counter,
    /// Seconds that the spool holds out without a collector; not a number when that is not known.
    pub holds_seconds: Measure,
    /// Seconds until the backlog is drained; not a number when it does not shrink.
    pub drains_seconds: Measure,
    /// Bytes that the agent writes in a day; not a number when that is not known.
    pub written_per_day_bytes: Measure,
    /// Days until the disk's rated endurance is used up; not a number when that is not known.
    pub flash_life_days: Measure,
}

/// What is measured in fractions, or not known.
pub type Measure = Gauge<f64, AtomicU64>;

impl Metrics {
    /// The counter of this reason.
    pub fn reason(family: &Family<ReasonLabel, Counter>, reason: RejectReason) -> Counter {
        family.get_or_create_owned(&ReasonLabel {
            reason: reason.label(),
        })
    }

    /// The counter of a reason out of another closed list.
    pub fn label(family: &Family<ReasonLabel, Counter>, reason: &'static str) -> Counter {
        family.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of this cause.
    pub fn cause(family: &Family<CauseLabel, Counter>, cause: LossCause) -> Counter {
        family.get_or_create_owned(&CauseLabel { cause: cause.label() })
    }

    /// The counter of this step, by its label.
    pub fn step(family: &Family<StepLabel, Counter>, step: &'static str) -> Counter {
        family.get_or_create_owned(&StepLabel { step })
    }

    /// What became of samples and alarms at intake since this was last called.
    pub fn observe_intake(
        &self,
        derived: crate::derive::Tally,
        alarms: crate::alarm::Tally,
        slots: (usize, usize),
    ) {
        self.derived_records.inc_by(derived.records);
        self.derived_samples_skipped.inc_by(derived.samples_skipped);
        self.derived_records_dropped.inc_by(derived.records_dropped);
        self.alarm_events.inc_by(alarms.events);
        self.alarms_folded.inc_by(alarms.folded);
        self.alarms_forgotten.inc_by(alarms.forgotten);
        self.alarms_untold.set(slots.1 as i64);
    }

    /// What was judged at this gateway since this was last called.
    pub fn observe_watches(&self, judged: crate::watch::Tally, searched: crate::watch::SearchTally) {
        self.windows_judged.inc_by(judged.windows);
        self.windows_undecided.inc_by(judged.undecided);
        self.advisories_dropped.inc_by(judged.dropped);
        self.windows_searched.inc_by(searched.searched);
        self.windows_examined.inc_by(searched.examined);
        for (reason, windows) in [("no_room", searched.no_room), ("behind", searched.behind)] {
            Self::label(&self.windows_not_searched, reason).inc_by(windows);
        }
    }

    /// How long a search took.
    pub fn observe_search(&self, taken: std::time::Duration) {
        let longest = self.search_seconds_max.get().max(taken.as_secs_f64());
        self.search_seconds_max.set(longest);
    }

    /// How long it took from the close of a window to an advisory.
    pub fn observe_advisory(&self, taken: std::time::Duration) {
        let longest = self.advisory_seconds_max.get().max(taken.as_secs_f64());
        self.advisory_seconds_max.set(longest);
    }

    /// The counter of this refusal of a time.
    pub fn refusal(family: &Family<ReasonLabel, Counter>, refusal: Refusal) -> Counter {
        family.get_or_create_owned(&ReasonLabel {
            reason: refusal.label(),
        })
    }

    /// Whose UTC is gone by, how often it was set, and the floor below it.
    pub fn observe_clock(&self, timekeeper: &Timekeeper) {
        for (clock, label) in [
            (GatewayClock::Synchronised, "synchronised"),
            (GatewayClock::Free, "free"),
            (GatewayClock::Collector, "collector"),
            (GatewayClock::Implausible, "implausible"),
        ] {
            let is_gone_by = clock == timekeeper.clock();
            self.clock
                .get_or_create_owned(&ClockLabel { clock: label })
                .set(is_gone_by.into());
        }
        self.clock_steps
            .inc_by(u64::from(timekeeper.steps()).saturating_sub(self.clock_steps.get()));
        self.clock_floor_seconds
            .set(timekeeper.floor().utc().0.div_euclid(1_000_000_000));
    }

    /// What is expected of spool and disk.
    pub fn observe_outlook(&self, outlook: &Outlook) {
        let set = |gauge: &Measure, value: Option<f64>| gauge.set(value.unwrap_or(f64::NAN));
        set(
            &self.holds_seconds,
            outlook.holds.map(|holds| holds.as_secs_f64()),
        );
        set(
            &self.drains_seconds,
            outlook.drains.map(|drains| drains.as_secs_f64()),
        );
        set(
            &self.written_per_day_bytes,
            outlook.written_per_day.map(|bytes| bytes as f64),
        );
        set(&self.flash_life_days, outlook.flash_life_days.map(f64::from));
    }

    /// What the spool takes of the disk.
    pub fn observe_spool(&self, usage: &Usage) {
        let set = |gauge: &Gauge, bytes: u64| gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        set(&self.spool_essential_bytes, usage.essential_bytes);
        set(&self.spool_waveform_bytes, usage.waveform_bytes());
        set(&self.spool_quarantine_bytes, usage.quarantine_bytes);
        set(&self.spool_blob_files, usage.blob_files);
        set(&self.disk_free_bytes, usage.free_bytes);
    }

    /// What `/metrics` answers with, from now on.
    pub fn page(&self) -> Page {
        let mut registry = Registry::with_prefix("trunnion_agent");
        let counters = [
            (
                "takeovers",
                "Connections cut soon after they were made, several in a row: another agent uses this identity",
                &self.takeovers,
            ),
            (
                "silences",
                "Connections given up because the collector said nothing for too long",
                &self.silences,
            ),
            (
                "endpoints_put_out",
                "Times an endpoint was put out for a while after failing repeatedly",
                &self.endpoints_put_out,
            ),
            (
                "blocks_overdue",
                "Blocks not acknowledged in time and sent again",
                &self.blocks_overdue,
            ),
            (
                "history_published",
                "Blocks handed to the connection as history, repeats included",
                &self.history_published,
            ),
            (
                "windows_judged",
                "Windows judged at this gateway",
                &self.windows_judged,
            ),
            (
                "windows_undecided",
                "Windows judged at this gateway with too few samples to decide on",
                &self.windows_undecided,
            ),
            (
                "advisories_raised",
                "Advisories raised at this gateway",
                &self.advisories_raised,
            ),
            (
                "windows_searched",
                "Windows searched for what is wrong with a bearing",
                &self.windows_searched,
            ),
            (
                "windows_examined",
                "Windows whose spectra were examined for what a shaft may have",
                &self.windows_examined,
            ),
            (
                "advisories_dropped",
                "Changes of this gateway's advisories dropped before they were told",
                &self.advisories_dropped,
            ),
            (
                "relay_failures",
                "Times the exit relay did not do as it was told",
                &self.relay_failures,
            ),
            ("clock_steps", "Times that UTC was set", &self.clock_steps),
            (
                "clock_floors_damaged",
                "Damaged files of the clock floor set aside",
                &self.clock_floors_damaged,
            ),
            ("frames", "Frames heard for the first time", &self.frames),
            ("frames_duplicate", "Frames heard again", &self.frames_duplicate),
            (
                "frames_deferred",
                "Frames left with the node behind too many missing ones",
                &self.frames_deferred,
            ),
            ("samples", "Samples taken in", &self.samples),
            (
                "boots_forgotten",
                "Boots of nodes forgotten to make room",
                &self.boots_forgotten,
            ),
            (
                "second_masters",
                "Lines given up to another master",
                &self.second_masters,
            ),
            (
                "polls_unanswered",
                "Polls on shared lines that nobody answered",
                &self.polls_unanswered,
            ),
            (
                "writes_dropped",
                "Polls and requests that a line did not take",
                &self.writes_dropped,
            ),
            ("port_openings", "Ports opened", &self.port_openings),
            ("port_failures", "Ports not opened or lost", &self.port_failures),
            ("clock_fixes", "Clock fixes made", &self.clock_fixes),
            ("commands", "Messages on the command topic", &self.commands),
            (
                "blocks_stored",
                "Blocks made durable in the spool",
                &self.blocks_stored,
            ),
            (
                "commits_refused",
                "Times the disk refused a commit",
                &self.commits_refused,
            ),
            (
                "frames_declined",
                "Frames left with their nodes for want of room",
                &self.frames_declined,
            ),
            (
                "directories_evicted",
                "Directories of waveforms evicted from the spool",
                &self.directories_evicted,
            ),
            (
                "databases_quarantined",
                "Damaged databases of the spool set aside",
                &self.databases_quarantined,
            ),
            (
                "databases_discarded",
                "Databases of the spool that had been set aside, removed since only the newest are kept",
                &self.databases_discarded,
            ),
            (
                "blocks_published",
                "Blocks handed to the connection, repeats included",
                &self.blocks_published,
            ),
            (
                "blocks_acknowledged",
                "Blocks made durable by the collector",
                &self.blocks_acknowledged,
            ),
            (
                "connections",
                "Connections to a collector that came up",
                &self.connections,
            ),
            (
                "disconnections",
                "Connections to a collector that failed or ended",
                &self.disconnections,
            ),
            (
                "derived_records",
                "Records of features computed at intake",
                &self.derived_records,
            ),
            (
                "derived_samples_skipped",
                "Samples of which no features were computed at intake",
                &self.derived_samples_skipped,
            ),
            (
                "derived_records_dropped",
                "Records of features dropped before they were in a block",
                &self.derived_records_dropped,
            ),
            (
                "alarm_events",
                "Alarms of nodes counted into slots",
                &self.alarm_events,
            ),
            (
                "alarms_folded",
                "Slots of alarms folded into their node's overflow slot",
                &self.alarms_folded,
            ),
            (
                "alarms_forgotten",
                "Overflow slots of alarms forgotten",
                &self.alarms_forgotten,
            ),
            (
                "alarms_refused",
                "Times the disk refused the file of alarms",
                &self.alarms_refused,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "line",
            "Bytes read from lines",
            Unit::Bytes,
            self.line_bytes.clone(),
        );
        registry.register_with_unit(
            "published",
            "Bytes of blocks handed to the connection",
            Unit::Bytes,
            self.published_bytes.clone(),
        );
        registry.register(
            "frames_broken",
            "Bytes on a line that are no frame, or frames not understood",
            self.frames_broken.clone(),
        );
        registry.register(
            "line_changes",
            "What happened on lines that several nodes share",
            self.line_changes.clone(),
        );
        registry.register(
            "frames_lost",
            "Frames that will never come",
            self.frames_lost.clone(),
        );
        registry.register(
            "blocks_remade",
            "Blocks made anew of what others refer to in a lost one",
            self.blocks_remade.clone(),
        );
        registry.register(
            "blocks_lost",
            "Blocks lost, with a tombstone",
            self.blocks_lost.clone(),
        );
        registry.register(
            "messages_refused",
            "Messages of the collector not understood",
            self.messages_refused.clone(),
        );
        registry.register(
            "payloads_refused",
            "Blocks and messages that the collector refused or cannot read",
            self.payloads_refused.clone(),
        );
        registry.register(
            "spool_blocks",
            "Blocks not acknowledged",
            self.spool_blocks.clone(),
        );
        registry.register_with_unit(
            "spool",
            "Bytes of blocks not acknowledged",
            Unit::Bytes,
            self.spool_bytes.clone(),
        );
        registry.register(
            "retention_steps",
            "Changes of what the spool's retention asks for",
            self.retention_steps.clone(),
        );
        registry.register(
            "windows_not_searched",
            "Windows not searched although something is looked for in them, by reason",
            self.windows_not_searched.clone(),
        );
        registry.register(
            "commands_refused",
            "Commands refused that are not the collector's",
            self.commands_refused.clone(),
        );
        registry.register(
            "command_results",
            "Answers to the collector's commands",
            self.command_results.clone(),
        );
        for (name, help, gauge) in [
            (
                "spool_essential",
                "Disk taken by the essential chain",
                &self.spool_essential_bytes,
            ),
            (
                "spool_waveform",
                "Disk taken by the waveform chain",
                &self.spool_waveform_bytes,
            ),
            (
                "spool_quarantine",
                "Disk taken by damaged databases and blocks",
                &self.spool_quarantine_bytes,
            ),
            ("disk_free", "Disk left where the spool is", &self.disk_free_bytes),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        registry.register(
            "alarms_untold",
            "Slots of alarms that the collector does not know",
            self.alarms_untold.clone(),
        );
        registry.register(
            "spool_blob_files",
            "Files of the spool that are never made durable: anything but 0 is a fault",
            self.spool_blob_files.clone(),
        );
        registry.register_with_unit(
            "spool_silent",
            "Time that the spool has owed an answer: at 60 the agent ends",
            Unit::Seconds,
            self.spool_silent_seconds.clone(),
        );
        registry.register(
            "clock",
            "Whose UTC the gateway goes by: 1 for that one",
            self.clock.clone(),
        );
        registry.register_with_unit(
            "clock_floor",
            "Clock floor, since 1970",
            Unit::Seconds,
            self.clock_floor_seconds.clone(),
        );
        registry.register(
            "clock_floor_refused",
            "Times not taken for the clock floor",
            self.clock_floor_refused.clone(),
        );
        registry.register_with_unit(
            "stored",
            "Bytes of blocks made durable in the spool",
            Unit::Bytes,
            self.stored_bytes.clone(),
        );
        for (name, help, unit, gauge) in [
            (
                "spool_holds",
                "Until waveforms are evicted, without a collector, at this rate",
                Unit::Seconds,
                &self.holds_seconds,
            ),
            (
                "spool_drains",
                "Until the backlog is drained, at these rates",
                Unit::Seconds,
                &self.drains_seconds,
            ),
            (
                "written_per_day",
                "Written to disk in a day, at this rate",
                Unit::Bytes,
                &self.written_per_day_bytes,
            ),
            (
                "flash_life",
                "Until the disk's rated endurance is used up, at this rate",
                Unit::Other("days".to_owned()),
                &self.flash_life_days,
            ),
        ] {
            registry.register_with_unit(name, help, unit, gauge.clone());
        }
        registry.register_with_unit(
            "search_max",
            "What the search of a window took, the longest",
            Unit::Seconds,
            self.search_seconds_max.clone(),
        );
        registry.register_with_unit(
            "advisory_max",
            "From the close of a window to the advisory of this gateway that it changed, the longest",
            Unit::Seconds,
            self.advisory_seconds_max.clone(),
        );
        registry.register(
            "advisories_standing",
            "Advisories that stand at this gateway",
            self.advisories_standing.clone(),
        );
        registry.register(
            "watched_channels",
            "Channels watched at this gateway",
            self.watched_channels.clone(),
        );
        registry.register("nodes", "Nodes heard in the last ten seconds", self.nodes.clone());
        Page(Arc::new(registry))
    }
}

/// All counters in the OpenMetrics text format.
#[derive(Clone, Debug)]
pub struct Page(Arc<Registry>);

impl Page {
    /// As of now.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_counted() {
        let metrics = Metrics::default();
        let page = metrics.page();
        metrics.frames.inc_by(3);
        metrics.line_bytes.inc_by(512);
        Metrics::reason(&metrics.frames_broken, RejectReason::BadCrc).inc();
        Metrics::cause(&metrics.frames_lost, LossCause::OutboxFull).inc_by(7);
        let text = page.text();
        for line in [
            "trunnion_agent_frames_total 3",
            "trunnion_agent_line_bytes_total 512",
            "trunnion_agent_frames_broken_total{reason=\"bad_crc\"} 1",
            "trunnion_agent_frames_lost_total{cause=\"outbox_full\"} 7",
        ] {
            assert!(text.contains(line), "{line}\nin {text}");
        }
    }
}
