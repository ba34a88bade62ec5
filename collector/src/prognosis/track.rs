//! The features of one channel on their ways to the limits that end life. Pure.
//!
//! Windows come each second, and machines last for years: the windows of a reading time are one reading, their
//! mean, so that what is said changes as slowly as machines do and costs as little. Each feature has a track in
//! each operating regime, since what is normal differs; the end that comes first is told.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | tracks of a channel | [`TRACKS_MAX`] | further ones are not followed |

use super::degradation::Degradation;
use super::{Forecast, Method, Outlook, Prognosis};
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::operating::Regime;
use trunnion_common::time::EventTime;

/// Tracks of a channel at most: four features in each of eight regimes.
pub const TRACKS_MAX: usize = 32;

/// What a window shows of a feature that life depends on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shown {
    /// Which feature.
    pub kind: FeatureKind,
    /// Its value.
    pub value: f32,
    /// Where life ends, in its unit.
    pub limit: f32,
    /// What is normal in the window's regime, where that has been accepted.
    pub normal: Option<f32>,
}

/// A steady window of a running machine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// Start (event time, inclusive).
    pub start: EventTime,
    /// End (event time, exclusive).
    pub end: EventTime,
    /// From the end of one window to the end of the next, as expected, nanoseconds.
    pub interval_ns: i64,
    /// In which regime.
    pub regime: Regime,
}

/// The tracks of one channel. State of a checkpoint.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Tracks {
    tracks: Vec<Track>,
}

/// One feature in one regime.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Track {
    kind: FeatureKind,
    regime: Regime,
    limit: f32,
    normal: Option<f32>,
    reading: Option<Reading>,
    degradation: Degradation,
    as_of: EventTime,
}

/// Windows that will be one reading.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Reading {
    start: EventTime,
    end: EventTime,
    sum: f64,
    windows: u32,
}

impl Tracks {
    /// Takes the next window, in the order of event time, with what it shows; a reading is of windows from so
    /// many nanoseconds. Whether a reading came of it.
    pub fn handle_window(&mut self, window: &Window, shown: &[Shown], reading_ns: i64) -> bool {
        let mut is_read = false;
        for shown in shown {
            if let Some(track) = self.track(window, shown) {
                is_read |= track.handle_window(window, shown.value, reading_ns);
            }
        }
        is_read
    }

    /// What is said of a channel of that name: of the end that comes first, else by what is known best. None
    /// where nothing is followed.
    pub fn forecast(&self, channel: &str) -> Option<Forecast> {
        let forecasts = self.tracks.iter().map(|track| Forecast {
            outlook: track.degradation.outlook(),
            as_of: track.as_of,
            method: Method::Trend {
                channel: channel.to_owned(),
                feature: track.kind,
                limit: track.limit,
                normal: track.normal,
            },
        });
        forecasts.reduce(Forecast::earlier)
    }

    /// The track of what is shown. Where its limit or its normal is another one now, it begins anew.
    fn track(&mut self, window: &Window, shown: &Shown) -> Option<&mut Track> {
        let is_same = |track: &Track| track.kind == shown.kind && track.regime == window.regime;
        let place = self.tracks.iter().position(is_same);
        let is_current = |track: &Track| track.limit == shown.limit && track.normal == shown.normal;
        if let Some(place) = place.filter(|place| is_current(&self.tracks[*place])) {
            return self.tracks.get_mut(place);
        }
        let limit = f64::from(shown.limit);
        let degradation = match shown.normal {
            Some(normal) => Degradation::with_normal(normal.into(), limit),
            None => Degradation::new(limit),
        };
        let track = Track {
            kind: shown.kind,
            regime: window.regime,
            limit: shown.limit,
            normal: shown.normal,
            reading: None,
            degradation: degradation?,
            as_of: window.end,
        };
        match place {
            Some(place) => self.tracks[place] = track,
            None if self.tracks.len() < TRACKS_MAX => self.tracks.push(track),
            None => return None,
        }
        let place = place.unwrap_or(self.tracks.len() - 1);
        self.tracks.get_mut(place)
    }
}

impl Track {
    fn handle_window(&mut self, window: &Window, value: f32, reading_ns: i64) -> bool {
        // What was begun before the machine stood still, or was away, is a reading of its own.
        let is_past = |reading: &Reading| window.start.nanos_since(reading.start) >= reading_ns;
        let mut is_read = false;
        if let Some(reading) = self.reading.take_if(|reading| is_past(reading)) {
            self.read(reading);
            is_read = true;
        }
        let reading = self.reading.get_or_insert(Reading {
            start: window.start,
            end: window.end,
            sum: 0.0,
            windows: 0,
        });
        reading.end = reading.end.max(window.end);
        reading.sum += f64::from(value);
        reading.windows += 1;
        // The next window would lie beyond.
        let next_ns = reading
            .end
            .nanos_since(reading.start)
            .saturating_add(window.interval_ns);
        if let Some(reading) = self.reading.take_if(|_| next_ns > reading_ns) {
            self.read(reading);
            is_read = true;
        }
        is_read
    }

    fn read(&mut self, reading: Reading) {
        let mean = reading.sum / f64::from(reading.windows);
        self.degradation.handle_readings(reading.end, &[mean]);
        self.as_of = reading.end;
    }
}

impl Forecast {
    /// The one that is told of two: the end that comes first, else what is known best.
    pub fn earlier(self, other: Self) -> Self {
        let rank = |forecast: &Self| match forecast.outlook {
            Outlook::Declining { .. } => 0,
            Outlook::BeforeOnset => 1,
            Outlook::Learning => 2,
            Outlook::Undetermined => 3,
        };
        let is_earlier = match (self.outlook.remaining(), other.outlook.remaining()) {
            (Some(mine), Some(others)) => others.median_s < mine.median_s,
            _ => rank(&other) < rank(&self),
        };
        if is_earlier { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn window(second: i64, length_s: i64, interval_s: i64) -> Window {
        Window {
            start: EventTime(second * SECOND),
            end: EventTime((second + length_s) * SECOND),
            interval_ns: interval_s * SECOND,
            regime: Regime::default(),
        }
    }

    fn shown(value: f32, normal: Option<f32>) -> Shown {
        Shown {
            kind: FeatureKind::VelocityRms,
            value,
            limit: 4.5,
            normal,
        }
    }

    /// The seconds at whose windows there was a reading.
    fn read_at(seconds: impl Iterator<Item = i64>, interval_s: i64) -> Vec<i64> {
        let mut tracks = Tracks::default();
        let read = seconds.filter(|second| {
            let window = window(*second, 1, interval_s);
            tracks.handle_window(&window, &[shown(1.0, Some(1.0))], 10 * SECOND)
        });
        read.collect()
    }

    #[test]
    fn windows_of_a_reading_time_are_one_reading() {
        assert_eq!(read_at(0..35, 1), [9, 19, 29]);
        // Windows that come more seldom than readings are readings themselves.
        assert_eq!(
            read_at((0..4).map(|hour| 3_600 * hour), 3_600),
            [0, 3_600, 7_200, 10_800]
        );
        // What was begun before an outage is read with the first window after it.
        assert_eq!(read_at((0..5).chain(100..112), 1), [100, 109]);
    }

    #[test]
    fn before_onset_nothing_is_said_of_the_end_and_after_it_the_interval_moves_to_the_truth() {
        let mut tracks = Tracks::default();
        let mut told = Vec::new();
        for second in 0..300 {
            // From 1 mm/s it grows tenfold in 200 s, from second 100 on; 4.5 mm/s at second 230.6.
            let value = 10f32.powf((second as f32 - 100.0).max(0.0) / 200.0);
            tracks.handle_window(&window(second, 1, 1), &[shown(value, Some(1.0))], SECOND);
            let forecast = tracks.forecast("v").unwrap();
            match forecast.outlook {
                Outlook::Declining { remaining, .. } if second < 230 => told.push((second, remaining)),
                Outlook::Declining { .. } => {}
                outlook => assert_eq!(
                    (outlook, second < 180),
                    (Outlook::BeforeOnset, true),
                    "at {second}"
                ),
            }
        }
        let truth = |second: i64| 230.6 - second as f64;
        let held = told
            .iter()
            .filter(|(second, remaining)| remaining.holds(truth(*second)));
        assert!(held.count() as f64 >= 0.8 * told.len() as f64, "{told:?}");
        let (first, last) = (told[0].1, told[told.len() - 1].1);
        assert!(last.median_s < 0.3 * first.median_s && last.width_s() < first.width_s());
    }

    #[test]
    fn another_limit_or_an_accepted_normal_begins_anew() {
        let mut tracks = Tracks::default();
        for second in 0..100 {
            tracks.handle_window(&window(second, 1, 1), &[shown(1.0, None)], SECOND);
        }
        let outlook = |tracks: &Tracks| tracks.forecast("v").map(|forecast| forecast.outlook);
        assert_eq!(outlook(&tracks), Some(Outlook::BeforeOnset), "learned by itself");
        tracks.handle_window(&window(100, 1, 1), &[shown(1.0, Some(1.0))], 10 * SECOND);
        assert_eq!(outlook(&tracks), Some(Outlook::Learning));
        tracks.handle_window(&window(110, 1, 1), &[shown(1.0, Some(1.0))], 10 * SECOND);
        assert_eq!(outlook(&tracks), Some(Outlook::BeforeOnset));
    }

    #[test]
    fn memory_is_bounded_and_survives_a_restart() {
        let mut tracks = Tracks::default();
        for speed in 0..8 {
            for kind in FeatureKind::ALL {
                let window = Window {
                    regime: Regime {
                        speed,
                        ..Regime::default()
                    },
                    ..window(0, 1, 1)
                };
                let shown = Shown {
                    kind,
                    ..shown(1.0, None)
                };
                tracks.handle_window(&window, &[shown], SECOND);
            }
        }
        assert_eq!(tracks.tracks.len(), TRACKS_MAX);
        let bytes = postcard::to_stdvec(&tracks).unwrap();
        assert_eq!(postcard::from_bytes(&bytes), Ok(tracks));
    }
}
