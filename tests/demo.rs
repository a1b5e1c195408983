//! `backchannel demo` as a user runs it: exit code, log lines, ladder, list.

use std::io;
use std::process::Command;
use std::process::Output;

fn demo() -> io::Result<Output> {
    let built = env!("CARGO_BIN_EXE_backchannel").to_owned();
    let binary = std::env::var("BACKCHANNEL_BIN").unwrap_or(built);
    Command::new(binary).arg("demo").output()
}

#[test]
fn the_demo_carries_and_escalates_a_call_and_shows_it() {
    let output = demo().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(err, "", "nothing is wrong, so nothing is said");

    // The lines of serve, in the order of a call's life, each with the contact id.
    let mut lines = out.lines();
    for word in ["call.offered", "call.dialled", "call.answered", "escalation.requested", "escalation.signalled", "call.ended"] {
        let found = lines.by_ref().find(|line| line.contains(&format!(" I {word} ")));
        assert!(found.is_some_and(|line| line.contains(" contact=483920175523")), "no {word} in its place:\n{out}");
    }
    assert!(!out.lines().any(|line| line.contains("Z W ") || line.contains("Z E ")), "a warning or an error:\n{out}");

    // The ladder of three columns, the API call on it.
    let heads: Vec<usize> = ["CXone", "Backchannel", "Synthflow"].iter().filter_map(|name| header(&out).find(name)).collect();
    assert!(heads.len() == 3 && heads.is_sorted(), "{out}");
    for rung in
        ["─ INVITE ", "X-EI: E.483920175523;O.+12065550199;", "─ REFER ", "202 Accepted", "POST signal", "204 in ", "─ NOTIFY ", "─ BYE "]
    {
        assert!(
            lines.by_ref().any(|line| line.starts_with(|c: char| c.is_ascii_digit() || c == ' ') && line.contains(rung)),
            "no {rung} in its place:\n{out}"
        );
    }

    assert!(lines.any(|line| line.starts_with("ok      ")), "{out}");
    assert!(!out.contains("FAILED"), "{out}");
}

/// The line that names the columns.
fn header(out: &str) -> &str {
    out.lines().find(|line| line.contains("CXone") && line.contains("Synthflow")).unwrap_or_default()
}

#[test]
fn two_demos_at_a_time_do_not_meet() {
    let second = std::thread::spawn(demo);
    assert_eq!(demo().unwrap().status.code(), Some(0));
    assert_eq!(second.join().unwrap().unwrap().status.code(), Some(0));
}
