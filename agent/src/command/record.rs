//! What the agent remembers of commands across its restarts, and the file that holds it.
//!
//! The file `commands` in the state directory is `version u8 | record (postcard) | crc32c u32
//! little-endian`; it is written beside, synced, renamed, and its directory synced. A damaged one is set
//! aside: then nothing but their time of expiry keeps old commands out, which is why they have one.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use trunnion_common::codec::{CRC_BYTES, crc32c};
use trunnion_common::message::{CommandOutcome, GatewaySettings};
use trunnion_common::watch::PlainWatch;

use crate::watch::{Examinations, Name, Plan, Searches, Unusuals};

/// What must survive a restart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The highest number that was begun; 0 when none ever was.
    pub highest: u64,
    /// What became of it; none while it is under way.
    pub outcome: Option<CommandOutcome>,
    /// What the collector has changed about this gateway.
    pub settings: GatewaySettings,
    /// What the collector wants watched here.
    pub watches: Plan,
    /// For what the collector wants it searched.
    pub searches: Searches,
    /// What the collector wants looked for in their spectra.
    pub examinations: Examinations,
    /// Which slow channels the collector wants judged by whether they are as they were.
    pub unusuals: Unusuals,
}

const VERSION: u8 = 6;

/// The version before, which did not ask what is unusual.
const VERSION_UNFOLLOWED: u8 = 5;

/// The one before that, which looked at no spectra.
const VERSION_UNEXAMINED: u8 = 4;

/// The one before that, which searched for nothing.
const VERSION_UNSEARCHED: u8 = 3;

/// Before that, watches heard no witnesses and no slow channels.
const VERSION_PLAIN: u8 = 2;

/// The first, which had no watches.
const VERSION_UNWATCHED: u8 = 1;

/// More than a record of any version needs: 256 watches take some kilobytes each, and 128 groups 4.7.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where the record is kept.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("commands")
}

/// Reads what was kept last; nothing, when nothing ever was or it is damaged and has been set aside.
pub fn load(state_dir: &Path) -> io::Result<Record> {
    let path = path(state_dir);
    let bytes = match File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut bytes)?;
            bytes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(error),
    };
    if let Some(record) = decode(&bytes) {
        return Ok(record);
    }
    let aside = path.with_extension("damaged");
    tracing::error!(
        path = %path.display(),
        aside = %aside.display(),
        "the record of commands is damaged and set aside; commands are accepted anew"
    );
    fs::rename(&path, &aside)?;
    Ok(Record::default())
}

/// Makes a record durable in place of the former one.
pub fn keep(state_dir: &Path, record: &Record) -> io::Result<()> {
    let path = path(state_dir);
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(&encode(record))?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    File::open(state_dir)?.sync_all()
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes =
        postcard::to_extend(record, vec![VERSION]).expect("a vector takes any length, and a record encodes");
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    let (&version, record) = content.split_first()?;
    if crc32c(content).to_le_bytes() != *crc {
        return None;
    }
    match version {
        VERSION => postcard::from_bytes(record).ok(),
        VERSION_UNFOLLOWED => {
            let (highest, outcome, settings, watches, searches, examinations) =
                postcard::from_bytes(record).ok()?;
            Some(Record {
                searches,
                examinations,
                ..former(highest, outcome, settings, watches)
            })
        }
        VERSION_UNEXAMINED => {
            let (highest, outcome, settings, watches, searches) = postcard::from_bytes(record).ok()?;
            Some(Record {
                searches,
                ..former(highest, outcome, settings, watches)
            })
        }
        VERSION_UNSEARCHED => {
            let (highest, outcome, settings, watches) = postcard::from_bytes(record).ok()?;
            Some(former(highest, outcome, settings, watches))
        }
        VERSION_PLAIN => {
            type Plain = BTreeMap<Name, PlainWatch>;
            let (highest, outcome, settings, watches): (_, _, _, Plain) =
                postcard::from_bytes(record).ok()?;
            let watches = watches.into_iter().map(|(name, plain)| (name, plain.into()));
            Some(former(highest, outcome, settings, watches.collect()))
        }
        VERSION_UNWATCHED => {
            let (highest, outcome, settings) = postcard::from_bytes(record).ok()?;
            Some(former(highest, outcome, settings, Plan::new()))
        }
        _ => None,
    }
}

/// A record of before there were searches.
fn former(highest: u64, outcome: Option<CommandOutcome>, settings: GatewaySettings, watches: Plan) -> Record {
    Record {
        highest,
        outcome,
        settings,
        watches,
        searches: Searches::new(),
        examinations: Examinations::new(),
        unusuals: Unusuals::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::id::{ChannelId, NodeId};
    use trunnion_common::monitor::Settings;
    use trunnion_common::watch::{BearingSearch, SpectrumWatch};

    const RECORD: Record = Record {
        highest: 300,
        outcome: Some(CommandOutcome::NoAnswer),
        settings: GatewaySettings {
            heartbeat_interval_ms: Some(2_000),
            live_share_percent: Some(50),
            backfill_order: None,
            backfill_kib_s: None,
        },
        watches: Plan::new(),
        searches: Searches::new(),
        examinations: Examinations::new(),
        unusuals: Unusuals::new(),
    };

    fn sealed<T: Serialize>(version: u8, former: &T) -> Vec<u8> {
        let mut bytes = postcard::to_extend(former, vec![version]).unwrap();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn records_of_former_versions_are_read() {
        let former = (300_u64, RECORD.outcome, RECORD.settings);
        assert_eq!(decode(&sealed(VERSION_UNWATCHED, &former)).unwrap(), RECORD);

        let name = (NodeId::new(7).unwrap(), ChannelId::new(1).unwrap());
        let plain = PlainWatch {
            settings: Settings::default(),
            gain: 1.0,
            speed_hz: Some(25.0),
            baselines: Default::default(),
        };
        let watches = BTreeMap::from([(name, plain.clone())]);
        let former = (300_u64, RECORD.outcome, RECORD.settings, watches);
        let read = decode(&sealed(VERSION_PLAIN, &former)).unwrap();
        let watches = Plan::from([(name, plain.into())]);
        assert_eq!(read.watches, watches);
        assert_eq!((read.highest, read.outcome), (RECORD.highest, RECORD.outcome));

        let former = (300_u64, RECORD.outcome, RECORD.settings, &watches);
        let read = decode(&sealed(VERSION_UNSEARCHED, &former)).unwrap();
        assert_eq!(
            (&read.watches, &read.searches),
            (&watches, &Searches::new()),
            "nothing was sought"
        );

        let search = BearingSearch {
            speed_tolerance: 0.005,
            bearing: [3.585, 5.415, 4.713, 0.398],
            neighbours: Default::default(),
            band_high_hz: 5_000.0,
        };
        let searches = Searches::from([(name, search)]);
        let former = (300_u64, RECORD.outcome, RECORD.settings, &watches, &searches);
        let read = decode(&sealed(VERSION_UNEXAMINED, &former)).unwrap();
        assert_eq!((&read.watches, &read.searches), (&watches, &searches));
        assert_eq!(read.examinations, Examinations::new());

        let spectra = SpectrumWatch {
            teeth: Some(23),
            blades: None,
            line_hz: None,
            axial: false,
            band_hz: [1.0, 5_000.0],
            envelope_hz: None,
            bands: Default::default(),
        };
        let examinations = Examinations::from([(name, spectra)]);
        let settings = RECORD.settings;
        let former = (
            300_u64,
            RECORD.outcome,
            settings,
            watches,
            searches,
            &examinations,
        );
        let read = decode(&sealed(VERSION_UNFOLLOWED, &former)).unwrap();
        assert_eq!(
            (read.examinations, read.unusuals),
            (examinations, Unusuals::new())
        );
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), Record::default());
        keep(dir.path(), &RECORD).unwrap();
        assert_eq!(load(dir.path()).unwrap(), RECORD);
        let begun = Record {
            outcome: None,
            ..RECORD
        };
        keep(dir.path(), &begun).unwrap();
        assert_eq!(load(dir.path()).unwrap(), begun);
    }

    #[test]
    fn a_write_that_was_cut_short_leaves_the_former_record() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), &RECORD).unwrap();
        // What a power cut leaves before the rename.
        fs::write(path(dir.path()).with_extension("new"), &encode(&RECORD)[..3]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), RECORD);
    }

    #[test]
    fn a_damaged_record_is_noticed_at_every_byte_and_set_aside() {
        let whole = encode(&RECORD);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert_eq!(decode(&damaged), None);
            assert_eq!(decode(&whole[..at]), None);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), &whole[1..]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Record::default());
        assert!(path(dir.path()).with_extension("damaged").exists());
        assert_eq!(load(dir.path()).unwrap(), Record::default());
    }

    #[test]
    fn a_directory_that_takes_no_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(path(dir.path()).with_extension("new")).unwrap();
        assert!(keep(dir.path(), &RECORD).is_err());
        assert_eq!(load(dir.path()).unwrap(), Record::default());
    }
}
