//! What an advisory about slow channels rests on that are not as they were.

use serde::{Deserialize, Serialize};

/// How far slow channels are from what they were.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UnusualEvidence {
    /// Which channel of the point; none where several are judged together.
    pub channel: Option<String>,
    /// Of one channel how rare the reading is, nats; of several T-squared over its limit.
    pub value: f32,
    /// From where on it is told.
    pub limit: f32,
    /// Of several: Q over the largest learned, which breaks habits that T-squared may not see. It raises
    /// nothing by itself.
    pub residual: Option<f32>,
    /// Of several: how few of the last rows lay there, from 0 to 1, by half-space trees. It raises nothing by
    /// itself, and is not known before they have seen a window of rows.
    pub rarity: Option<f32>,
    /// Of several: the share of each channel, as `point/channel`, in T-squared, the largest first.
    pub contributions: Vec<(String, f32)>,
}

impl UnusualEvidence {
    /// Channels named in words at most.
    const NAMED: usize = 3;

    /// In a few words.
    pub fn words(&self) -> String {
        if self.contributions.is_empty() {
            return "a reading that is unusual for this channel".to_owned();
        }
        let named = self.contributions.iter().take(Self::NAMED);
        let named: Vec<_> = named
            .map(|(channel, share)| format!("{channel} {:.0} %", 100.0 * share))
            .collect();
        format!("unusual together: {}", named.join(", "))
    }

    /// Whether it says clearly more than another.
    pub(super) fn is_stronger(&self, shown: &Self, factor: f64) -> bool {
        f64::from(self.value) >= factor * f64::from(shown.value)
    }
}
