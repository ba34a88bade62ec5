//! Whether a command is the collector's: its certificate, its name, its signature.

use crate::enrolment::Enrolment;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use trunnion_common::id::GatewayId;
use trunnion_common::message::{SignedCommand, signed_parts};
use trunnion_common::time::EventTime;

/// Why a command is not the collector's, as far as anybody can tell.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// It carries no signature or no certificate.
    Unsigned,
    /// The certificate is not of the plant's authority.
    Authority,
    /// The certificate has another name than the collector's.
    Name,
    /// The certificate is not valid at this time.
    Time,
    /// The certificate does not do for another reason.
    Certificate(rustls::Error),
    /// It is signed in a way that this agent does not know.
    Scheme(u16),
    /// The signature is not of this key, this command or this gateway.
    Signature,
}

impl Refusal {
    /// The label in metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Authority => "foreign_authority",
            Self::Name => "foreign_name",
            Self::Time => "certificate_time",
            Self::Certificate(_) => "certificate",
            Self::Scheme(_) => "signature_scheme",
            Self::Signature => "signature",
        }
    }
}

/// Checks commands against the enrolment bundle.
#[derive(Debug)]
pub struct Verifier {
    gateway: GatewayId,
    names: Vec<ServerName<'static>>,
    /// None when the bundle's authorities do not do, with which no connection is made either.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    /// For commands to the gateway of this bundle.
    pub fn new(enrolment: &Enrolment) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(enrolment.ca.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let mut names: Vec<_> = enrolment
            .endpoints
            .iter()
            .map(|endpoint| endpoint.server_name.clone())
            .collect();
        names.dedup();
        Self {
            gateway: enrolment.gateway.clone(),
            names,
            chains: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .ok(),
        }
    }

    /// Whether the collector has signed this command for this gateway, with a certificate that is valid at
    /// `now`.
    pub fn verify(&self, signed: &SignedCommand<'_>, now: EventTime) -> Result<(), Refusal> {
        let Some((own, issuers)) = signed.chain.split_first() else {
            return Err(Refusal::Unsigned);
        };
        if signed.signature.is_empty() {
            return Err(Refusal::Unsigned);
        }
        let own = CertificateDer::from(*own);
        let issuers: Vec<_> = issuers.iter().map(|der| CertificateDer::from(*der)).collect();
        self.verify_chain(&own, &issuers, now)?;

        let certificate = webpki::EndEntityCert::try_from(&own).map_err(|_| Refusal::Authority)?;
        let known = ring::default_provider().signature_verification_algorithms.mapping;
        let scheme = rustls::SignatureScheme::from(signed.scheme);
        let (_, algorithms) = known
            .iter()
            .find(|(known, _)| *known == scheme)
            .ok_or(Refusal::Scheme(signed.scheme))?;
        let text = signed_parts(&self.gateway, signed.command).concat();
        let is_valid = algorithms.iter().any(|algorithm| {
            certificate
                .verify_signature(*algorithm, &text, signed.signature)
                .is_ok()
        });
        is_valid.then_some(()).ok_or(Refusal::Signature)
    }

    fn verify_chain(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: EventTime,
    ) -> Result<(), Refusal> {
        use rustls::CertificateError as Fault;
        let chains = self.chains.as_ref().ok_or(Refusal::Authority)?;
        let now = UnixTime::since_unix_epoch(Duration::from_nanos(now.0.max(0).unsigned_abs()));
        let mut refusal = Refusal::Name;
        for name in &self.names {
            refusal = match chains.verify_server_cert(own, issuers, name, &[], now) {
                Ok(_) => return Ok(()),
                Err(rustls::Error::InvalidCertificate(fault)) => match fault {
                    Fault::NotValidForName | Fault::NotValidForNameContext { .. } => Refusal::Name,
                    // An authority of the same name has another key.
                    Fault::UnknownIssuer | Fault::BadSignature => Refusal::Authority,
                    Fault::Expired
                    | Fault::ExpiredContext { .. }
                    | Fault::NotValidYet
                    | Fault::NotValidYetContext { .. } => Refusal::Time,
                    other => Refusal::Certificate(other.into()),
                },
                Err(other) => Refusal::Certificate(other),
            };
        }
        Err(refusal)
    }
}
