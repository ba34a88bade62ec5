//! TLS acceptor in front of the broker: who it is, which packets and topics it may send, how much.
