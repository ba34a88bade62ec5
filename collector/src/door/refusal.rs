//! Why somebody was refused or cut: a closed list, counted by label and logged with its detail.

use rustls::{CertificateError, Error as TlsError};
use std::fmt;
use std::io;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// The reason, without particulars.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum RefusalReason {
            $($(#[$doc])* $name,)+
        }

        impl RefusalReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable label, as on `/metrics` and in the log.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

reasons! {
    /// The door holds as many connections as it may.
    ConnectionsFull = "connections_full",
    /// One address has too many connections that have not shown a certificate yet.
    HandshakesFull = "handshakes_full",
    /// One address, or one gateway, connects too often.
    TooManyAttempts = "too_many_attempts",
    /// No TLS handshake within its time.
    HandshakeTimeout = "handshake_timeout",
    /// Something other than TLS, or TLS that was broken off.
    Handshake = "handshake",
    /// No client certificate.
    CertificateMissing = "certificate_missing",
    /// The certificate has expired, or did so during the session.
    CertificateExpired = "certificate_expired",
    /// The certificate is not valid yet: wrong here, or the clock is.
    CertificateFuture = "certificate_future",
    /// Signed by somebody else.
    CertificateIssuer = "certificate_issuer",
    /// Not a certificate for clients.
    CertificateUsage = "certificate_usage",
    /// Revoked, or did not survive a reload of the revocation list or of the authority.
    CertificateRevoked = "certificate_revoked",
    /// Anything else about the certificate.
    Certificate = "certificate",
    /// The certificate does not name exactly one gateway.
    Identity = "identity",
    /// No CONNECT within its time.
    ConnectTimeout = "connect_timeout",
    /// A packet that is longer than any legal one of its kind.
    Oversized = "oversized",
    /// Bytes that are no packet of MQTT 3.1.1.
    Malformed = "malformed",
    /// A packet before CONNECT.
    NotConnected = "not_connected",
    /// A second CONNECT.
    SecondConnect = "second_connect",
    /// Another protocol or version.
    ProtocolVersion = "protocol_version",
    /// A session that should outlive its connection; the broker keeps none.
    PersistentSession = "persistent_session",
    /// Not the client id of this gateway.
    ClientId = "client_id",
    /// A will that is not this gateway's own status.
    Will = "will",
    /// A user name or password, where the certificate is all that counts.
    Credentials = "credentials",
    /// A keep-alive of zero: nobody would notice that the client is gone.
    KeepAliveZero = "keep_alive_zero",
    /// A packet that only servers send.
    ServerPacket = "server_packet",
    /// QoS 2, which the contract does not use.
    Qos2 = "qos2",
    /// A retained message.
    Retain = "retain",
    /// Publishing anywhere but on the gateway's own uplink topics.
    Topic = "topic",
    /// Subscribing to anything but the gateway's own downlink topics.
    Filter = "filter",
    /// Packet identifier 0.
    PacketId = "packet_id",
    /// An acknowledgement of something that was never sent.
    Unsolicited = "unsolicited",
    /// Silent for one and a half times its keep-alive.
    KeepAlive = "keep_alive",
    /// Takes nothing, or the broker takes nothing from it.
    Stalled = "stalled",
    /// Another connection with the same certificate identity took over.
    TakenOver = "taken_over",
    /// The broker is being restarted.
    BrokerUnavailable = "broker_unavailable",
}

impl RefusalReason {
    /// The return code with which MQTT 3.1.1 (3.2.2.3) says this in answer to a CONNECT.
    pub(crate) const fn connack(self) -> Option<u8> {
        match self {
            Self::ProtocolVersion => Some(1),
            Self::ClientId => Some(2),
            Self::BrokerUnavailable => Some(3),
            Self::Credentials
            | Self::PersistentSession
            | Self::Will
            | Self::Retain
            | Self::Qos2
            | Self::KeepAliveZero
            | Self::TooManyAttempts => Some(5),
            _ => None,
        }
    }
}

/// A reason and what exactly was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: RefusalReason,
    /// For the log; text from outside is escaped and cut to size.
    pub detail: String,
}

/// Longest piece of text from outside in a log line.
const QUOTE_MAX: usize = 96;

impl Refusal {
    pub(crate) fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// With bytes from outside, made safe to log.
    pub(crate) fn quoting(reason: RefusalReason, what: &str, bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(QUOTE_MAX)];
        let more = if shown.len() < bytes.len() { "..." } else { "" };
        Self::new(reason, format!("{what} \"{}\"{more}", shown.escape_ascii()))
    }

    /// Why a handshake failed. rustls puts its own error inside the one for the stream.
    pub(crate) fn handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => Self::tls(error),
            None => Self::new(RefusalReason::Handshake, error.to_string()),
        }
    }

    pub(crate) fn tls(error: &TlsError) -> Self {
        let reason = match error {
            TlsError::NoCertificatesPresented => RefusalReason::CertificateMissing,
            TlsError::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    RefusalReason::CertificateExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    RefusalReason::CertificateFuture
                }
                // A forged certificate names the right issuer and fails on its signature.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    RefusalReason::CertificateIssuer
                }
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    RefusalReason::CertificateUsage
                }
                CertificateError::Revoked | CertificateError::UnknownRevocationStatus => {
                    RefusalReason::CertificateRevoked
                }
                _ => RefusalReason::Certificate,
            },
            _ => RefusalReason::Handshake,
        };
        Self::new(reason, error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = RefusalReason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), RefusalReason::ALL.len());
    }

    #[test]
    fn text_from_outside_cannot_forge_a_log_line() {
        let refusal = Refusal::quoting(RefusalReason::Topic, "topic", b"a\nINFO admitted \x1b[2J");
        assert_eq!(refusal.detail, "topic \"a\\nINFO admitted \\x1b[2J\"");
        assert!(
            Refusal::quoting(RefusalReason::Topic, "topic", &[b'a'; 1 << 16])
                .detail
                .len()
                < 200
        );
    }
}
