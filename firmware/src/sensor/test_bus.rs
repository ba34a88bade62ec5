//! A part on an I2C bus as its register map, for tests of drivers.

use core::cell::RefCell;
use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, Operation};

/// Nobody answers at that address.
#[derive(Debug)]
pub(crate) struct Silence;

impl Error for Silence {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// Registers behind a pointer that each write sets.
#[derive(Debug)]
pub(crate) struct Part {
    address: u8,
    registers: [u8; 256],
    /// Bytes of a register.
    width: usize,
    pointer: usize,
    pub(crate) is_there: bool,
    /// The highest bit of register 0 is an order to reset, and reads 0 when that is done.
    pub(crate) resets_itself: bool,
    /// What each read of these registers takes next, for registers that are a queue.
    pub(crate) queue: Option<(u8, std::collections::VecDeque<Vec<u8>>)>,
}

impl Part {
    /// Registers of sixteen bits, the high byte first.
    pub(crate) fn of_words(address: u8, words: &[(u8, u16)]) -> Self {
        let mut part = Self::of_bytes(address, &[]);
        part.width = 2;
        for (register, word) in words {
            let at = 2 * usize::from(*register);
            part.registers[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
        part
    }

    /// Registers of eight bits.
    pub(crate) fn of_bytes(address: u8, bytes: &[(u8, u8)]) -> Self {
        let mut registers = [0; 256];
        for (register, byte) in bytes {
            registers[usize::from(*register)] = *byte;
        }
        Self {
            address,
            registers,
            width: 1,
            pointer: 0,
            is_there: true,
            resets_itself: false,
            queue: None,
        }
    }

    pub(crate) fn word(&self, register: u8) -> u16 {
        let at = 2 * usize::from(register);
        u16::from_be_bytes([self.registers[at], self.registers[at + 1]])
    }

    pub(crate) fn set_byte(&mut self, register: u8, value: u8) {
        self.registers[usize::from(register)] = value;
    }

    pub(crate) fn byte(&self, register: u8) -> u8 {
        self.registers[usize::from(register)]
    }
}

impl ErrorType for Part {
    type Error = Silence;
}

impl I2c for Part {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Silence> {
        if !self.is_there || address != self.address {
            return Err(Silence);
        }
        for operation in operations {
            match operation {
                Operation::Write(bytes) => {
                    let Some((pointer, values)) = bytes.split_first() else {
                        continue;
                    };
                    // Of registers of eight bits the highest bit asks for the next one after each byte.
                    let mask = if self.width == 1 { 0x7F } else { 0xFF };
                    self.pointer = usize::from(pointer & mask) * self.width;
                    self.registers[self.pointer..self.pointer + values.len()].copy_from_slice(values);
                    if self.resets_itself {
                        self.registers[0] &= 0x7F;
                    }
                }
                Operation::Read(bytes) => match &mut self.queue {
                    Some((register, queue)) if usize::from(*register) == self.pointer => {
                        let next = queue.pop_front().unwrap_or_default();
                        let count = bytes.len().min(next.len());
                        bytes[..count].copy_from_slice(&next[..count]);
                    }
                    _ => {
                        let end = self.pointer + bytes.len();
                        bytes.copy_from_slice(&self.registers[self.pointer..end]);
                    }
                },
            }
        }
        Ok(())
    }
}

/// The part on a bus that the test looks at, too.
#[derive(Debug)]
pub(crate) struct Shared<'a>(pub(crate) &'a RefCell<Part>);

impl ErrorType for Shared<'_> {
    type Error = Silence;
}

impl I2c for Shared<'_> {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Silence> {
        self.0.borrow_mut().transaction(address, operations)
    }
}
