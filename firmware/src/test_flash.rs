//! A NOR flash in memory whose power can fail, for tests of what is kept in it.

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Polls to the end a future that waits for nothing.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Flash {
    bytes: Vec<u8>,
    /// Bytes written or erased so far.
    pub(crate) written: usize,
    power_fails_at: usize,
    is_worn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    NoPower,
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NoPower => NorFlashErrorKind::Other,
            Self::Misuse(kind) => *kind,
        }
    }
}

impl Flash {
    pub(crate) const PAGE: usize = 1_024;

    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0xFF; bytes],
            written: 0,
            power_fails_at: usize::MAX,
            is_worn: false,
        }
    }

    /// From now on it takes nothing, and does not say so.
    pub(crate) fn wear_out(&mut self) {
        self.is_worn = true;
    }

    /// After this many more bytes the power fails: nothing can be written, erased or read.
    pub(crate) fn power_until(&mut self, bytes: usize) {
        (self.written, self.power_fails_at) = (0, bytes);
    }

    pub(crate) fn power_on(&mut self) {
        self.power_fails_at = usize::MAX;
    }

    fn change(&mut self, from: u32, change: impl Iterator<Item = u8>) -> Result<(), Fault> {
        for (at, byte) in (from as usize..).zip(change) {
            if self.written >= self.power_fails_at {
                return Err(Fault::NoPower);
            }
            if !self.is_worn {
                self.bytes[at] = byte;
            }
            self.written += 1;
        }
        Ok(())
    }
}

impl ErrorType for Flash {
    type Error = Fault;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        if self.written >= self.power_fails_at {
            return Err(Fault::NoPower);
        }
        let at = offset as usize;
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = Self::PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.change(from, (from..to).map(|_| 0xFF))
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        if !offset.is_multiple_of(4) || !bytes.len().is_multiple_of(4) {
            return Err(Fault::Misuse(NorFlashErrorKind::NotAligned));
        }
        let at = offset as usize;
        // Bits of a NOR flash only fall.
        let fallen: Vec<u8> = bytes
            .iter()
            .zip(&self.bytes[at..])
            .map(|(new, old)| new & old)
            .collect();
        self.change(offset, fallen.into_iter())
    }
}

impl MultiwriteNorFlash for Flash {}
