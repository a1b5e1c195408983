//! What people should know about the certificate that our `tls://` listeners show, read with as little of X.509 as that takes.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::config::Config;
use crate::config::tls;

/// Time enough to get a new one.
const EXPIRY_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// rsaEncryption and id-RSASSA-PSS (RFC 4055 §1.2, §3.1) begin so: 1.2.840.113549.1.1.
const OID_PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Lines for the log and `check`.
pub fn warnings(config: &Config, now: SystemTime) -> Vec<String> {
    let Some(identity) = &config.sip.tls else { return Vec::new() };
    let Some(shown) = tls::certificates(&identity.certificates).ok().and_then(|all| all.into_iter().next()) else { return Vec::new() };
    let Some(about) = About::of(&shown) else { return vec!["sip.tls_cert: its expiry and kind of key cannot be read".to_owned()] };
    let mut found = Vec::new();
    if about.is_rsa {
        // facts.md §6: of what CXone offers to servers, rustls speaks only the ECDHE_ECDSA suites.
        found.push(
            "sip.tls_cert: its key is RSA; of the TLS 1.2 suites that NICE publishes none would fit: take an ECDSA certificate".to_owned(),
        );
    }
    let date = httpdate::fmt_http_date(about.not_after);
    match about.not_after.duration_since(now) {
        Err(_) => found.push(format!("sip.tls_cert: it expired on {date}: peers that check it will not connect")),
        Ok(left) if left < EXPIRY_SOON => {
            found.push(format!("sip.tls_cert: it expires on {date}, in {} days", left.as_secs() / (24 * 3600)));
        }
        Ok(_) => {}
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct About {
    not_after: SystemTime,
    is_rsa: bool,
}

impl About {
    /// RFC 5280 §4.1.
    fn of(der: &[u8]) -> Option<About> {
        let mut certificate = Der(Der(der).take(SEQUENCE)?);
        let mut tbs = Der(certificate.take(SEQUENCE)?);
        if tbs.0.first() == Some(&VERSION) {
            tbs.take(VERSION)?;
        }
        // serialNumber, signature, issuer
        tbs.take(INTEGER)?;
        tbs.take(SEQUENCE)?;
        tbs.take(SEQUENCE)?;
        let mut validity = Der(tbs.take(SEQUENCE)?);
        validity.any()?;
        let (kind, text) = validity.any()?;
        // subject
        tbs.take(SEQUENCE)?;
        let mut key = Der(tbs.take(SEQUENCE)?);
        let algorithm = Der(key.take(SEQUENCE)?).take(OID)?;
        Some(About { not_after: time(kind, text)?, is_rsa: algorithm.starts_with(OID_PKCS1) })
    }
}

/// Bytes of DER that are not read yet.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Tag and content. X.690 §8.1.3: a length of up to 127 in one byte, else the number of bytes that hold it.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, short], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (digits.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// RFC 5280 §4.1.2.5: `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from 2050.
fn time(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let pairs: Vec<u64> = digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))).collect();
    let (year, rest) = match (kind, pairs.as_slice()) {
        (UTC_TIME, [year, rest @ ..]) => (if *year < 50 { 2000 + year } else { 1900 + year }, rest),
        (GENERALIZED_TIME, [century, year, rest @ ..]) => (century * 100 + year, rest),
        _ => return None,
    };
    let &[month @ 1..=12, day @ 1..=31, hour @ 0..=23, minute @ 0..=59, second @ 0..=59] = rest else { return None };
    let seconds = days(year, month, day)?.checked_mul(24 * 3600)? + hour * 3600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days since 1970-01-01 in the Gregorian calendar; months are counted from March, so that a leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let before = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // From 0000-03-01 to 1970-01-01.
    before.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::selfsigned::self_signed;
    use crate::policy::samples;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn said(life: Duration, after: Duration) -> Vec<String> {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let made = self_signed(&["sip.example".into()], now, life).unwrap();
        let mut config = samples::test_config();
        config.sip.tls = Some(tls::Identity { certificates: made.certificate, key: crate::config::Secret(made.key) });
        warnings(&config, now + after)
    }

    #[test]
    fn an_expiry_is_said_thirty_days_ahead() {
        assert_eq!(said(DAY * 90, DAY * 60), [] as [String; 0]);
        assert_eq!(said(DAY * 90, DAY * 60 + Duration::from_secs(1)).len(), 1);
        // 1,800,000,000 s is 2027-01-15 08:00:00 UTC.
        assert_eq!(said(DAY * 90, DAY * 80), ["sip.tls_cert: it expires on Thu, 15 Apr 2027 08:00:00 GMT, in 10 days"]);
        assert!(said(DAY * 90, DAY * 91)[0].contains("it expired on Thu, 15 Apr 2027"));
        // RFC 5280 §4.1.2.5: from 2050 on GeneralizedTime.
        assert!(said(DAY * 36_500, DAY * 36_500 + DAY)[0].contains("Dec 2126"));
    }

    #[test]
    fn times_are_read_to_the_second_and_nonsense_is_none() {
        let of = |kind, text: &str| time(kind, text.as_bytes()).map(httpdate::fmt_http_date);
        assert_eq!(of(UTC_TIME, "240229235959Z").as_deref(), Some("Thu, 29 Feb 2024 23:59:59 GMT"));
        assert_eq!(of(GENERALIZED_TIME, "99991231235959Z").as_deref(), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        for bad in ["", "Z", "2402292359Z", "240229235959", "241329235959Z", "24022923595aZ", "490000000000Z"] {
            assert_eq!(of(UTC_TIME, bad), None, "{bad:?}");
        }
        // Before 1970.
        assert_eq!(of(UTC_TIME, "500101000000Z"), None);
    }

    #[test]
    fn half_a_certificate_is_none() {
        let made = self_signed(&["a.example".into()], SystemTime::now(), DAY).unwrap();
        let der = tls::certificates(&made.certificate).unwrap().remove(0);
        assert!(About::of(&der).is_some_and(|about| !about.is_rsa));
        for length in 0..der.len() {
            assert_eq!(About::of(&der[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_key_of_rsa_is_said() {
        let algorithm = [&[SEQUENCE, 13, OID, 9][..], OID_PKCS1, &[1, 5, 0]].concat();
        let key = [&[SEQUENCE, 15][..], &algorithm].concat();
        let empty = [SEQUENCE, 0];
        let validity = [&[SEQUENCE, 30][..], &[UTC_TIME, 13], b"270101000000Z", &[UTC_TIME, 13], b"280101000000Z"].concat();
        let tbs = [&[INTEGER, 1, 1][..], &empty, &empty, &validity, &empty, &key].concat();
        let inner = [&[SEQUENCE, u8::try_from(tbs.len()).unwrap()][..], &tbs].concat();
        let der = [&[SEQUENCE, u8::try_from(inner.len()).unwrap()][..], &inner].concat();
        assert!(About::of(&der).unwrap().is_rsa);
    }
}
