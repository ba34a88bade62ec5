//! The memory that a node works in, from the heap.

use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming};
use trunnion_firmware::node::Memory;

/// Memory of one life of a node.
#[derive(Debug)]
pub struct NodeMemory {
    essential: Vec<u8>,
    waveform: Vec<u8>,
    forming: Vec<Forming>,
    line: [u8; LINE_FRAME_MAX],
}

impl NodeMemory {
    /// So many bytes for unacknowledged frames of each class, and room for the frames of `channels`.
    pub fn new(essential: usize, waveform: usize, channels: usize) -> Self {
        Self {
            essential: vec![0; essential],
            waveform: vec![0; waveform],
            forming: vec![[0; FORMING_SAMPLES]; channels],
            line: [0; LINE_FRAME_MAX],
        }
    }

    /// As a node takes it.
    pub fn lend(&mut self) -> Memory<'_> {
        Memory {
            essential: &mut self.essential,
            waveform: &mut self.waveform,
            forming: &mut self.forming,
            line: &mut self.line,
        }
    }

    /// Memory that is never given back: a test is short.
    pub fn leak(self) -> Memory<'static> {
        Box::leak(Box::new(self)).lend()
    }
}
