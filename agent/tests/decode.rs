//! What a capture of every kind of frame looks like, `tests/golden/decode.txt`.
//!
//! `TRUNNION_GOLDEN=write cargo test -p trunnion-agent --test decode` writes it anew: look at what changed.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::Path;
use trunnion_agent::decode::decode;

/// The contract's golden frames one after the other, then a broken one and half of another.
fn capture(wire: &str) -> Vec<u8> {
    let frames = wire.lines().filter_map(|line| {
        let (_, hex) = line.strip_prefix("frame.")?.split_once(" = ")?;
        let digits = hex.as_bytes().chunks_exact(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        Some(digits.map(byte).collect())
    });
    let frames: Vec<Vec<u8>> = frames.collect();
    let mut capture = frames.concat();
    let mut broken = frames[0].clone();
    broken[9] ^= 0x40;
    capture.extend(broken);
    capture.extend(&frames[0][..8]);
    capture
}

#[test]
fn every_kind_of_frame_is_told_in_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wire = fs::read_to_string(root.join("../common/tests/golden/wire_v1.txt")).unwrap();
    let mut told = String::new();
    let totals = decode(&capture(&wire)[..], |found| {
        told += &found.text();
        told += "\n";
        Ok(())
    })
    .unwrap();
    assert_eq!(totals.broken, 1);
    assert_eq!(totals.frames as usize, told.lines().count() - 2);
    let golden = root.join("tests/golden/decode.txt");
    if std::env::var("TRUNNION_GOLDEN").as_deref() == Ok("write") {
        fs::write(&golden, &told).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap();
    for (told, expected) in told.lines().zip(expected.lines()) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.lines().count(), expected.lines().count());
}
