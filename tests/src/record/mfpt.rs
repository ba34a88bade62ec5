//! Records of the bearing rig of the Society for Machinery Failure Prevention Technology: MATLAB files with one
//! structure of samples, rate, shaft speed and load.

use super::{RecordError, matlab, read};
use std::path::Path;

/// One file of the rig.
#[derive(Clone, PartialEq, Debug)]
pub struct MfptRecord {
    /// The file's name without its extension.
    pub name: String,
    /// Samples a second (`sr`).
    pub rate_hz: f64,
    /// Shaft speed, Hz (`rate`).
    pub shaft_hz: f64,
    /// Load, pounds (`load`), where the file says.
    pub load_lbs: Option<f64>,
    /// Acceleration in g (`gs`).
    pub samples: Vec<f32>,
}

impl MfptRecord {
    /// Shaft speed of the rig, Hz: what holds where a file does not say.
    pub const STATED_SHAFT_HZ: f64 = 25.0;

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let bytes = read(path)?;
        let refuse = |offset, reason: String| RecordError::Format {
            path: path.to_owned(),
            offset,
            reason,
        };
        let variables = matlab::read(&bytes).map_err(|error| refuse(error.offset, error.reason))?;
        let field = |name: &str| {
            // A field of the structure, whatever that is called, or by itself.
            let is = |variable: &&matlab::Variable| variable.name.rsplit('.').next() == Some(name);
            variables.iter().find(is).map(|variable| &variable.values)
        };
        let number = |name| {
            let first = field(name)?.first().copied()?;
            (first > 0.0 && first.is_finite()).then_some(first)
        };
        let rate_hz = number("sr").ok_or_else(|| refuse(0, "no rate bearing.sr above 0".to_owned()))?;
        let samples = field("gs").filter(|samples| !samples.is_empty());
        let samples = samples.ok_or_else(|| refuse(0, "no samples bearing.gs".to_owned()))?;
        Ok(Self {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            rate_hz,
            shaft_hz: number("rate").unwrap_or(Self::STATED_SHAFT_HZ),
            load_lbs: field("load").and_then(|load| load.first().copied()),
            samples: samples.iter().map(|&sample| sample as f32).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::matlab::tests::{compressed, header, structure};

    #[test]
    fn a_record_is_read_from_its_structure_compressed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("OuterRaceFault_1.mat");
        let whole = structure();
        let first = 8 + u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
        for element in [whole[..first].to_vec(), compressed(&whole[..first])] {
            std::fs::write(&path, [header(), element].concat()).unwrap();
            assert_eq!(
                MfptRecord::read(&path).unwrap(),
                MfptRecord {
                    name: "OuterRaceFault_1".to_owned(),
                    rate_hz: 48_828.0,
                    shaft_hz: 25.0,
                    load_lbs: Some(25.0),
                    samples: vec![0.5, -0.25, 1.0],
                }
            );
        }
        std::fs::write(&path, header()).unwrap();
        let error = MfptRecord::read(&path).unwrap_err().to_string();
        assert!(error.contains("bearing.sr"), "{error}");
    }
}
