//! What must hold of everything that the core does, whatever happens to it (house.md §6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use backchannel::b2bua::io::Counts;
use backchannel::call::escalation::Signal;
use backchannel::call::escalation::SignalAnswer;
use backchannel::ids::Side;
use backchannel::report::CallEvent;
use backchannel::report::Fact;
use backchannel::report::Level;
use backchannel::time::Time;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;
use bytes::Bytes;

/// A callee whose 2xx was first heard so long ago may have waited for 64*T1 by its own clock.
const GAVE_UP_AFTER: Duration = Duration::from_secs(20);
/// Timer M: later repetitions of a 2xx find nobody.
const REPEATED_2XX_HEARD: Duration = Duration::from_secs(31);

/// A sound request that reached the core: it gets one final answer, and repetitions of it.
#[derive(Debug)]
struct Asked {
    initial: bool,
    last: Option<(u16, Bytes)>,
}

/// A 2xx to an INVITE of ours that reached the core.
#[derive(Debug)]
struct Won {
    /// CSeq of our INVITE.
    number: u32,
    first: Time,
    last: Time,
    acked: Option<Time>,
    ended: bool,
    /// Nothing is due any more: nobody can resolve the name in its Contact, or the callee gave up waiting.
    nowhere: bool,
}

#[derive(Debug)]
struct Escalated {
    id: String,
    outcome: Option<&'static str>,
    /// Tries that may have arrived.
    received: u32,
    tries: u32,
}

#[derive(Debug, Default)]
struct Life {
    offered: u32,
    answered: u32,
    closings: Vec<&'static str>,
    escalations: Vec<Escalated>,
    callee_call_id: String,
    /// It asked for a human, and was told why not.
    refused: bool,
}

#[derive(Default)]
pub struct Watch {
    asked: BTreeMap<(String, String), Asked>,
    won: BTreeMap<(String, String), Won>,
    /// Our 2xx to a first INVITE: by the caller's Call-ID, our tag, and whether a BYE followed.
    given: BTreeMap<String, (String, bool)>,
    sequence: BTreeMap<(String, String, String), (u32, bool)>,
    branches: BTreeSet<String>,
    from_tags: BTreeMap<String, String>,
    lives: BTreeMap<String, Life>,
    accepted: Vec<String>,
    pub faults: Vec<String>,
    pub answered: u64,
    pub settled: BTreeMap<&'static str, u64>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn branch(message: &Message) -> String {
    message.via().ok().and_then(|v| v.branch().map(text)).unwrap_or_default()
}

impl Watch {
    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// A sound message of a peer reached the core.
    pub fn reached(&mut self, message: &Message, nowhere: bool, now: Time) {
        if message.is_request() {
            if message.method().as_str() != "ACK" {
                let key = (branch(message), message.method().as_str().to_owned());
                self.asked.entry(key).or_insert(Asked { initial: message.to_tag().is_none(), last: None });
            }
            if message.method().as_str() == "BYE" {
                self.gave_up(message, now);
            }
        } else if message.status() == 481 {
            // RFC 5057 §5.1: the peer has no such dialog any more, so there is nothing to end.
            self.ended(message.call_id().unwrap_or_default(), message.to_tag().unwrap_or_default());
        } else if message.method().as_str() == "INVITE" && (200..300).contains(&message.status()) {
            let key = (message.call_id().unwrap_or_default().to_owned(), message.to_tag().unwrap_or_default().to_owned());
            let number = message.cseq().map(|c| c.number).unwrap_or_default();
            let won = self.won.entry(key).or_insert(Won { number, first: now, last: now, acked: None, ended: false, nowhere });
            if now.since(won.first) < REPEATED_2XX_HEARD {
                won.last = now;
            }
        }
    }

    /// With a late offer the ACK waits for the caller's; a callee that waited for 64*T1 ends the dialog itself.
    fn gave_up(&mut self, bye: &Message, now: Time) {
        let key = (bye.call_id().unwrap_or_default().to_owned(), bye.from_tag().unwrap_or_default().to_owned());
        if let Some(won) = self.won.get_mut(&key)
            && now.since(won.first) >= GAVE_UP_AFTER
        {
            won.nowhere = true;
        }
    }

    /// The core sent this.
    pub fn sent(&mut self, side: Side, bytes: &Bytes, now: Time) -> Option<Message> {
        let Ok(message) = Message::parse(bytes.clone()) else {
            self.fault(format!("does not parse:\n{}", text(bytes)));
            return None;
        };
        let malformed = matches!(message.status(), 400 | 505);
        if let Err(defect) = message.check()
            && !malformed
        {
            self.fault(format!("not sound: {defect:?}\n{}", text(bytes)));
        }
        if message.raw() != bytes || (message.value(Name::ContentLength).is_none() && !message.body().is_empty()) {
            self.fault(format!("does not parse back to itself:\n{}", text(bytes)));
        }
        let foreign = if side == Side::Caller { "203.0.113." } else { "198.51.100." };
        if text(bytes).contains(foreign) {
            self.fault(format!("an address of the other side leaks to {}:\n{}", side.peer(), text(bytes)));
        }
        if message.is_request() {
            self.sent_request(side, &message, now)
        } else {
            self.sent_response(side, &message, bytes)
        }
        Some(message)
    }

    fn sent_response(&mut self, side: Side, message: &Message, bytes: &Bytes) {
        let key = (branch(message), message.method().as_str().to_owned());
        let Some(asked) = self.asked.get_mut(&key) else { return };
        if message.status() < 200 {
            if asked.last.is_some() {
                self.fault(format!("{} after the final answer to {key:?}", message.status()));
            }
            return;
        }
        match &asked.last {
            Some((_, last)) if last == bytes => return,
            Some((status, _)) => {
                let why = format!("a second final answer to {key:?}: {status}, then {}", message.status());
                return self.fault(why);
            }
            None => asked.last = Some((message.status(), bytes.clone())),
        }
        let initial = asked.initial;
        let call_id = message.call_id().unwrap_or_default().to_owned();
        match (key.1.as_str(), message.status()) {
            ("INVITE", 200..=299) if initial && side == Side::Caller => {
                self.given.insert(call_id, (message.to_tag().unwrap_or_default().to_owned(), false));
            }
            ("BYE", 200..=299) => self.ended(&call_id, message.from_tag().unwrap_or_default()),
            ("REFER", 202) => self.accepted.push(call_id),
            _ => {}
        }
    }

    fn ended(&mut self, call_id: &str, remote_tag: &str) {
        if let Some(won) = self.won.get_mut(&(call_id.to_owned(), remote_tag.to_owned())) {
            won.ended = true;
        }
        if let Some(given) = self.given.get_mut(call_id) {
            given.1 = true;
        }
    }

    fn sent_request(&mut self, side: Side, message: &Message, now: Time) {
        let call_id = message.call_id().unwrap_or_default().to_owned();
        let (from, to) = (message.from_tag().unwrap_or_default().to_owned(), message.to_tag().unwrap_or_default().to_owned());
        let known = match side {
            Side::Callee => Some(self.from_tags.entry(call_id.clone()).or_insert_with(|| from.clone()).clone()),
            Side::Caller => self.given.get(&call_id).map(|(tag, _)| tag.clone()),
        };
        if known.as_ref() != Some(&from) {
            self.fault(format!("{} to {}: our tag was {known:?}, now {from}", message.method(), side.peer()));
        }
        match message.method().as_str() {
            "ACK" => {
                if let Some(won) = self.won.get_mut(&(call_id, to)) {
                    won.acked = Some(now);
                }
            }
            "CANCEL" => {}
            method => {
                if method == "BYE" {
                    self.ended(&call_id, &to);
                }
                self.rises(call_id, from, to, message);
            }
        }
    }

    /// RFC 3261 §12.2.1.1: in a dialog each new request is one higher; all of them are above the INVITE that made it. The same
    /// request over UDP, because TCP did not come up (§18.1.1), keeps its number.
    fn rises(&mut self, call_id: String, from: String, to: String, message: &Message) {
        if !self.branches.insert(branch(message)) {
            return;
        }
        let number = message.cseq().map(|c| c.number).unwrap_or_default();
        let over_udp = message.via().is_ok_and(|v| v.transport == b"UDP");
        // A fork of an earlier INVITE, sent to another target, has the number of that one.
        let invite = self.won.get(&(call_id.clone(), to.clone())).map(|won| (won.number, true));
        let key = (call_id, from, to);
        let last = self.sequence.insert(key, (number, over_udp)).or(invite);
        if let Some((last, was_udp)) = last
            && number <= last
            && !(number == last && over_udp && !was_udp)
        {
            self.fault(format!("CSeq {number} {} after {last}", message.method()));
        }
    }

    pub fn reported(&mut self, event: &CallEvent) {
        if event.fact.level() == Level::Error {
            self.fault(format!("ERROR: {event:?}"));
        }
        let life = self.lives.entry(event.call.to_string()).or_default();
        let mut fault = None;
        match &event.fact {
            Fact::Offered { .. } => life.offered += 1,
            Fact::Answered { callee_call_id, .. } => {
                life.answered += 1;
                life.callee_call_id = callee_call_id.to_string();
                self.answered += 1;
            }
            Fact::Failed { .. } => life.closings.push("failed"),
            Fact::Ended { .. } => life.closings.push("ended"),
            Fact::EscalationRefused { .. } => life.refused = true,
            Fact::EscalationRequested { signal, .. } => {
                fault = requested(life, signal);
                life.escalations.push(Escalated { id: signal.clone(), outcome: None, received: 0, tries: 0 });
            }
            Fact::EscalationSettled { outcome, .. } => {
                *self.settled.entry(outcome).or_default() += 1;
                match life.escalations.last_mut().filter(|e| e.outcome.is_none()) {
                    Some(escalation) => escalation.outcome = Some(outcome),
                    None => fault = Some(format!("{outcome}: settled, but nothing was open")),
                }
            }
            _ => {}
        }
        if let Some(fault) = fault {
            self.fault(format!("call {}: {fault}", event.call));
        }
        if !life_is_known(&event.fact) && self.lives.get(event.call.as_str()).is_some_and(|l| l.offered == 0) {
            self.fault(format!("a fact of a call that was never offered: {event:?}"));
        }
    }

    /// One HTTP try leaves; `answer` is what will be said to it, if anything.
    pub fn signalled(&mut self, signal: &Signal, answer: Option<&SignalAnswer>) {
        let mut faults = Vec::new();
        let id = signal.id.as_str();
        match self.lives.values_mut().find(|l| l.escalations.iter().any(|e| e.id == id)) {
            None => faults.push(format!("a signal {id} that no escalation has")),
            Some(life) => {
                if life.escalations.iter().any(|e| e.outcome == Some("delivered")) {
                    faults.push(format!("signal {id} after one was delivered"));
                }
                let open = life.escalations.last_mut().filter(|e| e.outcome.is_none() && e.id == id);
                match open {
                    None => faults.push(format!("signal {} without an open escalation", signal.id)),
                    Some(open) => {
                        open.tries += 1;
                        let may_have_arrived =
                            matches!(answer, None | Some(SignalAnswer::Delivered { .. } | SignalAnswer::Unanswered { .. }));
                        open.received += u32::from(may_have_arrived);
                        if open.received > 2 {
                            faults.push(format!("signal {} may have arrived {} times", signal.id, open.received));
                        }
                    }
                }
            }
        }
        self.faults.extend(faults);
    }

    /// Everything is quiet.
    pub fn over(&mut self, counts: Counts) {
        if counts != (Counts { ports_free: counts.ports_free, ..Counts::default() }) {
            self.fault(format!("left: {counts:?}"));
        }
        let mut faults = Vec::new();
        for (key, asked) in &self.asked {
            if asked.last.is_none() {
                faults.push(format!("no final answer to {key:?}"));
            }
        }
        for ((call_id, tag), won) in self.won.iter().filter(|(_, w)| !w.nowhere) {
            if won.acked.is_none_or(|at| at < won.last) {
                faults.push(format!("the 2xx {call_id} {tag} was not acknowledged: {won:?}"));
            }
            if !won.ended {
                faults.push(format!("the callee's dialog {call_id} {tag} got no BYE"));
            }
        }
        for (call_id, (_, ended)) in &self.given {
            if !ended {
                faults.push(format!("the caller's dialog {call_id} got no BYE"));
            }
        }
        for (call, life) in self.lives.iter().filter(|(_, l)| l.offered > 0) {
            let due = if life.answered > 0 { "ended" } else { "failed" };
            if life.offered != 1 || life.answered > 1 || life.closings != [due] {
                faults.push(format!("call {call}: {life:?}"));
            }
            if life.escalations.iter().any(|e| e.outcome.is_none()) {
                faults.push(format!("call {call}: an escalation was never settled: {:?}", life.escalations));
            }
        }
        for call_id in &self.accepted {
            let life = self.lives.values().find(|l| l.callee_call_id == *call_id);
            if life.is_none_or(|l| l.escalations.is_empty()) {
                faults.push(format!("a 202 in {call_id}, and no escalation"));
            }
        }
        self.faults.extend(faults);
    }

    /// A BYE that asks for a human, answered 200 while the call was up, must have led to an escalation.
    pub fn must_escalate(&mut self, call_id: &str) {
        let life = self.lives.values().find(|l| l.callee_call_id == *call_id);
        if life.is_some_and(|l| l.escalations.is_empty() && !l.refused) {
            self.fault(format!("an escalating BYE in {call_id}, and no escalation"));
        }
    }

    /// The call is answered and has no closing line yet.
    pub fn is_up(&self, callee_call_id: &str) -> bool {
        self.lives.values().any(|l| l.callee_call_id == callee_call_id && l.answered > 0 && l.closings.is_empty())
    }

    pub fn final_status(&self, branch: &str, method: &str) -> Option<u16> {
        self.asked.get(&(branch.to_owned(), method.to_owned()))?.last.as_ref().map(|(s, _)| *s)
    }
}

fn life_is_known(fact: &Fact) -> bool {
    matches!(fact, Fact::Offered { .. } | Fact::Refused { .. })
}

/// A new escalation may begin only when none is open and none was delivered; an id comes again only after `unknown`.
fn requested(life: &Life, signal: &str) -> Option<String> {
    let last = life.escalations.last();
    if last.is_some_and(|e| e.outcome.is_none()) {
        return Some("a second escalation while one is open".into());
    }
    if life.escalations.iter().any(|e| e.outcome == Some("delivered")) {
        return Some("an escalation after one was delivered".into());
    }
    let again = life.escalations.iter().any(|e| e.id == signal);
    let is_unknown = last.is_some_and(|e| e.outcome == Some("unknown"));
    (again != is_unknown).then(|| format!("id {signal} after {last:?}"))
}
