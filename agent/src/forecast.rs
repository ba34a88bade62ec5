//! How long the spool holds out, how soon it is drained, and how long the disk lasts. Pure.
//!
//! Rates are averages that weigh the recent past most (exponentially; the weights of what was seen add
//! up to one, so that a fresh start is not taken for a low rate). A forecast says what happens if
//! everything goes on as it does, and nothing until enough has been seen.

use crate::retention::{Limits, Usage};
use std::fmt;
use std::time::Duration;

/// What comes in changes with the nodes' plans: minutes.
const INTAKE_MEMORY: Duration = Duration::from_secs(300);

/// What goes out changes with the connection: tens of seconds.
const DRAIN_MEMORY: Duration = Duration::from_secs(60);

/// What is written varies with day and night, and wears the disk over years.
const WRITTEN_MEMORY: Duration = Duration::from_secs(6 * 3_600);

/// Seen for less than this, a rate says nothing.
const SEEN_MIN: Duration = Duration::from_secs(20);

/// The same for what is written: databases write in bursts.
const WRITTEN_SEEN_MIN: Duration = Duration::from_secs(300);

/// Bytes of disk per byte of block, as long as the backlog is too small to tell.
const DISK_PER_BYTE: f64 = 2.0;

/// Backlog from which the spool itself tells how much disk it takes: several databases of a chain.
const TELLING_BACKLOG_BYTES: u64 = 64 << 20;

const DAY_S: f64 = 86_400.0;

/// A rate per second from a counter that only rises.
#[derive(Clone, Debug)]
struct Rate {
    memory: Duration,
    seen_min: Duration,
    /// When it was first and last looked at, and what it said last.
    seen: Option<(Duration, Duration, u64)>,
    weighted: f64,
    weight: f64,
}

impl Rate {
    const fn new(memory: Duration, seen_min: Duration) -> Self {
        Self {
            memory,
            seen_min,
            seen: None,
            weighted: 0.0,
            weight: 0.0,
        }
    }

    fn observe(&mut self, mono: Duration, total: u64) {
        let Some((first, last, before)) = self.seen else {
            self.seen = Some((mono, mono, total));
            return;
        };
        let seconds = mono.saturating_sub(last).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let kept = (-seconds / self.memory.as_secs_f64()).exp();
        let now = total.saturating_sub(before) as f64 / seconds;
        self.weighted = self.weighted * kept + now * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
        self.seen = Some((first, mono, total));
    }

    fn per_s(&self) -> Option<f64> {
        let (first, last, _) = self.seen?;
        (last.saturating_sub(first) >= self.seen_min && self.weight > 0.0)
            .then(|| self.weighted / self.weight)
    }
}

/// What is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// Until the first waveforms are evicted, if no collector answers from now on; `None` when nothing
    /// comes in or too little has been seen.
    pub holds: Option<Duration>,
    /// Until the backlog is gone; `None` when it does not shrink.
    pub drains: Option<Duration>,
    /// Bytes that the agent writes in a day.
    pub written_per_day: Option<u64>,
    /// Days until the disk's rated endurance is used up, from new.
    pub flash_life_days: Option<u32>,
}

/// Watches the spool and the disk.
#[derive(Clone, Debug)]
pub struct Forecast {
    limits: Limits,
    /// What the disk's maker allows to be written over its life.
    endurance_bytes: Option<u64>,
    stored: Rate,
    freed: Rate,
    written: Rate,
    freed_total: u64,
    last: Option<(u64, u64)>,
    backlog_bytes: u64,
    room_bytes: Option<u64>,
    own_bytes: u64,
}

impl Forecast {
    /// Nothing seen yet. The endurance is that of the disk that holds the spool, bytes.
    pub const fn new(limits: Limits, endurance_bytes: Option<u64>) -> Self {
        Self {
            limits,
            endurance_bytes,
            stored: Rate::new(INTAKE_MEMORY, SEEN_MIN),
            freed: Rate::new(DRAIN_MEMORY, SEEN_MIN),
            written: Rate::new(WRITTEN_MEMORY, WRITTEN_SEEN_MIN),
            freed_total: 0,
            last: None,
            backlog_bytes: 0,
            room_bytes: None,
            own_bytes: 0,
        }
    }

    /// Bytes of blocks stored since the start, and bytes held now. Call about each second.
    pub fn handle_backlog(&mut self, stored_total: u64, backlog_bytes: u64, mono: Duration) {
        if let Some((stored, backlog)) = self.last {
            let came = stored_total.saturating_sub(stored);
            self.freed_total += (backlog + came).saturating_sub(backlog_bytes);
        }
        self.last = Some((stored_total, backlog_bytes));
        self.backlog_bytes = backlog_bytes;
        self.stored.observe(mono, stored_total);
        self.freed.observe(mono, self.freed_total);
    }

    /// How the disk stands.
    pub fn handle_usage(&mut self, usage: &Usage) {
        let waveforms = usage.waveform_bytes();
        let quota = self.limits.waveform_quota(usage);
        self.room_bytes = Some(quota.saturating_sub(waveforms).min(usage.free_bytes));
        self.own_bytes = usage.essential_bytes + waveforms;
    }

    /// Bytes that this process has had written since it started.
    pub fn handle_written(&mut self, written_total: u64, mono: Duration) {
        self.written.observe(mono, written_total);
    }

    /// What is expected as of now.
    pub fn outlook(&self) -> Outlook {
        let stored = self.stored.per_s();
        let holds = stored.zip(self.room_bytes).and_then(|(stored, room)| {
            let growth = stored * self.disk_per_byte();
            (growth > 0.0).then(|| seconds(room as f64 / growth))
        });
        let drains = if self.backlog_bytes == 0 {
            Some(Duration::ZERO)
        } else {
            stored.zip(self.freed.per_s()).and_then(|(stored, freed)| {
                let shrinks = freed - stored;
                (shrinks > 0.0).then(|| seconds(self.backlog_bytes as f64 / shrinks))
            })
        };
        let per_day = self.written.per_s().map(|written| written * DAY_S);
        let flash_life_days = self
            .endurance_bytes
            .zip(per_day)
            .filter(|(_, per_day)| *per_day > 0.0)
            .map(|(endurance, per_day)| (endurance as f64 / per_day) as u32);
        Outlook {
            holds,
            drains,
            written_per_day: per_day.map(|bytes| bytes as u64),
            flash_life_days,
        }
    }

    /// From the spool as it is, where it is large enough; never less than the blocks themselves.
    fn disk_per_byte(&self) -> f64 {
        if self.backlog_bytes < TELLING_BACKLOG_BYTES {
            DISK_PER_BYTE
        } else {
            (self.own_bytes as f64 / self.backlog_bytes as f64).max(1.0)
        }
    }
}

/// Held at a century, which is as good as for ever.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs(seconds.clamp(0.0, 100.0 * 365.0 * DAY_S) as u64)
}

/// A duration as people say it, in its two largest units: `6 d 4 h`, `38 min`, `20 s`.
pub fn spoken(duration: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [
        (365 * 86_400, "y"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "min"),
        (1, "s"),
    ];
    let all = duration.as_secs();
    let Some(at) = UNITS.iter().position(|(unit, _)| all >= *unit) else {
        return "0 s".to_owned();
    };
    let (unit, name) = UNITS[at];
    let large = format!("{} {name}", all / unit);
    match UNITS.get(at + 1) {
        // Nobody plans by seconds beside minutes.
        Some(&(smaller, name)) if smaller > 1 && all % unit >= smaller => {
            format!("{large} {} {name}", all % unit / smaller)
        }
        _ => large,
    }
}

/// `holds 6 d 4 h at this rate, drains in 38 min`.
impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds {
            Some(holds) => write!(f, "holds {} at this rate", spoken(holds))?,
            None => write!(f, "holds: nothing comes in, or too little was seen")?,
        }
        match self.drains {
            Some(Duration::ZERO) => write!(f, ", drained")?,
            Some(drains) => write!(f, ", drains in {}", spoken(drains))?,
            None => write!(f, ", does not drain")?,
        }
        if let Some(bytes) = self.written_per_day {
            write!(f, "; writes {:.1} MB a day", bytes as f64 / 1e6)?;
        }
        if let Some(days) = self.flash_life_days {
            write!(
                f,
                ", which the disk's endurance bears for {:.1} years",
                f64::from(days) / 365.25
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        quota_bytes: 64 << 30,
        disk_percent: 50,
        essential_bytes: 0,
    };

    fn usage(waveform_bytes: u64, free_bytes: u64) -> Usage {
        Usage {
            essential_bytes: 0,
            quarantine_bytes: 0,
            waveform: vec![crate::retention::Directory {
                number: 0,
                bytes: waveform_bytes,
                state: crate::retention::DirectoryState::Closed,
            }],
            free_bytes,
        }
    }

    /// A minute of an outage and a minute of a drain, at so many bytes a second each.
    fn watch(
        forecast: &mut Forecast,
        seconds: u64,
        stored: u64,
        freed: u64,
        mono: &mut u64,
        at: &mut (u64, u64),
    ) {
        for _ in 0..seconds {
            *mono += 1;
            at.0 += stored;
            at.1 = (at.1 + stored).saturating_sub(freed);
            forecast.handle_backlog(at.0, at.1, Duration::from_secs(*mono));
        }
    }

    #[test]
    fn an_outage_holds_for_the_room_at_the_rate_and_the_drain_for_the_backlog() {
        let mut forecast = Forecast::new(LIMITS, None);
        let (mut mono, mut at) = (0, (0, 0));
        assert_eq!(forecast.outlook().holds, None);
        forecast.handle_usage(&usage(0, 200 << 30));
        watch(&mut forecast, 600, 100_000, 0, &mut mono, &mut at);
        // 64 GiB of quota, two bytes of disk for each that comes in.
        let expected = (64 << 30) / 200_000;
        let holds = forecast.outlook().holds.unwrap().as_secs();
        assert!(holds.abs_diff(expected) < expected / 100, "{holds} {expected}");
        assert_eq!(forecast.outlook().drains, None);

        watch(&mut forecast, 300, 100_000, 200_000, &mut mono, &mut at);
        let drains = forecast.outlook().drains.unwrap().as_secs();
        // 30 MB left at 100 kB a second.
        assert!((290..=330).contains(&drains), "{drains}");
        watch(&mut forecast, 400, 100_000, 300_000, &mut mono, &mut at);
        assert_eq!(forecast.outlook().drains, Some(Duration::ZERO));
    }

    #[test]
    fn a_large_backlog_tells_how_much_disk_it_takes_and_a_full_disk_holds_nothing() {
        let mut forecast = Forecast::new(LIMITS, None);
        let (mut mono, mut at) = (0, (0, 1 << 30));
        watch(&mut forecast, 600, 1 << 20, 0, &mut mono, &mut at);
        forecast.handle_usage(&usage(at.1 + at.1 / 2, 200 << 30));
        let room = (64 << 30) - (at.1 + at.1 / 2);
        let expected = room * 2 / 3 / (1 << 20);
        let holds = forecast.outlook().holds.unwrap().as_secs();
        assert!(holds.abs_diff(expected) < expected / 50, "{holds} {expected}");
        forecast.handle_usage(&usage(at.1, 0));
        assert_eq!(forecast.outlook().holds, Some(Duration::ZERO));
    }

    #[test]
    fn nothing_that_comes_in_holds_for_no_known_time() {
        let mut forecast = Forecast::new(LIMITS, None);
        let (mut mono, mut at) = (0, (0, 0));
        forecast.handle_usage(&usage(0, 200 << 30));
        watch(&mut forecast, 600, 0, 0, &mut mono, &mut at);
        assert_eq!(forecast.outlook().holds, None);
        assert_eq!(forecast.outlook().drains, Some(Duration::ZERO));
    }

    #[test]
    fn the_disk_lasts_for_its_endurance_at_the_rate_of_writing() {
        // 40 TB, at 1 MB a second.
        let mut forecast = Forecast::new(LIMITS, Some(40_000_000_000_000));
        for ten_seconds in 0..360_u64 {
            assert!(ten_seconds > 30 || forecast.outlook().written_per_day.is_none());
            forecast.handle_written(ten_seconds * 10_000_000, Duration::from_secs(ten_seconds * 10));
        }
        let outlook = forecast.outlook();
        assert!(outlook.written_per_day.unwrap().abs_diff(86_400_000_000) < 1_000_000);
        assert!(
            (462..=463).contains(&outlook.flash_life_days.unwrap()),
            "{outlook:?}"
        );
    }

    #[test]
    fn durations_are_spoken_in_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (20, "20 s"),
            (38 * 60 + 20, "38 min"),
            (3_600, "1 h"),
            (3 * 3_600 + 62, "3 h 1 min"),
            (6 * 86_400 + 4 * 3_600 + 59, "6 d 4 h"),
            (400 * 86_400, "1 y 35 d"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
        let outlook = Outlook {
            holds: Some(Duration::from_secs(6 * 86_400 + 4 * 3_600)),
            drains: Some(Duration::from_secs(38 * 60)),
            written_per_day: Some(21_000_000),
            flash_life_days: Some(3_653),
        };
        assert_eq!(
            outlook.to_string(),
            "holds 6 d 4 h at this rate, drains in 38 min; writes 21.0 MB a day, which the disk's endurance bears for 10.0 years"
        );
    }
}
