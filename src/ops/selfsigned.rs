//! Certificates for a lab: self-signed, ECDSA on P-256. Peers trust one by its own file.

use std::net::IpAddr;
use std::time::Duration;
use std::time::SystemTime;

use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::KeyPair;
use rcgen::PKCS_ECDSA_P256_SHA256;

/// Clocks of peers may be behind ours.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    pub certificate: String,
    pub key: String,
}

/// RFC 5922 §7.1: the names, DNS or literal addresses, are in subjectAltName; at least one. The first is also shown as the subject.
pub fn self_signed(names: &[String], now: SystemTime, life: Duration) -> Result<SelfSigned, String> {
    let first = names.first().ok_or("a certificate needs a name")?;
    if let Some(bad) = names.iter().find(|n| !is_host(n)) {
        return Err(format!("{bad:?} is neither a host name nor an address"));
    }
    let mut params = CertificateParams::new(names).map_err(|e| e.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.not_before = now.checked_sub(BACKDATED).ok_or("the clock is wrong")?.into();
    params.not_after = now.checked_add(life).ok_or("the clock is wrong")?.into();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())?;
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    Ok(SelfSigned { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// RFC 5922 §7.2: no wildcards in SIP.
fn is_host(name: &str) -> bool {
    let is_label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tls;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn what_is_made_can_be_listened_with() {
        let names = ["sip.example".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let made = self_signed(&names, SystemTime::now(), YEAR).unwrap();
        let identity = tls::Identity { certificates: made.certificate, key: crate::config::Secret(made.key) };
        assert!(tls::server(&identity).is_ok());
    }

    #[test]
    fn no_wildcard_and_no_other_nonsense_is_a_name() {
        for bad in ["*.example", "a b", "", "a..b", "sip:x", "a/b"] {
            assert!(self_signed(&[bad.to_owned()], SystemTime::now(), YEAR).is_err(), "{bad:?}");
        }
        assert!(self_signed(&[], SystemTime::now(), YEAR).is_err());
    }
}
