//! The client's side of mutual TLS: whom to trust, and who we are.

use crate::enrolment::{Endpoint, Enrolment};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

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

/// The configuration for connections to `endpoint`.
pub fn client_config(enrolment: &Enrolment, endpoint: &Endpoint) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in &enrolment.ca {
        roots.add(certificate.clone())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let verifier = NamedServerVerifier {
        inner,
        name: endpoint.server_name.clone(),
    };
    Ok(builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(enrolment.certificate.clone(), enrolment.key.clone_key())?)
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

/// Checks the collector's certificate as always, but against the name in the enrolment bundle and not
/// the address dialled: a plant's collector may move while its name stays.
#[derive(Debug)]
struct NamedServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
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
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
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
