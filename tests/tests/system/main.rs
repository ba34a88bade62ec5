//! Stories of the whole system: real processes, real TLS, real disks, on loopback.
#![allow(clippy::unwrap_used, reason = "a test: a story that cannot go on has failed")]

mod any_broker;
mod bad_input_is_named;
mod bearing_fault_is_found;
mod full_disk_is_survived;
mod gateway_is_looked_after;
mod gateway_judges_alone;
mod heat_and_unbalance_are_told;
mod kills_lose_nothing;
mod line_noise_and_unplug;
mod nodes_share_a_line;
mod outcomes_have_names;
mod partitions_lose_nothing;
mod plan_takes_effect_once;
mod restart_resumes;
mod station_is_heard_whole;
