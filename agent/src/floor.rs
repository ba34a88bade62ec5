//! The clock floor: a time that is known to be past, kept across power cuts.
//!
//! A gateway without a battery-backed clock boots in 1970, where every certificate is not yet valid.
//! Certificates are therefore checked at the later of the system's clock and the floor.
//!
//! The floor starts at the gateway's own certificate's start of validity, or at what was saved. Two
//! things raise it, and nothing lowers it: a clock synchronised by NTP, and the `utc` of a collector's
//! acknowledgement. Neither is believed without bound, since a floor behind the end of every
//! certificate would lock the gateway out for good:
//!
//! - It is raised only in a life in which a collector's certificate has been verified, and never past
//!   the end of that certificate less a day. A renewed certificate ends later than the one before, so
//!   that no floor that was reached under the old one shuts out the new one.
//! - While NTP says what time it is, an acknowledgement further ahead than [`AHEAD_MAX`] is not believed.
//!
//! What is refused is counted. The way out of a floor that is wrong all the same is a person's: stop the
//! agent and remove the file.
//!
//! The decision ([`Floor`]) is pure. The file holds `magic u32 | utc i64 | crc32c u32`, little-endian; it
//! is written beside, synced, renamed and its directory synced. A damaged one is set aside and means
//! that there is none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trunnion_common::codec::crc32c;
use trunnion_common::time::EventTime;

/// The file in the state directory.
pub const FILE: &str = "clock_floor";

/// How far ahead of a synchronised clock a collector may be: both follow UTC to well under a second.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);

/// What the floor keeps from the end of the collector's certificate.
const EXPIRY_MARGIN: Duration = Duration::from_secs(86_400);

/// Least time and least change from one writing of the file to the next, but at a stop: 144 writes of
/// one page a day at most, and a power cut costs no more of what was known than this.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);

/// Why a time was not taken for the floor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An acknowledgement from before this gateway was enrolled.
    BeforeEnrolment,
    /// The collector's own certificate would have ended by then.
    BeyondCertificate,
    /// An acknowledgement far ahead of a clock that NTP synchronises.
    AheadOfNtp,
}

impl Refusal {
    /// Name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BeforeEnrolment => "before_enrolment",
            Self::BeyondCertificate => "beyond_certificate",
            Self::AheadOfNtp => "ahead_of_ntp",
        }
    }
}

/// Where the floor stands.
#[derive(Clone, Debug)]
pub struct Floor {
    /// Never decreases.
    utc: EventTime,
    /// Start of the gateway's own certificate.
    enrolled: EventTime,
    /// End of the collector's certificate verified last.
    verified_until: Option<EventTime>,
    saved: EventTime,
    /// When the file was last written in this life, on the monotonic clock.
    saved_at: Option<Duration>,
}

impl Default for Floor {
    /// Before everything: for a gateway whose certificate says nothing.
    fn default() -> Self {
        Self::new(None, EventTime(i64::MIN))
    }
}

impl Floor {
    /// From what was saved, if anything was, and the start of the gateway's own certificate.
    pub fn new(saved: Option<EventTime>, enrolled: EventTime) -> Self {
        let saved = saved.unwrap_or(EventTime(i64::MIN));
        Self {
            utc: saved.max(enrolled),
            enrolled,
            verified_until: None,
            saved,
            saved_at: None,
        }
    }

    /// A time that is past.
    pub const fn utc(&self) -> EventTime {
        self.utc
    }

    /// A collector's certificate has been verified that ends at this time.
    pub const fn handle_verified(&mut self, not_after: EventTime) {
        self.verified_until = Some(not_after);
    }

    /// Whether a collector's word can be judged at all.
    pub const fn has_verified(&self) -> bool {
        self.verified_until.is_some()
    }

    /// NTP says that it is `utc`. Without a verified collector that waits.
    pub fn handle_ntp(&mut self, utc: EventTime) -> Result<(), Refusal> {
        self.raise(utc)
    }

    /// A collector says that it is `utc`; `ntp` is what NTP says, if it says anything.
    pub fn handle_ack(&mut self, utc: EventTime, ntp: Option<EventTime>) -> Result<(), Refusal> {
        if utc < self.enrolled {
            return Err(Refusal::BeforeEnrolment);
        }
        if ntp.is_some_and(|ntp| utc > ntp.plus_nanos(nanos(AHEAD_MAX))) {
            return Err(Refusal::AheadOfNtp);
        }
        self.raise(utc)
    }

    fn raise(&mut self, utc: EventTime) -> Result<(), Refusal> {
        let Some(end) = self.verified_until else {
            return Ok(());
        };
        if utc > end.plus_nanos(-nanos(EXPIRY_MARGIN)) {
            return Err(Refusal::BeyondCertificate);
        }
        self.utc = self.utc.max(utc);
        Ok(())
    }

    /// What to write to the file now, if anything; it is then taken as written.
    pub fn poll_save(&mut self, mono: Duration) -> Option<EventTime> {
        let is_worth_it = self.utc.nanos_since(self.saved) >= nanos(SAVE_INTERVAL);
        let is_due = self.saved_at.is_none_or(|at| mono >= at + SAVE_INTERVAL);
        (self.has_verified() && is_worth_it && is_due).then(|| {
            self.saved_at = Some(mono);
            self.saved = self.utc;
            self.utc
        })
    }

    /// What to write at a stop.
    pub fn unsaved(&self) -> Option<EventTime> {
        (self.has_verified() && self.utc > self.saved).then_some(self.utc)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

const MAGIC: [u8; 4] = *b"TFLR";
const BYTES: usize = 16;

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saved {
    /// There is no file.
    Nothing,
    /// It is whole.
    Floor(EventTime),
    /// It is not what this program writes.
    Damaged,
}

impl Saved {
    /// The floor, if the file is whole.
    pub const fn floor(self) -> Option<EventTime> {
        match self {
            Self::Floor(utc) => Some(utc),
            Self::Nothing | Self::Damaged => None,
        }
    }
}

/// Reads the file in `state_dir` and leaves it alone.
pub fn look(state_dir: &Path) -> io::Result<Saved> {
    let file = match File::open(state_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::Nothing),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // One more than there should be shows a file that is too long.
    file.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(decode(&bytes).map_or(Saved::Damaged, Saved::Floor))
}

/// Reads the file in `state_dir`; a damaged one is set aside under the name returned.
pub fn open(state_dir: &Path) -> io::Result<(Option<EventTime>, Option<PathBuf>)> {
    match look(state_dir)? {
        Saved::Damaged => {
            let aside = state_dir.join(format!("{FILE}.damaged"));
            fs::rename(state_dir.join(FILE), &aside)?;
            Ok((None, Some(aside)))
        }
        saved => Ok((saved.floor(), None)),
    }
}

/// Writes the file in `state_dir`; on return it survives a power cut. Blocks on the disk.
pub fn save(state_dir: &Path, utc: EventTime) -> io::Result<()> {
    let beside = state_dir.join(format!("{FILE}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(&encode(utc))?;
    file.sync_all()?;
    fs::rename(&beside, state_dir.join(FILE))?;
    File::open(state_dir)?.sync_all()
}

fn encode(utc: EventTime) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&utc.0.to_le_bytes());
    let crc = crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<EventTime> {
    let (content, crc) = bytes.split_at_checked(12)?;
    let (magic, utc) = content.split_at(4);
    let is_whole = magic == MAGIC && crc == crc32c(content).to_le_bytes();
    let utc = i64::from_le_bytes(utc.try_into().ok()?);
    is_whole.then_some(EventTime(utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;
    const ENROLLED: EventTime = EventTime(20_000 * DAY);
    const NOW: EventTime = EventTime(20_100 * DAY);
    const END: EventTime = EventTime(20_400 * DAY);

    fn verified() -> Floor {
        let mut floor = Floor::new(None, ENROLLED);
        floor.handle_verified(END);
        floor
    }

    #[test]
    fn a_new_gateway_starts_at_its_own_certificate_and_a_known_one_where_it_was() {
        assert_eq!(Floor::new(None, ENROLLED).utc(), ENROLLED);
        assert_eq!(Floor::new(Some(NOW), ENROLLED).utc(), NOW);
        assert_eq!(Floor::new(Some(EventTime(0)), ENROLLED).utc(), ENROLLED);
    }

    #[test]
    fn the_floor_rises_with_the_collector_and_never_falls() {
        let mut floor = verified();
        assert_eq!(floor.handle_ack(NOW, None), Ok(()));
        assert_eq!(floor.utc(), NOW);
        assert_eq!(floor.handle_ack(NOW.plus_nanos(-DAY), None), Ok(()));
        assert_eq!(floor.handle_ntp(NOW.plus_nanos(-2 * DAY)), Ok(()));
        assert_eq!(floor.utc(), NOW);
        assert_eq!(floor.handle_ntp(NOW.plus_nanos(DAY)), Ok(()));
        assert_eq!(floor.utc(), NOW.plus_nanos(DAY));
    }

    #[test]
    fn nobody_moves_the_floor_before_a_certificate_is_verified() {
        let mut floor = Floor::new(None, ENROLLED);
        assert_eq!(floor.handle_ack(NOW, None), Ok(()));
        assert_eq!(floor.handle_ntp(NOW), Ok(()));
        assert_eq!(floor.utc(), ENROLLED);
        assert_eq!(floor.unsaved(), None);
    }

    #[test]
    fn an_absurd_time_is_refused_and_leaves_the_collectors_certificate_valid() {
        let mut floor = verified();
        for absurd in [END, END.plus_nanos(3_650 * DAY), EventTime(i64::MAX)] {
            assert_eq!(floor.handle_ack(absurd, None), Err(Refusal::BeyondCertificate));
            assert_eq!(floor.handle_ntp(absurd), Err(Refusal::BeyondCertificate));
        }
        assert_eq!(
            floor.handle_ack(EventTime(0), None),
            Err(Refusal::BeforeEnrolment)
        );
        assert_eq!(floor.utc(), ENROLLED);
        assert_eq!(floor.handle_ack(END.plus_nanos(-DAY), None), Ok(()));
        assert!(floor.utc() < END);
    }

    #[test]
    fn ntp_overrules_a_collector_that_is_far_ahead() {
        let mut floor = verified();
        let ahead = NOW.plus_nanos(61 * SECOND);
        assert_eq!(floor.handle_ack(ahead, Some(NOW)), Err(Refusal::AheadOfNtp));
        assert_eq!(floor.utc(), ENROLLED);
        assert_eq!(floor.handle_ack(NOW.plus_nanos(59 * SECOND), Some(NOW)), Ok(()));
    }

    #[test]
    fn the_file_is_written_at_once_then_rarely_and_at_a_stop() {
        let mut floor = verified();
        let mut writes = 0;
        for second in 0..86_400 {
            floor
                .handle_ack(NOW.plus_nanos(second * SECOND), None)
                .expect("within the certificate");
            writes += usize::from(
                floor
                    .poll_save(Duration::from_secs(second.unsigned_abs()))
                    .is_some(),
            );
        }
        assert_eq!(writes, 144);
        assert_eq!(floor.unsaved(), Some(NOW.plus_nanos(86_399 * SECOND)));
    }

    #[test]
    fn what_was_saved_is_read_again_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(look(path).unwrap(), Saved::Nothing);
        save(path, NOW).unwrap();
        save(path, END).unwrap();
        assert_eq!(open(path).unwrap(), (Some(END), None));
        let good = fs::read(path.join(FILE)).unwrap();
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            fs::write(path.join(FILE), &bad).unwrap();
            let aside = path.join("clock_floor.damaged");
            assert_eq!(open(path).unwrap(), (None, Some(aside.clone())), "bit {at}");
            assert_eq!(fs::read(aside).unwrap(), bad);
            assert_eq!(look(path).unwrap(), Saved::Nothing);
        }
        for length in [0, 3, 12, 15, 17, 5_000] {
            fs::write(
                path.join(FILE),
                good.iter().copied().cycle().take(length).collect::<Vec<u8>>(),
            )
            .unwrap();
            assert_eq!(look(path).unwrap(), Saved::Damaged, "{length} bytes");
        }
    }
}
