//! An I2C EEPROM with two address bytes (AT24C256 and its kind) that looks like a flash: what is kept in
//! flash on one board is kept here on another, by the same code.

use embedded_hal::i2c::{I2c, Operation};
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Bytes of a page buffer that any such part has (AT24C32 and larger); a write must not cross its edge.
const PAGE_BYTES: usize = 32;

/// A part answers nobody while it writes, at most 5 ms: at 400 kHz that is some 200 addresses unanswered.
const BUSY_TRIES: u32 = 1_000;

/// An EEPROM on a bus.
#[derive(Debug)]
pub struct Eeprom<I> {
    bus: I,
    address: u8,
    bytes: usize,
}

/// An access that did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EepromError {
    /// The part did not answer in all the time that a write may take.
    Silent,
    /// Beyond its end.
    OutOfBounds,
}

impl NorFlashError for EepromError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Silent => NorFlashErrorKind::Other,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
        }
    }
}

impl<I: I2c> Eeprom<I> {
    /// A part of so many bytes (at most 65,536) at `address`, 0x50 with its pins tied to ground.
    pub const fn new(bus: I, address: u8, bytes: usize) -> Self {
        Self { bus, address, bytes }
    }

    /// Where `length` bytes from `offset` on begin, as the part wants to hear it.
    fn place(&self, offset: u32, length: usize) -> Result<[u8; 2], EepromError> {
        let is_inside = (offset as usize)
            .checked_add(length)
            .is_some_and(|end| end <= self.bytes);
        match u16::try_from(offset) {
            Ok(offset) if is_inside => Ok(offset.to_be_bytes()),
            _ => Err(EepromError::OutOfBounds),
        }
    }

    fn transact(&mut self, operations: &mut [Operation<'_>]) -> Result<(), EepromError> {
        for _ in 0..BUSY_TRIES {
            if self.bus.transaction(self.address, operations).is_ok() {
                return Ok(());
            }
        }
        Err(EepromError::Silent)
    }

    /// Writes what `content` gives, a page buffer at a time.
    fn fill(
        &mut self,
        from: u32,
        length: usize,
        content: impl Fn(usize, &mut [u8]),
    ) -> Result<(), EepromError> {
        self.place(from, length)?;
        let mut done = 0;
        while done < length {
            let at = from as usize + done;
            let part = (PAGE_BYTES - at % PAGE_BYTES).min(length - done);
            let mut page = [0; PAGE_BYTES];
            content(done, &mut page[..part]);
            let place = self.place(at as u32, part)?;
            self.transact(&mut [Operation::Write(&place), Operation::Write(&page[..part])])?;
            done += part;
        }
        Ok(())
    }
}

impl<I> ErrorType for Eeprom<I> {
    type Error = EepromError;
}

impl<I: I2c> ReadNorFlash for Eeprom<I> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), EepromError> {
        let place = self.place(offset, bytes.len())?;
        self.transact(&mut [Operation::Write(&place), Operation::Read(bytes)])
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl<I: I2c> NorFlash for Eeprom<I> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1_024;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), EepromError> {
        self.fill(from, to.saturating_sub(from) as usize, |_, page| page.fill(0xFF))
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), EepromError> {
        self.fill(offset, bytes.len(), |done, page| {
            let part = page.len();
            page.copy_from_slice(&bytes[done..done + part]);
        })
    }
}

/// It can be written as often as one likes.
impl<I: I2c> MultiwriteNorFlash for Eeprom<I> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_flash::block_on;
    use embedded_hal::i2c::{ErrorKind, ErrorType as BusErrorType, NoAcknowledgeSource};

    /// An AT24C32 by its data sheet (Microchip DS20006362): the low five bits of the address roll over
    /// within a page, and no address is answered while it writes.
    struct Part {
        bytes: [u8; 4_096],
        cursor: usize,
        busy: u32,
    }

    impl BusErrorType for Part {
        type Error = ErrorKind;
    }

    impl I2c for Part {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            if address != 0x50 || self.busy > 0 {
                self.busy = self.busy.saturating_sub(1);
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            let mut heard = 0;
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        for byte in *bytes {
                            match heard {
                                0 => self.cursor = usize::from(*byte) << 8,
                                1 => self.cursor = (self.cursor | usize::from(*byte)) % 4_096,
                                _ => {
                                    self.bytes[self.cursor] = *byte;
                                    self.cursor = self.cursor & !31 | (self.cursor + 1) & 31;
                                    self.busy = 100;
                                }
                            }
                            heard += 1;
                        }
                    }
                    Operation::Read(bytes) => {
                        for byte in bytes.iter_mut() {
                            *byte = self.bytes[self.cursor];
                            self.cursor = (self.cursor + 1) % 4_096;
                        }
                    }
                }
            }
            Ok(())
        }
    }

    fn eeprom() -> Eeprom<Part> {
        let part = Part {
            bytes: [0; 4_096],
            cursor: 0,
            busy: 0,
        };
        Eeprom::new(part, 0x50, 4_096)
    }

    #[test]
    fn what_is_written_over_page_edges_is_read_back_and_nothing_else_changes() {
        let mut eeprom = eeprom();
        let content: Vec<u8> = (0..100).collect();
        block_on(eeprom.write(20, &content)).unwrap();
        let mut read = [0xEE; 140];
        block_on(eeprom.read(0, &mut read)).unwrap();
        assert_eq!(read[..20], [0; 20]);
        assert_eq!(read[20..120], content);
        assert_eq!(read[120..], [0; 20]);
        block_on(eeprom.erase(0, 1_024)).unwrap();
        block_on(eeprom.read(0, &mut read)).unwrap();
        assert_eq!(read, [0xFF; 140]);
    }

    #[test]
    fn beyond_the_end_nothing_is_written_and_a_part_that_is_not_there_is_told() {
        let mut eeprom = eeprom();
        assert_eq!(
            block_on(eeprom.write(4_092, &[1; 8])),
            Err(EepromError::OutOfBounds)
        );
        assert!(eeprom.bus.bytes.iter().all(|byte| *byte == 0));
        eeprom.address = 0x51;
        assert_eq!(block_on(eeprom.read(0, &mut [0])), Err(EepromError::Silent));
    }
}
