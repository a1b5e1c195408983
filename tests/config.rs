//! The configuration: a pack of bad files with what must be said about each, the shipped reference, and a first call's file.

// The helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use backchannel::config::Config;
use backchannel::config::Loaded;
use backchannel::config::errors::ConfigErrors;
use backchannel::config::keys::Built;
use backchannel::config::keys::KEYS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")
}

/// A world with the kernel's usual ports, one variable and the real files.
fn parse(text: &str, file: &Path) -> Result<Loaded, ConfigErrors> {
    let env = |name: &str| (name == "CLIENT_SECRET").then(|| "from-the-environment".to_owned());
    let read = |path: &Path| match path.to_str() {
        Some("/proc/sys/net/ipv4/ip_local_port_range") => Ok("32768\t60999\n".to_owned()),
        Some("/proc/sys/kernel/hostname") => Ok("edge 1.example\n".to_owned()),
        Some(p) if p.starts_with("/proc/") => Err(io::ErrorKind::NotFound.into()),
        _ => std::fs::read_to_string(path),
    };
    Config::parse(text, file, &env, &read)
}

fn backchannel(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backchannel")).args(args).output().unwrap()
}

fn bad_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() > 30, "the pack is there");
    files
}

/// Each `# expect:` that begins with a place is one error, in order; the others must be said somewhere.
#[test]
fn every_bad_file_gets_exactly_the_errors_that_it_expects() {
    let mut wrong = Vec::new();
    for path in bad_files() {
        let name = path.file_name().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# expect: ")).collect();
        assert!(!expected.is_empty(), "{name:?}");
        let Err(errors) = parse(&text, Path::new(&name)) else {
            wrong.push(format!("{name:?} was accepted"));
            continue;
        };
        let said: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let is_place = |e: &&&str| e.starts_with(|c: char| c.is_ascii_digit());
        let places = expected.iter().filter(is_place).count();
        let file = name.to_string_lossy();
        let missing: Vec<&&str> = expected
            .iter()
            .filter(|e| match is_place(e) {
                true => !said.iter().any(|s| s.starts_with(&format!("{file}:{e}"))),
                false => !said.iter().any(|s| s.contains(**e)),
            })
            .collect();
        if !missing.is_empty() || places != said.len() {
            wrong.push(format!("{file}: missing {missing:#?} of {}", errors));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_bad_file_ends_the_command_with_exit_code_2() {
    // The kernel's ports are those of this machine, so what depends on them is left to the table above.
    for path in bad_files().iter().filter(|p| !p.ends_with("ports-of-the-kernel.toml")) {
        let output = backchannel(&["check", "-c", path.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{path:?}: {stderr}");
        assert!(stderr.contains("nothing was started"), "{path:?}: {stderr}");
    }
    let output = backchannel(&["serve", "-c", folder().join("unknown-key.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(":2:1: node.max_call: unknown key"));
}

#[test]
fn a_missing_file_and_a_wrong_usage_end_with_exit_code_2() {
    for args in [&["check", "-c", "no-such.toml"][..], &["serve", "-c", "no-such.toml"], &["check", "--colour"], &["serv"], &[], &["mock"]]
    {
        let output = backchannel(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    for args in [
        &["serve"][..],
        &["demo"],
        &["check"],
        &["mock"],
        &["mock", "cxone"],
        &["mock", "synthflow"],
        &["headers"],
        &["tls-selfsigned"],
        &[],
    ] {
        let output = backchannel(&[args, &["--help"]].concat());
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout.contains("Example"), "{args:?}: {stdout}");
    }
}

#[test]
fn errors_as_json_have_their_parts() {
    let output = backchannel(&["check", "--json", "-c", folder().join("unknown-key.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = &json["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&2.into(), &1.into()));
    assert_eq!((&error["key"], &error["nearest"]), (&"node.max_call".into(), &"\"max_calls\"".into()));
}

/// A configuration whose ports are those given, in a folder of its own.
fn check_with(listen: &str, ports: &str, name: &str) -> (Output, PathBuf) {
    let dir = std::env::temp_dir().join(format!("backchannel-check-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("c.toml");
    let text = format!(
        "[sip]\nlisten = [\"{listen}\"]\n[media]\nports = \"{ports}\"\n[node]\nmax_calls = 1\n[escalation]\naccept = []\n\
         [synthflow]\ntarget = \"sip:127.0.0.1;transport=tcp\"\n[cxone]\nallow = [\"127.0.0.1\"]\n"
    );
    std::fs::write(&path, text).unwrap();
    (backchannel(&["check", "--json", "-c", path.to_str().unwrap()]), dir)
}

#[test]
fn a_port_in_use_is_a_finding_that_keeps_serve_from_starting() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = format!("udp://{}", taken.local_addr().unwrap());
    let (output, dir) = check_with(&listen, "1400-1407", "busy");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{json:#}");
    assert_eq!(json["ok"], false);
    assert!(json["stops"][0].as_str().unwrap().contains("is serve running already?"), "{json:#}");
    drop(taken);
    let (output, _) = check_with(&listen, "1400-1407", "busy");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["ok"]), (Some(0), &true.into()), "{json:#}");
    assert_eq!(json["would"]["media"][0], "ports 1400-1407: 4 pairs, 2 calls");
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["c.toml"], "check leaves nothing behind");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What the shipped file sets otherwise, so that it runs on one laptop.
const LAPTOP: [&str; 8] = [
    "cxone.allow",
    "cxone.api.issuer",
    "cxone.api.client_id",
    "cxone.api.client_secret",
    "cxone.api.access_key_id",
    "cxone.api.access_key_secret",
    "synthflow.target",
    "synthflow.allow",
];

#[test]
fn the_shipped_file_holds_every_key_with_its_default() {
    let text = std::fs::read_to_string(shipped()).unwrap();
    let shipped: toml::Table = text.parse().unwrap();
    let mut seen = BTreeSet::new();
    for key in KEYS.iter().filter(|k| k.path != "tenant") {
        let value = key.path.split('.').try_fold(&toml::Value::Table(shipped.clone()), |v, name| v.get(name)).cloned();
        let Some(value) = value else { panic!("config.toml has no {}", key.path) };
        let default = format!("x = {}", key.default).parse::<toml::Table>().unwrap().remove("x").unwrap();
        if LAPTOP.contains(&key.path) {
            assert_ne!(value, default, "{} is no exception", key.path);
            seen.insert(key.path);
        } else {
            assert_eq!(value, default, "{}", key.path);
        }
    }
    assert_eq!(seen.len(), LAPTOP.len());
    assert!(text.contains("[[tenant]]"));
}

/// A date is right for no key, so one that is not told about would be a key that nobody reads.
#[test]
fn no_key_is_ignored() {
    for key in KEYS {
        let errors = parse(&format!("{} = 1979-05-27\n", key.path), Path::new("c.toml")).unwrap_err();
        let told = errors.0.iter().find(|e| e.key == key.path).unwrap_or_else(|| panic!("{} is ignored", key.path));
        assert_eq!((told.line, told.column), (1, key.path.len() + 4), "{told}");
        assert_eq!(told.problem == "not in this version", key.built != Built::Yes, "{told}");
    }
}

#[test]
fn the_shipped_file_loads_without_a_warning() {
    let text = std::fs::read_to_string(shipped()).unwrap();
    let loaded = parse(&text, &shipped()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.synthflow.targets[0].port, 32681);
    assert!(loaded.config.cxone.allow[0].matches("127.0.0.1:5090".parse().unwrap(), false));
}

#[test]
fn a_first_call_needs_at_most_fifteen_lines() {
    let path = folder().join("good/minimal.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() <= 15);
    let loaded = parse(&text, &path).unwrap_or_else(|e| panic!("{e}"));
    let config = loaded.config;
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(config.api.client_secret.0, "from-the-environment");
    assert_eq!(config.api.access_key_secret.0, "key-of-the-test");
    assert_eq!(config.node.name, "edge1.example");
    assert_eq!(config.node.state_dir, folder().join("good/state"));
    assert_eq!(config.media.advertise, config.sip.advertise);
    assert_eq!(config.media.bind, ["0.0.0.0".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(config.synthflow.targets[0].name.0, "sip.us.synthflow.ai");
    // facts.md §3.1: the published addresses, without 4.138.180.50.
    assert_eq!(config.synthflow.allow.len(), 2);
    assert_eq!(config.cxone.allow.len(), 2);
    let params: Vec<_> = config.escalation.params.iter().map(|(name, template)| format!("{name}={template}")).collect();
    assert_eq!(params, ["p1={queue}", "p2={reason}", "p3={signal_id}"]);
}

#[test]
fn no_secret_is_ever_printed() {
    let path = folder().join("good/minimal.toml");
    let loaded = parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let shown = format!("{:?}", loaded);
    assert!(!shown.contains("from-the-environment") && !shown.contains("key-of-the-test"));
    // A file with the canary in every place where a secret may stand, and an error beside it.
    let text = "[node]\nnam = 1\n[cxone.api]\nclient_secret = \"canary\\u0007\"\naccess_key_secret = \"canary\"\n[synthflow]\nregion = \"us\"\npassword = \"canary\"\n[admin]\ntoken = \"canary\"\n";
    let errors = parse(text, Path::new("c.toml")).unwrap_err();
    assert!(!format!("{errors} {errors:?}").contains("canary"), "{errors}");
    for line in [
        "client_secret = \"canary",
        "client_secret = canary",
        "client_secret = 'canary\\q",
        "client_secret = \"canary\\q\"",
        "client_secret \"canary\"",
    ] {
        let errors = parse(&format!("[cxone.api]\n{line}\n"), Path::new("c.toml")).unwrap_err();
        assert!(!format!("{errors} {errors:?}").contains("canary"), "{errors}");
    }
}

fn warnings_of(body: &str) -> String {
    let api = "[cxone.api]\nclient_id = \"i\"\nclient_secret = \"s\"\naccess_key_id = \"k\"\naccess_key_secret = \"s\"\n";
    parse(&format!("{body}\n{api}"), Path::new("c.toml")).unwrap_or_else(|e| panic!("{e}")).warnings.join("\n")
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let us = "[synthflow]\nregion = \"us\"\n";
    assert_eq!(warnings_of(us), "");
    assert!(
        warnings_of(&format!("{us}[media]\nports = \"10000-10007\""))
            .contains("max_calls = 2000, but media.ports 10000-10007 has room for 2 calls")
    );
    let private = warnings_of(&format!("{us}[sip]\nadvertise = \"10.0.0.5\""));
    assert!(private.contains("sip.advertise: cxone at 216.20.235.167 is told to send to 10.0.0.5"), "{private}");
    assert!(private.contains("sip.advertise: synthflow at 35.237.42.43"), "{private}");
    assert!(warnings_of("[synthflow]\ntarget = \"sip:4.138.180.50\"").contains("4.138.180.50 is published, but"));
    assert!(warnings_of(&format!("{us}[cxone]\nallow = [\"0.0.0.0/0\"]")).contains("0.0.0.0/0 lets everybody in"));
    assert!(warnings_of(&format!("{us}[headers]\nset = {{ X-Q = \"{{queue}}\" }}")).contains("only while an escalation runs"));
    assert!(warnings_of("[synthflow]\nregion = \"us\"\ncodecs = [\"PMCU\"]").contains("did you mean \"PCMU\"?"));
    assert!(warnings_of(&format!("{us}[sip]\nadvertise = \"2001:db8::1\"")).contains("no listener of its family"));
    let http = "[synthflow]\nregion = \"us\"\n[cxone]\napi.issuer = \"http://10.0.0.1\"\napi.client_id = \"i\"\napi.client_secret = \"s\"\napi.access_key_id = \"k\"\napi.access_key_secret = \"s\"\n";
    let warnings = parse(http, Path::new("c.toml")).unwrap().warnings;
    assert!(warnings[0].contains("sends the credentials in clear text"), "{warnings:?}");
}

#[test]
fn a_gateway_that_never_signals_needs_no_credentials() {
    let config = parse("[synthflow]\nregion = \"eu\"\n[escalation]\naccept = []\n", Path::new("c.toml")).unwrap().config;
    assert!(!config.escalation.accept_refer && !config.escalation.accept_bye);
    let errors = parse("[synthflow]\nregion = \"eu\"\n[escalation]\naccept = []\nplain_bye_signal = \"End\"\n", Path::new("c.toml"));
    assert_eq!(errors.unwrap_err().0.len(), 4);
}

#[test]
fn header_tables_keep_the_order_of_the_file() {
    let text = "[synthflow]\nregion = \"us\"\n[escalation]\naccept = [\"bye\"]\nqueues = { b = \"1\", a = \"2\" }\n[headers.set]\nX-B = \"1\"\nX-A = \"{to}\"\n[cxone.api]\nclient_id = \"i\"\nclient_secret = \"s\"\naccess_key_id = \"k\"\naccess_key_secret = \"s\"\n";
    let config = parse(text, Path::new("c.toml")).unwrap().config;
    let names: Vec<&str> = config.headers.set.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-B", "X-A"]);
    assert!(config.escalation.accept_bye && !config.escalation.accept_refer);
}

#[test]
fn a_file_that_is_not_utf8_or_too_long_is_refused_with_its_place() {
    let dir = std::env::temp_dir().join(format!("backchannel-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("c.toml");
    std::fs::write(&path, b"[node]\nname = \"\xff\"\n").unwrap();
    let error = &Config::load(&path).unwrap_err().0[0];
    assert_eq!((error.line, error.column, error.problem.as_str()), (2, 9, "is not UTF-8"));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(Config::load(&path).unwrap_err().0[0].problem.contains("longer than 1048576 bytes"));
    std::fs::remove_dir_all(&dir).unwrap();
}
