//! The torture messages against the ground floor: our own for every point of RFC 4475 and RFC 5118, and the RFCs' own where the folder
//! that `BACKCHANNEL_TORTURE` names is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use backchannel::wire::header::MediaType;
use backchannel::wire::header::NameAddr;
use backchannel::wire::header::vias;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use backchannel::wire::uri::Host;
use backchannel::wire::uri::Uri;
use bytes::Bytes;

struct Row {
    name: String,
    class: String,
    source: String,
    /// `relay`, `drop` or a status code; the preferred one first.
    actions: Vec<String>,
    bytes: Vec<u8>,
}

fn rows(folder: &Path) -> Vec<Row> {
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let row = |line: &str| {
        let columns: Vec<_> = line.split('\t').collect();
        let bytes = std::fs::read(folder.join(format!("{}.dat", columns[0]))).unwrap();
        Row {
            name: columns[0].to_owned(),
            class: columns[1].to_owned(),
            source: columns[2].to_owned(),
            actions: columns[3].split(',').map(str::to_owned).collect(),
            bytes,
        }
    };
    index.lines().skip(1).map(row).collect()
}

fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn own(name: &str) -> Message {
    let message = Message::parse(Bytes::from(std::fs::read(own_folder().join(format!("{name}.dat"))).unwrap())).unwrap();
    assert_eq!(message.check(), Ok(()), "{name}");
    message
}

/// What is wrong with what the ground floor says to a message, compared with the action that its index wants.
fn fault(row: &Row) -> Option<String> {
    let verdict = match Message::parse(Bytes::from(row.bytes.clone())) {
        Ok(message) => message.check().map(|()| message.is_request()).map_err(|defect| defect.status),
        Err(_) => Err(0),
    };
    let actions: Vec<_> = row.actions.iter().map(String::as_str).collect();
    let right = match (actions.as_slice(), verdict) {
        (["400"], verdict) => verdict == Err(400),
        (["505"], verdict) => verdict == Err(505),
        (["drop"], verdict) if row.class == "invalid" => verdict.is_err(),
        (["drop"], verdict) => verdict == Ok(false),
        // A choice between an answer and an action: the fault is in a header that is not essential, or the core finds it.
        (several, Err(400)) => several.contains(&"400"),
        (_, verdict) => verdict == Ok(true),
    };
    (!right).then(|| format!("{} ({}): {verdict:?}, not {actions:?}", row.name, row.source))
}

#[test]
fn our_own_messages_get_what_their_index_wants() {
    let faults: Vec<_> = rows(&own_folder()).iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_messages_of_the_rfcs_get_what_their_index_wants() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/torture");
    let folder = std::env::var_os("BACKCHANNEL_TORTURE").map_or(default, PathBuf::from);
    if folder.join("index.tsv").exists() {
        let faults: Vec<_> = rows(&folder).iter().filter_map(fault).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// RFC 4475 §3.1.1.1–13, §3.1.2.1–19, §3.2.1, §3.3.1–15, §3.4.1; RFC 5118 §4.1–4.10.
#[test]
fn every_point_of_both_rfcs_has_a_message_with_crlf_line_ends() {
    let rows = rows(&own_folder());
    let have: BTreeSet<_> = rows.iter().map(|row| row.source.clone()).collect();
    let points = [("4475 3.1.1", 13), ("4475 3.1.2", 19), ("4475 3.2", 1), ("4475 3.3", 15), ("4475 3.4", 1), ("5118 4", 10)];
    let want: BTreeSet<_> = points.iter().flat_map(|(part, n)| (1..=*n).map(move |i| format!("{part}.{i}"))).collect();
    assert_eq!(have, want);
    assert_eq!(rows.len(), 61);
    for row in &rows {
        let head = row.bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a blank line");
        let bare = row.bytes[..head].iter().enumerate().any(|(i, &b)| b == b'\n' && row.bytes[i - 1] != b'\r');
        assert!(!bare, "{} has a bare line feed", row.name);
    }
    let files =
        std::fs::read_dir(own_folder()).unwrap().filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "dat")).count();
    assert_eq!(files, rows.len());
}

#[test]
fn folds_and_blanks_lose_nothing() {
    let m = own("folded-everywhere");
    let from = m.from().unwrap();
    assert_eq!(from.name().as_deref(), Some(&b"O\\Brien, \"Nadia\""[..]));
    assert_eq!((from.tag(), m.to().unwrap().uri), (Some("okafor1"), &b"sip:+15550199@birch.example"[..]));
    assert_eq!((m.max_forwards(), m.cseq().unwrap().number), (Some(42), 101));
    let v = m.via().unwrap();
    assert_eq!((v.transport, v.port, v.branch(), v.unique_branch()), (&b"UDP"[..], Some(5060), Some(&b"old-style-1"[..]), None));
    let branches: Vec<_> = m.values(Name::Via).flat_map(vias).map(|v| v.unwrap().branch().unwrap()).collect();
    assert_eq!(branches, [&b"old-style-1"[..], b"z9hG4bKsecond", b"z9hG4bKthird"]);
    assert!(MediaType::parse(m.value(Name::ContentType).unwrap()).unwrap().is("application/sdp"));
    assert_eq!(m.contact().unwrap().params.get("Q"), Some(&b"0.7"[..]));
    assert!(m.body().ends_with(b"telephone-event/8000\r\n"));
}

#[test]
fn odd_characters_stay_as_they_are() {
    let m = own("odd-method-token");
    assert_eq!(m.method().as_str(), "A.b-C!d%e*f_g+h`i'j~9");
    let Some(Uri::Sip(uri)) = Uri::parse(m.uri()) else { panic!() };
    assert_eq!((uri.user, uri.password), (Some(&b"o'odd~(user)!.*&=+$,;?/"[..]), Some(&b"p=w&+$,~"[..])));
    assert_eq!(m.from_tag(), Some("-.!%*_+`'~2"));
    let m = own("percent-escapes");
    assert_eq!(m.from().unwrap().parsed_uri().unwrap().number().as_deref(), Some(&b"Nadia Okafor"[..]));
    let m = own("semicolon-in-user");
    assert_eq!(Uri::parse(m.uri()).unwrap().user(), Some(&b"desk;floor=2;room=7"[..]));
    assert_eq!(own("escape-in-method").method().as_str(), "O%50TIONS");
    assert_eq!(own("utf8-reason-phrase").reason(), "Ça marche — 好的 = 1+1;\"x\"".as_bytes());
    assert_eq!((own("empty-reason-phrase").reason(), own("empty-reason-phrase").status()), (&b""[..], 180));
}

#[test]
fn bodies_end_where_content_length_says() {
    assert!(own("second-request-behind").body().is_empty());
    let body = own("multipart-binary-body").body();
    let every_byte: Vec<u8> = (0..=255).collect();
    assert!(body.windows(256).any(|w| w == every_byte) && body.ends_with(b"--cut7--\r\n"));
}

#[test]
fn nothing_is_too_long_or_too_many() {
    let m = own("very-long-values");
    assert_eq!(m.values(Name::Via).flat_map(vias).flatten().count(), 40);
    assert_eq!(m.from_tag().unwrap().len(), 300);
    let contacts: Vec<_> =
        own("escaped-nul").elements(Name::Contact).map(|c| NameAddr::parse(c).unwrap().user().unwrap().to_owned()).collect();
    assert_eq!(contacts, [b"%00%00".to_vec(), b"%00".to_vec()]);
}

#[test]
fn ports_of_ipv6_references() {
    let host = |name: &str| match Uri::parse(own(name).uri()) {
        Some(Uri::Sip(uri)) => match uri.host {
            Host::Ip(ip) => (ip.to_string(), uri.port),
            Host::Name(name) => panic!("{name}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(host("v6-port-swallowed"), ("2001:db8:b1c::5:5080".to_owned(), None));
    assert_eq!(host("v6-port-outside"), ("2001:db8:b1c::5".to_owned(), Some(5080)));
    assert_eq!(host("v6-three-colons"), host("v6-two-colons"));
    let received = |name: &str| own(name).via().unwrap().received().unwrap();
    assert_eq!(received("v6-received-with-brackets"), received("v6-received-bare"));
}
