//! Sources of blocks other than the [embedded broker](crate::broker): a broker of the plant's own.
//!
//! The contract is the same over either. What a broker confirms (PUBACK) is flow control; a block is
//! safe when ingest has journaled it and its acknowledgement has come back to the gateway. So a broker
//! that loses what it holds costs time, and no data.
//!
//! What differs is who checks whom. The [door](crate::door) binds a connection to the gateway of its
//! certificate, to its topics, sizes and rates. Before another broker stands no door: its access list
//! has to say that a gateway writes to its own `up` topics and reads its own `down` topics, and what it
//! lets through is journaled under the gateway that the topic names. `trunnion-collector init --broker`
//! writes a configuration of mosquitto that does so.

pub mod credentials;
pub mod mqtt;
