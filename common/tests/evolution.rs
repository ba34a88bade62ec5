//! Bytes of a build one version later or earlier, made from the golden ones: what this build makes of them.
//!
//! They are test vectors and no promise: the promise is `golden/wire_v1.txt`, and what is done here to its
//! bytes is what a next version may do.
#![allow(
    clippy::unwrap_used,
    reason = "a test: what is unwrapped was written a few lines above"
)]

use std::collections::BTreeMap;
use trunnion_common::ack::{Ack, Extent, Hello, JournalMark};
use trunnion_common::block::{Block, Body, ENVELOPE_BYTES, Envelope, Kind};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, crc32c};
use trunnion_common::frame::RawFrame;
use trunnion_common::id::JournalId;
use trunnion_common::message::{self, CommandResult, GatewayStatus, SignedCommand};
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::version;

/// The golden bytes of every version, by file and name.
fn golden(of: &str) -> BTreeMap<String, Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire_v1.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let named = text.lines().filter_map(|line| line.split_once(" = "));
    let mine = named.filter(|(name, _)| name.starts_with(of));
    mine.map(|(name, hex)| (name.to_owned(), unhex(hex))).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A frame's header and payload, without its checksum and stuffing.
fn frame_content(line: &[u8]) -> Vec<u8> {
    let mut room = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut room);
    let frame = decoder.feed(line).frame.unwrap().unwrap();
    let bytes = frame.bytes();
    bytes[..bytes.len() - 4].to_vec()
}

fn sealed(content: &[u8]) -> Vec<u8> {
    [content, &crc32c(content).to_le_bytes()].concat()
}

fn reblocked(block: &Block<'_>, change: impl FnOnce(&mut Envelope), body: &[u8]) -> Vec<u8> {
    let mut envelope = block.envelope;
    change(&mut envelope);
    [&envelope.encode(body)[..], body].concat()
}

#[test]
fn a_frame_of_another_version_is_told_by_its_first_byte_and_by_nothing_else() {
    let frames = golden("frame.");
    assert!(frames.len() >= 15);
    for (name, line) in frames {
        let content = frame_content(&line);
        for other in [version::FRAME - 1, version::FRAME + 1, u8::MAX] {
            let mut changed = content.clone();
            changed[0] = other;
            let refused = RawFrame::parse(&sealed(&changed)).err();
            assert_eq!(refused, Some(RejectReason::FrameVersion), "{name}");
        }
        // Nothing behind the version need make sense to this build.
        let later = sealed(&[version::FRAME + 1, 0xff, 0xff]);
        assert_eq!(RawFrame::parse(&later).err(), Some(RejectReason::FrameVersion));
    }
}

#[test]
fn fields_that_a_later_build_appends_to_a_frame_are_ignored() {
    for (name, line) in golden("frame.") {
        let content = frame_content(&line);
        let now = sealed(&content);
        let later = sealed(&[&content[..], &[7, 7, 7]].concat());
        let (now, later) = (RawFrame::parse(&now).unwrap(), RawFrame::parse(&later).unwrap());
        assert_eq!(now.header(), later.header(), "{name}");
        assert_eq!(now.payload().unwrap(), later.payload().unwrap(), "{name}");
    }
}

#[test]
fn a_frame_with_an_unknown_payload_still_says_whose_it_is_and_where_it_stands() {
    let content = frame_content(&golden("frame.discover")["frame.discover"]);
    let (header, discover) = content.split_at(content.len() - 1);
    assert_eq!(discover, [9]);
    // 15 is the next one to be given out.
    for number in [15, 100, 0xff] {
        let bytes = sealed(&[header, &[number, 1]].concat());
        let frame = RawFrame::parse(&bytes).unwrap();
        assert_eq!(frame.header().sequence, 24);
        assert_eq!(frame.payload().err(), Some(RejectReason::FramePayload));
    }
}

#[test]
fn a_body_of_another_version_kind_or_codec_is_refused_for_a_reason_that_keeps_the_block() {
    let blocks = golden("block.");
    assert_eq!(blocks.len(), Kind::ALL.len());
    for (name, bytes) in blocks {
        let block = Block::parse(&bytes).unwrap();
        let check = |change: &dyn Fn(&mut Envelope), reason: RejectReason| {
            let bytes = reblocked(&block, change, block.body);
            let changed = Block::parse(&bytes).expect("the envelope is frozen");
            assert_eq!(changed.body, block.body);
            assert_eq!(changed.envelope.sequence, block.envelope.sequence);
            assert_eq!(changed.decode().err(), Some(reason), "{name}");
            assert_eq!(changed.kind().err(), Some(reason), "{name}");
            assert!(reason.is_kept());
        };
        for other in [version::BODY - 1, version::BODY + 1, u16::MAX] {
            check(
                &|envelope| envelope.body_version = other,
                RejectReason::BodyVersion,
            );
        }
        // 14 is the next one to be given out, and 0 never was.
        for other in [0, 14, u8::MAX] {
            check(&|envelope| envelope.kind = other, RejectReason::BodyKind);
        }
        check(&|envelope| envelope.codec = 1, RejectReason::BodyCodec);
    }
}

#[test]
fn fields_that_a_later_build_appends_to_a_single_body_are_ignored() {
    for kind in ["readings", "clock_fix", "gap", "tombstone", "describe"] {
        let name = format!("block.{kind}");
        let bytes = golden(&name).remove(&name).unwrap();
        let block = Block::parse(&bytes).unwrap();
        let later = reblocked(&block, |_| (), &[block.body, &[7, 7, 7]].concat());
        let later = Block::parse(&later).unwrap();
        assert_eq!(
            format!("{:?}", later.decode().unwrap()),
            format!("{:?}", block.decode().unwrap())
        );
    }
}

#[test]
fn a_record_that_does_not_decode_ends_its_block_and_those_before_it_count() {
    let bytes = golden("block.frames").remove("block.frames").unwrap();
    let block = Block::parse(&bytes).unwrap();
    let later = reblocked(&block, |_| (), &[block.body, &[0xff; 11]].concat());
    let Ok(Body::Frames(records)) = Block::parse(&later).unwrap().decode() else {
        panic!("frames");
    };
    let read: Vec<_> = records.map(|record| record.err()).collect();
    assert_eq!(read, [None, None, Some(RejectReason::BodyDecode)]);
}

#[test]
fn a_message_of_another_version_is_refused_and_appended_fields_are_ignored() {
    fn check<'a, T>(name: &str, messages: &'a BTreeMap<String, Vec<u8>>, room: &'a mut [Vec<u8>; 3])
    where
        T: serde::Deserialize<'a> + PartialEq + std::fmt::Debug,
    {
        let bytes = &messages[name];
        let now = message::decode::<T>(bytes).unwrap();
        let [before, after, longer] = room;
        for (other, to) in [(version::MESSAGE - 1, before), (version::MESSAGE + 1, after)] {
            to.clone_from(bytes);
            to[0] = other;
            assert_eq!(
                message::decode::<T>(to).err(),
                Some(RejectReason::MessageVersion),
                "{name}"
            );
        }
        longer.clone_from(bytes);
        longer.extend([7, 7, 7]);
        assert_eq!(message::decode::<T>(longer).unwrap(), now, "{name}");
        assert!(message::decode::<T>(&bytes[..bytes.len() - 1]).is_err(), "{name}");
    }
    let messages = golden("message.");
    let mut rooms: [[Vec<u8>; 3]; 6] = Default::default();
    let [ack, hello, reject, status, command, result] = &mut rooms;
    check::<Ack>("message.ack", &messages, ack);
    check::<Hello>("message.hello", &messages, hello);
    check::<Reject>("message.reject", &messages, reject);
    check::<GatewayStatus>("message.status", &messages, status);
    check::<SignedCommand<'_>>("message.command", &messages, command);
    check::<CommandResult>("message.result", &messages, result);
    // What was appended to a message since: without it, or with a part of it, the rest is read.
    let appended = &messages["message.hello_after_journals"];
    let hello: Hello = message::decode(appended).unwrap();
    assert_eq!(hello.journals.len(), 2);
    let cut: Hello = message::decode(&appended[..appended.len() - 1]).unwrap();
    assert_eq!((cut.start, cut.journals.len()), (hello.start, 0));
    let told = |name: &str, cut: usize| {
        let bytes = &messages[name];
        message::decode::<Hello>(&bytes[..bytes.len() - cut])
            .unwrap()
            .journals
    };
    let named: Vec<JournalId> = hello.journals.iter().map(|mark| mark.name).collect();
    let extents = |cut| {
        let journals = told("message.hello_with_extents", cut);
        let names = journals.iter().map(|mark| mark.name);
        assert!(names.eq(named.iter().copied()), "{journals:?}");
        journals
            .into_iter()
            .map(|mark| mark.extent.0)
            .collect::<Vec<u64>>()
    };
    assert_eq!((extents(0), extents(1)), (vec![0x3_0000_1000, 0], vec![0, 0]));
    let appended = &messages["message.ack_with_extent"];
    let ack: Ack = message::decode(appended).unwrap();
    assert_eq!(ack.journal.extent, Extent(0x3_0000_1000));
    let cut: Ack = message::decode(&appended[..appended.len() - 1]).unwrap();
    assert_eq!(cut.journal, JournalMark::from(ack.journal.name));
    assert_eq!(messages.len(), 9, "each message is looked at here");
}

#[test]
fn a_reason_of_a_later_build_is_read_as_unknown_and_gives_nothing_up_as_kept() {
    let mut room = [0; 16];
    let later = message::encode(&(0x1234_5678_u32, 20_u16), &mut room).unwrap();
    let reject: Reject = message::decode(later).unwrap();
    assert_eq!((reject.crc, reject.reason), (0x1234_5678, RejectReason::Unknown));
    let kept = RejectReason::ALL.iter().filter(|reason| reason.is_kept());
    let kept: Vec<_> = kept.map(|reason| reason.label()).collect();
    assert_eq!(kept, ["body_version", "body_kind", "body_codec"]);
}

#[test]
fn the_envelope_is_as_long_as_it_always_was() {
    for bytes in golden("block.").values() {
        let block = Block::parse(bytes).unwrap();
        assert_eq!(bytes.len(), ENVELOPE_BYTES + block.body.len());
    }
}
