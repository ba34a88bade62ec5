//! The whole system under test: the simulated machine, the record loaders, the host node, and a plant
//! of real processes on loopback for stories to play in, and a simulated world of the same parts.

pub mod audit;
pub mod bench;
pub mod cases;
pub mod eval;
pub mod fuzz;
pub mod host_node;
pub mod kills;
pub mod load;
pub mod node_memory;
pub mod outages;
pub mod plant;
pub mod process;
pub mod proxy;
pub mod pseudo_terminal;
pub mod qemu;
pub mod record;
pub mod reference;
pub mod rs485;
pub mod sim_machine;
pub mod sim_rig;
pub mod story;
pub mod workspace;
pub mod world;
