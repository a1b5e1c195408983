//! Golden files of `backchannel headers`: each `tests/headers/NAME.sip` becomes `NAME.txt`. After a wanted change:
//! `BACKCHANNEL_BLESS=1 cargo test --test headers`, and read the difference.

// Helpers of tests are not inside a `#[test]`, which is where clippy.toml allows it.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use backchannel::call;
use backchannel::config;
use backchannel::ops::dry_run::DryRun;
use backchannel::ops::dry_run::dry_run;
use backchannel::wire;
use bytes::Bytes;

use crate::call::rules::Transport;
use crate::config::Config;
use crate::config::MissingContactId;
use crate::config::Repeated;

// The same hand-made configuration as the unit tests of `policy` use.
#[allow(dead_code)]
#[path = "../src/policy/samples.rs"]
mod samples;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/headers")
}

/// What differs from the defaults, by the name of the file.
fn config_for(name: &str) -> Config {
    let mut config = samples::test_config();
    match name {
        "dotted_renamed" => config.headers.rename = vec![("X-Order.Id".into(), "X-Order-Id".into())],
        "injection" => config.x_ei.e = samples::header("X-Ticket"),
        "missing_rejected" => config.cxone.missing_contact_id = MissingContactId::Reject,
        "number_mapped" => config.synthflow.number_map = [("9991234567".to_owned(), "+12065551234".to_owned())].into(),
        "repeated_join" => config.headers.repeated = Repeated::Join,
        "repeated_last" => config.headers.repeated = Repeated::Last,
        "budget" => {
            config.headers.budget = 200;
            config.headers.drop_order = samples::patterns(&["X-Transcript*"]);
            config.synthflow.targets.insert(0, samples::spec("sip.us.synthflow.ai", 32681, Transport::Udp));
        }
        _ => {}
    }
    config
}

fn run(name: &str) -> Result<DryRun, String> {
    let raw = fs::read(folder().join(format!("{name}.sip"))).expect("the sample is there");
    dry_run(&Arc::new(config_for(name)), Bytes::from(raw))
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("the folder is there")
        .filter_map(|entry| entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".sip").map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn every_sample_becomes_its_golden_text() {
    let bless = std::env::var_os("BACKCHANNEL_BLESS").is_some();
    let mut wrong = Vec::new();
    assert!(names().len() >= 18, "samples are missing: {:?}", names());
    for name in names() {
        let text = run(&name).map_or_else(|e| format!("error: {e}\n"), |run| run.text());
        let text = text.replace(concat!("backchannel/", env!("CARGO_PKG_VERSION")), "backchannel/VERSION");
        let golden = folder().join(format!("{name}.txt"));
        if bless {
            fs::write(&golden, &text).expect("the golden file can be written");
        }
        if fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push(format!("{name}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// house.md §6: "every message sent parses back to itself · no address of one side on the other".
#[test]
fn what_would_leave_is_a_sound_invite_without_an_address_of_cxone() {
    for name in names() {
        let Ok(run) = run(&name) else { continue };
        for outgoing in &run.outgoing {
            let message = wire::message::Message::parse(Bytes::from(outgoing.message.clone())).expect("it parses");
            assert_eq!(message.check(), Ok(()), "{name}");
            assert!(!outgoing.message.contains("10.20.30."), "{name}: {}", outgoing.message);
            let x_ei: Vec<_> = message.named("X-EI").collect();
            assert!(x_ei.len() <= 1 && x_ei.iter().all(|value| wire::x_ei::XEi::parse(value).is_ok()), "{name}: {x_ei:?}");
        }
    }
}

#[test]
fn an_editors_line_ends_change_nothing() {
    let raw = fs::read(folder().join("case.sip")).expect("the sample is there");
    let lf = String::from_utf8(raw).expect("text").replace("\r\n", "\n");
    let config = Arc::new(samples::test_config());
    let run = |text: String| dry_run(&config, Bytes::from(text)).expect("it runs");
    let plain = run(lf.replace('\n', "\r\n"));
    assert_eq!(run(lf.clone()), plain);
    assert_eq!(run(lf.trim_end().to_owned()), plain, "no empty line at the end");
    assert_eq!(run(format!("\n{lf}\n\n")), plain, "empty lines around it");
}

#[test]
fn the_json_says_what_the_text_says() {
    let run = run("budget").expect("it runs");
    let json: serde_json::Value = serde_json::from_str(&run.json().expect("it prints")).expect("it is JSON");
    assert_eq!(json["contact_id"], "4711");
    assert_eq!(json["refused"], serde_json::Value::Null);
    assert_eq!(json["outgoing"][0]["transport"], "UDP");
    assert_eq!(json["outgoing"][0]["bytes"], run.outgoing[0].message.len());
    assert!(json["headers"].as_array().is_some_and(|rows| rows.iter().any(|row| row["action"] == "dropped for size")));
}

#[test]
fn what_is_no_invite_is_said_so() {
    let config = Arc::new(samples::test_config());
    for (text, error) in [
        ("", "not a SIP message"),
        ("hello\n\n", "not a SIP message"),
        ("SIP/2.0 200 OK\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\n\n", "not an INVITE"),
        ("BYE sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\n\n", "not an INVITE"),
        ("INVITE sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\n\n", "CXone would hear 400"),
    ] {
        let found = dry_run(&config, Bytes::from_static(text.as_bytes())).expect_err(text);
        assert!(found.starts_with(error), "{found}");
    }
}

const OFFER: &str = "INVITE sip:9991234567@203.0.113.10 SIP/2.0
Via: SIP/2.0/UDP 10.20.30.7:5060;branch=z9hG4bK1
Max-Forwards: 70
From: <sip:+12065551234@10.20.30.7>;tag=1
To: <sip:9991234567@203.0.113.10>
Call-ID: 1@10.20.30.7
CSeq: 1 INVITE
Contact: <sip:10.20.30.7>
X-ContactID: 4711
Content-Type: application/sdp
Content-Length: 999

v=0
o=cx 1 1 IN IP4 10.20.30.8
s=-
c=IN IP4 10.20.30.8
t=0 0
m=audio 20000 RTP/AVP 18 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=rtpmap:101 telephone-event/8000
";

#[test]
fn an_offer_leaves_with_our_address_and_our_codecs() {
    let run = dry_run(&Arc::new(samples::test_config()), Bytes::from_static(OFFER.as_bytes())).expect("it runs");
    assert_eq!(run.warnings, [""; 0]);
    let message = &run.outgoing[0].message;
    assert!(message.contains("\r\nContent-Type: application/sdp\r\n"), "{message}");
    assert!(message.contains("\r\nc=IN IP4 203.0.113.10\r\n"), "{message}");
    assert!(message.contains("\r\nm=audio 10000 RTP/AVP 8 101\r\n"), "{message}");
    assert!(!message.contains("10.20.30."), "{message}");
}

#[test]
fn no_common_codec_is_said_with_both_lists() {
    let mut config = samples::test_config();
    config.synthflow.codecs = vec!["opus".into()];
    let run = dry_run(&Arc::new(config), Bytes::from_static(OFFER.as_bytes())).expect("it runs");
    assert_eq!(run.warnings.len(), 1);
    assert!(run.warnings[0].starts_with("488: no common codec: CXone offers G729, PCMA, telephone-event"), "{:?}", run.warnings);
    assert!(run.warnings[0].ends_with("synthflow.codecs has opus"), "{:?}", run.warnings);
}
