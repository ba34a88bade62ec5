//! Pipeline state and journal position, saved together.
