//! Records of the bearing rig of Case Western Reserve University: MATLAB files of one to three sensors.

use super::{RecordError, matlab, read};
use std::path::Path;

/// Where a sensor of the Case Western Reserve rig stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// At the drive-end bearing, a 6205.
    DriveEnd,
    /// At the fan-end bearing, a 6203.
    FanEnd,
    /// On the base plate.
    Base,
}

impl Place {
    const ALL: [Self; 3] = [Self::DriveEnd, Self::FanEnd, Self::Base];

    const fn suffix(self) -> &'static str {
        match self {
            Self::DriveEnd => "_DE_time",
            Self::FanEnd => "_FE_time",
            Self::Base => "_BA_time",
        }
    }
}

/// One file of the Case Western Reserve rig.
#[derive(Clone, PartialEq, Debug)]
pub struct CwruRecord {
    /// The file's name without its extension.
    pub name: String,
    /// The number of the record, which its variables bear.
    pub number: Option<u32>,
    /// Samples a second.
    pub rate_hz: f64,
    /// Revolutions a minute as measured, where the file says.
    pub rpm: Option<f64>,
    /// Acceleration in g, by place.
    pub channels: Vec<(Place, Vec<f32>)>,
}

impl CwruRecord {
    /// Speeds of the rig at 0 to 3 horsepower, revolutions a minute, as the Bearing Data Center states them: what
    /// holds where a file does not say.
    pub const STATED_RPM: [f64; 4] = [1797.0, 1772.0, 1750.0, 1730.0];

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = read(path)?;
        let refuse = |offset, reason: String| RecordError::Format {
            path: path.to_owned(),
            offset,
            reason,
        };
        let variables = matlab::read(&bytes).map_err(|error| refuse(error.offset, error.reason))?;
        // Some files also hold the channels of the record before; the file's own bears the number in its name, if
        // one is there, and else the higher one.
        let named = name.rsplit('_').next().and_then(|last| last.parse::<u32>().ok());
        let numbers = variables.iter().filter_map(|variable| number(&variable.name));
        let own = numbers
            .clone()
            .find(|number| named == Some(*number))
            .or_else(|| numbers.max());
        let of = |suffix: &str| {
            let mut all = variables
                .iter()
                .filter(|variable| variable.name.ends_with(suffix));
            let only = all.clone().next().filter(|_| all.clone().count() == 1);
            all.find(|variable| own.is_some() && number(&variable.name) == own)
                .or(only)
        };
        let channels: Vec<_> = Place::ALL
            .into_iter()
            .filter_map(|place| {
                let samples = &of(place.suffix())?.values;
                Some((place, samples.iter().map(|&sample| sample as f32).collect()))
            })
            .collect();
        if channels.is_empty() {
            return Err(refuse(
                0,
                "no variable such as X097_DE_time, X097_FE_time or X097_BA_time".to_owned(),
            ));
        }
        let rpm = of("RPM").and_then(|variable| variable.values.first().copied());
        let rpm = rpm.filter(|rpm| rpm.is_finite() && *rpm > 0.0);
        let mut record = Self {
            name,
            number: own,
            rate_hz: f64::NAN,
            rpm,
            channels,
        };
        record.rate_hz = record.rate();
        Ok(record)
    }

    /// The channel of a sensor, if the file has it.
    pub fn channel(&self, place: Place) -> Option<&[f32]> {
        self.channels
            .iter()
            .find(|(of, _)| *of == place)
            .map(|(_, samples)| samples.as_slice())
    }

    /// Shaft speed, Hz, and how far it may be off, as a share: as measured, else as stated for the load that the
    /// file's name bears before its number, else between the fastest and the slowest of those.
    pub fn shaft(&self) -> (f64, f64) {
        let [fastest, .., slowest] = Self::STATED_RPM;
        // The last number but that of the record, which is larger than any load.
        let stated = || {
            let numbers = self.name.rsplit('_').skip(usize::from(!self.name.contains('_')));
            let loads = numbers.filter_map(|part| Self::STATED_RPM.get(part.parse::<usize>().ok()?));
            loads.map(|rpm| (*rpm, 0.005)).next()
        };
        let measured = self.rpm.map(|rpm| (rpm, 0.005));
        let (rpm, tolerance) = measured
            .or_else(stated)
            .unwrap_or((f64::midpoint(fastest, slowest), 0.02));
        (rpm / 60.0, tolerance)
    }

    /// Shaft speed, Hz.
    pub fn shaft_hz(&self) -> f64 {
        self.shaft().0
    }

    /// The rate is not in the files. Where the name does not begin with it, it is the one of the two at which
    /// the lines of the shaft stand where the shaft's speed puts them: the record without a fault and load was
    /// taken at 48 kHz, though it is often read as 12 kHz.
    fn rate(&self) -> f64 {
        const RATES_HZ: [f64; 2] = [48_000.0, 12_000.0];
        for (start, rate_hz) in ["48k", "12k"].into_iter().zip(RATES_HZ) {
            if self.name.starts_with(start) {
                return rate_hz;
            }
        }
        let lines = |rate_hz: f64| -> f64 {
            let strengths = self.channels.iter();
            strengths
                .map(|(_, samples)| shaft_lines(samples, rate_hz, self.shaft_hz()))
                .sum()
        };
        let [high, low] = RATES_HZ;
        if lines(low) > lines(high) { low } else { high }
    }
}

/// The number in the name of a variable such as `X097_DE_time` or `X097RPM`.
fn number(variable: &str) -> Option<u32> {
    let rest = variable.strip_prefix('X')?;
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// How far the shaft's first five lines stand above what is beside them, in nepers, over the first two seconds.
fn shaft_lines(samples: &[f32], rate_hz: f64, shaft_hz: f64) -> f64 {
    let start = &samples[..samples.len().min((2.0 * rate_hz) as usize)];
    let mean = start.iter().map(|&sample| f64::from(sample)).sum::<f64>() / start.len().max(1) as f64;
    let magnitude = |frequency_hz: f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (index, &sample) in start.iter().enumerate() {
            let weight = 1.0 - (std::f64::consts::TAU * index as f64 / start.len() as f64).cos();
            let angle = std::f64::consts::TAU * frequency_hz * index as f64 / rate_hz;
            re += weight * (f64::from(sample) - mean) * angle.cos();
            im += weight * (f64::from(sample) - mean) * angle.sin();
        }
        f64::hypot(re, im)
    };
    (1..=5)
        .map(|harmonic| {
            let line = magnitude(f64::from(harmonic) * shaft_hz);
            let beside =
                [-0.37, -0.23, 0.23, 0.37].map(|turns| magnitude((f64::from(harmonic) + turns) * shaft_hz));
            (line / beside.iter().sum::<f64>() * beside.len() as f64)
                .max(f64::MIN_POSITIVE)
                .ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_record_bear_its_number() {
        for (variable, expected) in [
            ("X097_DE_time", Some(97)),
            ("X3005RPM", Some(3005)),
            ("X_DE_time", None),
            ("bearing", None),
        ] {
            assert_eq!(number(variable), expected, "{variable}");
        }
    }

    /// A record of a shaft at 30 Hz with five lines in noise, taken at that rate.
    fn record(name: &str, rate_hz: f64) -> CwruRecord {
        let mut chance = crate::sim_machine::Chance::new(1);
        let samples = (0..(5.0 * rate_hz) as usize)
            .map(|index| {
                let turns = 30.0 * index as f64 / rate_hz;
                let lines =
                    (1..=5).map(|harmonic| (std::f64::consts::TAU * f64::from(harmonic) * turns).sin());
                (lines.sum::<f64>() * 0.02 + 0.1 * chance.normal()) as f32
            })
            .collect();
        let mut record = CwruRecord {
            name: name.to_owned(),
            number: None,
            rate_hz: f64::NAN,
            rpm: Some(1800.0),
            channels: vec![(Place::DriveEnd, samples)],
        };
        record.rate_hz = record.rate();
        record
    }

    #[test]
    fn the_rate_is_the_name_s_or_the_one_at_which_the_shaft_turns_as_measured() {
        assert_eq!(record("48k_Drive_End_B007_0_122", 12_000.0).rate_hz, 48_000.0);
        assert_eq!(record("12k_Drive_End_B007_0_118", 48_000.0).rate_hz, 12_000.0);
        for rate_hz in [12_000.0, 48_000.0] {
            assert_eq!(record("normal_2_99", rate_hz).rate_hz, rate_hz);
        }
    }

    #[test]
    fn a_speed_that_is_not_in_the_file_is_the_load_s() {
        for (name, rpm, expected) in [
            ("12k_Drive_End_B028_0_3005", None, 1797.0),
            ("12k_Drive_End_B028_2_3007", None, 1750.0),
            ("12k_Drive_End_B028_2_3007", Some(1748.0), 1748.0),
            ("IR007_3", None, 1730.0),
            ("97", None, 1763.5),
        ] {
            let record = CwruRecord {
                name: name.to_owned(),
                number: None,
                rate_hz: 12_000.0,
                rpm,
                channels: Vec::new(),
            };
            assert!((record.shaft_hz() * 60.0 - expected).abs() < 1e-9, "{name}");
        }
    }
}
