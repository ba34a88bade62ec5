//! One plain status page; uses only the public API.
