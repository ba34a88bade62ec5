//! Instants on the API: RFC 3339 for people, nanoseconds for programs.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trunnion_common::time::EventTime;

/// RFC 3339 in UTC, with as many digits of the second as there are.
pub(crate) fn rfc3339(at: EventTime) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0))
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .expect("64 bits of nanoseconds reach from 1677 to 2262, which RFC 3339 can write")
}

/// Parses RFC 3339, or a whole number of nanoseconds since 1970.
pub(crate) fn parse(text: &str) -> Result<EventTime, String> {
    if let Ok(ns) = text.parse() {
        return Ok(EventTime(ns));
    }
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(|at| i64::try_from(at.unix_timestamp_nanos()).ok())
        .map(EventTime)
        .ok_or_else(|| {
            format!("{text:?} is no instant: write 2026-01-31T12:00:00Z, or nanoseconds since 1970")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_back_as_it_was_written() {
        for ns in [0, 1, -1, 1_700_000_000_123_456_789, i64::MAX, i64::MIN] {
            assert_eq!(parse(&rfc3339(EventTime(ns))), Ok(EventTime(ns)));
            assert_eq!(parse(&ns.to_string()), Ok(EventTime(ns)));
        }
        assert_eq!(rfc3339(EventTime(1_500_000_000)), "1970-01-01T00:00:01.5Z");
        assert_eq!(
            parse("1970-01-01T01:00:00+01:00"),
            Ok(EventTime(0)),
            "offsets count"
        );
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for bad in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "9999-01-01T00:00:00Z",
            "1.5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
