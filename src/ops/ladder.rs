//! One call as a ladder: CXone, Backchannel and Synthflow side by side, CXone's API drawn on CXone's side, with times.

use std::fmt::Write;
use std::time::Duration;

use crate::ids::Side;
use crate::ops::facts;
use crate::ops::facts::Value;
use crate::ops::redact::Redactor;
use crate::report::CallEvent;
use crate::report::Fact;
use crate::time::Time;

/// Characters between two lifelines.
const SPAN: usize = 41;

/// What is shown of one value of a fact: a closing line must have room for what stands behind a peer's reason.
const VALUE_CHARS_MAX: usize = 60;

/// The widest line: time, difference, three lifelines and two spans.
pub const LADDER_COLUMNS_MAX: usize = 22 + 3 + 2 * SPAN;

/// Draws the events of one call, in the order in which they are given.
pub fn ladder(events: &[CallEvent]) -> String {
    let mut out = String::new();
    let Some(first) = events.first() else { return out };
    let contact = events.iter().find_map(|e| e.contact.as_ref());
    let _ = write!(out, "call {}", first.call);
    if let Some(contact) = contact {
        let _ = write!(out, "  contact {contact}");
    }
    let _ = writeln!(out, "  {}", first.at);
    let _ = writeln!(out, "{:22}CXone{:>w$}{:>v$}", "", "Backchannel", "Synthflow", w = SPAN + 2, v = SPAN - 4);
    let mut before = first.at;
    for event in events {
        let _ = write!(out, "{} {:>8} ", time_of_day(event.at), difference(event.at.since(before)));
        before = event.at;
        draw(&mut out, event);
    }
    out
}

fn draw(out: &mut String, event: &CallEvent) {
    match &event.fact {
        Fact::Message { side, sent, line, note } => {
            arrow(out, *side, *sent, '─', &short(line));
            if !note.is_empty() {
                let _ = write!(out, "{:22}", "");
                beside(out, *side, note);
            }
        }
        Fact::SignalTry { try_no, .. } => arrow(out, Side::Caller, true, '═', &format!("POST signal, try {try_no}")),
        Fact::SignalAnswered { http, took, text, .. } => {
            let status = http.map_or_else(|| "no answer".to_owned(), |s| s.to_string());
            let mut label = format!("{status} in {} ms", took.as_millis());
            if !text.is_empty() {
                let _ = write!(label, ": {text}");
            }
            arrow(out, Side::Caller, false, '═', &label);
        }
        Fact::Latched { side, wire, .. } => beside(out, *side, &format!("· audio from {wire}")),
        Fact::LegEnded { side, by, why } => beside(out, *side, &format!("· leg ended by {}: {why}", by.as_str())),
        Fact::LegLost { side, why } => beside(out, *side, &format!("· leg lost: {why}")),
        Fact::NoAck { side, sent, contact_uri } => beside(out, *side, &format!("· {sent} × 2xx without ACK to {contact_uri}")),
        _ => across(out, event),
    }
}

/// `│── INVITE sip:… ──►│` between Backchannel and one side.
fn arrow(out: &mut String, side: Side, sent: bool, dash: char, label: &str) {
    // Towards the left: to CXone from us, or to us from Synthflow.
    let left = (side == Side::Caller) == sent;
    let label = clip(label, SPAN - 6);
    let fill: String = std::iter::repeat_n(dash, SPAN - 4 - label.chars().count()).collect();
    let span = if left { format!("◄{dash} {label} {fill}") } else { format!("{dash} {label} {fill}►") };
    row(out, side, &span);
}

/// A note on one side's span.
fn beside(out: &mut String, side: Side, text: &str) {
    row(out, side, &format!("   {}", clip(text, SPAN - 4)));
}

fn row(out: &mut String, side: Side, span: &str) {
    let (left, right) = match side {
        Side::Caller => (span, ""),
        Side::Callee => ("", span),
    };
    let _ = writeln!(out, "│{left:SPAN$}│{right:SPAN$}│");
}

/// What is of the whole call goes over both spans, in as many rows as it takes: the event's word and its fields, without what the
/// header says already.
fn across(out: &mut String, event: &CallEvent) {
    let mut text = format!("* {}", event.fact.word());
    for (name, value) in facts::fields(event, &Redactor::off()) {
        let detail = name.ends_with("_bytes") || name.ends_with("_rtcp") || name.ends_with("_drop");
        if detail || matches!(name.as_ref(), "call" | "contact" | "a" | "b" | "signal") {
            continue;
        }
        let _ = match value {
            Value::Text(v) if v.contains(' ') => write!(text, " {name}=\"{}\"", clip(&v, VALUE_CHARS_MAX)),
            Value::Text(v) => write!(text, " {name}={}", clip(&v, VALUE_CHARS_MAX)),
            Value::Number(v) => write!(text, " {name}={v}"),
            Value::Bool(v) => write!(text, " {name}={v}"),
        };
    }
    let width = 2 * SPAN;
    for (at, row) in wrapped(&text, width - 1).iter().enumerate() {
        if at > 0 {
            let _ = write!(out, "{:22}", "");
        }
        let _ = writeln!(out, "│ {row:width$}│");
    }
}

/// The words of a text in rows of at most `width` characters, all but the first indented; a longer word is clipped.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "   ";
    let mut rows: Vec<String> = Vec::new();
    let mut row = String::new();
    for word in text.split(' ') {
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > width {
            rows.push(std::mem::replace(&mut row, INDENT.to_owned()));
        } else if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(&clip(word, width - INDENT.len()));
    }
    rows.push(row);
    rows
}

/// A status line without its version; a request line without it too.
fn short(line: &str) -> String {
    let line = line.trim();
    let line = line.strip_prefix("SIP/2.0 ").unwrap_or(line);
    line.strip_suffix(" SIP/2.0").unwrap_or(line).to_owned()
}

/// At most `width` characters, none of them a control character.
fn clip(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    let mut cut: String = text.chars().take(width - 1).map(clean).collect();
    cut.push('…');
    cut
}

/// `14:03:07.412`
fn time_of_day(at: Time) -> String {
    at.to_string().get(11..23).unwrap_or_default().to_owned()
}

/// `+912ms`, `+2.357s`, `+1m04s`: at most eight characters for anything below a day.
fn difference(d: Duration) -> String {
    let millis = d.as_millis();
    match millis {
        0..1_000 => format!("+{millis}ms"),
        1_000..60_000 => format!("+{}.{:03}s", millis / 1_000, millis % 1_000),
        60_000..3_600_000 => format!("+{}m{:02}s", millis / 60_000, millis / 1_000 % 60),
        _ => format!("+{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SipCallId;
    use crate::ops::facts::samples;
    use crate::ops::facts::samples::event;
    use crate::report::By;

    fn message(side: Side, sent: bool, line: &str, note: &str) -> Fact {
        Fact::Message { side, sent, line: line.into(), note: note.into() }
    }

    fn escalated_call() -> Vec<CallEvent> {
        let settled = Fact::EscalationSettled {
            outcome: "delivered",
            queue: "billing".into(),
            tries: 1,
            took: Duration::from_millis(184),
            why: String::new(),
        };
        let from = "+12065550123".to_owned();
        vec![
            event(0, message(Side::Caller, false, "INVITE sip:+12065551234@203.0.113.10 SIP/2.0", "X-ContactID: 48812")),
            event(
                0,
                Fact::Offered {
                    caller_call_id: SipCallId::new("a"),
                    source: ([192, 0, 2, 1], 5060).into(),
                    from,
                    to: "+12065551234".into(),
                },
            ),
            event(0, message(Side::Caller, true, "SIP/2.0 100 Trying", "")),
            event(
                1,
                message(Side::Callee, true, "INVITE sip:+12065551234@sip.us.synthflow.ai:32681;transport=tcp SIP/2.0", "X-EI: E.48812;"),
            ),
            event(90, message(Side::Callee, false, "SIP/2.0 200 OK", "")),
            event(91, message(Side::Caller, true, "SIP/2.0 200 OK", "")),
            event(9_000, message(Side::Callee, false, "REFER sip:bc@203.0.113.10 SIP/2.0", "Refer-To: <sip:billing@x>")),
            event(9_000, Fact::EscalationRequested { by: "refer", queue: "billing".into(), signal: "S1".into() }),
            event(9_000, message(Side::Callee, true, "SIP/2.0 202 Accepted", "")),
            event(9_001, Fact::SignalTry { try_no: 1, signal: "S1".into() }),
            event(9_020, Fact::SignalAnswered { try_no: 1, http: Some(204), took: Duration::from_millis(184), text: String::new() }),
            event(9_020, settled),
            event(9_020, message(Side::Callee, true, "NOTIFY sip:sf@198.51.100.2 SIP/2.0", "SIP/2.0 200 OK")),
            event(9_200, message(Side::Caller, false, "BYE sip:bc@203.0.113.10 SIP/2.0", "")),
            event(9_200, Fact::LegEnded { side: Side::Caller, by: By::Cxone, why: "BYE".into() }),
        ]
    }

    #[test]
    fn an_escalated_call_is_drawn_in_three_columns() {
        assert_eq!(ladder(&escalated_call()), include_str!("golden/ladder.txt"));
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_whatever_a_peer_writes() {
        let mut events = samples::all();
        events.push(event(99, message(Side::Caller, true, &"é\u{1b}\r\n".repeat(200), &"n\t".repeat(200))));
        let drawn = ladder(&events);
        for line in drawn.lines() {
            assert!(line.chars().count() <= LADDER_COLUMNS_MAX && LADDER_COLUMNS_MAX <= 110, "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        assert_eq!(ladder(&[]), "");
    }

    #[test]
    fn a_closing_line_is_shown_to_its_end() {
        let drawn = ladder(&samples::all());
        let ended = drawn.split("* call.ended").nth(1).unwrap();
        assert!(ended.lines().take(2).any(|line| line.contains(" signals=1")), "{drawn}");
        let long = Fact::Failed {
            by: By::Synthflow,
            status: 486,
            why: "no ".repeat(200),
            caller_call_id: SipCallId::new("a"),
            callee_call_id: None,
            after: Duration::from_millis(340),
        };
        assert!(ladder(&[event(0, long)]).contains("after_ms=340"));
    }

    #[test]
    fn differences_stay_short() {
        let shown = [999, 1_000, 59_999, 60_000, 3_599_999, 86_399_999].map(|ms| difference(Duration::from_millis(ms)));
        assert_eq!(shown, ["+999ms", "+1.000s", "+59.999s", "+1m00s", "+59m59s", "+23h59m"]);
    }
}
