//! The appliance's authority and the certificates it issues; the self-signed pair of a cluster.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::PkiError;
use super::facts::facts;
use super::{CertificateFacts, Pair};
use crate::clock::{random_u64, unix_ms};

/// Clocks of two machines differ, and a certificate that is "not yet valid" is refused.
const SKEW: Duration = Duration::hours(1);
/// Long enough that nobody has to think of it; its fingerprint is what other machines remember.
const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// Renewed while running, so a stolen one is of use for a limited time.
const SERVER_LIFE: Duration = Duration::days(90);
/// A cluster's own pair is never renewed. The same as dask-gateway's, and far longer than a cluster's lifetime.
const CLUSTER_LIFE: Duration = Duration::days(365);

/// Signs certificates for this appliance and the machines that join it.
#[derive(Debug)]
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, with a name of its own: two machines' authorities must not look alike.
    ///
    /// Errors: the operating system gave no key.
    pub fn make() -> Result<Self, PkiError> {
        let key = new_key()?;
        let mut params = blank(&format!("rask authority {:016x}", random_u64()), AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(signing)?;
        let pair = Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem() };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// The one that was made before.
    ///
    /// Errors: no certificate, no key, or a key of another certificate.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|why| PkiError::Key(why.to_string()))?;
        let CertificateFacts { public_key, .. } = facts(cert_pem)?;
        if public_key != key.public_key_raw() {
            return Err(PkiError::Key("it is the key of another certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(|why| PkiError::NoCertificate(why.to_string()))?;
        Ok(Self { pair: Pair { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned() }, issuer })
    }

    /// Its certificate and key, to be kept.
    pub const fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A certificate for a server that is reached under `names` (host names and addresses). It serves as a client's
    /// too: machines of one appliance are both. The first name becomes the subject.
    ///
    /// Errors: a name that no certificate can bear.
    pub fn issue_server(&self, names: &[String]) -> Result<Pair, PkiError> {
        let first = names.first().map_or("rask", String::as_str);
        let mut params = with_names(names, first, SERVER_LIFE)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(signing)?;
        Ok(Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// A certificate for a machine that joined, from its request (PEM); its key stays where it is. It proves nothing but
    /// "I am `id`", and to servers only: names and purposes that the request asks for are passed over.
    ///
    /// `life_secs`: from now. Errors: the request is malformed or is not signed with its own key.
    pub fn issue_peer(&self, csr_pem: &str, id: &str, life_secs: u64) -> Result<String, PkiError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(|why| PkiError::Signing(why.to_string()))?;
        let life = Duration::seconds(i64::try_from(life_secs).unwrap_or(i64::MAX >> 1));
        request.params = blank(&peer_subject(id), life);
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.use_authority_key_identifier_extension = true;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(request.signed_by(&self.issuer).map_err(signing)?.pem())
    }
}

/// Begins the name in the certificate of a peer. No host can have such a name, so no server's certificate can pass for
/// a peer's.
const PEER_PREFIX: &str = "rask member ";

fn peer_subject(id: &str) -> String {
    format!("{PEER_PREFIX}{id}")
}

/// The id of the peer that a certificate (DER) was issued to; who signed it was checked before. `None`: it is no
/// peer's.
pub fn peer_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix(PEER_PREFIX).map(str::to_owned)
}

/// A new key and the request to certify it, both PEM.
///
/// Errors: the operating system gave no key.
pub fn peer_request() -> Result<(String, String), PkiError> {
    let key = new_key()?;
    let request = CertificateParams::default().serialize_request(&key).map_err(signing)?;
    Ok((key.serialize_pem(), request.pem().map_err(signing)?))
}

/// The temporary pair of a cluster: authority, server's and clients' certificate in one, as dask-gateway's client
/// expects. All clusters have the same issuer name; what tells them apart is the key.
///
/// Errors: a name that no certificate can bear.
pub fn cluster_pair(name: &str) -> Result<Pair, PkiError> {
    let names = [name.to_owned(), "dask-internal".to_owned()];
    // Neither basic constraints nor key usages: one certificate plays all parts, and strict readers refuse an
    // authority as a server.
    let params = with_names(&names, "dask-internal", CLUSTER_LIFE)?;
    let key = new_key()?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    Ok(Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn blank(subject: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::from_unix_timestamp(unix_ms() / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - SKEW;
    params.not_after = now + life;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

fn with_names(names: &[String], subject: &str, life: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = blank(subject, life);
    for name in names {
        let read = CertificateParams::new(vec![name.clone()]);
        let read = read.map_err(|why| PkiError::Name { name: name.clone(), why: why.to_string() })?;
        params.subject_alt_names.extend(read.subject_alt_names);
    }
    Ok(params)
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|why| PkiError::Key(why.to_string()))
}

fn signing(why: rcgen::Error) -> PkiError {
    PkiError::Signing(why.to_string())
}
