//! The client's side of mutual TLS: whom to trust, who we are, and what time certificates are checked at.

use crate::enrolment::{Endpoint, Enrolment};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use trunnion_common::time::EventTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What TLS and the clock floor tell each other; clones share it.
#[derive(Clone, Debug, Default)]
pub struct TlsClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Seconds since 1970.
    floor: AtomicU64,
    /// End of the collector's certificate verified last, nanoseconds since 1970.
    verified_until: AtomicI64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            floor: AtomicU64::new(0),
            verified_until: AtomicI64::new(i64::MIN),
        }
    }
}

impl TlsClock {
    /// Certificates are checked at this time, or at the system's if that is later.
    pub fn set_floor(&self, floor: EventTime) {
        let seconds = u64::try_from(floor.0 / NANOS).unwrap_or(0);
        self.0.floor.store(seconds, Ordering::Relaxed);
    }

    /// When the collector's certificate verified last ends.
    pub fn verified_until(&self) -> Option<EventTime> {
        let end = self.0.verified_until.load(Ordering::Relaxed);
        (end != i64::MIN).then_some(EventTime(end))
    }
}

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let floor = Duration::from_secs(self.0.floor.load(Ordering::Relaxed));
        Some(UnixTime::now().max(UnixTime::since_unix_epoch(floor)))
    }
}

const NANOS: i64 = 1_000_000_000;

/// First and last instant at which a certificate is valid; `None` when it cannot be read.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(EventTime, EventTime)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let time = |seconds: i64| EventTime(seconds.saturating_mul(NANOS));
    Some((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

/// When a gateway was enrolled, as its certificate says: no time before it can be now.
pub fn enrolled(enrolment: &Enrolment) -> EventTime {
    let own = enrolment.certificate.first().and_then(validity);
    own.map_or(EventTime(i64::MIN), |(start, _)| start)
}

/// Why no TLS configuration can be made of an enrolment bundle.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA, the certificate or the key does not do.
    #[error("the enrolment bundle's certificates: {0}; have the bundle written again")]
    Rustls(#[from] rustls::Error),
    /// The CA does not do.
    #[error("the enrolment bundle's CA: {0}; have the bundle written again")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// Makes ring the process' provider, for libraries that ask for the default one.
pub fn install_provider() {
    // An error says that it was installed before.
    let _ = ring::default_provider().install_default();
}

/// The configuration for connections to `endpoint`; certificates are checked at what `clock` says.
pub fn client_config(
    enrolment: &Enrolment,
    endpoint: &Endpoint,
    clock: &TlsClock,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in &enrolment.ca {
        roots.add(certificate.clone())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let verifier = NamedServerVerifier {
        inner,
        name: endpoint.server_name.clone(),
        clock: clock.clone(),
    };
    Ok(builder(provider, clock)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(enrolment.certificate.clone(), enrolment.key.clone_key())?)
}

fn builder(
    provider: Arc<CryptoProvider>,
    clock: &TlsClock,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

/// Checks the collector's certificate as always, but against the name in the enrolment bundle and not
/// the address dialled: a plant's collector may move while its name stays.
#[derive(Debug)]
struct NamedServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
    clock: TlsClock,
}

impl ServerCertVerifier for NamedServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner
                .verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)?;
        // A CA that ends earlier ends all that it has signed.
        let ends = std::iter::once(end_entity).chain(intermediates).map(validity);
        if let Some(end) = ends.map(|validity| Some(validity?.1)).min().flatten() {
            self.clock.0.verified_until.store(end.0, Ordering::Relaxed);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_checked_at_the_later_of_clock_and_floor() {
        let clock = TlsClock::default();
        let seconds = |clock: &TlsClock| clock.current_time().unwrap().as_secs();
        let system = seconds(&clock);
        assert!(system > 0);
        clock.set_floor(EventTime(4_000_000_000 * NANOS));
        assert_eq!(seconds(&clock), 4_000_000_000);
        for past in [i64::MIN, 0, NANOS] {
            clock.set_floor(EventTime(past));
            assert!((system..4_000_000_000).contains(&seconds(&clock)), "{past}");
        }
    }
}
