//! What a life leaves to the next one in memory that a reset does not clear.
//!
//! At power-on that memory holds anything, so what is read there counts only with its checksum. A node
//! writes [`LastWords::alive`] when it starts, and over it why it ends, if it can: the handler of faults, panics among
//! them, and the watchdog's warning can. A life that says nothing more was ended from outside.
//!
//! | bytes | content, little-endian |
//! |---|---|
//! | 0-3 | `TRLW` |
//! | 4 | how it ended ([`End`]) |
//! | 5-7 | 0 |
//! | 8-11 | where: the address of the instruction that panicked or failed; else 0 |
//! | 12-15 | lives since power-on |
//! | 16-19 | bytes of the stack that it used, at most |
//! | 20-23 | bytes that its stack had |
//! | 24-27 | CRC-32C of everything before |

use trunnion_common::codec::crc32c;
use trunnion_common::frame::{Event, EventKind, ResetCause, Severity};

const MAGIC: [u8; 4] = *b"TRLW";

/// Bytes of last words.
pub const BYTES: usize = CRC_AT + 4;

const CRC_AT: usize = 24;

/// How a life ended, as far as it could tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum End {
    /// It did not tell: somebody pressed the reset.
    Untold = 0,
    /// A panic, or a fault of the processor.
    Panic = 1,
    /// The watchdog warned, and then nobody fed it.
    Watchdog = 2,
    /// The firmware asked for it.
    Asked = 3,
}

/// What a life leaves to the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastWords {
    /// How it ended.
    pub end: End,
    /// Where: the address of the instruction that panicked or failed; else 0.
    pub place: u32,
    /// Lives since power-on, this one counted.
    pub lives: u32,
    /// Its stack, as far as it had looked.
    pub stack: Stack,
}

/// How much of a stack was ever used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stack {
    /// Bytes used, at most.
    pub used: u32,
    /// Bytes there are; 0 before anybody has looked.
    pub room: u32,
}

impl LastWords {
    /// What a life writes at its start, after `former`, if there was one since power-on.
    pub const fn alive(former: Option<Self>) -> Self {
        let lives = match former {
            Some(former) => former.lives.saturating_add(1),
            None => 1,
        };
        Self {
            end: End::Untold,
            place: 0,
            lives,
            stack: Stack { used: 0, room: 0 },
        }
    }

    /// The same life, once it has looked at its stack.
    pub const fn with_stack(self, stack: Stack) -> Self {
        Self { stack, ..self }
    }

    /// The same life, as it ends.
    pub const fn ending(self, end: End, place: u32) -> Self {
        Self { end, place, ..self }
    }

    /// As they stand in memory.
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.end as u8;
        bytes[8..12].copy_from_slice(&self.place.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lives.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stack.used.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.stack.room.to_le_bytes());
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What stands in memory, if it is last words.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..4] != MAGIC || word(CRC_AT) != crc32c(&bytes[..CRC_AT]) {
            return None;
        }
        let end = match bytes[4] {
            0 => End::Untold,
            1 => End::Panic,
            2 => End::Watchdog,
            3 => End::Asked,
            _ => return None,
        };
        Some(Self {
            end,
            place: word(8),
            lives: word(12),
            stack: Stack {
                used: word(16),
                room: word(20),
            },
        })
    }
}

/// Why this life began, by what the former one left.
pub const fn reset_cause(former: Option<LastWords>) -> ResetCause {
    match former {
        None => ResetCause::PowerOn,
        Some(former) => match former.end {
            End::Untold => ResetCause::Pin,
            End::Panic | End::Asked => ResetCause::Software,
            End::Watchdog => ResetCause::Watchdog,
        },
    }
}

/// The bits of an address that an event's value holds exactly. Every part's flash begins at a multiple of it.
const PLACE_MASK: u32 = (1 << 24) - 1;

/// What the next life has to tell of the former one before everything else. The value is where: the address of an
/// instruction from the beginning of the flash.
pub fn obituary(former: Option<LastWords>) -> Option<Event> {
    let former = former?;
    let kind = match former.end {
        End::Panic => EventKind::Panicked,
        End::Watchdog => EventKind::WatchdogBite,
        End::Untold | End::Asked => return None,
    };
    Some(Event {
        severity: Severity::Alarm,
        kind,
        channel: None,
        repeats: 1,
        value: (former.place & PLACE_MASK) as f32,
    })
}

/// Percent of a stack from which on it is an alarm that so much was used: the next larger frame ends in other memory.
const STACK_ALARM_PERCENT: u64 = 90;

/// What the former life used of its stack, if it ever looked. Bytes are exact in the event's value below 2^24.
pub fn stack_used(former: Option<LastWords>) -> Option<Event> {
    let Stack { used, room } = former?.stack;
    let is_scarce = 100 * u64::from(used) >= STACK_ALARM_PERCENT * u64::from(room);
    (room > 0).then_some(Event {
        severity: if is_scarce {
            Severity::Alarm
        } else {
            Severity::Info
        },
        kind: EventKind::StackUsed,
        channel: None,
        repeats: 1,
        value: used as f32,
    })
}

/// What a reset for want of supply is told as.
pub fn brown_out(reset: ResetCause) -> Option<Event> {
    (reset == ResetCause::BrownOut).then_some(Event {
        severity: Severity::Warning,
        kind: EventKind::BrownOut,
        channel: None,
        repeats: 1,
        value: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_read_as_they_were_written_and_any_flipped_bit_is_noticed() {
        let stack = Stack {
            used: 0x0002_0304,
            room: 0x0005_0607,
        };
        let words = LastWords::alive(None)
            .ending(End::Watchdog, 0x0001_2344)
            .with_stack(stack);
        let bytes = words.to_bytes();
        assert_eq!(LastWords::from_bytes(bytes), Some(words));
        for bit in 0..8 * BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(LastWords::from_bytes(damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn memory_of_a_cold_start_says_nothing() {
        for cold in [[0; BYTES], [0xFF; BYTES]] {
            assert_eq!(LastWords::from_bytes(cold), None);
        }
        assert_eq!(reset_cause(None), ResetCause::PowerOn);
    }

    #[test]
    fn a_cause_follows_from_the_end_and_a_panic_is_told() {
        let first = LastWords::alive(None);
        let second = LastWords::alive(Some(first));
        assert_eq!((first.lives, second.lives), (1, 2));
        assert_eq!(reset_cause(Some(first)), ResetCause::Pin);
        assert_eq!(
            reset_cause(Some(first.ending(End::Watchdog, 8))),
            ResetCause::Watchdog
        );
        let panicked = Some(first.ending(End::Panic, 0x0800_ABCD));
        assert_eq!(reset_cause(panicked), ResetCause::Software);
        let told = obituary(panicked).unwrap();
        assert_eq!((told.kind, told.value), (EventKind::Panicked, 43_981.0));
        let bitten = obituary(Some(first.ending(End::Watchdog, 0))).unwrap();
        assert_eq!(bitten.kind, EventKind::WatchdogBite);
        assert_eq!(obituary(Some(second)), None);
        assert_eq!(brown_out(ResetCause::BrownOut).unwrap().kind, EventKind::BrownOut);
        assert_eq!(brown_out(ResetCause::PowerOn), None);
    }

    #[test]
    fn a_stack_is_told_once_somebody_has_looked_and_is_an_alarm_when_little_is_left() {
        let told = |used, room| {
            let words = LastWords::alive(None).with_stack(Stack { used, room });
            stack_used(Some(words)).map(|event| (event.severity, event.value))
        };
        assert_eq!(told(0, 0), None);
        assert_eq!(told(30_000, 40_000), Some((Severity::Info, 30_000.0)));
        assert_eq!(told(36_000, 40_000), Some((Severity::Alarm, 36_000.0)));
        assert_eq!(stack_used(None), None);
        // The next life has its own.
        let former = LastWords::alive(None).with_stack(Stack { used: 9, room: 10 });
        assert_eq!(stack_used(Some(LastWords::alive(Some(former)))), None);
    }
}
