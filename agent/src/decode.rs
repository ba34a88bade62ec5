//! A node line's capture, frame by frame, for a person or a script.
//!
//! A capture is the bytes as read from the line. Before the first zero byte there may be the rest of a
//! frame whose beginning was not captured, and after the last one the beginning of another.

use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Read};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX};
use trunnion_common::frame::{Class, Payload, RawFrame};

/// What stands at one place of a capture.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Found {
    /// Byte of the capture at which it begins, from 0.
    pub offset: u64,
    /// Bytes on the line, the final zero included.
    pub bytes: u64,
    /// The frame, or why it is none.
    #[serde(flatten)]
    pub what: What,
}

/// A frame, or why those bytes are none.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is whole.
    Frame(Frame),
    /// It is broken, for this reason of the contract.
    Broken(&'static str),
    /// The capture ends in its midst.
    CutOff,
}

/// The header, and the payload in a few words.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Frame {
    /// Wire version.
    pub version: u8,
    /// Address on the line.
    pub address: u8,
    /// The node.
    pub node: String,
    /// Its boot.
    pub boot: String,
    /// Essential or waveform.
    pub class: &'static str,
    /// Position among the boot's frames of the class.
    pub sequence: u64,
    /// Microseconds since the boot.
    pub ticks: u64,
    /// Which payload.
    pub payload: &'static str,
    /// What it says, or the reason why this version cannot read it.
    pub content: String,
}

/// What a capture holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// Whole frames.
    pub frames: u64,
    /// Broken ones.
    pub broken: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Reads a capture to its end and hands out what it holds, in order.
pub fn decode(
    mut capture: impl Read,
    mut report: impl FnMut(&Found) -> io::Result<()>,
) -> io::Result<Totals> {
    let mut buffer = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut buffer);
    let mut totals = Totals::default();
    let mut start = 0;
    let mut chunk = [0; 16 * 1_024];
    loop {
        let length = match capture.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &chunk[..length];
        while !rest.is_empty() {
            let fed = decoder.feed(rest);
            totals.bytes += fed.taken as u64;
            let ends_here = rest[fed.taken - 1] == 0;
            rest = &rest[fed.taken..];
            if let Some(outcome) = fed.frame {
                let what = match outcome {
                    Ok(frame) => {
                        totals.frames += 1;
                        What::Frame(describe(&frame))
                    }
                    Err(reason) => {
                        totals.broken += 1;
                        What::Broken(reason.label())
                    }
                };
                report(&Found {
                    offset: start,
                    bytes: totals.bytes - start,
                    what,
                })?;
            }
            if ends_here {
                start = totals.bytes;
            }
        }
    }
    if totals.bytes > start {
        report(&Found {
            offset: start,
            bytes: totals.bytes - start,
            what: What::CutOff,
        })?;
    }
    Ok(totals)
}

impl Found {
    /// One line for people.
    pub fn text(&self) -> String {
        let Self { offset, bytes, what } = self;
        match what {
            What::Frame(frame) => format!(
                "{offset:>8} {} {} {:<9} {:>8} {:>12.6} s  {}{}{}",
                frame.node,
                frame.boot,
                frame.class,
                frame.sequence,
                frame.ticks as f64 / 1e6,
                frame.payload,
                if frame.content.is_empty() { "" } else { ": " },
                frame.content
            ),
            What::Broken(reason) => format!("{offset:>8} BROKEN: {reason}, {bytes} bytes"),
            What::CutOff => format!("{offset:>8} cut off: the capture ends {bytes} bytes into a frame"),
        }
    }
}

fn describe(frame: &RawFrame<'_>) -> Frame {
    let header = frame.header();
    let (payload, content) = match frame.payload() {
        Ok(payload) => content(&payload),
        Err(reason) => ("unreadable", reason.label().to_owned()),
    };
    Frame {
        version: header.version,
        address: header.address.0,
        node: header.node.to_string(),
        boot: header.boot.to_string(),
        class: match header.class {
            Class::Essential => "essential",
            Class::Waveform => "waveform",
        },
        sequence: header.sequence,
        ticks: header.ticks.0,
        payload,
        content,
    }
}

/// Name and substance of a payload.
fn content(payload: &Payload<'_>) -> (&'static str, String) {
    match payload {
        Payload::Describe(describe) => {
            let mut text = format!("revision {}", describe.revision);
            for (channel, descriptor) in describe.channels.iter().enumerate() {
                write!(
                    text,
                    ", channel {channel}: {:?} at {} Hz",
                    descriptor.unit,
                    f64::from(descriptor.rate_mhz) / 1e3
                )
                .expect("writing to a string does not fail");
            }
            ("describe", text)
        }
        Payload::Waveform(waveform) => (
            "waveform",
            format!(
                "channel {}, samples {} to {}, revision {}, {:?}, {} bytes",
                waveform.channel.get(),
                waveform.first_sample,
                waveform
                    .first_sample
                    .saturating_add(u64::from(waveform.count))
                    .saturating_sub(1),
                waveform.revision,
                waveform.packing,
                waveform.data.len()
            ),
        ),
        Payload::Scalar(scalar) => (
            "scalar",
            format!(
                "channel {}, sample {} on, revision {}: {:?}",
                scalar.channel.get(),
                scalar.first_sample,
                scalar.revision,
                scalar.readings
            ),
        ),
        Payload::Feature(report) => ("feature", format!("{report:?}")),
        Payload::Event(event) => ("event", format!("{event:?}")),
        Payload::Status(status) => {
            let produced: Vec<u64> = status.channels.iter().map(|channel| channel.produced).collect();
            (
                "status",
                format!(
                    "produced {produced:?}, next {:?}, outbox {} of {} bytes, reset {:?}",
                    status.next, status.outbox_used, status.outbox_capacity, status.reset
                ),
            )
        }
        Payload::TimeReply(reply) => ("time_reply", format!("{reply:?}")),
        Payload::SettingsResult(result) => ("settings_result", format!("{result:?}")),
        Payload::Poll(poll) => (
            "poll",
            format!(
                "master {:?}, upto {:?}, credit {}",
                poll.master, poll.upto, poll.credit
            ),
        ),
        Payload::TimeRequest(request) => ("time_request", request.request.to_string()),
        Payload::Discover => ("discover", String::new()),
        Payload::Assign(address) => ("assign", format!("address {}", address.0)),
        Payload::Settings(settings) => ("settings", format!("{settings:?}")),
        Payload::Identify(identify) => ("identify", format!("{} s", identify.seconds)),
        Payload::Capture(capture) => ("capture", format!("{capture:?}")),
        Payload::Calibrate(calibrate) => ("calibrate", format!("{calibrate:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::codec::stuff;
    use trunnion_common::frame::{FRAME_MAX, Header, Status, TimeRequest, encode};
    use trunnion_common::id::{BootId, LineAddress, NodeId};
    use trunnion_common::time::NodeTicks;

    fn frame(sequence: u64, payload: &Payload<'_>) -> Vec<u8> {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(0xa1).unwrap(),
            boot: BootId::new(3, 9),
            class: Class::Essential,
            sequence,
            ticks: NodeTicks(1_500_000),
        };
        let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        stuff(encode(&header, payload, &mut raw).unwrap(), &mut line)
            .unwrap()
            .to_vec()
    }

    /// One byte at a time, as a slow line has it.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            self.0 = rest;
            buffer[0] = *first;
            Ok(1)
        }
    }

    fn found(capture: impl Read) -> (Vec<Found>, Totals) {
        let mut found = Vec::new();
        let totals = decode(capture, |one| {
            found.push(one.clone());
            Ok(())
        })
        .unwrap();
        (found, totals)
    }

    #[test]
    fn whole_broken_and_cut_off_frames_are_told_with_their_place() {
        let request = Payload::TimeRequest(TimeRequest { request: 5 });
        let good = frame(7, &request);
        let mut bad = frame(8, &request);
        let flipped = bad.len() - 3;
        bad[flipped] ^= 0x40;
        let mut capture = good.clone();
        capture.push(0);
        capture.extend(&bad);
        capture.extend(&good[..5]);
        for (found, totals) in [found(capture.as_slice()), found(Trickle(&capture))] {
            assert_eq!(found.len(), 3, "{found:#?}");
            let What::Frame(first) = &found[0].what else {
                panic!("{found:#?}");
            };
            assert_eq!(
                (first.sequence, first.payload, first.content.as_str()),
                (7, "time_request", "5")
            );
            assert_eq!((found[0].offset, found[0].bytes), (0, good.len() as u64));
            assert_eq!(found[1].what, What::Broken("bad_crc"));
            assert_eq!(found[1].offset, good.len() as u64 + 1);
            assert_eq!(found[2].what, What::CutOff);
            assert_eq!(found[2].bytes, 5);
            let expected = Totals {
                frames: 1,
                broken: 1,
                bytes: capture.len() as u64,
            };
            assert_eq!(totals, expected);
        }
    }

    #[test]
    fn a_line_of_noise_is_named_and_ends() {
        let noise: Vec<u8> = (0..50_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let (found, totals) = found(noise.as_slice());
        assert_eq!(totals.frames, 0);
        assert_eq!(totals.bytes, 50_000);
        let told: u64 = found.iter().map(|found| found.bytes).sum();
        let zeros_alone = totals.bytes - told;
        assert!(zeros_alone < 5_000, "{zeros_alone}");
    }

    #[test]
    fn the_text_says_who_what_and_when() {
        let status = Payload::Status(Status {
            channels: heapless::Vec::new(),
            held: Default::default(),
            next: [1, 2],
            outbox_used: 3,
            outbox_capacity: 4,
            reset: trunnion_common::frame::ResetCause::PowerOn,
        });
        let (found, _) = found(frame(0, &status).as_slice());
        let text = found[0].text();
        for word in [
            "00000000000000a1",
            "essential",
            "1.500000 s",
            "outbox 3 of 4 bytes",
        ] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}
