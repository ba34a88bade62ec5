//! Loaders of recorded machine data: the bearing rigs of Case Western Reserve University and of the Society for
//! Machinery Failure Prevention Technology, and the PRONOSTIA runs to failure of FEMTO-ST.
//!
//! The records are not part of the project. They lie where `TRUNNION_DATA` says, or in `../shared/data`
//! beside the workspace; a test that needs one asks [`or_skip`] for it.

pub mod cwru;
pub(crate) mod matlab;
pub mod mfpt;

pub use cwru::{CwruRecord, Place};
pub use mfpt::MfptRecord;

use flate2::read::GzDecoder;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// One snapshot of the PRONOSTIA platform: 0.1 s of acceleration, g, taken every 10 s.
#[derive(Clone, PartialEq, Debug)]
pub struct FemtoSnapshot {
    /// Horizontal sensor.
    pub horizontal: Vec<f32>,
    /// Vertical sensor.
    pub vertical: Vec<f32>,
}

impl FemtoSnapshot {
    /// Samples of one sensor in a snapshot.
    pub const SAMPLES: usize = 2560;
    /// Samples a second.
    pub const RATE_HZ: f64 = 25_600.0;

    /// Reads one `part_NN.f32le.gz`: snapshots of little-endian pairs, horizontal first. Or one snapshot as it was
    /// published, `acc_NNNNN.csv`.
    pub fn read_part(path: &Path) -> Result<Vec<Self>, RecordError> {
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
        {
            return Self::read_published(path).map(|snapshot| vec![snapshot]);
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(|error| RecordError::Io {
            path: path.to_owned(),
            error,
        })?;
        GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .map_err(|error| RecordError::Io {
                path: path.to_owned(),
                error,
            })?;
        let length = Self::SAMPLES * 8;
        if bytes.is_empty() || bytes.len() % length != 0 {
            return Err(RecordError::Format {
                path: path.to_owned(),
                offset: bytes.len() - bytes.len() % length,
                reason: format!(
                    "{} bytes unpacked are not whole snapshots of {length}",
                    bytes.len()
                ),
            });
        }
        Ok(bytes
            .chunks_exact(length)
            .map(|snapshot| {
                let axis = |first: usize| {
                    snapshot
                        .chunks_exact(8)
                        .map(|pair| {
                            f32::from_le_bytes([
                                pair[first],
                                pair[first + 1],
                                pair[first + 2],
                                pair[first + 3],
                            ])
                        })
                        .collect()
                };
                Self {
                    horizontal: axis(0),
                    vertical: axis(4),
                }
            })
            .collect())
    }

    /// Rows of hour, minute, second, microsecond, horizontal and vertical, between commas or semicolons.
    fn read_published(path: &Path) -> Result<Self, RecordError> {
        let bytes = read(path)?;
        let refuse = |offset, reason: &str| RecordError::Format {
            path: path.to_owned(),
            offset,
            reason: reason.to_owned(),
        };
        let text = str::from_utf8(&bytes).map_err(|error| refuse(error.valid_up_to(), "no text"))?;
        let mut snapshot = Self {
            horizontal: Vec::with_capacity(Self::SAMPLES),
            vertical: Vec::with_capacity(Self::SAMPLES),
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split([',', ';']).map(str::trim).collect();
            let number = |field: usize| fields.get(field).and_then(|field| field.parse::<f32>().ok());
            let (Some(horizontal), Some(vertical), 6) = (number(4), number(5), fields.len()) else {
                let offset = line.as_ptr() as usize - text.as_ptr() as usize;
                return Err(refuse(
                    offset,
                    "not four numbers of the time and two of acceleration",
                ));
            };
            snapshot.horizontal.push(horizontal);
            snapshot.vertical.push(vertical);
        }
        if snapshot.horizontal.len() != Self::SAMPLES {
            let reason = format!(
                "{} rows where {} make a snapshot",
                snapshot.horizontal.len(),
                Self::SAMPLES
            );
            return Err(refuse(bytes.len(), &reason));
        }
        Ok(snapshot)
    }
}

/// Why a record could not be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not what its name says.
    #[error("{}, byte {offset}: {reason}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: usize,
        /// What was expected.
        reason: String,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, RecordError> {
    fs::read(path).map_err(|error| RecordError::Io {
        path: path.to_owned(),
        error,
    })
}

/// The folder of recorded data: `TRUNNION_DATA`, or `../shared/data` beside the workspace.
pub fn data_dir() -> PathBuf {
    std::env::var_os("TRUNNION_DATA")
        .filter(|path| !path.is_empty())
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
            PathBuf::from,
        )
}

/// The files with that ending in a folder of [`data_dir`], sorted by name; none when there are none, in
/// which case the test counts as skipped and the caller returns.
pub fn or_skip(test: &str, folder: &str, ending: &str) -> Option<Vec<PathBuf>> {
    let folder = data_dir().join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().ends_with(ending))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        skipped(test, &format!("no data at {}", folder.display()));
        return None;
    }
    Some(files)
}

/// Folders within folders that are looked into: links may lead back.
const DEPTH_MAX: usize = 6;

/// The files with that ending, which is in lower case, in a folder and those up to `DEPTH_MAX` below it, sorted by
/// path.
pub fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if path.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            } else if name.ends_with(ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The file in which `cargo xtask test` has skipped tests written down.
pub const SKIPS: &str = "TRUNNION_SKIPS";

/// Says that a test was skipped: on the standard output, which nobody sees of a test that passes, and in
/// the file that [`SKIPS`] names, if it does.
pub fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    let Some(path) = std::env::var_os(SKIPS) else {
        return;
    };
    // One short write at the end of the file: tests of several programs do not mix their lines.
    let line = format!("{test}: {why}\n");
    let file = fs::File::options().append(true).create(true).open(&path);
    file.and_then(|mut file| io::Write::write_all(&mut file, line.as_bytes()))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", Path::new(&path).display()));
}

/// A quarter of the samples, those above a quarter of the band first removed: what a converter at that
/// rate would have delivered.
///
/// A Kaiser-windowed sinc (A. V. Oppenheim and R. W. Schafer, *Discrete-Time Signal Processing*, 3rd ed.,
/// section 7.5.3) of 193 taps, 80 dB down from the new half rate on, flat up to 0.79 of it. Only samples
/// that the whole filter covers come out, 48 fewer than a quarter.
pub fn decimate_by_4(samples: &[f32]) -> Vec<f32> {
    const TAPS: usize = 193;
    // beta = 0.1102 (A - 8.7) for A = 80 dB of attenuation.
    const BETA: f64 = 7.857;
    // The transition, (A - 8) / (2.285 (TAPS - 1)) radians, ends at the new half rate, pi / 4.
    let transition = (80.0 - 8.0) / (2.285 * (TAPS - 1) as f64);
    let cutoff = std::f64::consts::FRAC_PI_4 - transition / 2.0;
    let middle = (TAPS - 1) as f64 / 2.0;
    let mut taps: Vec<f64> = (0..TAPS)
        .map(|index| {
            let distance = index as f64 - middle;
            let sinc = if distance == 0.0 {
                cutoff / std::f64::consts::PI
            } else {
                (cutoff * distance).sin() / (std::f64::consts::PI * distance)
            };
            sinc * bessel_i0(BETA * (1.0 - (distance / middle).powi(2)).sqrt()) / bessel_i0(BETA)
        })
        .collect();
    let gain: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= gain);
    samples
        .windows(TAPS)
        .step_by(4)
        .map(|near| {
            near.iter()
                .zip(&taps)
                .map(|(&sample, tap)| f64::from(sample) * tap)
                .sum::<f64>() as f32
        })
        .collect()
}

/// The modified Bessel function of the first kind and order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let mut sum = 1.0;
    let mut term = 1.0;
    let mut index = 1.0;
    while term > sum * 1e-15 {
        term *= (x / (2.0 * index)).powi(2);
        sum += term;
        index += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn rms_after(frequency: f64) -> f64 {
        let samples: Vec<f32> = (0..48_000)
            .map(|i| (std::f64::consts::TAU * frequency * f64::from(i) / 48_000.0).sin() as f32)
            .collect();
        let fewer = decimate_by_4(&samples);
        assert_eq!(fewer.len(), 12_000 - 48);
        (fewer.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / fewer.len() as f64).sqrt()
    }

    #[test]
    fn decimation_keeps_what_the_lower_rate_can_carry_and_removes_the_rest() {
        for kept in [100.0, 1_000.0, 4_600.0] {
            assert!((rms_after(kept) * 2f64.sqrt() - 1.0).abs() < 1e-3, "{kept} Hz");
        }
        for removed in [6_010.0, 7_000.0, 12_000.5, 23_000.0] {
            assert!(rms_after(removed) < 2e-4, "{removed} Hz");
        }
    }

    #[test]
    fn a_snapshot_as_published_is_read_and_a_torn_one_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acc_00001.csv");
        for separator in [",", ";"] {
            let row = ["9", "39", "39", "65664", "0.552", "-0.146\n"].join(separator);
            fs::write(&path, row.repeat(FemtoSnapshot::SAMPLES)).unwrap();
            let snapshots = FemtoSnapshot::read_part(&path).unwrap();
            assert_eq!(snapshots.len(), 1);
            assert_eq!(
                (snapshots[0].horizontal[7], snapshots[0].vertical[2_559]),
                (0.552, -0.146)
            );
        }
        fs::write(&path, "9,39,39,65664,0.552,-0.146\n9,39,39,65703,0.5").unwrap();
        let error = FemtoSnapshot::read_part(&path).unwrap_err().to_string();
        assert!(error.contains("acc_00001.csv, byte 27"), "{error}");
    }

    #[test]
    fn a_part_that_is_cut_short_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part_00.f32le.gz");
        let mut whole = vec![0u8; FemtoSnapshot::SAMPLES * 8];
        whole[..8].copy_from_slice(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
        let write = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            fs::write(&path, encoder.finish().unwrap()).unwrap();
        };
        write(&whole);
        let snapshots = FemtoSnapshot::read_part(&path).unwrap();
        assert_eq!(
            (
                snapshots.len(),
                snapshots[0].horizontal[0],
                snapshots[0].vertical[0]
            ),
            (1, 1.0, -2.0)
        );
        whole.extend([0; 12]);
        write(&whole);
        let error = FemtoSnapshot::read_part(&path).unwrap_err().to_string();
        assert!(error.contains("part_00.f32le.gz, byte 20480"), "{error}");
    }
}
