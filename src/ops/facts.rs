//! A call event as a list of fields. The three formats are printed from this one list, so they can never disagree.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use crate::call::anchor::MediaStats;
use crate::ids::Side;
use crate::ops::redact::Redactor;
use crate::report::CallEvent;
use crate::report::Fact;

/// A field's value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Bool(bool),
}

/// Name and value, in the order in which they are printed.
pub type Fields<'a> = Vec<(Cow<'static, str>, Value<'a>)>;

/// Collects fields in order.
struct List<'a, 'r> {
    fields: Fields<'a>,
    redactor: &'r Redactor,
    contact: Option<&'a str>,
}

/// The fields of one event behind its time, level and word: `call`, `contact`, then what the fact says. The order is fixed.
pub fn fields<'a>(event: &'a CallEvent, redactor: &Redactor) -> Fields<'a> {
    let contact = event.contact.as_ref().map(|c| c.as_str());
    let mut list = List { fields: Vec::with_capacity(20), redactor, contact };
    list.plain("call", event.call.as_str());
    if let Some(contact) = contact {
        list.plain("contact", contact);
    }
    list.start(&event.fact);
    list.fields
}

impl<'a> List<'a, '_> {
    /// The facts of a call's life.
    fn start(&mut self, fact: &'a Fact) {
        match fact {
            Fact::Offered { caller_call_id, source, from, to } => {
                self.a(caller_call_id.as_str());
                self.addr("src", *source);
                self.person("from", from);
                self.person("to", to);
            }
            Fact::Refused { caller_call_id, source, status, why } => {
                self.a(caller_call_id.as_str());
                self.addr("src", *source);
                self.number("status", *status);
                self.text("why", why);
            }
            Fact::Dialled { callee_call_id, target, transport, attempt, bytes } => {
                self.b(callee_call_id.as_str());
                self.addr("dst", *target);
                self.plain("transport", transport);
                self.number("attempt", *attempt);
                self.number("bytes", *bytes as u64);
            }
            Fact::Progress { status, early_media } => {
                self.number("status", *status);
                self.fields.push(("early_media".into(), Value::Bool(*early_media)));
            }
            Fact::Answered { caller_call_id, callee_call_id, pdd, codec, caller_rtp, callee_rtp } => {
                self.a(caller_call_id.as_str());
                self.b(callee_call_id.as_str());
                self.millis("pdd_ms", *pdd);
                self.text("codec", codec);
                self.addr_if("a_rtp", *caller_rtp);
                self.addr_if("b_rtp", *callee_rtp);
            }
            Fact::Failed { by, status, why, caller_call_id, callee_call_id, after } => {
                self.plain("by", by.as_str());
                self.number("status", *status);
                self.text("why", why);
                self.millis("after_ms", *after);
                self.a(caller_call_id.as_str());
                if let Some(id) = callee_call_id {
                    self.b(id.as_str());
                }
            }
            Fact::Ended { by, why, cause, duration, caller_call_id, callee_call_id, caller_media, callee_media, signals } => {
                self.plain("by", by.as_str());
                self.text("why", why);
                self.number("cause", *cause);
                self.number("dur_s", duration.as_secs());
                self.a(caller_call_id.as_str());
                self.b(callee_call_id.as_str());
                self.media("a", caller_media);
                self.media("b", callee_media);
                self.number("signals", *signals);
            }
            Fact::Warning { text } => self.text("text", text),
            other => self.rest(other),
        }
    }

    /// Legs, media, escalations, messages.
    fn rest(&mut self, fact: &'a Fact) {
        match fact {
            Fact::NoAck { side, contact_uri, sent } => {
                self.leg(*side);
                self.text("contact_uri", contact_uri);
                self.number("sent", *sent);
            }
            Fact::Latched { side, said, wire } => {
                self.leg(*side);
                self.addr_if("said", *said);
                self.addr("wire", *wire);
            }
            Fact::MediaIdle { after } => self.number("after_s", after.as_secs()),
            Fact::EscalationRequested { by, queue, signal } => {
                self.plain("by", by);
                self.text("queue", queue);
                self.plain("signal", signal);
            }
            Fact::EscalationRefused { by, why } => {
                self.plain("by", by);
                self.text("why", why);
            }
            Fact::SignalTry { try_no, signal } => {
                self.number("try", *try_no);
                self.plain("signal", signal);
            }
            Fact::SignalAnswered { try_no, http, took, text } => {
                self.number("try", *try_no);
                if let Some(status) = http {
                    self.number("http", *status);
                }
                self.millis("ms", *took);
                self.text_if("text", text);
            }
            Fact::EscalationSettled { outcome: _, queue, tries, took, why } => {
                self.text("queue", queue);
                self.number("tries", *tries);
                self.millis("ms", *took);
                self.text_if("why", why);
            }
            Fact::LegEnded { side, by, why } => {
                self.leg(*side);
                self.plain("by", by.as_str());
                self.text("why", why);
            }
            Fact::LegLost { side, why } => {
                self.leg(*side);
                self.text("why", why);
            }
            Fact::Message { side, sent, line, note } => {
                self.leg(*side);
                self.plain("dir", if *sent { "sent" } else { "received" });
                self.text("line", line);
                self.text_if("note", note);
            }
            Fact::Broken { what } => self.plain("what", what),
            // The others are in `start`.
            _ => {}
        }
    }

    fn plain(&mut self, name: &'static str, text: &'a str) {
        self.fields.push((name.into(), Value::Text(text.into())));
    }

    /// Free text: numbers and X- values in it are redacted.
    fn text(&mut self, name: &'static str, text: &'a str) {
        let shown = self.redactor.text(text, self.contact);
        self.fields.push((name.into(), Value::Text(shown)));
    }

    fn text_if(&mut self, name: &'static str, text: &'a str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn person(&mut self, name: &'static str, text: &'a str) {
        let shown = self.redactor.person(text);
        self.fields.push((name.into(), Value::Text(shown)));
    }

    fn number(&mut self, name: &'static str, number: impl Into<u64>) {
        self.fields.push((name.into(), Value::Number(number.into())));
    }

    fn millis(&mut self, name: &'static str, d: Duration) {
        self.number(name, u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    }

    fn addr(&mut self, name: &'static str, addr: SocketAddr) {
        self.fields.push((name.into(), Value::Text(addr.to_string().into())));
    }

    fn addr_if(&mut self, name: &'static str, addr: Option<SocketAddr>) {
        if let Some(addr) = addr {
            self.addr(name, addr);
        }
    }

    fn leg(&mut self, side: Side) {
        self.plain("leg", side.peer());
    }

    fn a(&mut self, call_id: &str) {
        self.fields.push(("a".into(), Value::Text(format!("cxone:{call_id}").into())));
    }

    fn b(&mut self, call_id: &str) {
        self.fields.push(("b".into(), Value::Text(format!("synthflow:{call_id}").into())));
    }

    fn media(&mut self, side: &'static str, stats: &MediaStats) {
        let all = [("rx", stats.rx), ("rx_bytes", stats.rx_bytes), ("tx", stats.tx), ("rtcp", stats.rtcp_rx), ("drop", stats.dropped)];
        for (name, count) in all {
            self.fields.push((format!("{side}_{name}").into(), Value::Number(count)));
        }
    }
}

#[cfg(test)]
pub mod samples {
    //! One event of every kind.

    use super::*;
    use crate::ids::CallId;
    use crate::ids::ContactId;
    use crate::ids::SipCallId;
    use crate::report::By;
    use crate::time::Time;

    const MS: Duration = Duration::from_millis(1);

    pub fn event(n: u64, fact: Fact) -> CallEvent {
        let at = Time::from_micros(1_787_407_387_412_000) + MS * 10 * u32::try_from(n).unwrap();
        CallEvent { at, call: CallId::new("7Q2K"), contact: Some(ContactId::new("48812")), fact }
    }

    /// One of each `Fact`, and an `EscalationSettled` that did not go well.
    pub fn all() -> Vec<CallEvent> {
        let facts = start().into_iter().chain(rest());
        facts.enumerate().map(|(n, fact)| event(n as u64, fact)).collect()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn start() -> Vec<Fact> {
        let (a, b) = (SipCallId::new("a-1@cx"), SipCallId::new("b7f"));
        let stats = MediaStats { rx: 7641, rx_bytes: 1_314_252, tx: 7650, rtcp_rx: 30, dropped: 2 };
        vec![
            Fact::Offered {
                caller_call_id: a.clone(),
                source: addr("192.0.2.1:5060"),
                from: "+12065550123".into(),
                to: "+12065551234".into(),
            },
            Fact::Refused { caller_call_id: a.clone(), source: addr("[2001:db8::1]:5060"), status: 503, why: "max_calls 2000".into() },
            Fact::Dialled { callee_call_id: b.clone(), target: addr("198.51.100.2:32681"), transport: "TCP", attempt: 1, bytes: 1412 },
            Fact::Progress { status: 183, early_media: true },
            Fact::Answered {
                caller_call_id: a.clone(),
                callee_call_id: b.clone(),
                pdd: MS * 912,
                codec: "PCMU".into(),
                caller_rtp: Some(addr("192.0.2.1:40110")),
                callee_rtp: None,
            },
            Fact::Failed {
                by: By::Synthflow,
                status: 486,
                why: "Busy \"Here\"\r\nX".into(),
                caller_call_id: a.clone(),
                callee_call_id: None,
                after: MS * 340,
            },
            Fact::Ended {
                by: By::Cxone,
                why: "BYE".into(),
                cause: 16,
                duration: Duration::from_secs(153),
                caller_call_id: a,
                callee_call_id: b,
                caller_media: stats,
                callee_media: MediaStats::default(),
                signals: 1,
            },
            Fact::Warning { text: "X-EI repaired: a blank in E".into() },
        ]
    }

    fn rest() -> Vec<Fact> {
        let settled =
            |outcome, why: &str| Fact::EscalationSettled { outcome, queue: "billing".into(), tries: 2, took: MS * 5_184, why: why.into() };
        vec![
            Fact::NoAck { side: Side::Caller, contact_uri: "sip:203.0.113.10:5060".into(), sent: 3 },
            Fact::Latched { side: Side::Callee, said: Some(addr("10.0.0.9:4000")), wire: addr("198.51.100.2:4000") },
            Fact::MediaIdle { after: Duration::from_secs(60) },
            Fact::EscalationRequested { by: "refer", queue: "billing".into(), signal: "0A1B".into() },
            Fact::EscalationRefused { by: "refer", why: "no contact id".into() },
            Fact::SignalTry { try_no: 1, signal: "0A1B".into() },
            Fact::SignalAnswered { try_no: 1, http: Some(204), took: MS * 184, text: String::new() },
            settled("delivered", ""),
            Fact::LegEnded { side: Side::Callee, by: By::Synthflow, why: "BYE".into() },
            Fact::LegLost { side: Side::Callee, why: "connection reset".into() },
            Fact::Message {
                side: Side::Callee,
                sent: true,
                line: "INVITE sip:+12065551234@198.51.100.2 SIP/2.0".into(),
                note: "X-EI: E.48812;".into(),
            },
            settled("unknown", "no answer"),
            Fact::Broken { what: "no such leg" },
        ]
    }
}
