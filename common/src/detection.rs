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
//! | [`drift`] | a distribution that is no longer the one learned | Kolmogorov 1933, Smirnov 1948 |
//! | [`spread`] | nothing by itself: how far a channel strays while it is learned | |
//! | [`hysteresis`] | what stays beyond a limit, not what touches it | |

pub mod cusum;
pub mod density;
pub mod drift;
pub mod ewma;
pub mod hotelling;
pub mod hysteresis;
pub mod spread;
pub mod trees;
