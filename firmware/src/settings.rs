//! What may be changed about a node, its sampling plans and its calibrations, and their image in memory that outlives
//! a reset.
//!
//! *Applied* promises both "in force" and "kept across resets", so a change is in force only when the
//! board has confirmed that its image is stored. A board without such memory answers a change with *not
//! stored* and goes on as it was.
//!
//! | bytes of the image | content |
//! |---|---|
//! | 0 | version: 1, or 2 where there are calibrations |
//! | 1.. | number of the command, plans, calibrations of version 2 (postcard) |
//! | last 4 | CRC-32C of everything before, little-endian |

use crate::channel::{OVERHEAD_MAX, RECALLED_SAMPLES, WAVEFORM_SAMPLES};
use heapless::Vec;
use trunnion_common::codec::{CRC_BYTES, crc32c};
use trunnion_common::frame::{Calibrate, Calibration, ChannelPlan, Settings, SettingsOutcome};
use trunnion_common::id::CHANNELS_MAX;
use trunnion_common::quantity::{Quantity, Unit};

/// Least samples of a feature window: moments of fewer say nothing.
pub const WINDOW_SAMPLES_MIN: u32 = 16;

/// Most samples of a window, a waveform or a capture: twenty minutes at 12 kHz, and few enough for the
/// sums of a window to stay exact to the digits that are sent.
pub const SAMPLES_MAX: u32 = 1 << 24;

/// Share of the line that plans may fill, percent. The rest is for what is sent twice, and for the agent's
/// polls on a two-wire line.
pub const LINE_SHARE_PERCENT: u64 = 70;

/// Room for any image: version, number, sixteen plans of the longest kind, sixteen calibrations, checksum.
pub const IMAGE_MAX: usize =
    1 + 5 + 1 + CHANNELS_MAX * (1 + 5 + 1 + 5 + 5 + 1 + 1 + 5 + 5) + 1 + CHANNELS_MAX * (5 + 5) + CRC_BYTES;

/// The image of settings, as it is stored.
pub type Image = Vec<u8, IMAGE_MAX>;

const PLANS_ALONE: u8 = 1;
const CALIBRATED: u8 = 2;

/// Plans of a node's channels, in the order of its table; what is not listed is sent raw.
pub type Plans = Vec<ChannelPlan, CHANNELS_MAX>;

/// Calibrations of a node's channels, in the order of its table; what is not listed has none.
pub type Calibrations = Vec<Calibration, CHANNELS_MAX>;

/// What is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Number of the command that wanted any of it last, and plans.
    pub settings: Settings,
    /// Of each channel, if any channel has one.
    pub calibrations: Calibrations,
}

/// Stored settings that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// Its checksum does not match, or it is no image.
    Damaged,
    /// A later firmware wrote it.
    Version(u8),
    /// It is of another channel table.
    OtherTable,
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Damaged => f.write_str("the stored settings are damaged; every channel is sent raw"),
            Self::Version(version) => write!(
                f,
                "the stored settings have version {version}, which this firmware does not read; every channel is sent raw"
            ),
            Self::OtherTable => {
                f.write_str("the stored settings are of another channel table; every channel is sent raw")
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// The image of what is to be stored. Without calibrations a firmware of before reads it as well.
pub fn to_image(kept: &Kept) -> Image {
    let mut bytes = [0; IMAGE_MAX];
    let content = &mut bytes[1..IMAGE_MAX - CRC_BYTES];
    let Some(used) = write(kept, content) else {
        unreachable!("IMAGE_MAX counts every field at its longest");
    };
    bytes[0] = if kept.calibrations.is_empty() {
        PLANS_ALONE
    } else {
        CALIBRATED
    };
    let end = 1 + used;
    let crc = crc32c(&bytes[..end]).to_le_bytes();
    bytes[end..end + CRC_BYTES].copy_from_slice(&crc);
    bytes.into_iter().take(end + CRC_BYTES).collect()
}

/// How many bytes of `content` it takes.
fn write(kept: &Kept, content: &mut [u8]) -> Option<usize> {
    let plans = postcard::to_slice(&kept.settings, content).ok()?.len();
    if kept.calibrations.is_empty() {
        return Some(plans);
    }
    let calibrations = postcard::to_slice(&kept.calibrations, &mut content[plans..]).ok()?;
    Some(plans + calibrations.len())
}

/// What an image holds.
pub fn from_image(image: &[u8]) -> Result<Kept, ImageError> {
    let (content, crc) = image.split_last_chunk::<CRC_BYTES>().ok_or(ImageError::Damaged)?;
    if crc32c(content).to_le_bytes() != *crc {
        return Err(ImageError::Damaged);
    }
    let (&version, content) = content.split_first().ok_or(ImageError::Damaged)?;
    if version != PLANS_ALONE && version != CALIBRATED {
        return Err(ImageError::Version(version));
    }
    let (settings, rest) = postcard::take_from_bytes(content).map_err(|_| ImageError::Damaged)?;
    let calibrations = match version {
        CALIBRATED => postcard::from_bytes(rest).map_err(|_| ImageError::Damaged)?,
        _ => Calibrations::new(),
    };
    Ok(Kept {
        settings,
        calibrations,
    })
}

/// What becomes of a calibration of a channel that measures in `unit` and has `in_force`, as [`judge`] says it.
pub fn judge_calibration(wanted: &Calibrate, unit: Unit, in_force: Calibration) -> Option<SettingsOutcome> {
    let Calibration {
        gain_ppm,
        offset_milli,
    } = wanted.calibration;
    // Of a vibration only what alternates is looked at.
    let alternates = matches!(
        unit.quantity(),
        Quantity::Acceleration | Quantity::Velocity | Quantity::Displacement
    );
    if !Calibration::GAINS_PPM.contains(&gain_ppm) || (alternates && offset_milli != 0) {
        return Some(SettingsOutcome::BadCalibration);
    }
    (wanted.calibration == in_force).then_some(SettingsOutcome::Unchanged)
}

/// What of the line is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineSpeed {
    /// Nothing: no plan is too much for it.
    Unknown,
    /// So many bytes a second; a tenth of the bauds.
    BytesPerSecond(u32),
}

impl LineSpeed {
    /// Bytes a second; where nobody knows, those of 9,600 baud.
    pub const fn bytes_per_s(self) -> u32 {
        match self {
            Self::Unknown => 960,
            Self::BytesPerSecond(speed) => speed,
        }
    }
}

/// What becomes of `settings` on a node whose channels are sampled at `rates_mhz` and have `plans` in
/// force: nothing but an answer, or, when `None`, they are to be stored and applied.
pub fn judge(
    settings: &Settings,
    plans: &Plans,
    rates_mhz: &[u32],
    line: LineSpeed,
) -> Option<SettingsOutcome> {
    if settings.plans.len() > rates_mhz.len() {
        return Some(SettingsOutcome::UnknownChannel);
    }
    if settings
        .plans
        .iter()
        .any(|plan| !is_sensible(*plan, rates_mhz.len()))
    {
        return Some(SettingsOutcome::BadPlan);
    }
    let mut channels = 0..rates_mhz.len();
    if channels.all(|at| plan_of(&settings.plans, at) == plan_of(plans, at)) {
        return Some(SettingsOutcome::Unchanged);
    }
    let (needs, may) = overfull(&settings.plans, rates_mhz, line)?;
    Some(SettingsOutcome::Overfull {
        needs: u32::try_from(needs).unwrap_or(u32::MAX),
        // Less than a speed of 32 bits.
        may: may as u32,
    })
}

/// What plans need of the line and what they may, bytes a second, if they need more.
fn overfull(plans: &Plans, rates_mhz: &[u32], line: LineSpeed) -> Option<(u64, u64)> {
    let LineSpeed::BytesPerSecond(speed) = line else {
        return None;
    };
    let channels = rates_mhz.iter().enumerate();
    let bytes: u64 = channels
        .map(|(at, rate)| bytes_per_s(plan_of(plans, at), *rate))
        .sum();
    let (needs, may) = (
        bytes + STATUS_BYTES_PER_S,
        u64::from(speed) * LINE_SHARE_PERCENT / 100,
    );
    (needs > may).then_some((needs, may))
}

/// The plans of a node whose settings say nothing: everything raw, as far as the line carries it. Of the channels that
/// need most, the last ones of the table are sent as features of a second each.
pub fn first_plans(rates_mhz: &[u32], line: LineSpeed) -> Plans {
    let mut plans: Plans = rates_mhz.iter().map(|_| ChannelPlan::Raw).collect();
    while overfull(&plans, rates_mhz, line).is_some() {
        let raw = plans.iter_mut().zip(rates_mhz);
        let raw = raw.filter(|(plan, _)| **plan == ChannelPlan::Raw);
        let Some((plan, rate)) = raw.max_by_key(|(_, rate)| **rate) else {
            break;
        };
        let window = (rate / 1_000).clamp(WINDOW_SAMPLES_MIN, SAMPLES_MAX);
        *plan = ChannelPlan::Features { window };
    }
    plans
}

/// The plan of the channel at this position of the table.
pub fn plan_of(plans: &Plans, position: usize) -> ChannelPlan {
    plans.get(position).copied().unwrap_or(ChannelPlan::Raw)
}

fn is_sensible(plan: ChannelPlan, channels: usize) -> bool {
    let windows = WINDOW_SAMPLES_MIN..=SAMPLES_MAX;
    let has_window = plan.window().is_none_or(|window| windows.contains(&window));
    let has_waveform = plan
        .waveform()
        .is_none_or(|(samples, every_s)| (1..=SAMPLES_MAX).contains(&samples) && every_s > 0);
    let has_trigger = plan
        .trigger()
        .is_none_or(|trigger| trigger.channel.index() < channels && trigger.low_milli <= trigger.high_milli);
    has_window && has_waveform && has_trigger
}

/// Of every frame beside its samples: header, checksum, and what byte stuffing adds.
const FRAME_BYTES: u64 = OVERHEAD_MAX as u64 + 7;

/// A report of twelve features, as many as there are: each a kind and a value.
const REPORT_BYTES: u64 = FRAME_BYTES + 12 * 5;

/// One status a second, the usual events and time replies.
const STATUS_BYTES_PER_S: u64 = 400;

/// Frames a second, in thousandths, that a channel below this rate makes of its samples: one per
/// [`crate::channel::FORMING_MICROS_MAX`].
const SHORT_FRAMES_MHZ: u64 = 1_000_000_000 / crate::channel::FORMING_MICROS_MAX;

/// Bytes a second that a channel of this rate puts on the line, over a long time.
fn bytes_per_s(plan: ChannelPlan, rate_mhz: u32) -> u64 {
    let rate = u64::from(rate_mhz);
    let frames = (rate / WAVEFORM_SAMPLES as u64).max(rate.min(SHORT_FRAMES_MHZ));
    let raw = (2 * rate + FRAME_BYTES * frames).div_ceil(1_000);
    if plan == ChannelPlan::Raw {
        return raw;
    }
    let features = plan.window().map_or(0, |window| {
        (rate * REPORT_BYTES).div_ceil(1_000 * u64::from(window.max(1)))
    });
    // A trigger may stand for good.
    let waveforms = plan.waveform().map_or(0, |(samples, every_s)| {
        let share = rate * u64::from(every_s.max(1));
        let recalled = plan.trigger().map_or(0, |_| RECALLED_SAMPLES as u64);
        // Waveforms longer than the time between them are nothing but raw.
        raw * (1_000 * (u64::from(samples) + recalled)).min(share) / share.max(1)
    });
    features + waveforms
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::frame::Trigger;
    use trunnion_common::id::ChannelId;

    const RATES_MHZ: [u32; 2] = [12_000_000, 1_000];

    fn settings(plans: &[ChannelPlan]) -> Settings {
        Settings {
            command: u32::MAX,
            plans: Vec::from_slice(plans).unwrap(),
        }
    }

    fn check(wanted: &[ChannelPlan], line: LineSpeed, expected: Option<SettingsOutcome>) {
        let in_force = Vec::from_slice(&[ChannelPlan::Raw, ChannelPlan::Off]).unwrap();
        let found = judge(&settings(wanted), &in_force, &RATES_MHZ, line);
        assert_eq!(found, expected, "{wanted:?} on {line:?}");
    }

    #[test]
    fn a_node_that_is_told_nothing_sends_raw_what_its_line_carries() {
        use ChannelPlan::{Features, Raw};
        let axes = [26_667_000, 26_667_000, 26_667_000, 1_000];
        let first = |bauds: u32| first_plans(&axes, LineSpeed::BytesPerSecond(bauds / 10));
        let features = Features { window: 26_667 };
        assert_eq!(first(4_000_000), [Raw; 4]);
        assert_eq!(first(921_600), [Raw, features, features, Raw]);
        assert_eq!(first(115_200), [features, features, features, Raw]);
        assert_eq!(first_plans(&axes, LineSpeed::Unknown), [Raw; 4]);
        // A line that carries nothing ends the search all the same.
        assert!(!first(0).contains(&Raw));
    }

    #[test]
    fn only_what_is_in_force_is_confirmed_at_once() {
        use ChannelPlan::{Off, Raw};
        let line = LineSpeed::Unknown;
        check(&[Raw, Off], line, Some(SettingsOutcome::Unchanged));
        check(&[Raw], line, None);
        check(&[Raw, Raw], line, None);
        check(&[Raw; 3], line, Some(SettingsOutcome::UnknownChannel));
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        let scheduled = |window, samples, every_s| ChannelPlan::Scheduled {
            window,
            samples,
            every_s,
        };
        for bad in [
            ChannelPlan::Features { window: 15 },
            ChannelPlan::Features {
                window: SAMPLES_MAX + 1,
            },
            scheduled(0, 1, 1),
            scheduled(16, 0, 1),
            scheduled(16, 1, 0),
        ] {
            check(&[bad], LineSpeed::Unknown, Some(SettingsOutcome::BadPlan));
        }
        check(&[scheduled(16, 1, 1)], LineSpeed::Unknown, None);
        let triggered = |channel, low_milli, high_milli| ChannelPlan::Triggered {
            window: 16,
            samples: 1,
            every_s: 1,
            trigger: Trigger {
                channel: ChannelId::new(channel).unwrap(),
                low_milli,
                high_milli,
            },
        };
        check(&[triggered(1, -5, -5)], LineSpeed::Unknown, None);
        for bad in [triggered(2, 0, 1), triggered(1, 1, 0)] {
            check(&[bad], LineSpeed::Unknown, Some(SettingsOutcome::BadPlan));
        }
    }

    #[test]
    fn a_plan_that_needs_more_than_its_share_of_the_line_is_refused() {
        use ChannelPlan::{Features, Raw, Scheduled};
        // 12 kHz raw are 24,000 bytes a second and 25 frames' worth of headers; a reading a second and the status
        // come to 476.
        let slow = |needs, may| Some(SettingsOutcome::Overfull { needs, may });
        check(&[Raw], LineSpeed::BytesPerSecond(36_000), slow(26_334, 25_200));
        check(&[Raw], LineSpeed::BytesPerSecond(40_000), None);
        check(
            &[Features { window: 4_096 }],
            LineSpeed::BytesPerSecond(1_500),
            None,
        );
        check(
            &[Features { window: 16 }],
            LineSpeed::BytesPerSecond(40_000),
            slow(100_976, 28_000),
        );
        // A second of waveform in ten needs a tenth of it.
        let scheduled = |every_s| Scheduled {
            window: 4_096,
            samples: 12_000,
            every_s,
        };
        check(&[scheduled(10)], LineSpeed::BytesPerSecond(5_500), None);
        check(
            &[scheduled(5)],
            LineSpeed::BytesPerSecond(5_500),
            slow(6_040, 3_850),
        );
        check(
            &[scheduled(1)],
            LineSpeed::BytesPerSecond(36_000),
            slow(26_727, 25_200),
        );
    }

    const GREATEST: Calibration = Calibration {
        gain_ppm: u32::MAX,
        offset_milli: i32::MIN,
    };

    fn kept(plans: &[ChannelPlan], calibrations: &[Calibration]) -> Kept {
        Kept {
            settings: settings(plans),
            calibrations: Vec::from_slice(calibrations).unwrap(),
        }
    }

    #[test]
    fn the_longest_image_fits_and_comes_back() {
        let longest = ChannelPlan::Slow {
            window: u32::MAX,
            waveform: Some((u32::MAX, u32::MAX)),
            trigger: Some(Trigger {
                channel: ChannelId::new(CHANNELS_MAX as u16 - 1).unwrap(),
                low_milli: i32::MIN,
                high_milli: i32::MIN,
            }),
        };
        let kept = kept(&[longest; CHANNELS_MAX], &[GREATEST; CHANNELS_MAX]);
        let image = to_image(&kept);
        assert_eq!(image.len(), IMAGE_MAX);
        assert_eq!(from_image(&image), Ok(kept));
    }

    #[test]
    fn an_image_without_calibrations_is_one_that_a_firmware_of_before_wrote() {
        // Features over 1,024 samples of the first channel, wanted by command 7.
        let mut written = std::vec![1, 7, 1, 2, 0x80, 0x08];
        written.extend(crc32c(&written).to_le_bytes());
        let found = from_image(&written).unwrap();
        let mut expected = kept(&[ChannelPlan::Features { window: 1_024 }], &[]);
        expected.settings.command = 7;
        assert_eq!(found, expected);
        assert_eq!(to_image(&expected).as_slice(), written);
    }

    #[test]
    fn a_damaged_image_is_noticed_at_every_byte_and_length() {
        for kept in [
            kept(&[ChannelPlan::Off], &[]),
            kept(&[ChannelPlan::Off], &[GREATEST]),
        ] {
            let image = to_image(&kept);
            for at in 0..image.len() {
                assert_eq!(from_image(&image[..at]), Err(ImageError::Damaged));
                let mut damaged = image.clone();
                damaged[at] ^= 1;
                assert_eq!(from_image(&damaged), Err(ImageError::Damaged));
            }
        }
        assert_eq!(from_image(&[]), Err(ImageError::Damaged));
    }

    #[test]
    fn a_calibration_is_of_a_sensor_that_can_be() {
        let judge = |unit, gain_ppm, offset_milli| {
            let calibration = Calibration {
                gain_ppm,
                offset_milli,
            };
            let wanted = Calibrate {
                command: 1,
                channel: ChannelId::new(0).unwrap(),
                calibration,
            };
            judge_calibration(&wanted, unit, Calibration::NONE)
        };
        let (g, celsius) = (Unit::StandardGravity, Unit::DegreeCelsius);
        assert_eq!(judge(g, 1_020_408, 0), None);
        assert_eq!(judge(celsius, 1_000_000, -400), None);
        assert_eq!(judge(g, 1_000_000, 0), Some(SettingsOutcome::Unchanged));
        for (unit, gain_ppm, offset_milli) in [
            (g, 99_999, 0),
            (g, 10_000_001, 0),
            (g, 1_020_408, 1),
            (Unit::Micrometre, 1_000_000, -1),
        ] {
            let judged = judge(unit, gain_ppm, offset_milli);
            assert_eq!(
                judged,
                Some(SettingsOutcome::BadCalibration),
                "{unit:?} {gain_ppm}"
            );
        }
    }

    #[test]
    fn an_image_of_a_later_firmware_is_not_guessed_at() {
        let mut image = to_image(&kept(&[ChannelPlan::Off], &[]));
        let end = image.len() - CRC_BYTES;
        image[0] = 3;
        let crc = crc32c(&image[..end]).to_le_bytes();
        image[end..].copy_from_slice(&crc);
        assert_eq!(from_image(&image), Err(ImageError::Version(3)));
    }
}
