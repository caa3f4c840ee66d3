//! What a certificate says, for people and for the decision to renew it.

use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::{GeneralName, ParsedExtension};

use super::error::PkiError;

/// What the first certificate of a PEM text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// `CN=...`
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Host names and addresses it is for.
    pub names: Vec<String>,
    /// Unit: seconds since the epoch.
    pub not_before: i64,
    /// Unit: seconds since the epoch.
    pub not_after: i64,
    /// As `AA:BB:...`, of the whole certificate.
    pub fingerprint: String,
    /// Its public key, raw.
    pub public_key: Vec<u8>,
}

impl CertificateFacts {
    /// Is less than a third of its life left? Renewing then leaves a month for whatever goes wrong meanwhile.
    pub fn is_due(&self, now_secs: i64) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        now_secs >= self.not_after.saturating_sub(life / 3)
    }

    /// Is it for all of these names?
    pub fn covers(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }
}

/// Reads the first certificate of `pem`. Errors: there is none, or it is malformed.
pub fn facts(pem: &str) -> Result<CertificateFacts, PkiError> {
    let block = first_block(pem)?;
    let certificate = block.parse_x509().map_err(|why| PkiError::NoCertificate(why.to_string()))?;
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(all) = extension.parsed_extension() {
            names.extend(all.general_names.iter().filter_map(readable));
        }
    }
    let validity = certificate.validity();
    Ok(CertificateFacts {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names,
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        fingerprint: of_der(&block.contents),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
    })
}

/// SHA-256 of the first certificate of `pem`, as `AA:BB:...`. Errors: there is none.
pub fn fingerprint(pem: &str) -> Result<String, PkiError> {
    Ok(of_der(&first_block(pem)?.contents))
}

fn first_block(pem: &str) -> Result<Pem, PkiError> {
    let blocks = Pem::iter_from_buffer(pem.as_bytes());
    for block in blocks {
        let block = block.map_err(|why| PkiError::NoCertificate(why.to_string()))?;
        if block.label == "CERTIFICATE" {
            return Ok(block);
        }
    }
    Err(PkiError::NoCertificate("the text holds no CERTIFICATE block".to_owned()))
}

fn of_der(der: &[u8]) -> String {
    let bytes: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

fn readable(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}
