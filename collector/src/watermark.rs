//! Progress of event time per source. Pure.
