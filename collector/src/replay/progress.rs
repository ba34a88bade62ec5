//! How far a replay is: a bar on a terminal, plain lines in a log.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};
use trunnion_common::time::EventTime;

/// In a log, one line in so long.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bar's length: thousandths.
const WHOLE: u64 = 1_000;

/// What a replay is at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// Looks where to begin and to end, and with which settings; which part of the journal it has read.
    Surveying(f64),
    /// Computes; which part it has, and the journal's time there.
    Computing(f64, EventTime),
    /// Has come to the end, and goes on with what is committed.
    Following,
}

/// Shows it on the standard error.
#[derive(Debug)]
pub struct Screen {
    bar: Option<ProgressBar>,
    told: Option<Instant>,
}

impl Default for Screen {
    fn default() -> Self {
        let style = ProgressStyle::with_template("{msg:22} {wide_bar} {percent:>3} %  {eta} left");
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(WHOLE);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, told: None }
    }
}

impl Screen {
    /// Shows the latest.
    pub fn show(&mut self, progress: Progress) {
        let (what, share) = match progress {
            Progress::Surveying(share) => ("reading ahead".to_owned(), share),
            Progress::Computing(share, time) => {
                let time = crate::api::time::rfc3339(time);
                (format!("at {}", time.get(..19).unwrap_or(&time)), share)
            }
            Progress::Following => ("following".to_owned(), 1.0),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(what);
            bar.set_position((share * WHOLE as f64) as u64);
            return;
        }
        let now = instant_now();
        let is_due = self
            .told
            .is_none_or(|told| now.duration_since(told) >= LINE_EVERY);
        if is_due || progress == Progress::Following {
            self.told = Some(now);
            eprintln!("replay: {:5.1} %, {what}", 100.0 * share);
        }
    }

    /// Gives the terminal back.
    pub fn close(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a log gets a line now and then")]
fn instant_now() -> Instant {
    Instant::now()
}
