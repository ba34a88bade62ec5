//! The plant's own certificate authority: server and gateway certificates, revocation.
