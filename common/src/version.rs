//! Wire versions, and which of them each side accepts.

/// Version of the node frame's header and payloads, the first byte of every frame.
pub const FRAME: u8 = 1;

/// Version of a block's body, by itself in the envelope so that the envelope can stay frozen.
pub const BODY: u16 = 1;

/// Version of the messages beside blocks (hello, ack, reject, status, command, result): their first byte.
pub const MESSAGE: u8 = 1;

/// Whether this build reads frames of `version`.
pub const fn accepts_frame(version: u8) -> bool {
    version == FRAME
}

/// Whether this build reads block bodies of `version`.
pub const fn accepts_body(version: u16) -> bool {
    version == BODY
}

/// Whether this build reads messages of `version`.
pub const fn accepts_message(version: u8) -> bool {
    version == MESSAGE
}
