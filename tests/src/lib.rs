//! The whole system under test: the simulated machine, the loaders of recorded data, and the stories.

pub mod record;
pub mod sim_machine;
