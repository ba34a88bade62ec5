//! A noisy line: what is heard of it is what was sent, or nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{Class, FRAME_MAX, Header, Packing, Payload, Waveform, encode};
use trunnion_common::id::{BootId, ChannelId, LineAddress, NodeId};
use trunnion_common::time::NodeTicks;
use trunnion_common::version;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Bits from one that is flipped to the next, when each is with probability `rate`: geometric.
    fn gap(&mut self, rate: f64) -> usize {
        let uniform = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        (uniform.ln() / (-rate).ln_1p()) as usize
    }
}

/// A waveform frame, as it is and as it is on the line.
fn frame(sequence: u64, samples: usize, chance: &mut Chance) -> (Vec<u8>, Vec<u8>) {
    let data: Vec<u8> = (0..samples)
        .flat_map(|_| (chance.next() as i16).to_le_bytes())
        .collect();
    let payload = Payload::Waveform(Waveform {
        revision: 1,
        channel: ChannelId::new(0).unwrap(),
        first_sample: sequence * samples as u64,
        count: samples as u16,
        packing: Packing::I16,
        data: &data,
    });
    let header = Header {
        version: version::FRAME,
        address: LineAddress(1),
        node: NodeId::new(0xA1).unwrap(),
        boot: BootId::new(1, 0x5EED),
        class: Class::Waveform,
        sequence,
        ticks: NodeTicks(sequence * 1_000),
    };
    let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    let raw = encode(&header, &payload, &mut raw).unwrap();
    (raw.to_vec(), stuff(raw, &mut line).unwrap().to_vec())
}

#[test]
fn of_a_million_damaged_frames_none_is_accepted() {
    const RATE: f64 = 1e-3;
    let mut chance = Chance(1);
    // As long as those that a checksum of 16 bits let through.
    let frames: Vec<_> = (0..64)
        .map(|sequence| frame(sequence, 100, &mut chance))
        .collect();
    let mut buffer = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut buffer);
    let (mut damaged, mut whole, mut heard) = (0_u32, 0_u32, 0_u32);
    let mut next = chance.gap(RATE);
    while damaged < 1_000_000 {
        let (sent, line) = &frames[(damaged as usize + whole as usize) % frames.len()];
        let mut line = line.clone();
        let bits = 8 * line.len();
        let is_damaged = next < bits;
        while next < bits {
            line[next / 8] ^= 1 << (next % 8);
            next += 1 + chance.gap(RATE);
        }
        next -= bits;
        if is_damaged {
            damaged += 1;
        } else {
            whole += 1;
        }
        let mut rest = &line[..];
        while !rest.is_empty() {
            let fed = decoder.feed(rest);
            rest = &rest[fed.taken..];
            if let Some(Ok(frame)) = fed.frame {
                heard += 1;
                assert!(
                    !is_damaged || frame.bytes() == sent,
                    "damaged frame {damaged} was accepted"
                );
                assert_eq!(frame.bytes(), sent);
            }
        }
    }
    // A frame whose predecessor has lost its end is lost with it.
    assert!(heard <= whole && heard > whole / 10 * 9, "{heard} of {whole}");
}

#[test]
fn a_reader_is_in_step_again_one_frame_after_any_damage_at_any_place() {
    let mut chance = Chance(2);
    let (first, first_line) = frame(0, 20, &mut chance);
    let (second, second_line) = frame(1, 20, &mut chance);
    let (third, third_line) = frame(2, 20, &mut chance);
    let heard = |line: &[u8], split: usize| {
        let mut buffer = [0; LINE_FRAME_MAX];
        let mut decoder = Decoder::new(&mut buffer);
        let mut heard = Vec::new();
        for mut part in [&line[..split], &line[split..]] {
            while !part.is_empty() {
                let fed = decoder.feed(part);
                part = &part[fed.taken..];
                heard.extend(fed.frame.and_then(Result::ok).map(|frame| frame.bytes().to_vec()));
            }
        }
        heard
    };
    let line = [first_line.clone(), second_line.clone(), third_line].concat();
    for split in 0..=line.len() {
        assert_eq!(heard(&line, split), [&first[..], &second, &third]);
    }
    let damaged_until = first_line.len();
    for at in 0..damaged_until {
        // Another byte, a byte too few, a byte too many.
        let mut changed = line.clone();
        changed[at] ^= 0x10;
        let mut cut = line.clone();
        cut.remove(at);
        let mut inserted = line.clone();
        inserted.insert(at, 0x55);
        for damaged in [changed, cut, inserted] {
            let heard = heard(&damaged, damaged.len() / 2);
            assert_eq!(heard.last(), Some(&third), "damage at {at}");
            // The end of the first frame alone holds up the second.
            assert!(
                at + 1 >= damaged_until || heard.contains(&second),
                "damage at {at}"
            );
        }
    }
}
