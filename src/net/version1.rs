//! Certificates of X.509 version 1: what `openssl x509 -req` writes when it is given no extensions.
//!
//! OpenSSL takes them, and so does Dask; webpki, which checks all others here, reads version 3 only. A certificate of
//! version 1 holds a name, a key, dates and a signature, so these are what is checked: the same signature algorithms as
//! for others, and issuers by the rules of OpenSSL. Where those rules are long (names that an issuer is limited to,
//! extensions that are rare), such an issuer is refused.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{CertifiedKey, public_key_to_spki};
use rustls::{CertificateError, DigitallySignedStruct, Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

/// Longest way from a leaf to an authority. OpenSSL allows more; webpki, six.
const ISSUERS_MAX: usize = 6;

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

fn is_v1(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() == X509Version::V1 && certificate.extensions().is_empty()
}

/// Is it of version 1? Then it is checked here, and otherwise by webpki.
pub fn is_version_1(der: &CertificateDer<'_>) -> bool {
    parsed(der).is_ok_and(|certificate| is_v1(&certificate))
}

/// Did one of `authorities` issue the leaf, itself or by way of `others`, and are all of them valid `now`?
pub fn verify_issued(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let mut current = parsed(leaf)?;
    check_dates(&current, now)?;
    for below in 0..ISSUERS_MAX {
        let issued = |issuer: &X509Certificate<'_>| issued_by(&current, issuer, algorithms);
        let readable = authorities.iter().filter_map(|der| parsed(der).ok());
        if let Some(authority) = readable.into_iter().find(issued) {
            check_dates(&authority, now)?;
            return match may_issue(&authority, below) || (is_v1(&authority) && is_self_issued(&authority)) {
                true => Ok(()),
                false => Err(CertificateError::UnknownIssuer.into()),
            };
        }
        let mut between = others.iter().filter_map(|der| parsed(der).ok());
        let Some(next) = between.find(|issuer| may_issue(issuer, below) && issued(issuer)) else { break };
        check_dates(&next, now)?;
        current = next;
    }
    Err(CertificateError::UnknownIssuer.into())
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn check_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() { Err(CertificateError::Expired.into()) } else { Ok(()) }
}

/// By name and by signature.
fn issued_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let algorithm = certificate.signature_algorithm.oid().as_bytes();
    // What is signed names the algorithm too, and must name the same.
    let twice = certificate.tbs_certificate.signature == certificate.signature_algorithm;
    let named = certificate.issuer().as_raw() == issuer.subject().as_raw();
    let signed = certificate.tbs_certificate.as_ref();
    let key = &issuer.tbs_certificate.subject_pki;
    let verifies = |candidate: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        // The identifier is the DER of the object's number, then of its parameters.
        let id = candidate.signature_alg_id();
        let same = matches!(id.as_ref(), [6, length, rest @ ..] if usize::from(*length) == algorithm.len() && rest.starts_with(algorithm));
        let bits = &key.subject_public_key.data;
        same && public_key_to_spki(&candidate.public_key_alg_id(), bits).as_ref() == key.raw
            && candidate.verify_signature(bits, signed, &certificate.signature_value.data).is_ok()
    };
    twice && named && algorithms.all.iter().any(verifies)
}

/// Is it an authority of version 3 that may have this many others between it and a leaf?
///
/// Source: OpenSSL, `crypto/x509/v3_purp.c`, `check_ca`.
fn may_issue(certificate: &X509Certificate<'_>, below: usize) -> bool {
    let mut is_authority = false;
    let allowed = certificate.extensions().iter().all(|extension| match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(basic) => {
            is_authority = basic.ca;
            basic.path_len_constraint.is_none_or(|most| usize::try_from(most).is_ok_and(|most| below <= most))
        }
        ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
        ParsedExtension::ExtendedKeyUsage(usage) => usage.any || (usage.server_auth && usage.client_auth),
        ParsedExtension::SubjectAlternativeName(_) => true,
        ParsedExtension::NameConstraints(_) => false,
        _ => !extension.critical,
    });
    allowed && is_authority && certificate.version() == X509Version::V3
}

/// Did the holder of this certificate's key sign the handshake of TLS 1.3?
pub fn verify_tls13_signature(
    message: &[u8],
    der: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = parsed(der)?;
    let key = SubjectPublicKeyInfoDer::from(certificate.tbs_certificate.subject_pki.raw);
    verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
}

/// The same of TLS 1.2.
pub fn verify_tls12_signature(
    message: &[u8],
    der: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = parsed(der)?;
    let key = &certificate.tbs_certificate.subject_pki;
    let bits = &key.subject_public_key.data;
    let named = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
    let verified = named.flat_map(|(_, candidates)| candidates.iter()).any(|candidate| {
        public_key_to_spki(&candidate.public_key_alg_id(), bits).as_ref() == key.raw
            && candidate.verify_signature(bits, message, dss.signature()).is_ok()
    });
    if verified { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
}

/// Our own certificate, of whatever version, with its key. Errors: they do not belong together, a key of another kind.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let pair = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    let leaf = pair.end_entity_cert()?;
    let matching = match (is_version_1(leaf), pair.key.public_key()) {
        (true, Some(ours)) => match ours.as_ref() == parsed(leaf)?.tbs_certificate.subject_pki.raw {
            true => Ok(()),
            false => Err(InconsistentKeys::KeyMismatch.into()),
        },
        (true, None) => Ok(()),
        (false, _) => pair.keys_match(),
    };
    match matching {
        // Kinds of keys that do not tell their public half are taken as they are, as rustls does.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(why) => Err(why),
    }
}
