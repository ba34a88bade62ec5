//! From the broker to the journal: identity, deduplication, durable commit, acknowledgement.

use std::time::Duration;

/// A message as it came from a gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// The topic; the door has made sure that it is the sender's own.
    pub topic: String,
    /// The payload.
    pub payload: bytes::Bytes,
}

/// Where blocks come from and acknowledgements go: the embedded broker now, JetStream later.
pub trait BlockSource: Send {
    /// The next message, or `None` when there was none for `timeout`.
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, SourceClosed>;

    /// Sends a message to a gateway.
    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SourceClosed>;
}

/// The source has gone for good: the collector is stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the source of blocks has closed")]
pub struct SourceClosed;
