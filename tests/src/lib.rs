//! The whole system under test: what plays the machine, and what plays the node.

pub mod host_node;
