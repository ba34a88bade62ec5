//! The one place where the order of stages is written.
