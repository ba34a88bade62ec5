//! TOML text to a validated configuration.
