//! The sampling plan: what the agent may change about a node.
//!
//! This build samples every channel raw and has no memory that outlives a reset. *Applied* promises
//! both "in force" and "kept across resets", so a plan that differs is answered with *not stored* and
//! changes nothing. A board with such memory is where a changed plan will be kept.

use trunnion_common::frame::{ChannelPlan, Settings, SettingsOutcome};

/// What becomes of `settings` on a node of `channels` channels that are all sampled raw.
pub fn judge(settings: &Settings, channels: usize) -> SettingsOutcome {
    if settings.plans.len() != channels {
        SettingsOutcome::UnknownChannel
    } else if settings.plans.iter().all(|plan| *plan == ChannelPlan::Raw) {
        SettingsOutcome::Unchanged
    } else {
        SettingsOutcome::NotStored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(plans: &[ChannelPlan], expected: SettingsOutcome) {
        let plans = heapless::Vec::from_slice(plans).unwrap();
        assert_eq!(judge(&Settings { command: 1, plans }, 2), expected);
    }

    #[test]
    fn only_what_is_in_force_is_confirmed() {
        check(&[ChannelPlan::Raw, ChannelPlan::Raw], SettingsOutcome::Unchanged);
        check(&[ChannelPlan::Raw, ChannelPlan::Off], SettingsOutcome::NotStored);
        check(&[ChannelPlan::Raw], SettingsOutcome::UnknownChannel);
    }
}
