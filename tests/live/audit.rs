//! What holds in every story, read from the messages that SIPp wrote down: nothing of one side shows on the other, what we say of
//! ourselves is true, and requests in a dialog count on.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// The messages of one side, in order.
#[derive(Default, Debug)]
pub struct Trace {
    pub messages: Vec<Seen>,
}

/// One message as SIPp wrote it down.
#[derive(Debug)]
pub struct Seen {
    /// By SIPp; the others are ours.
    pub sent: bool,
    pub start: String,
    pub text: String,
}

impl Trace {
    pub fn read(path: &Path) -> Trace {
        let text = fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
        let blocks = text.split("----------------------------------------------- ").skip(1);
        Trace { messages: blocks.filter_map(Seen::read).collect() }
    }

    pub fn call_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.messages.iter().map(|m| m.header("Call-ID").to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Ours, of one call.
    pub fn received<'a>(&'a self, call_id: &'a str) -> impl Iterator<Item = &'a Seen> {
        self.messages.iter().filter(move |m| !m.sent && m.header("Call-ID") == call_id)
    }
}

impl Seen {
    /// A line with the time, a line that says which way, an empty one, the message.
    fn read(block: &str) -> Option<Seen> {
        let (_, rest) = block.split_once('\n')?;
        let (what, text) = rest.split_once("\n\n")?;
        let sent = what.contains(" message sent ");
        (sent || what.contains(" message received ")).then(|| Seen {
            sent,
            start: text.lines().next().unwrap_or_default().to_owned(),
            text: text.to_owned(),
        })
    }

    fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// Backchannel and SIPp both spell names out; an absent one is empty.
    pub fn header(&self, name: &str) -> &str {
        let head = self.text.split("\n\n").next().unwrap_or_default();
        let lines = head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.into_iter().find(|(n, _)| n.trim_end().eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    pub fn cseq_method(&self) -> &str {
        self.header("CSeq").split_whitespace().nth(1).unwrap_or_default()
    }

    fn cseq(&self) -> u32 {
        self.header("CSeq").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    /// The whole address: 127.1.2.3 is not in 127.1.2.30.
    fn shows(&self, ip: Ipv4Addr) -> bool {
        let ip = ip.to_string();
        self.text.match_indices(&ip).any(|(at, _)| {
            let next = self.text[at + ip.len()..].chars().next();
            let before = self.text[..at].chars().next_back();
            !next.is_some_and(|c| c.is_ascii_digit()) && !before.is_some_and(|c| c.is_ascii_digit() || c == '.')
        })
    }
}

/// `who`: for the message when it fails. `others`: addresses that this side must never see.
pub fn everything(who: &str, trace: &Trace, us: Ipv4Addr, others: &[Ipv4Addr]) {
    let ours: Vec<&Seen> = trace.messages.iter().filter(|m| !m.sent).collect();
    for message in &ours {
        for other in others {
            assert!(!message.shows(*other), "{who} sees {other}:\n{}", message.text);
        }
        says_who_we_are(who, message, us);
    }
    counts_on(who, &ours);
}

/// RFC 3261 §18.1.1 (Via), §8.1.1.8 (Contact); the session's address is our anchor.
fn says_who_we_are(who: &str, message: &Seen, us: Ipv4Addr) {
    if message.is_request() {
        let via = message.header("Via");
        assert!(via.split_whitespace().nth(1).is_some_and(|sent_by| sent_by.starts_with(&us.to_string())), "{who}: Via is not ours: {via}");
        assert!(via.contains(";branch=z9hG4bK"), "{who}: RFC 3261 §8.1.1.7: {via}");
        assert!(!message.header("Max-Forwards").is_empty(), "{who}: RFC 3261 §8.1.1.6:\n{}", message.text);
    }
    let contact = message.header("Contact");
    assert!(contact.is_empty() || contact.contains(&us.to_string()), "{who}: Contact is not ours: {contact}");
    for line in message.text.lines().filter(|l| l.starts_with("c=") || l.starts_with("o=")) {
        assert!(line.ends_with(&format!("IN IP4 {us}")), "{who}: the session is not anchored: {line}");
    }
    assert!(!message.header("Content-Length").is_empty(), "{who}: no Content-Length:\n{}", message.text);
}

/// RFC 3261 §12.2.1.1: CSeq rises by one with each request of a dialog; §17.1.1.3: an ACK has the number of its INVITE, and so has
/// a CANCEL (§9.1). The same bytes again are a retransmission.
fn counts_on(who: &str, ours: &[&Seen]) {
    let mut last: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    for request in ours.iter().filter(|m| m.is_request()) {
        let call = request.header("Call-ID");
        let (number, method) = (request.cseq(), request.cseq_method());
        assert!(request.start.starts_with(&format!("{method} ")), "{who}: CSeq names another method:\n{}", request.text);
        let invites = ours.iter().filter(|m| m.is_request() && m.header("Call-ID") == call && m.cseq_method() == "INVITE");
        if matches!(method, "ACK" | "CANCEL") {
            assert!(invites.clone().any(|i| i.cseq() == number), "{who}: no INVITE has the number of this:\n{}", request.text);
            continue;
        }
        if let Some((before, text)) = last.insert(call, (number, &request.text)) {
            assert!(number == before + 1 || text == request.text, "{who}: CSeq {number} follows {before}:\n{}", request.text);
        }
    }
}
