//! Certificates and keys for TLS, as PEM texts that were checked when the configuration was read.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::config::Secret;

/// What a `tls://` listener shows. The key is a secret: `Debug` must not print it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The certificate, then what it was signed with.
    pub certificates: String,
    pub key: Secret,
}

/// One provider, whatever else the process has installed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates of a PEM text, at least one.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err("holds no certificate".to_owned()),
        Ok(all) => Ok(all),
        Err(e) => Err(format!("is not PEM: {e}")),
    }
}

/// The first private key of a PEM text.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err("holds a key with a passphrase, and nobody is there to type it".to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "holds no private key".to_owned())
}

/// TLS 1.2 and 1.3 for our listeners; clients show no certificate. An error when the key is another certificate's.
pub fn server(identity: &Identity) -> Result<ServerConfig, String> {
    let (chain, key) = (certificates(&identity.certificates)?, private_key(&identity.key.0)?);
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    builder.with_no_client_auth().with_single_cert(chain, key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate".to_owned(),
        other => format!("cannot be used: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_key_must_be_the_certificates_own() {
        let (certificates, key) = made("a.example");
        assert!(server(&Identity { certificates: certificates.clone(), key: Secret(key) }).is_ok());
        let identity = Identity { certificates, key: Secret(made("b.example").1) };
        assert_eq!(server(&identity).unwrap_err(), "is not the key of the certificate");
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_a_file_lacks_is_said() {
        let (certificate, key) = made("a.example");
        assert_eq!(certificates(&key), Err("holds no certificate".to_owned()));
        assert_eq!(certificates("").map(|c| c.len()), Err("holds no certificate".to_owned()));
        assert_eq!(certificates(&format!("{certificate}\n{certificate}")).map(|c| c.len()), Ok(2));
        assert_eq!(private_key(&certificate).unwrap_err(), "holds no private key");
        assert!(private_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap_err().contains("passphrase"));
    }
}
