//! A few read-only connections to the state, lent to requests on blocking threads.

use crate::state::{StateError, StateReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections open at once. Reads take milliseconds; more would only fight over two cores.
const READERS: usize = 4;

/// Longest wait for a connection before a request is told to come back.
const WAIT: Duration = Duration::from_secs(5);

/// The state could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// No connection became free in time.
    #[error("no connection to the state became free")]
    Busy,
    /// The state refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The read panicked: a defect, kept inside its request.
    #[error("a read of the state ended in a panic")]
    Panicked,
}

/// The pool. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    slots: Arc<Semaphore>,
    /// As many as the semaphore has permits; never locked across an await, so the standard mutex.
    idle: Arc<Mutex<Vec<StateReader>>>,
}

impl Readers {
    /// Opens the connections; the database has to be there.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let idle: Vec<StateReader> = (0..READERS)
            .map(|_| StateReader::open(path))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            slots: Arc::new(Semaphore::new(READERS)),
            idle: Arc::new(Mutex::new(idle)),
        })
    }

    /// Reads with one of the connections, off the asynchronous threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StateReader) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let slot = tokio::time::timeout(WAIT, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| ReadError::Busy)?
            .map_err(|_| ReadError::Busy)?;
        let idle = Arc::clone(&self.idle);
        let work = move || {
            let lent = Lent::take(idle);
            let outcome = read(lent.reader())?;
            // The connection is back before the slot is free, whoever still waits for this answer.
            drop(lent);
            drop(slot);
            Ok(outcome)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| ReadError::Panicked)?
    }
}

/// A connection that returns to the pool however its use ends.
struct Lent {
    /// `None` in drop only.
    reader: Option<StateReader>,
    idle: Arc<Mutex<Vec<StateReader>>>,
}

impl Lent {
    /// For the holder of a slot.
    fn take(idle: Arc<Mutex<Vec<StateReader>>>) -> Self {
        // A panic while it was locked cannot have left the list half changed.
        let reader = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { reader, idle }
    }

    fn reader(&self) -> &StateReader {
        self.reader
            .as_ref()
            .expect("a slot stands for a connection in the list")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.reader.take());
    }
}
