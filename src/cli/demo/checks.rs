//! What must be true of the demo's call, from what its four ends saw.

use std::fmt;

use crate::b2bua::io::Counts;
use crate::ids::Side;
use crate::mock::carrier::CarrierEvent;
use crate::mock::cxone::MockSignal;
use crate::mock::rtp::RtpCounts;
use crate::mock::synthflow::SynthflowEvent;
use crate::mock::ua::Lines;
use crate::report::CallEvent;
use crate::report::Fact;

/// Audio packets that CXone sends: one second.
pub const PACKETS: u64 = 50;

/// Packets that must arrive on each side; a kernel may lose some when its buffers are small.
pub const PACKETS_MIN: u64 = 45;

/// CXone's contact.
pub const CONTACT: &str = "483920175523";

/// Who diverted the call.
pub const DIVERSION: &str = "+12065550199";

/// Where Synthflow sends the caller.
pub const QUEUE: &str = "billing";

/// What the child script put with SIPPUTHEADER.
pub const CONTEXT: [(&str, &str); 6] = [
    ("X-ContactID", CONTACT),
    ("X-Diversion", DIVERSION),
    ("X-CustomerName", "Ada Lovelace"),
    ("X-accountTier_2", "gold"),
    ("X-VIP", "yes"),
    ("X-Intent-Summary", "refund of  $40, order #81-2; second call"),
];

/// What we add to Synthflow's INVITE.
const OURS: [&str; 2] = ["X-EI", "X-Backchannel-Call-Id"];

/// What the ends of the call have told, each in its order.
#[derive(Debug, Default)]
pub struct Seen {
    pub trunk: Vec<CarrierEvent>,
    pub bot: Vec<SynthflowEvent>,
    pub signals: Vec<MockSignal>,
    pub facts: Vec<CallEvent>,
    /// What the core held when all was over.
    pub counts: Option<Counts>,
}

impl Seen {
    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        let bot = self.bot.iter().any(|e| matches!(e, SynthflowEvent::Rtp(_)));
        let trunk = self.trunk.iter().any(|e| matches!(e, CarrierEvent::Rtp(_) | CarrierEvent::Refused(_)));
        let closed = self.facts.iter().any(|e| is_closing(&e.fact));
        let refused = self.trunk.iter().any(|e| matches!(e, CarrierEvent::Refused(_)));
        trunk && (bot || refused) && closed
    }

    /// The facts of the first call there is.
    pub fn facts_of_the_call(&self) -> Vec<CallEvent> {
        let Some(call) = self.facts.first().map(|e| e.call.clone()) else { return Vec::new() };
        self.facts.iter().filter(|e| e.call == call).cloned().collect()
    }

    fn bot_of<T>(&self, pick: impl Fn(&SynthflowEvent) -> Option<T>) -> Option<T> {
        self.bot.iter().find_map(pick)
    }

    fn trunk_of<T>(&self, pick: impl Fn(&CarrierEvent) -> Option<T>) -> Option<T> {
        self.trunk.iter().find_map(pick)
    }
}

fn is_closing(fact: &Fact) -> bool {
    matches!(fact, Fact::Ended { .. } | Fact::Failed { .. } | Fact::Refused { .. })
}

/// One line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    what: String,
    /// What was there instead.
    instead: Option<String>,
}

impl Check {
    pub fn is_right(&self) -> bool {
        self.instead.is_none()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instead {
            None => write!(f, "ok      {}", self.what),
            Some(instead) => write!(f, "FAILED  {}: {instead}", self.what),
        }
    }
}

fn same<T: PartialEq + fmt::Debug>(what: impl Into<String>, wanted: &T, was: Option<&T>) -> Check {
    let instead = match was {
        Some(was) if was == wanted => None,
        Some(was) => Some(format!("it was {was:?}")),
        None => Some("it did not happen".to_owned()),
    };
    Check { what: what.into(), instead }
}

/// All of them.
pub fn checks(seen: &Seen) -> Vec<Check> {
    let mut checks = context(seen);
    checks.extend(audio(seen));
    checks.extend(escalation(seen));
    checks.extend(end(seen));
    checks
}

fn context(seen: &Seen) -> Vec<Check> {
    let invite = seen.bot_of(|e| match e {
        SynthflowEvent::InviteReceived { x_ei, x_headers, .. } => Some((x_ei.clone().unwrap_or_default(), x_headers.clone())),
        _ => None,
    });
    let x_ei = format!("E.{CONTACT};O.{DIVERSION};");
    let sent: Lines = CONTEXT.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (was_x_ei, was_lines) = invite.unzip();
    let was: Option<Lines> = was_lines.map(|all| all.into_iter().filter(|(name, _)| !OURS.contains(&name.as_str())).collect());
    let call = seen.facts.first().map(|e| e.call.as_str().to_owned()).unwrap_or_default();
    let named = seen.trunk_of(|e| match e {
        CarrierEvent::Answered { x_headers } => {
            let named = x_headers.iter().find(|(name, _)| name == "X-Backchannel-Call-Id");
            Some(named.map(|(_, id)| id.clone()).unwrap_or_default())
        }
        _ => None,
    });
    vec![
        same(format!("Synthflow reads X-EI: {x_ei}"), &x_ei, was_x_ei.as_ref()),
        same(format!("{} X- headers reach Synthflow as they were put", sent.len()), &sent, was.as_ref()),
        same(format!("SIPGETHEADER reads X-Backchannel-Call-Id: {call}"), &call, named.as_ref()),
    ]
}

fn audio(seen: &Seen) -> Vec<Check> {
    let trunk = seen.trunk_of(|e| if let CarrierEvent::Rtp(counts) = e { Some(*counts) } else { None });
    let bot = seen.bot_of(|e| if let SynthflowEvent::Rtp(counts) = e { Some(*counts) } else { None });
    vec![heard("Synthflow hears CXone", trunk, bot), heard("CXone hears Synthflow", bot, trunk)]
}

/// `PACKETS_MIN` packets of the tone, and no more than were sent.
fn heard(what: &str, from: Option<RtpCounts>, to: Option<RtpCounts>) -> Check {
    let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
    let said = format!("{} packets sent, {} received, {} of them with sound", from.sent, to.received, to.voiced);
    let right = to.voiced >= PACKETS_MIN && to.received <= from.sent && to.odd == 0;
    Check { what: format!("{what}: {said}"), instead: (!right).then(|| format!("at least {PACKETS_MIN} with sound were expected")) }
}

fn escalation(seen: &Seen) -> Vec<Check> {
    let referred = seen.bot_of(|e| if let SynthflowEvent::ReferAnswered(status) = e { Some(*status) } else { None });
    let notified: Vec<&str> = seen
        .bot
        .iter()
        .filter_map(|e| if let SynthflowEvent::Notify { sipfrag, .. } = e { Some(sipfrag.as_str()) } else { None })
        .collect();
    // RFC 3515 §2.4.5: a status line, which ends with CRLF (RFC 3420 §2.1).
    let wanted = vec!["SIP/2.0 100 Trying\r\n", "SIP/2.0 200 OK\r\n"];
    let p1 = |s: &MockSignal| s.params.iter().find(|(name, _)| name == "p1").map(|(_, value)| value.clone());
    let signal = seen.signals.first().map(|s| (s.contact.clone(), p1(s).unwrap_or_default()));
    vec![
        same("the REFER gets 202", &202, referred.as_ref()),
        same(format!("CXone is signalled p1={QUEUE} for contact {CONTACT}"), &(CONTACT.to_owned(), QUEUE.to_owned()), signal.as_ref()),
        same("it is signalled once", &1, Some(&seen.signals.len())),
        same("the NOTIFYs say 100 Trying, then 200 OK", &wanted, Some(&notified)),
    ]
}

fn end(seen: &Seen) -> Vec<Check> {
    let trunk = seen.trunk_of(|e| if let CarrierEvent::ByeAnswered(status) = e { Some(*status) } else { None });
    let bot = seen.bot_of(|e| matches!(e, SynthflowEvent::ByeReceived { .. }).then_some(true));
    let by = seen.facts.iter().find_map(|e| match &e.fact {
        Fact::Ended { by, .. } => Some(by.as_str()),
        _ => None,
    });
    let held = seen.counts.map(|c| (c.calls, c.dialogs, c.ports_taken));
    vec![
        same("CXone's BYE gets 200", &200, trunk.as_ref()),
        same("Synthflow gets a BYE", &true, bot.as_ref()),
        same("Synthflow's 200 to it arrives", &true, Some(&bye_was_answered(&seen.facts))),
        same("the log says who ended the call: cxone", &"cxone", by.as_ref()),
        same("no call, dialog or media port is left", &(0, 0, 0), held.as_ref()),
    ]
}

fn bye_was_answered(facts: &[CallEvent]) -> bool {
    let mut callee = facts.iter().filter_map(|e| match &e.fact {
        Fact::Message { side: Side::Callee, sent, line, .. } => Some((*sent, line.trim_start_matches("SIP/2.0 "))),
        _ => None,
    });
    let sent = callee.any(|(sent, line)| sent && line.starts_with("BYE "));
    sent && callee.any(|(sent, line)| !sent && line.starts_with("200 "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::anchor::MediaStats;
    use crate::ids::CallId;
    use crate::ids::SipCallId;
    use crate::report::By;
    use crate::time::Time;

    fn fact(fact: Fact) -> CallEvent {
        CallEvent { at: Time::default(), call: CallId::new("7Q2K"), contact: None, fact }
    }

    fn message(sent: bool, line: &str) -> CallEvent {
        fact(Fact::Message { side: Side::Callee, sent, line: line.to_owned(), note: String::new() })
    }

    fn ended() -> CallEvent {
        fact(Fact::Ended {
            by: By::Cxone,
            why: "BYE".to_owned(),
            cause: 16,
            duration: Duration::from_secs(2),
            caller_call_id: SipCallId::new("a"),
            callee_call_id: SipCallId::new("b"),
            caller_media: MediaStats::default(),
            callee_media: MediaStats::default(),
            signals: 1,
        })
    }

    fn signal() -> MockSignal {
        MockSignal {
            number: 1,
            at_ms: 0,
            contact: CONTACT.to_owned(),
            params: vec![("p1".to_owned(), QUEUE.to_owned())],
            id: None,
            target: String::new(),
            authorization: String::new(),
            content_length: None,
            body_bytes: 0,
            status: Some(204),
        }
    }

    fn lines(all: &[(&str, &str)]) -> Lines {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn notify(sipfrag: &str) -> SynthflowEvent {
        SynthflowEvent::Notify { state: String::new(), sipfrag: sipfrag.to_owned() }
    }

    fn right() -> Seen {
        let x_headers = [lines(&[("X-EI", "E.1;")]), lines(&CONTEXT), lines(&[("X-Backchannel-Call-Id", "7Q2K")])].concat();
        let rtp = RtpCounts { sent: 60, received: 50, voiced: 50, odd: 0 };
        Seen {
            trunk: vec![
                CarrierEvent::Answered { x_headers: lines(&[("X-Backchannel-Call-Id", "7Q2K")]) },
                CarrierEvent::ByeAnswered(200),
                CarrierEvent::Rtp(rtp),
            ],
            bot: vec![
                SynthflowEvent::InviteReceived {
                    request_uri: String::new(),
                    source: ([127, 0, 0, 1], 1).into(),
                    x_ei: Some(format!("E.{CONTACT};O.{DIVERSION};")),
                    x_headers,
                },
                SynthflowEvent::ReferAnswered(202),
                notify("SIP/2.0 100 Trying\r\n"),
                notify("SIP/2.0 200 OK\r\n"),
                SynthflowEvent::ByeReceived { reason: None, x_headers: Lines::new() },
                SynthflowEvent::Rtp(rtp),
            ],
            signals: vec![signal()],
            facts: vec![message(true, "BYE sip:synthflow@x SIP/2.0"), message(false, "200 OK (BYE)"), ended()],
            counts: Some(Counts::default()),
        }
    }

    fn failed(change: impl Fn(&mut Seen)) -> Vec<String> {
        let mut seen = right();
        change(&mut seen);
        checks(&seen).iter().filter(|c| !c.is_right()).map(ToString::to_string).collect()
    }

    #[test]
    fn a_call_in_which_all_was_right_passes() {
        assert_eq!(failed(|_| {}), Vec::<String>::new());
        assert!(right().is_over());
    }

    #[test]
    fn a_call_in_which_nothing_happened_fails_in_every_line() {
        let all = checks(&Seen::default());
        assert!(all.iter().all(|c| !c.is_right()), "{all:#?}");
        assert!(!Seen::default().is_over());
    }

    #[test]
    fn each_fault_is_seen_and_says_what_was_there_instead() {
        let edit_invite = |seen: &mut Seen, edit: fn(&mut Option<String>, &mut Lines)| {
            if let Some(SynthflowEvent::InviteReceived { x_ei, x_headers, .. }) = seen.bot.first_mut() {
                edit(x_ei, x_headers);
            }
        };
        let wrong_x_ei = failed(|s| edit_invite(s, |x_ei, _| *x_ei = Some("E.7;".to_owned())));
        assert_eq!(wrong_x_ei, ["FAILED  Synthflow reads X-EI: E.483920175523;O.+12065550199;: it was \"E.7;\""]);
        assert_eq!(failed(|s| edit_invite(s, |_, lines| lines[4].0 = "X-AccountTier_2".to_owned())).len(), 1, "another spelling");
        assert_eq!(failed(|s| edit_invite(s, |_, lines| lines.swap(2, 3))).len(), 1, "another order");
        assert_eq!(failed(|s| s.signals.push(signal())).len(), 1, "two signals");
        assert_eq!(failed(|s| s.signals[0].params[0].1 = "sales".to_owned()).len(), 1, "another queue");
        assert_eq!(failed(|s| s.signals[0].contact = "7".to_owned()).len(), 1, "another contact");
        assert_eq!(failed(|s| s.bot.swap(2, 3)).len(), 1, "NOTIFYs in another order");
        assert_eq!(failed(|s| s.bot[3] = notify("SIP/2.0 200 OK")).len(), 1, "no CRLF");
        assert_eq!(failed(|s| drop(s.bot.remove(4))).len(), 1, "no BYE");
        assert_eq!(failed(|s| drop(s.facts.remove(1))).len(), 1, "no answer to it");
        assert_eq!(failed(|s| s.trunk[1] = CarrierEvent::ByeAnswered(481)).len(), 1);
        assert_eq!(failed(|s| s.counts = Some(Counts { ports_taken: 2, ..Counts::default() })).len(), 1);
        let deaf = RtpCounts { sent: 60, received: 50, voiced: PACKETS_MIN - 1, odd: 0 };
        assert_eq!(failed(|s| s.trunk[2] = CarrierEvent::Rtp(deaf)).len(), 1, "silence instead of the tone");
    }
}
