//! The header mapping of CXone's INVITE to ours (product.md §2 item 2, §3): X-EI, X- headers, and what else goes on.

use bytes::Bytes;

use crate::call::rules::Carried;
use crate::config::Config;
use crate::config::Piece;
use crate::config::Repeated;
use crate::config::Template;
use crate::ids::ContactId;
use crate::ids::Side;
use crate::policy::budget::is_x;
use crate::policy::numbers::user_in;
use crate::policy::numbers::user_of;
use crate::policy::standard::Crossing;
use crate::policy::standard::cross;
use crate::policy::template::CallWords;
use crate::policy::template::Words;
use crate::policy::template::header_names;
use crate::policy::template::one_line;
use crate::policy::template::render;
use crate::policy::template::render_line;
use crate::policy::template::uses;
use crate::policy::x_headers::Choice;
use crate::policy::x_headers::Kept;
use crate::policy::x_headers::choose;
use crate::policy::x_headers::fold_repeated;
use crate::policy::x_headers::may_set;
use crate::wire::header::NameAddr;
use crate::wire::message::Line;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::x_ei::XEi;
use crate::wire::x_ei::clean_value;

/// Bytes of a value that a warning shows.
const SHOWN_BYTES_MAX: usize = 120;

/// What the mapping must know besides the INVITE.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub contact: Option<&'a ContactId>,
    /// The header that the contact id came in, as the configuration spells it.
    pub contact_header: Option<&'a str>,
    pub call_id: &'a str,
    /// Stands in for CXone's hosts.
    pub our_host: &'a str,
    /// Whether anybody reads `Mapping::trace`.
    pub trace: bool,
}

/// What became of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Kept,
    Renamed,
    /// Passed on with a host of ours in it.
    Rewritten,
    /// By a template or a rule.
    Set,
    /// Several of one name made one.
    Joined,
    Repaired,
    DroppedForSize,
    NotPassed,
    /// Ours stands in its place.
    Rebuilt,
}

impl Action {
    /// As the dry run says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Kept => "kept",
            Action::Renamed => "renamed",
            Action::Rewritten => "host replaced",
            Action::Set => "set",
            Action::Joined => "joined",
            Action::Repaired => "repaired",
            Action::DroppedForSize => "dropped for size",
            Action::NotPassed => "not passed",
            Action::Rebuilt => "rebuilt",
        }
    }
}

/// The reason for one header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceRow {
    pub name: String,
    pub value: String,
    pub action: Action,
    pub why: String,
}

/// What CXone's INVITE becomes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping {
    /// X-EI, what `headers.set` says, then the rest in the order it came.
    pub lines: Vec<Carried>,
    /// Names that the byte budget never drops: X-EI and what feeds it.
    pub protected: Vec<Bytes>,
    /// One row for each received header, then one for each of ours; empty unless asked for.
    pub trace: Vec<TraceRow>,
    pub warnings: Vec<String>,
    /// What templates of this call can say.
    pub words: CallWords,
}

/// Maps the headers of CXone's INVITE.
pub fn map_invite(config: &Config, invite: &Message, facts: Facts<'_>) -> Mapping {
    let call = call_words(config, invite, facts);
    let header = |name: &str| header_value(invite, name);
    let words = Words { call: &call, ask: None, header: &header };
    let mut mapper = Mapper { config, facts, out: Mapping::default(), ours: Vec::new() };
    let x_ei = mapper.x_ei(invite, &words);
    let set = mapper.set(&words);
    let passed = mapper.passed(invite, &set);
    mapper.protect(&passed);
    // Ours come first: of equals the budget drops the last, and a call that cannot name itself helps nobody.
    mapper.out.lines = x_ei.into_iter().chain(set).chain(passed.into_iter().map(|kept| kept.line)).collect();
    mapper.out.trace.append(&mut mapper.ours);
    mapper.out.words = call;
    mapper.out
}

/// The words that belong to the call.
pub fn call_words(config: &Config, invite: &Message, facts: Facts<'_>) -> CallWords {
    let user = |address: Result<NameAddr<'_>, _>| address.ok().and_then(|a| user_of(&a)).unwrap_or_default();
    CallWords {
        contact_id: facts.contact.map(|c| c.as_str().to_owned()).unwrap_or_default(),
        call_id: facts.call_id.to_owned(),
        node: config.node.name.to_string(),
        from: user(invite.from()),
        to: user(invite.to()),
        diversion: diversion(invite),
    }
}

/// `{diversion}`: the user part of the top Diversion (RFC 5806 §4.1: the topmost is the latest), else X-Diversion trimmed; of one
/// that holds an address, only the user part, since the rest names CXone's hosts.
fn diversion(invite: &Message) -> String {
    if let Some(user) = invite.elements(Name::Diversion).next().and_then(user_in) {
        return user;
    }
    let text = header_value(invite, "X-Diversion").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    user_in(text.as_bytes()).unwrap_or_else(|| text.to_owned())
}

/// `{header.NAME}`: the first value of that name, any case, trimmed.
pub fn header_value(message: &Message, name: &str) -> Option<Vec<u8>> {
    message.named(name).next().map(|value| value.trim_ascii().to_vec())
}

struct Mapper<'a> {
    config: &'a Config,
    facts: Facts<'a>,
    out: Mapping,
    /// Rows for the lines that we make.
    ours: Vec<TraceRow>,
}

impl Mapper<'_> {
    /// X-EI: what the script set wins token by token, templates fill the rest. Emitted once, and only when it says something.
    fn x_ei(&mut self, invite: &Message, words: &Words<'_>) -> Option<Carried> {
        let mut received = invite.named("X-EI");
        let first = received.next();
        let more = received.count();
        if more > 0 {
            self.warn(format!("X-EI came {} times: the first one counts", more + 1));
        }
        let (script, defects) = first.map(XEi::salvage).unwrap_or_default();
        if let (Some(value), false) = (first, defects.is_empty()) {
            let wrong = defects.join("; ");
            self.warn(format!("X-EI of the script is malformed, repaired: {:?}: {wrong}", shown(value)));
        }
        let templates = &self.config.x_ei;
        let mut from_template = String::new();
        let mut token = |letter: char, set: &Option<String>, template: &Template| {
            if set.is_some() {
                return set.clone();
            }
            let value = self.token(letter, template, words)?;
            from_template.push(letter);
            Some(value)
        };
        let whole =
            XEi { s: token('S', &script.s, &templates.s), e: token('E', &script.e, &templates.e), o: token('O', &script.o, &templates.o) };
        let value = whole.print();
        self.x_ei_rows(invite, &value, &defects, &from_template);
        (!value.is_empty()).then(|| carried(b"X-EI", value.as_bytes()))
    }

    /// One token's value from its template.
    fn token(&mut self, letter: char, template: &Template, words: &Words<'_>) -> Option<String> {
        let text = render(template, words);
        let (value, cut) = clean_value(&String::from_utf8_lossy(&text));
        if let Some(cut) = cut {
            self.warn(format!("x_ei.{letter}: {cut}"));
        }
        (!value.is_empty()).then_some(value)
    }

    fn x_ei_rows(&mut self, invite: &Message, value: &str, defects: &[String], from_template: &str) {
        let received: Vec<String> = invite.named("X-EI").map(shown).collect();
        for (i, old) in received.iter().enumerate() {
            let why = if i == 0 { "read by us; one X-EI of ours goes out" } else { "a second X-EI: the first one counts" };
            self.row(b"X-EI", old.as_bytes(), if i == 0 { Action::Rebuilt } else { Action::NotPassed }, || why.to_owned());
        }
        let filled = || format!("{} from the x_ei templates", letters(from_template));
        let (action, why) = match (defects.is_empty(), from_template.is_empty()) {
            (false, _) => (Action::Repaired, format!("the script's was malformed ({}); {}", defects.join("; "), filled())),
            (true, true) => (Action::Kept, "every token as the script set it".to_owned()),
            (true, false) if received.is_empty() => (Action::Set, filled()),
            (true, false) => (Action::Set, format!("the script's tokens win; {}", filled())),
        };
        if value.is_empty() {
            self.ours(b"X-EI", b"", Action::NotPassed, "no token has a value".to_owned());
        } else {
            self.ours(b"X-EI", value.as_bytes(), action, why);
        }
    }

    /// `headers.set`.
    fn set(&mut self, words: &Words<'_>) -> Vec<Carried> {
        let mut lines = Vec::new();
        for (name, template) in &self.config.headers.set {
            let value = render_line(template, words);
            if !may_set(name) {
                self.warn(format!("headers.set may not write {name}"));
            } else if value.is_empty() {
                self.ours(name.as_bytes(), b"", Action::NotPassed, "headers.set: its template came out empty".to_owned());
            } else {
                self.ours(name.as_bytes(), &value, Action::Set, "headers.set".to_owned());
                lines.push(carried(name.as_bytes(), &value));
            }
        }
        lines
    }

    /// Everything that goes on, in the order it came.
    fn passed(&mut self, invite: &Message, set: &[Carried]) -> Vec<Kept> {
        let mut kept = Vec::new();
        for line in invite.lines() {
            if line.spelled.eq_ignore_ascii_case(b"X-EI") {
                continue;
            }
            let row = self.out.trace.len();
            if let Some(line) = self.one(line, set) {
                kept.push(Kept { line, row });
            }
        }
        for (gone, row) in fold_repeated(&mut kept, self.config.headers.repeated) {
            let (action, why) = match self.config.headers.repeated {
                Repeated::Join => (Action::Joined, "headers.repeated = \"join\": its value stands in the first one"),
                Repeated::First => (Action::NotPassed, "headers.repeated = \"first\": an earlier one counts"),
                Repeated::Last => (Action::NotPassed, "headers.repeated = \"last\": a later one counts"),
            };
            self.warn(format!("{} came more than once: {why}", String::from_utf8_lossy(&gone)));
            if let Some(row) = self.out.trace.get_mut(row) {
                row.action = action;
                row.why = why.to_owned();
            }
        }
        kept
    }

    fn one(&mut self, line: Line<'_>, set: &[Carried]) -> Option<Carried> {
        let overridden = |name: &[u8]| set.iter().any(|s| s.name.eq_ignore_ascii_case(name));
        let (name, action) = match choose(&self.config.headers, line, Side::Callee) {
            Choice::Pass => (line.spelled.to_vec(), Action::Kept),
            Choice::Rename(new) => (new.into_bytes(), Action::Renamed),
            Choice::NotOurs => return self.standard(line),
            Choice::Leave(why) => {
                self.row(line.spelled, line.value, Action::NotPassed, || why.to_owned());
                return None;
            }
            Choice::Unfit(why) => {
                self.warn(format!("{} is not passed on: {why}", shown(line.spelled)));
                self.row(line.spelled, line.value, Action::NotPassed, || why.to_owned());
                return None;
            }
        };
        if overridden(&name) {
            self.row(line.spelled, line.value, Action::NotPassed, || "headers.set writes its own".to_owned());
            return None;
        }
        self.row(line.spelled, line.value, action, || match action {
            Action::Renamed => format!("headers.rename: {}", String::from_utf8_lossy(&name)),
            _ => "headers.pass, byte for byte".to_owned(),
        });
        Some(carried(&name, line.value))
    }

    fn standard(&mut self, line: Line<'_>) -> Option<Carried> {
        match cross(line, false, self.facts.our_host, &self.config.node.name) {
            Crossing::Passed { line: new, changed } => {
                let action = if changed { Action::Rewritten } else { Action::Kept };
                self.row(line.spelled, line.value, action, || match changed {
                    true => format!("passed on as {:?}", shown(&new.value)),
                    false => "passed on".to_owned(),
                });
                Some(new)
            }
            Crossing::Unreadable => {
                self.warn(format!("{} is not passed on: unreadable, it may hold an address: {:?}", shown(line.spelled), shown(line.value)));
                self.row(line.spelled, line.value, Action::NotPassed, || "unreadable: it may hold an address of CXone".to_owned());
                None
            }
            Crossing::NotPassed => {
                let (action, why) = not_passed(line.name);
                self.row(line.spelled, line.value, action, || why.to_owned());
                None
            }
        }
    }

    /// X-EI and what feeds it, under the names that leave.
    fn protect(&mut self, passed: &[Kept]) {
        let templates = &self.config.x_ei;
        let mut feeding: Vec<&str> = [&templates.s, &templates.e, &templates.o].into_iter().flat_map(header_names).collect();
        feeding.extend(self.facts.contact_header);
        if uses(&templates.o, &Piece::Diversion) {
            feeding.push("X-Diversion");
        }
        let mut names = vec![Bytes::from_static(b"X-EI")];
        let renamed = |name: &str| self.config.headers.rename.iter().find(|(from, _)| from.eq_ignore_ascii_case(name)).map(|(_, to)| to);
        for name in feeding {
            let name = renamed(name).map_or(name, String::as_str);
            names.extend(passed.iter().map(|k| &k.line.name).find(|n| n.eq_ignore_ascii_case(name.as_bytes())).cloned());
        }
        self.out.protected = names;
    }

    fn warn(&mut self, text: String) {
        self.out.warnings.push(text);
    }

    fn row(&mut self, name: &[u8], value: &[u8], action: Action, why: impl FnOnce() -> String) {
        if self.facts.trace {
            self.out.trace.push(trace_row(name, value, action, why()));
        }
    }

    fn ours(&mut self, name: &[u8], value: &[u8], action: Action, why: String) {
        if self.facts.trace {
            self.ours.push(trace_row(name, value, action, why));
        }
    }
}

/// Why a header stays: ours stands in its place, or it is not one that crosses.
fn not_passed(name: Name) -> (Action, &'static str) {
    match name {
        Name::Via | Name::Contact | Name::Route | Name::RecordRoute | Name::CallId | Name::CSeq => (Action::Rebuilt, "a new dialog: ours"),
        Name::From | Name::To => (Action::Rebuilt, "our tag, our hosts"),
        Name::MaxForwards => (Action::Rebuilt, "one less (RFC 7332)"),
        Name::ContentType | Name::ContentLength => (Action::Rebuilt, "our SDP"),
        Name::Allow | Name::Supported | Name::UserAgent | Name::Require => (Action::Rebuilt, "says what we can do"),
        Name::SessionExpires | Name::MinSe => (Action::Rebuilt, "each leg has its own session timer"),
        Name::Authorization | Name::ProxyAuthorization => (Action::NotPassed, "credentials are for this hop"),
        Name::RetryAfter | Name::Warning => (Action::NotPassed, "of responses only"),
        _ => (Action::NotPassed, "not among the headers that are passed on"),
    }
}

fn letters(tokens: &str) -> String {
    if tokens.is_empty() { "nothing".to_owned() } else { tokens.chars().map(|c| c.to_string()).collect::<Vec<_>>().join(", ") }
}

fn trace_row(name: &[u8], value: &[u8], action: Action, why: String) -> TraceRow {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&one_line(bytes)).into_owned();
    TraceRow { name: text(name), value: text(value), action, why }
}

/// Foreign text as a warning shows it: one line, bounded.
pub fn shown(text: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&one_line(text)).into_owned();
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push('…');
    }
    text
}

/// A line of its own bytes: a slice of the message would keep the whole receive buffer alive.
pub fn carried(name: &[u8], value: &[u8]) -> Carried {
    Carried { name: Bytes::copy_from_slice(name), value: Bytes::copy_from_slice(value) }
}

/// The X- lines and standard headers of a message in a running call, on their way to `to`.
pub fn map_message(config: &Config, message: &Message, to: Side, our_host: &str) -> Vec<Carried> {
    let response = !message.is_request();
    // product.md §2 item 3: X- headers of 18x, 2xx and of requests go on; a failure says only why.
    let with_x = message.status() < 300;
    let mut kept = Vec::new();
    for line in message.lines() {
        let line = match choose(&config.headers, line, to) {
            Choice::Pass if with_x => Some(carried(line.spelled, line.value)),
            Choice::Rename(new) if with_x => Some(carried(new.as_bytes(), line.value)),
            Choice::NotOurs => match cross(line, response, our_host, &config.node.name) {
                Crossing::Passed { line, .. } => Some(line),
                _ => None,
            },
            _ => None,
        };
        kept.extend(line.map(|line| Kept { line, row: 0 }));
    }
    fold_repeated(&mut kept, config.headers.repeated);
    kept.into_iter().map(|kept| kept.line).collect()
}

/// Whether any X- header arrived at all: without one, CXone's trunk group probably does not send them (facts.md §5.1).
pub fn has_x_header(message: &Message) -> bool {
    message.lines().any(|line| is_x(line.spelled))
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::samples::header;
    use crate::policy::samples::invite;
    use crate::policy::samples::patterns;
    use crate::policy::samples::test_config;
    use crate::policy::samples::word;

    fn mapped(config: &Config, lines: &[&str]) -> Mapping {
        let contact = ContactId::new("42");
        let facts = Facts {
            contact: Some(&contact),
            contact_header: Some("X-InContact-MasterId"),
            call_id: "0CALL",
            our_host: "203.0.113.10:5060",
            trace: true,
        };
        map_invite(config, &invite(lines), facts)
    }

    fn text(mapping: &Mapping) -> Vec<String> {
        let line = |l: &Carried| format!("{}: {}", String::from_utf8_lossy(&l.name), String::from_utf8_lossy(&l.value));
        mapping.lines.iter().map(line).collect()
    }

    fn x_ei(config: &Config, lines: &[&str]) -> (String, Vec<String>) {
        let mapping = mapped(config, lines);
        let found: Vec<_> = mapping.lines.iter().filter(|l| l.name.eq_ignore_ascii_case(b"X-EI")).collect();
        assert!(found.len() <= 1, "X-EI is emitted once");
        (found.first().map(|l| String::from_utf8_lossy(&l.value).into_owned()).unwrap_or_default(), mapping.warnings)
    }

    /// facts.md §10.1: "X-InContact-MasterId: 123 in, X-EI: E.123; out, other X-headers kept byte for byte, case kept, order kept".
    #[test]
    fn context_headers_keep_bytes_case_and_order() {
        let lines = [
            "X-InContact-MasterId:   42",
            "x-customer-name: J\u{f6}rg",
            "X-CXone-Custom: {\"ivaParams\":\"{\\\"a\\\": 1, \\\"b\\\": 2}\"}",
            "X-EMPTY:",
            "X-List: a, b,c ;d",
        ];
        assert_eq!(
            text(&mapped(&test_config(), &lines)),
            [
                "X-EI: E.42;",
                "X-Backchannel-Call-Id: 0CALL",
                "X-InContact-MasterId: 42",
                "x-customer-name: J\u{f6}rg",
                "X-CXone-Custom: {\"ivaParams\":\"{\\\"a\\\": 1, \\\"b\\\": 2}\"}",
                "X-EMPTY: ",
                "X-List: a, b,c ;d",
            ]
        );
    }

    #[test]
    fn x_ei_of_the_script_wins_token_by_token() {
        let config = test_config();
        for (lines, value) in [
            (&[][..], "E.42;"),
            (&["X-EI: E.77;"], "E.77;"),
            (&["x-ei: O.+1999;S.abc;"], "S.abc;E.42;O.+1999;"),
            (&["X-EI: S.abc;", "Diversion: <sip:+1555@10.0.0.9;user=phone>;reason=deflection"], "S.abc;E.42;O.+1555;"),
            (&["X-EI: O.+1999;", "Diversion: <sip:+1555@10.0.0.9>"], "E.42;O.+1999;"),
            (&["X-Synthflow-Call-Id: sf-1"], "S.sf-1;E.42;"),
        ] {
            assert_eq!(x_ei(&config, lines), (value.to_owned(), Vec::new()), "{lines:?}");
        }
    }

    /// product.md §3: "a malformed one is repaired from the templates with a warning that shows what was wrong".
    #[test]
    fn a_malformed_x_ei_is_repaired_with_a_warning_that_shows_it() {
        let config = test_config();
        for (line, value) in [
            ("X-EI: E.77", "E.77;"),
            ("X-EI: 77", "E.42;"),
            ("X-EI:", "E.42;"),
            ("X-EI: e.77; S.a;", "S.a;E.77;"),
            ("X-EI: T.SOS;E.77;", "E.77;"),
            ("X-EI: E.;O.+1;", "E.42;O.+1;"),
        ] {
            let (found, warnings) = x_ei(&config, &[line]);
            assert_eq!(found, value, "{line}");
            assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
            assert!(warnings[0].starts_with("X-EI of the script is malformed"), "{warnings:?}");
            assert!(warnings[0].contains(&format!("{:?}", line["X-EI:".len()..].trim())), "{warnings:?}");
        }
        let (found, warnings) = x_ei(&config, &["X-EI: E.1;", "X-EI: E.2;"]);
        assert_eq!((found.as_str(), warnings.len()), ("E.1;", 1));
        assert!(warnings[0].contains("2 times"));
    }

    /// facts.md §10.2: "semicolon, CR, LF, NUL and empty values in context headers must not produce a broken X-EI".
    #[test]
    fn no_value_can_break_x_ei() {
        let mut config = test_config();
        config.x_ei.e = header("X-Id");
        for (id, value, warned) in [
            ("a;S.evil;", "E.a;", true),
            (";x", "", true),
            ("", "", false),
            ("  ", "", false),
            ("a b", "E.a b;", false),
            ("a\tb", "E.a;", true),
        ] {
            let (found, warnings) = x_ei(&config, &[&format!("X-Id: {id}")]);
            assert_eq!(found, value, "{id:?}");
            assert_eq!(warnings.iter().any(|w| w.starts_with("x_ei.E: ")), warned, "{id:?} {warnings:?}");
        }
    }

    /// product.md §1: `{diversion}` is the "user part of the top Diversion (RFC 5806), else X-Diversion, trimmed".
    #[test]
    fn the_diversion_comes_from_diversion_else_from_x_diversion() {
        let config = test_config();
        for (lines, o) in [
            (&["Diversion: <sip:+1555@10.0.0.9>;reason=no-answer, <sip:+1666@10.0.0.9>"][..], "+1555"),
            (&["Diversion: \"Doe, J\" <tel:+1-555>"], "+1555"),
            (&["X-Diversion: +1777"], "+1777"),
            (&["X-Diversion: +1777", "Diversion: <sip:+1555@h>"], "+1555"),
            (&["X-Diversion: +1777", "Diversion: <sip:10.0.0.9>"], "+1777"),
            (&["X-Diversion: <sip:+1777@10.0.0.9>;reason=unknown"], "+1777"),
            (&["Diversion: <sip:+1555;x=y@h>"], "+1555"),
        ] {
            assert_eq!(x_ei(&config, lines), (format!("E.42;O.{o};"), Vec::new()), "{lines:?}");
        }
    }

    #[test]
    fn no_x_ei_when_no_token_has_a_value() {
        let mut config = test_config();
        config.x_ei.e = Template::default();
        assert_eq!(x_ei(&config, &["X-A: 1"]), (String::new(), Vec::new()));
    }

    #[test]
    fn what_synthflow_cannot_take_is_dropped_with_a_warning_unless_renamed() {
        let mut config = test_config();
        config.headers.rename = vec![("X-Foo.Bar".into(), "X-Foo-Bar".into())];
        let mapping = mapped(&config, &["X-Foo.Bar: 1", "X-Other.Dot: 2", "X-CI: 3", "P-Else: 4", "X-!: 5"]);
        assert_eq!(text(&mapping)[2..], ["X-Foo-Bar: 1"]);
        assert_eq!(mapping.warnings.len(), 2, "{:?}", mapping.warnings);
        assert!(mapping.warnings[0].starts_with("X-Other.Dot is not passed on"));
    }

    #[test]
    fn set_overrides_what_came_and_an_empty_one_is_left_out() {
        let mut config = test_config();
        config.headers.set = vec![
            ("X-Plan".into(), Template(vec![Piece::Text("gold-".into()), Piece::ContactId])),
            ("X-None".into(), header("X-Missing")),
            ("Via".into(), word(Piece::CallId)),
            ("X-EI".into(), word(Piece::CallId)),
        ];
        let mapping = mapped(&config, &["x-plan: silver", "X-None: theirs", "X-Last: z"]);
        assert_eq!(text(&mapping), ["X-EI: E.42;", "X-Plan: gold-42", "X-None: theirs", "X-Last: z"]);
        assert_eq!(mapping.warnings, ["headers.set may not write Via", "headers.set may not write X-EI"]);
    }

    #[test]
    fn a_repeated_header_follows_the_rule_and_is_warned_about() {
        for (repeated, value) in [(Repeated::First, "1"), (Repeated::Last, "2"), (Repeated::Join, "1, 2")] {
            let mut config = test_config();
            config.headers.repeated = repeated;
            let mapping = mapped(&config, &["X-A: 1", "X-A: 2"]);
            assert_eq!(text(&mapping)[2..], [format!("X-A: {value}")]);
            assert_eq!(mapping.warnings.len(), 1);
            assert!(mapping.warnings[0].starts_with("X-A came more than once"));
        }
    }

    #[test]
    fn standard_headers_go_on_in_place_with_our_host() {
        let lines = [
            "X-A: 1",
            "P-Asserted-Identity: \"J\" <sip:+1206@10.0.0.9:5070>",
            "s: Refund",
            "Identity: eyJhbGci.x;info=<https://cert.example/a.pem>;alg=ES256",
            "User-Agent: CXone",
            "Diversion: <garbage",
            "X-B: 2",
        ];
        let mapping = mapped(&test_config(), &lines);
        assert_eq!(
            text(&mapping)[2..],
            [
                "X-A: 1",
                "P-Asserted-Identity: \"J\" <sip:+1206@203.0.113.10:5060>",
                "Subject: Refund",
                "Identity: eyJhbGci.x;info=<https://cert.example/a.pem>;alg=ES256",
                "X-B: 2",
            ]
        );
        assert_eq!(mapping.warnings.len(), 1);
        assert!(mapping.warnings[0].starts_with("Diversion is not passed on: unreadable"));
    }

    #[test]
    fn x_ei_and_what_feeds_it_are_protected_under_the_names_that_leave() {
        let mut config = test_config();
        config.headers.rename = vec![("X-InContact-MasterId".into(), "X-Master".into())];
        let lines = ["x-diversion: +1", "X-InContact-MasterId: 42", "X-Synthflow-Call-Id: s", "X-Other: o"];
        let names: Vec<_> = mapped(&config, &lines).protected.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
        assert_eq!(names, ["X-EI", "X-Synthflow-Call-Id", "X-Master", "x-diversion"]);
    }

    proptest! {
        /// product.md §1: "A template may never write a header that forms dialogs, nor CR, LF or NUL."
        #[test]
        fn whatever_arrives_nothing_ends_its_line_and_x_ei_stays_sound(
            values in collection::vec("[ -~;,<>@:\"\\\\é\t\x01\x7f]{0,40}", 8),
        ) {
            let names = ["X-EI", "X-Diversion", "X-Synthflow-Call-Id", "X-Plan", "Diversion", "P-Asserted-Identity", "X-A", "X-EI"];
            let lines: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("{name}: {value}")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut config = test_config();
            config.x_ei.e = header("X-Plan");
            config.headers.set.push(("X-Set".into(), header("X-A")));
            let mapping = mapped(&config, &lines);
            for line in &mapping.lines {
                prop_assert!(!line.value.iter().any(|&b| b.is_ascii_control() && b != b'\t'), "{line:?}");
                prop_assert!(crate::wire::method::is_token(&line.name), "{line:?}");
            }
            let x_ei: Vec<_> = mapping.lines.iter().filter(|l| l.name.eq_ignore_ascii_case(b"X-EI")).collect();
            prop_assert!(x_ei.len() <= 1);
            prop_assert!(x_ei.iter().all(|l| XEi::parse(&l.value).is_ok()), "{x_ei:?}");
        }
    }

    #[test]
    fn every_received_header_and_every_one_of_ours_has_its_reason() {
        let mut config = test_config();
        config.headers.pass = patterns(&["X-A"]);
        let mapping = mapped(&config, &["X-A: 1", "X-B: 2", "X-EI: E.9", "Diversion: <sip:+1@10.0.0.9>", "Weird: 1"]);
        let actions = |name: &str| -> Vec<&str> {
            mapping.trace.iter().filter(|row| row.name.eq_ignore_ascii_case(name)).map(|row| row.action.as_str()).collect()
        };
        for (name, action) in [
            ("Via", &["rebuilt"][..]),
            ("From", &["rebuilt"]),
            ("X-A", &["kept"]),
            ("X-B", &["not passed"]),
            ("X-EI", &["rebuilt", "repaired"]),
            ("Diversion", &["host replaced"]),
            ("Weird", &["not passed"]),
            ("X-Backchannel-Call-Id", &["set"]),
        ] {
            assert_eq!(actions(name), action, "{name}");
        }
        let silent = map_invite(
            &config,
            &invite(&["X-A: 1"]),
            Facts { contact: None, contact_header: None, call_id: "0", our_host: "h", trace: false },
        );
        assert!(silent.trace.is_empty());
    }
}
