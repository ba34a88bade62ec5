//! Statistics that notice change: the raw material of state detection (ISO 13374), one code for node,
//! gateway and collector.
//!
//! Everything here is pure and bounded: readings go in one by one with their time, in order, and events
//! come out. Nothing looks ahead, and a copy of the state is all that a restart needs.
//!
//! | module | what it notices | from |
//! |---|---|---|
//! | [`ewma`] | nothing by itself: the level under the noise | Roberts 1959 |
//! | [`cusum`] | a shift of the mean | Page 1954 |
//! | [`density`] | values that have been rare of late | |
//! | [`trees`] | rows that lie where few have lain | Tan, Ting and Liu 2011 |
//! | [`hotelling`] | channels that no longer move together, and which | Hotelling 1947, Jackson 1959 |
//! | [`change`] | a level that moved, whatever it was before | |
//! | [`spread`] | nothing by itself: how far a channel strays while it is learned | |
//! | [`hysteresis`] | what stays beyond a limit, not what touches it | |
//!
//! Three detectors are composed of them:
//!
//! | detector | looks at | says |
//! |---|---|---|
//! | [`scalar::Scalar`] | one slow channel | this reading, or the mean of the last ones, is rare |
//! | [`multivariate::Multivariate`] | the slow channels of an asset together | the asset has left what was learned; it has changed |
//! | [`rise::Rise`] | one feature that grows with damage | it has risen and stays risen |
//!
//! [`attribution`] then tells which of several machine elements that rise is the source.
//!
//! The settings' defaults are the only ones: they were chosen once, as written beside each, and hold for
//! every channel of every machine until somebody sets others.

pub mod attribution;
pub mod change;
pub mod cusum;
pub mod density;
pub mod ewma;
pub mod hotelling;
pub mod hysteresis;
pub mod multivariate;
pub mod rise;
pub mod scalar;
pub mod spread;
pub mod trees;
