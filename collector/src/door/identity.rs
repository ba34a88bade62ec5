//! Who a certificate belongs to.

use super::refusal::{Refusal, RefusalReason};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use trunnion_common::id::GatewayId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A gateway as its certificate names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The gateway.
    pub(crate) gateway: GatewayId,
    /// The end of the certificate's validity, which ends the session too.
    pub(crate) not_after: UnixTime,
}

impl Identity {
    /// Reads the one URI `urn:trunnion:<site>:<gateway>` among the subject alternative names of a
    /// certificate that rustls has verified. The subject's common name is ignored, as RFC 9525 asks.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let refuse = |detail: String| Refusal::new(RefusalReason::Identity, detail);
        let (_, x509) = X509Certificate::from_der(certificate).map_err(|error| refuse(error.to_string()))?;
        let san = x509
            .subject_alternative_name()
            .map_err(|error| refuse(error.to_string()))?;
        let names = san.map_or(&[][..], |san| &san.value.general_names);
        let mut urns = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.to_ascii_lowercase().starts_with("urn:trunnion:") => Some(*uri),
            _ => None,
        });
        let (urn, None) = (urns.next(), urns.next()) else {
            return Err(refuse("the certificate names several gateways".to_owned()));
        };
        let urn = urn
            .ok_or_else(|| refuse("the certificate names no gateway (no URI urn:trunnion:...)".to_owned()))?;
        let gateway = GatewayId::from_urn(urn).map_err(|_| {
            Refusal::quoting(
                RefusalReason::Identity,
                "not the name of a gateway:",
                urn.as_bytes(),
            )
        })?;
        let not_after = x509.validity().not_after.timestamp();
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(not_after.try_into().unwrap_or(0)));
        Ok(Self { gateway, not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn check(uris: &[&str], expected: Option<&str>) {
        let mut params = CertificateParams::new(vec!["gw.example".to_owned()]).unwrap();
        params
            .subject_alt_names
            .extend(uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap())));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        match (Identity::of(certificate.der()), expected) {
            (Ok(identity), Some(expected)) => assert_eq!(identity.gateway.to_string(), expected),
            (Err(refusal), None) => assert_eq!(refusal.reason, RefusalReason::Identity, "{uris:?}"),
            (result, _) => panic!("{uris:?}: {result:?}"),
        }
    }

    #[test]
    fn exactly_one_urn_names_the_gateway() {
        check(&["urn:trunnion:plant:gw-1"], Some("plant/gw-1"));
        check(
            &["https://example.com/", "urn:trunnion:plant:gw-1"],
            Some("plant/gw-1"),
        );
        check(&[], None);
        check(&["https://example.com/"], None);
        check(&["urn:trunnion:plant:gw-1", "urn:trunnion:plant:gw-2"], None);
        check(&["urn:trunnion:plant:gw-1", "URN:trunnion:plant:gw-2"], None);
    }

    #[test]
    fn a_urn_outside_the_grammar_names_nobody() {
        for urn in [
            "urn:trunnion:plant",
            "urn:trunnion:plant:+",
            "urn:trunnion:plant:gw/1",
            "URN:TRUNNION:plant:gw-1",
        ] {
            check(&[urn], None);
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let refusal = Identity::of(&CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff])).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Identity);
    }
}
