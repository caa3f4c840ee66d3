use super::*;
use crate::clock::unix_ms;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// Goal: what the authority issues verifies against it, also after it was read back. Method: rustls' own verifier.
#[test]
fn an_issued_certificate_verifies_against_its_authority_only() {
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    let authority = Authority::make().expect("made");
    let again = Authority::from_pem(&authority.pair().cert_pem, &authority.pair().key_pem).expect("read");
    let leaf = again.issue_server(&names(&["localhost", "127.0.0.1", "::1"])).expect("issued");
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let verify = |authority: &Authority, name: &str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&authority.pair().cert_pem)).expect("an authority");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        verifier.expect("roots").verify_server_cert(&der(&leaf.cert_pem), &[], &name, &[], UnixTime::now()).is_ok()
    };
    assert!(verify(&authority, "localhost"));
    assert!(verify(&authority, "127.0.0.1"));
    assert!(!verify(&authority, "example.org"));
    assert!(!verify(&Authority::make().expect("made"), "localhost"));
}

#[test]
fn facts_name_subject_names_validity_and_fingerprint() {
    let authority = Authority::make().expect("made");
    let leaf = authority.issue_server(&names(&["localhost", "127.0.0.1", "::1"])).expect("issued");
    let facts = facts(&leaf.cert_pem).expect("readable");
    assert_eq!(facts.subject, "CN=localhost");
    assert!(facts.issuer.starts_with("CN=rask authority "));
    assert_eq!(facts.names, ["localhost", "127.0.0.1", "::1"]);
    assert!(facts.covers(&names(&["::1"])) && !facts.covers(&names(&["10.0.0.1"])));
    let now = unix_ms() / 1000;
    assert!(facts.not_before < now - 3000 && !facts.is_due(now));
    assert!(facts.is_due(now + 61 * 86400) && !facts.is_due(now + 58 * 86400));
    assert_eq!(facts.fingerprint.len(), 95);
    assert_eq!(fingerprint(&leaf.cert_pem), Ok(facts.fingerprint));
}

#[test]
fn a_cluster_pair_is_self_signed_and_has_no_constraints() {
    let (one, other) = (cluster_pair("a").expect("made"), cluster_pair("a").expect("made"));
    let known = facts(&one.cert_pem).expect("readable");
    assert_eq!(known.subject, "CN=dask-internal");
    assert_eq!(known.subject, known.issuer);
    assert_eq!(known.names, ["a", "dask-internal"]);
    assert_ne!(known.public_key, facts(&other.cert_pem).expect("readable").public_key);
    assert!(one.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    let block = x509_parser::pem::Pem::iter_from_buffer(one.cert_pem.as_bytes()).next().expect("one").expect("PEM");
    let certificate = block.parse_x509().expect("a certificate");
    assert!(certificate.basic_constraints().expect("readable").is_none());
    assert!(certificate.extended_key_usage().expect("readable").is_none());
}

#[test]
fn what_is_no_pair_is_refused() {
    let (one, other) = (Authority::make().expect("made"), Authority::make().expect("made"));
    let mixed = Authority::from_pem(&one.pair().cert_pem, &other.pair().key_pem).map(|_| ());
    assert_eq!(mixed, Err(PkiError::Key("it is the key of another certificate".to_owned())));
    assert!(matches!(Authority::from_pem("", &one.pair().key_pem), Err(PkiError::NoCertificate(_))));
    assert!(matches!(Authority::from_pem(&one.pair().cert_pem, "x"), Err(PkiError::Key(_))));
    assert!(matches!(one.issue_server(&names(&["ä"])), Err(PkiError::Name { .. })));
    assert!(facts("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}
