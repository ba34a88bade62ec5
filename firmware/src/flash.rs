//! A flash that answers at once, as one that is waited for: on-chip flash keeps the processor waiting anyway.

use embedded_storage::nor_flash as sync;
use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};

/// A blocking flash behind the asynchronous traits.
#[derive(Clone, Debug)]
pub struct Blocking<F>(pub F);

impl<F: sync::ErrorType> ErrorType for Blocking<F> {
    type Error = F::Error;
}

impl<F: sync::ReadNorFlash> ReadNorFlash for Blocking<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: sync::NorFlash> NorFlash for Blocking<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes)
    }
}

impl<F: sync::MultiwriteNorFlash> MultiwriteNorFlash for Blocking<F> {}
