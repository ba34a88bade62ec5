//! Readers of what stands on disk: the collector's journal and the agent's spool, damaged at will.

use super::{Probe, Target, ensure};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use trunnion_agent::block::{Block, BlockKey, Index};
use trunnion_agent::spool::{ReadError, Spool, tools};
use trunnion_collector::journal::{Entry, Journal, Options, Position, Reader};
use trunnion_common::ack::{Extent, JournalMark};
use trunnion_common::block::Kind;
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, GatewayId, JournalId, MasterId, Name};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

pub(super) const JOURNAL: Target = Target {
    name: "journal",
    bytes_max: 16 * 1_024,
    seeds: segments,
    check: check_journal,
};

pub(super) const SPOOL: Target = Target {
    name: "spool",
    bytes_max: 64,
    seeds: || Ok((0..12).map(|file| vec![file, 40, 0, 0x55]).collect()),
    check: check_spool,
};

const NOW: EventTime = EventTime(1_700_000_000_000_000_000);

const OPTIONS: Options = Options { segment_bytes: 1_024 };

/// A folder in memory, where the system has one.
pub(super) fn folder() -> Result<tempfile::TempDir, String> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.map_err(|error| format!("no folder to work in: {error}"))
}

/// Every file below a folder.
#[derive(Clone, Debug, Default)]
struct Image(BTreeMap<PathBuf, Vec<u8>>);

impl Image {
    fn read(root: &Path) -> std::io::Result<Self> {
        let mut image = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
                    image.0.insert(name, std::fs::read(&path)?);
                }
            }
        }
        Ok(image)
    }

    fn write(&self, root: &Path) -> std::io::Result<()> {
        for (name, bytes) in &self.0 {
            let path = root.join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }
}

fn gateway() -> Result<GatewayId> {
    Ok(GatewayId {
        site: Name::new("bremen")?,
        gateway: Name::new("gw-1")?,
    })
}

fn block(key: BlockKey, body: &[u8]) -> Block {
    Block::new(key, Kind::Frames, body, Index::default())
}

/// A journal with an entry of every kind, in several segments.
fn sound_journal() -> Result<Image> {
    let folder = folder().map_err(anyhow::Error::msg)?;
    let (mut journal, _) = Journal::open(folder.path(), OPTIONS, NOW)?;
    let gateway = gateway()?;
    for sequence in 0..24 {
        let key = BlockKey {
            epoch: Epoch(7),
            sequence,
        };
        journal.append(&Entry::Block {
            gateway: gateway.clone(),
            bytes: block(key, &[sequence as u8; 90]).bytes,
        });
        journal.append(&match sequence % 9 {
            0 => Entry::Tick,
            1 => Entry::Fleet {
                effective: NOW,
                text: "# nothing".to_owned(),
            },
            2 => Entry::Lost {
                gateway: gateway.clone(),
                epoch: Epoch(8),
                blocks: Range::one(sequence).context("a number")?,
                cause: LossCause::NotHeld,
            },
            3 => Entry::EpochClosed {
                gateway: gateway.clone(),
                epoch: Epoch(8),
            },
            4 => Entry::Settings {
                effective: NOW,
                text: String::new(),
            },
            5 => Entry::Started {
                name: sequence as u16,
                ended: Extent(sequence),
            },
            7 => Entry::Greeted {
                gateway: gateway.clone(),
                start: MasterId(sequence),
                next: vec![(Epoch(7), sequence)],
            },
            6 => Entry::DeliveredElsewhere {
                gateway: gateway.clone(),
                to: JournalMark {
                    name: JournalId(sequence),
                    extent: Extent(sequence),
                },
                cause: LossCause::NotHeld,
            },
            _ => Entry::Superseded {
                gateway: gateway.clone(),
                starts: vec![MasterId(sequence)],
            },
        });
        journal.commit(NOW.plus_nanos(sequence as i64))?;
    }
    drop(journal);
    Ok(Image::read(folder.path())?)
}

fn journal() -> Result<&'static Image, String> {
    static JOURNAL: OnceLock<Result<Image, String>> = OnceLock::new();
    let made = JOURNAL.get_or_init(|| sound_journal().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(Clone::clone)
}

fn segment_names(image: &Image) -> Vec<&PathBuf> {
    let is_segment = |name: &&PathBuf| name.extension().is_some_and(|ending| ending == "seg");
    image.0.keys().filter(is_segment).collect()
}

/// The first byte says which segment the rest takes the place of.
fn segments() -> Result<Vec<Vec<u8>>> {
    let image = journal().map_err(anyhow::Error::msg)?;
    let names = segment_names(image);
    let inputs = (0..)
        .zip(&names)
        .map(|(number, name)| [&[number], &image.0[*name][..]].concat());
    Ok(inputs.collect())
}

/// Whatever stands in a segment: the journal opens or says why not, gives no entry that was not written,
/// and when it has opened takes the next commit and gives it back.
fn check_journal(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let sound = journal()?;
    let names = segment_names(sound);
    let (which, bytes) = input.split_first().unwrap_or((&0, &[]));
    let mut image = sound.clone();
    let name = names[usize::from(*which) % names.len()];
    image.0.insert(name.clone(), bytes.to_vec());
    let folder = folder()?;
    image.write(folder.path()).map_err(|error| error.to_string())?;
    let (mut journal, recovered) = match Journal::open(folder.path(), OPTIONS, NOW) {
        Ok(opened) => opened,
        Err(error) => {
            // It must stay so: a journal that cannot be opened is not changed.
            let words: String = error
                .to_string()
                .split(' ')
                .take(6)
                .filter(|word| !word.contains('/'))
                .collect();
            probe.note(words);
            return Ok(());
        }
    };
    probe.note(format!("{recovered:?}").len());
    let last = Entry::Fleet {
        effective: NOW,
        text: "the last word".to_owned(),
    };
    journal.append(&last);
    let upto = journal
        .commit(NOW)
        .map_err(|error| format!("it opens and takes nothing: {error}"))?;
    let mut reader = Reader::open(folder.path(), Position::default()).map_err(|error| error.to_string())?;
    let (mut read, mut end) = (0, None);
    loop {
        match reader.next_commit(upto) {
            Ok(Some(commit)) => {
                read += commit.entries.len();
                ensure(read < 10_000, || "the reader goes round in circles".to_owned())?;
                end = commit.entries.last().map(|(_, entry)| entry.clone());
            }
            Ok(None) => break,
            Err(error) => {
                probe.note(("reader", error.to_string().len()));
                return Ok(());
            }
        }
    }
    probe.note(read);
    ensure(end.as_ref() == Some(&last), || {
        format!("the last commit is read as {end:?}")
    })
}

/// The blocks of the sound spool, and what it looks like on disk.
struct SoundSpool {
    image: Image,
    blocks: BTreeMap<BlockKey, Block>,
}

fn sound_spool() -> Result<SoundSpool> {
    let folder = folder().map_err(anyhow::Error::msg)?;
    let mut blocks = BTreeMap::new();
    for start in 0..2_u64 {
        let epochs = [Epoch(10 + 2 * start), Epoch(11 + 2 * start)];
        let (mut spool, _) = Spool::open(folder.path(), epochs)?;
        for class in Class::ALL {
            let made = (0..6).map(|sequence| {
                let key = BlockKey {
                    epoch: epochs[class.index()],
                    sequence,
                };
                block(key, &[sequence as u8 + 1; 700])
            });
            let made: Vec<Block> = made.collect();
            spool.commit(class, &made, &[])?;
            blocks.extend(made.into_iter().map(|block| (block.key, block)));
        }
    }
    let mut image = Image::read(folder.path())?;
    // Room held back, with nothing in it.
    image.0.retain(|name, _| !name.ends_with("ballast"));
    Ok(SoundSpool { image, blocks })
}

fn spool() -> Result<&'static SoundSpool, String> {
    static SPOOL: OnceLock<Result<SoundSpool, String>> = OnceLock::new();
    let made = SPOOL.get_or_init(|| sound_spool().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(Clone::clone)
}

pub(super) fn spool_files() -> u8 {
    spool().map_or(0, |sound| u8::try_from(sound.image.0.len()).unwrap_or(u8::MAX))
}

/// The database that holds a block of the sound spool: its chain, and its number in it.
fn home(key: &BlockKey) -> (&'static str, u64) {
    let chain = if key.epoch.0.is_multiple_of(2) {
        "essential"
    } else {
        "waveform"
    };
    (chain, (key.epoch.0 - 8) / 2)
}

/// Four bytes each: which file, where in it (two), and what is done there. A damaged spool opens, and has
/// every block as it was written or names it as lost, unless both its database and the index beside that
/// are damaged; a flipped byte costs one block at most, and no tool panics.
fn check_spool(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let sound = spool()?;
    let mut image = sound.image.clone();
    let names: Vec<PathBuf> = image.0.keys().cloned().collect();
    let mut damaged = std::collections::BTreeSet::new();
    // Of how many blocks the edits may cost one each; none once an edit has taken more than a byte.
    let mut flips = Some(0);
    for edit in input.chunks_exact(4) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let Some(bytes) = image.0.get_mut(name).filter(|bytes| !bytes.is_empty()) else {
            continue;
        };
        damaged.insert(name.clone());
        // Databases begin with what matters most and have much room behind it.
        let at = usize::from(edit[1]) * 256 + usize::from(edit[2]);
        let at = at % bytes.len();
        match edit[3] % 8 {
            0 => {
                bytes.truncate(at);
                flips = None;
            }
            1 => {
                let end = bytes.len().min(at + 512);
                bytes[at..end].fill(0);
                flips = None;
            }
            flip => {
                bytes[at] ^= flip | edit[3];
                flips = flips.map(|flips| flips + 1);
            }
        }
    }
    let folder = folder()?;
    image.write(folder.path()).map_err(|error| error.to_string())?;
    check_tools(folder.path(), probe);
    let (mut spool, recovered) = Spool::open(folder.path(), [Epoch(100), Epoch(101)])
        .map_err(|error| format!("the agent does not start any more: {error}"))?;
    probe.note((recovered.blocks.len(), recovered.quarantined.len()));
    let mut lost = 0;
    let mut has_vanished = false;
    for (key, written) in &sound.blocks {
        if !recovered.blocks.contains_key(key) {
            let (chain, number) = home(key);
            let database = format!("spool/{chain}/{number:08}");
            let index = PathBuf::from(format!("{database}.index"));
            let is_hit = damaged.iter().any(|name| name.starts_with(&database));
            ensure(is_hit && damaged.contains(&index), || {
                format!(
                    "block {} of epoch {} has vanished without a name",
                    key.sequence, key.epoch
                )
            })?;
            has_vanished = true;
            probe.note(("gone", damaged.len()));
            continue;
        }
        match spool.read(*key) {
            Ok(bytes) => ensure(bytes == written.bytes, || {
                format!(
                    "block {} of epoch {} is not what was written",
                    key.sequence, key.epoch
                )
            })?,
            Err(ReadError::Lost(_)) => lost += 1,
            Err(ReadError::Later(error)) => return Err(format!("the disk is fine, and yet: {error}")),
        }
    }
    if let Some(flips) = flips.filter(|_| !has_vanished) {
        ensure(lost <= flips, || {
            format!("{flips} flipped bytes in {damaged:?} cost {lost} blocks")
        })?;
    }
    probe.note(("lost", lost));
    Ok(())
}

/// None of them may panic; what they say of a damaged spool is their business.
fn check_tools(state_dir: &Path, probe: &mut Probe) {
    probe.note(tools::inspect(state_dir).is_ok());
    if let Ok(verdict) = tools::verify(state_dir) {
        probe.note((verdict.good, verdict.bad.len(), verdict.unreadable.len()));
    }
    let exported = tools::export(state_dir, &state_dir.join("exported"));
    probe.note(exported.unwrap_or(0));
}
