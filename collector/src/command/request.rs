//! A person's orders to a running collector: files in its data directory.
//!
//! The API takes no orders, since it has no users yet. Whoever may write the collector's private data
//! directory is the collector as far as the system is concerned; `trunnion-collector command` or
//! `dead-letter replay` run by that user leaves a file there, and the running collector takes it within a
//! second.
//!
//! A file is removed before its order is given, so that a crash in between loses an order and never gives
//! it twice. What cannot be read is removed as well, and reported in the log. At most [`TAKEN_MAX`] files of
//! at most [`BYTES_MAX`] bytes are taken at a time; the rest waits.

use crate::dead_letter::{LetterId, NoLetterId};
use crate::decision::{Decision, DecisionAction, NOTE_MAX};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use trunnion_common::frame::Calibration;
use trunnion_common::id::{ChannelId, Name, NodeId};
use trunnion_common::message::Action;

/// Files taken at a time.
pub const TAKEN_MAX: usize = 16;

/// Longest file.
pub const BYTES_MAX: u64 = 4_096;

/// Most dead letters in one request: their names fit into a file.
pub const LETTERS_MAX: usize = 48;

/// Longest time that a node shows where it is, seconds.
pub const SECONDS_MAX: u8 = 255;

/// Most samples of a capture: what a node takes too.
pub const SAMPLES_MAX: u32 = 1 << 24;

const SUFFIX: &str = "toml";

/// An order as its file says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Show where you are.
    Identify {
        /// Which node: sixteen hexadecimal digits.
        node: String,
        /// For how long.
        seconds: u8,
    },
    /// Send samples now.
    Capture {
        /// Which node: sixteen hexadecimal digits.
        node: String,
        /// Which channel of it.
        channel: u16,
        /// How many.
        samples: u32,
    },
    /// A channel's sensor is calibrated like this from now on.
    Calibrate {
        /// Which node: sixteen hexadecimal digits.
        node: String,
        /// Which channel of it.
        channel: u16,
        /// What its values are multiplied with, millionths.
        gain_ppm: u32,
        /// What is added then, thousandths of its unit.
        offset_milli: i32,
    },
    /// Have dead letters replayed.
    Replay {
        /// Which: names as [`LetterId`] writes them.
        letters: Vec<String>,
    },
    /// What is proposed as normal is normal.
    AcceptBaseline(Place),
    /// What has been learned is not normal.
    RejectBaseline(Place),
    /// The machine was worked on.
    Maintenance {
        /// Asset id.
        asset: String,
        /// Measurement point id; none: every point of the asset.
        point: Option<String>,
        /// What was done, at most [`NOTE_MAX`] bytes.
        note: String,
    },
    /// What was learned of a fleet holds from here on ([`crate::command::learned`]).
    Learn {
        /// Its name.
        model: String,
    },
}

/// What a decision is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Asset id.
    pub asset: String,
    /// Measurement point id; none: every point of the asset.
    pub point: Option<String>,
}

/// A request that has been understood.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// For a node.
    Action(Box<Action>),
    /// For the pipeline: these dead letters once more.
    Replay(Vec<LetterId>),
    /// For the pipeline: what holds of a machine.
    Decide(Box<Decision>),
    /// For the pipeline: what was learned under that name.
    Learn(Name),
}

/// Why a request cannot be made, or a file is none.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The directory or file.
    #[error("{}: {source}; run this as the user of a collector that has run here before", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system gives no random numbers for a name.
    #[error("no random number for a file's name: {0}")]
    Random(getrandom::Error),
    /// It is not written as a request.
    #[error("no request: {0}")]
    Text(#[from] toml::de::Error),
    /// Not a node's id.
    #[error("{0:?} is no node: write its sixteen hexadecimal digits")]
    Node(String),
    /// Not a channel's number.
    #[error("no node has a channel {0}")]
    Channel(u16),
    /// Nothing, or more than a node takes.
    #[error("{0} samples cannot be captured: ask for 1 to {SAMPLES_MAX}")]
    Samples(u32),
    /// No sensor is so far from its kind.
    #[error("a gain of {} is no calibration: give one from 0.1 to 10, or another sensor", f64::from(*.0) / 1e6)]
    Gain(u32),
    /// Not a dead letter.
    #[error(transparent)]
    Letter(#[from] NoLetterId),
    /// None, or more than fit.
    #[error("{0} dead letters cannot be replayed with one request: name 1 to {LETTERS_MAX}")]
    Letters(usize),
    /// Not an asset's or a point's id.
    #[error("{0:?} is no id: use 1 to 32 of a to z, 0 to 9 and -")]
    Name(String),
    /// Too long for the journal to keep beside what it ends.
    #[error("a note of {0} bytes is too long: write at most {NOTE_MAX}")]
    Note(usize),
}

impl Request {
    /// What is to be done.
    pub fn order(&self) -> Result<Order, RequestError> {
        let id = |node: &str| parse_node(node).ok_or_else(|| RequestError::Node(node.to_owned()));
        match self {
            Self::Identify { node, seconds } => Ok(Order::Action(Box::new(Action::Identify {
                node: id(node)?,
                seconds: *seconds,
            }))),
            Self::Capture {
                node,
                channel,
                samples,
            } => {
                if !(1..=SAMPLES_MAX).contains(samples) {
                    return Err(RequestError::Samples(*samples));
                }
                Ok(Order::Action(Box::new(Action::Capture {
                    node: id(node)?,
                    channel: ChannelId::new(*channel).ok_or(RequestError::Channel(*channel))?,
                    samples: *samples,
                })))
            }
            Self::Calibrate {
                node,
                channel,
                gain_ppm,
                offset_milli,
            } => {
                if !Calibration::GAINS_PPM.contains(gain_ppm) {
                    return Err(RequestError::Gain(*gain_ppm));
                }
                Ok(Order::Action(Box::new(Action::Calibrate {
                    node: id(node)?,
                    channel: ChannelId::new(*channel).ok_or(RequestError::Channel(*channel))?,
                    calibration: Calibration {
                        gain_ppm: *gain_ppm,
                        offset_milli: *offset_milli,
                    },
                })))
            }
            Self::Replay { letters } => {
                if !(1..=LETTERS_MAX).contains(&letters.len()) {
                    return Err(RequestError::Letters(letters.len()));
                }
                let ids = letters.iter().map(|letter| letter.parse());
                Ok(Order::Replay(ids.collect::<Result<_, NoLetterId>>()?))
            }
            Self::AcceptBaseline(place) => decide(place, DecisionAction::AcceptBaseline),
            Self::RejectBaseline(place) => decide(place, DecisionAction::RejectBaseline),
            Self::Learn { model } => {
                let name = Name::new(model).map_err(|_| RequestError::Name(model.clone()))?;
                Ok(Order::Learn(name))
            }
            Self::Maintenance { note, .. } if note.len() > NOTE_MAX => Err(RequestError::Note(note.len())),
            Self::Maintenance { asset, point, note } => {
                let place = Place {
                    asset: asset.clone(),
                    point: point.clone(),
                };
                decide(&place, DecisionAction::Maintenance { note: note.clone() })
            }
        }
    }

    /// Leaves the request for the collector whose data directory this is; returns its file.
    pub fn leave(&self, data_dir: &Path) -> Result<PathBuf, RequestError> {
        self.order()?;
        let directory = directory(data_dir);
        let name = getrandom::u64().map_err(RequestError::Random)?;
        let path = directory.join(format!("{name:016x}.{SUFFIX}"));
        let aside = path.with_extension("new");
        let text =
            toml::to_string(self).expect("a table of strings, numbers and a list always has a TOML form");
        let failed = |source| RequestError::File {
            path: aside.clone(),
            source,
        };
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&aside, &path).map_err(failed)?;
        Ok(path)
    }
}

/// Where requests are left.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("commands")
}

/// Makes the directory, for nobody but its owner.
pub fn make_directory(data_dir: &Path) -> io::Result<()> {
    let directory = directory(data_dir);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Takes what has been left; each file is gone afterwards, whether it could be read or not.
pub fn take(data_dir: &Path) -> Vec<Order> {
    let Ok(files) = fs::read_dir(directory(data_dir)) else {
        return Vec::new();
    };
    let files = files.flatten().map(|file| file.path());
    let requests = files.filter(|path| path.extension().is_some_and(|extension| extension == SUFFIX));
    let mut orders = Vec::new();
    for path in requests.take(TAKEN_MAX) {
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        if let Err(error) = fs::remove_file(&path) {
            tracing::error!(path = %path.display(), %error, "a request cannot be removed, and is not carried out");
            continue;
        }
        let failed = |source| RequestError::File {
            path: path.clone(),
            source,
        };
        let order = read
            .map_err(failed)
            .and_then(|_| Ok(toml::from_str::<Request>(&text)?))
            .and_then(|request| request.order());
        match order {
            Ok(order) => orders.push(order),
            Err(error) => tracing::error!(path = %path.display(), %error, "a request cannot be read"),
        }
    }
    orders
}

fn decide(place: &Place, action: DecisionAction) -> Result<Order, RequestError> {
    for name in std::iter::once(&place.asset).chain(&place.point) {
        Name::new(name).map_err(|_| RequestError::Name(name.clone()))?;
    }
    Ok(Order::Decide(Box::new(Decision {
        asset: place.asset.clone(),
        point: place.point.clone(),
        action,
    })))
}

fn parse_node(text: &str) -> Option<NodeId> {
    text.parse().ok().filter(|_| text.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(node: &str, channel: u16, samples: u32) -> Request {
        Request::Capture {
            node: node.into(),
            channel,
            samples,
        }
    }

    fn calibrate(gain_ppm: u32) -> Request {
        Request::Calibrate {
            node: "00000000000000a1".into(),
            channel: 1,
            gain_ppm,
            offset_milli: -400,
        }
    }

    #[test]
    fn a_calibration_is_taken_as_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        calibrate(1_020_408).leave(dir.path()).unwrap();
        let expected = Action::Calibrate {
            node: NodeId::new(0xa1).unwrap(),
            channel: ChannelId::new(1).unwrap(),
            calibration: Calibration {
                gain_ppm: 1_020_408,
                offset_milli: -400,
            },
        };
        assert_eq!(take(dir.path()), [Order::Action(Box::new(expected))]);
    }

    #[test]
    fn a_request_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        make_directory(dir.path()).unwrap();
        let identify = Request::Identify {
            node: "00000000000000a1".into(),
            seconds: 9,
        };
        identify.leave(dir.path()).unwrap();
        capture("00000000000000a1", 1, 500).leave(dir.path()).unwrap();
        let mut taken = take(dir.path());
        taken.sort_by_key(
            |order| matches!(order, Order::Action(action) if matches!(**action, Action::Capture { .. })),
        );
        let node = NodeId::new(0xa1).unwrap();
        assert_eq!(
            taken,
            [
                Order::Action(Box::new(Action::Identify { node, seconds: 9 })),
                Order::Action(Box::new(Action::Capture {
                    node,
                    channel: ChannelId::new(1).unwrap(),
                    samples: 500
                }))
            ]
        );
        assert!(take(dir.path()).is_empty());
    }

    #[test]
    fn as_many_letters_as_one_request_may_name_fit_into_its_file() {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        let longest = format!("{0}-{1}-{1}-{0}", u32::MAX, u64::MAX);
        let id: LetterId = longest.parse().unwrap();
        let replay = |letters| Request::Replay { letters };
        replay(vec![longest.clone(); LETTERS_MAX])
            .leave(dir.path())
            .unwrap();
        assert_eq!(take(dir.path()), [Order::Replay(vec![id; LETTERS_MAX])]);
        for bad in [vec![], vec![longest; LETTERS_MAX + 1], vec!["0-1-2".to_owned()]] {
            assert!(replay(bad).leave(dir.path()).is_err());
        }
    }

    #[test]
    fn a_decision_names_its_place_by_ids() {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        let place = |asset: &str, point: Option<&str>| Place {
            asset: asset.into(),
            point: point.map(Into::into),
        };
        Request::AcceptBaseline(place("fan-3", None))
            .leave(dir.path())
            .unwrap();
        let decided = |point: Option<&str>, action| {
            Order::Decide(Box::new(Decision {
                asset: "fan-3".into(),
                point: point.map(Into::into),
                action,
            }))
        };
        assert_eq!(take(dir.path()), [decided(None, DecisionAction::AcceptBaseline)]);
        let maintenance = |note: String| Request::Maintenance {
            asset: "fan-3".into(),
            point: Some("de".into()),
            note,
        };
        let note = "n".repeat(NOTE_MAX);
        maintenance(note.clone()).leave(dir.path()).unwrap();
        assert_eq!(
            take(dir.path()),
            [decided(Some("de"), DecisionAction::Maintenance { note })]
        );
        assert!(maintenance("n".repeat(NOTE_MAX + 1)).leave(dir.path()).is_err());
        assert!(
            Request::RejectBaseline(place("Fan 3", None))
                .leave(dir.path())
                .is_err()
        );
    }

    #[test]
    fn what_is_no_request_is_removed_and_half_a_one_waits() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(dir.path()).is_empty());
        make_directory(dir.path()).unwrap();
        let at = |name| directory(dir.path()).join(name);
        fs::write(at("1.toml"), "action = \"reboot\"").unwrap();
        fs::write(at("2.toml"), [0xff; 10_000]).unwrap();
        fs::write(at("3.new"), "action").unwrap();
        assert!(take(dir.path()).is_empty());
        assert!(!at("1.toml").exists() && !at("2.toml").exists() && at("3.new").exists());
    }

    #[test]
    fn nonsense_is_refused_before_it_is_left() {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        for bad in [
            capture("a1", 0, 5),
            capture("+0000000000000a1", 0, 5),
            capture("0000000000000000", 0, 5),
            capture("00000000000000a1", 999, 5),
            capture("00000000000000a1", 0, 0),
            capture("00000000000000a1", 0, SAMPLES_MAX + 1),
            calibrate(0),
            calibrate(99_999),
            calibrate(10_000_001),
        ] {
            assert!(bad.leave(dir.path()).is_err(), "{bad:?}");
        }
        assert_eq!(fs::read_dir(directory(dir.path())).unwrap().count(), 0);
    }
}
