//! The verbs of the command line, and what they share.

pub(crate) mod connect;
pub(crate) mod decode;
pub(crate) mod diag;
pub(crate) mod run;
pub(crate) mod spool;

use serde::Serialize;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_agent::config::Problems;
use trunnion_common::time::EventTime;

/// The exit code that means bad configuration (`EX_USAGE` of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;

/// Names every problem.
pub(crate) fn refuse(problems: &Problems) -> ExitCode {
    for problem in problems.iter() {
        eprintln!("{problem}");
    }
    ExitCode::from(BAD_CONFIGURATION)
}

/// Answers in JSON, or as `text` prints it.
pub(crate) fn say<T: Serialize>(json: bool, answer: &T, text: impl FnOnce()) {
    if json {
        println!(
            "{}",
            serde_json::to_string(answer).expect("these answers have text for keys")
        );
    } else {
        text();
    }
}

/// The system's clock.
#[allow(clippy::disallowed_methods, reason = "the shell's clock")]
pub(crate) fn system_utc() -> EventTime {
    let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime(i64::try_from(utc.as_nanos()).unwrap_or(i64::MAX))
}

/// A time as people write it, to the second: RFC 3339.
pub(crate) fn date(utc: EventTime) -> String {
    OffsetDateTime::from_unix_timestamp(utc.0.div_euclid(1_000_000_000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| utc.to_string())
}
