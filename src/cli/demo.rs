//! `backchannel demo`: the real server between both mocks and a mock carrier on loopback. One call with context, a second of audio
//! each way, a REFER, the signal, CXone's BYE; then the call's ladder, and what was right and what was not.

mod checks;
mod stage;

use std::io;
use std::io::Write;

use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::cli::demo::checks::Check;
use crate::cli::demo::checks::Seen;
use crate::cli::demo::stage::Script;
use crate::ops::ladder::ladder;
use crate::report::CallEvent;

/// One call between built-in mocks, escalated.
pub fn run_demo() -> u8 {
    let mut seen = Seen::default();
    let played = stage::play(Script::default(), &mut seen);
    let checks = checks::checks(&seen);
    let right = played.is_ok() && checks.iter().all(Check::is_right);
    if let Err(e) = report(&mut io::stdout().lock(), &seen, &checks) {
        eprintln!("backchannel demo: standard output: {e}");
        return EXIT_FAILED;
    }
    if let Err(why) = played {
        eprintln!("backchannel demo: {why}");
    }
    if right { EXIT_OK } else { EXIT_FAILED }
}

fn report(out: &mut impl Write, seen: &Seen, checks: &[Check]) -> io::Result<()> {
    let facts: Vec<CallEvent> = seen.facts_of_the_call();
    writeln!(out, "\n{}", ladder(&facts))?;
    for check in checks {
        writeln!(out, "{check}")?;
    }
    let wrong = checks.iter().filter(|check| !check.is_right()).count();
    match wrong {
        0 => writeln!(out, "\nall {} right", checks.len())?,
        _ => writeln!(out, "\n{wrong} of {} FAILED", checks.len())?,
    }
    out.flush()
}
