//! Refused payloads kept whole, with reason and origin.
