//! X- headers by `[headers]`: which go on, under which name, and what becomes of several with one name.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::call::rules::Carried;
use crate::config::Headers;
use crate::config::Repeated;
use crate::ids::Side;
use crate::policy::budget::is_x;
use crate::policy::standard::is_printable;
use crate::wire::message::Line;
use crate::wire::message::Name;

/// What `[headers]` says about one received line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It goes on as it came.
    Pass,
    /// It goes on under this name.
    Rename(String),
    /// It stays here, as `[headers]` wants it.
    Leave(&'static str),
    /// It stays here although nobody wanted that: worth a warning.
    Unfit(&'static str),
    /// `[headers]` does not speak of such headers.
    NotOurs,
}

/// Headers that form dialogs, route or authenticate, or that we write ourselves, and would be accepted as extension headers by name
/// only: no rule may write them (product.md §1).
const NEVER_BY_RULE: [&str; 6] = ["X-EI", "Path", "Service-Route", "Join", "Target-Dialog", "Proxy-Authentication-Info"];

/// Decides about one line towards `to`. X-EI is built apart and never asked about here.
pub fn choose(headers: &Headers, line: Line<'_>, to: Side) -> Choice {
    let Some(name) = std::str::from_utf8(line.spelled).ok().filter(|_| line.name == Name::Other) else {
        return Choice::NotOurs;
    };
    if NEVER_BY_RULE.iter().any(|never| never.eq_ignore_ascii_case(name)) {
        return Choice::NotOurs;
    }
    if headers.drop.iter().any(|pattern| pattern.matches(name)) {
        return Choice::Leave("headers.drop");
    }
    let renamed = headers.rename.iter().find(|(from, _)| from.eq_ignore_ascii_case(name)).map(|(_, to)| to);
    if renamed.is_none() && !headers.pass.iter().any(|pattern| pattern.matches(name)) {
        return if is_x(line.spelled) { Choice::Leave("not in headers.pass") } else { Choice::NotOurs };
    }
    if !is_printable(line.value) {
        return Choice::Unfit("a control character in its value");
    }
    match renamed {
        Some(new) if is_variable_name(new) && !new.eq_ignore_ascii_case("X-EI") => Choice::Rename(new.clone()),
        Some(_) => Choice::Unfit("headers.rename gives it a name that Synthflow cannot take"),
        // CXone takes any printable name; Synthflow does not (facts.md §2.2).
        None if to == Side::Callee && is_x(line.spelled) && !is_variable_name(name) => {
            Choice::Unfit("its name is not X- with letters, digits, '-' and '_', which Synthflow needs; headers.rename can give it one")
        }
        None => Choice::Pass,
    }
}

/// `^X-[A-Za-z0-9_-]+$`. A lower-case `x-` is taken too: Synthflow documents `{x-customer-name}` as a variable of its own
/// (facts.md §2.2), and changing its case would break prompts.
pub fn is_variable_name(name: &str) -> bool {
    let rest = name.get(2..).unwrap_or_default();
    is_x(name.as_bytes()) && !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a rule (`headers.set`, `answer_headers`) may write a header of this name: an extension header that is not ours.
pub fn may_set(name: &str) -> bool {
    is_variable_name(name) && !name.eq_ignore_ascii_case("X-EI")
}

/// A line that may have brothers of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub line: Carried,
    /// Its place in the caller's list, for the reasons given for it.
    pub row: usize,
}

/// Applies `headers.repeated` to X- lines and returns names and rows of those that went. Names count as the same only when spelled the same:
/// to Synthflow `X-Foo` and `x-foo` are two variables. `join` puts ", " between values, as RFC 3261 §7.3.1 combines them.
pub fn fold_repeated(lines: &mut Vec<Kept>, repeated: Repeated) -> Vec<(Bytes, usize)> {
    let mut first: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut keep = vec![true; lines.len()];
    for at in 0..lines.len() {
        let name = lines[at].line.name.clone();
        if !is_x(&name) {
            continue;
        }
        let Some(&earlier) = first.get(&name) else {
            first.insert(name, at);
            continue;
        };
        match repeated {
            Repeated::First => keep[at] = false,
            Repeated::Last => {
                keep[earlier] = false;
                first.insert(name, at);
            }
            Repeated::Join => {
                keep[at] = false;
                let joined = [&lines[earlier].line.value[..], &lines[at].line.value[..]].join(&b", "[..]);
                lines[earlier].line.value = Bytes::from(joined);
            }
        }
    }
    let gone = lines.iter().zip(&keep).filter(|(_, keep)| !**keep).map(|(kept, _)| (kept.line.name.clone(), kept.row)).collect();
    let mut keep = keep.into_iter();
    lines.retain(|_| keep.next().unwrap_or(true));
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::patterns;
    use crate::policy::samples::test_config;

    fn decide(headers: &Headers, spelled: &str, to: Side) -> Choice {
        choose(headers, Line { name: Name::Other, spelled: spelled.as_bytes(), value: b"v", raw: b"" }, to)
    }

    #[test]
    fn each_name_gets_what_headers_says() {
        let mut headers = test_config().headers;
        headers.pass = patterns(&["X-*", "P-Charge-Info"]);
        headers.drop = patterns(&["X-CI", "X-Secret-*"]);
        headers.rename = vec![
            ("X-Foo.Bar".into(), "X-Foo-Bar".into()),
            ("X-Bad".into(), "X-Still.Bad".into()),
            ("X-Mine".into(), "X-EI".into()),
            ("P-Old".into(), "X-New".into()),
        ];
        use Choice::*;
        let unfit = |why: &'static str| move |c: &Choice| matches!(c, Unfit(w) if w.contains(why));
        assert_eq!(decide(&headers, "X-Any_1", Side::Callee), Pass);
        assert_eq!(decide(&headers, "x-lower", Side::Callee), Pass);
        assert_eq!(decide(&headers, "x-ci", Side::Callee), Leave("headers.drop"));
        assert_eq!(decide(&headers, "X-Secret-Pin", Side::Callee), Leave("headers.drop"));
        assert_eq!(decide(&headers, "x-foo.bar", Side::Callee), Rename("X-Foo-Bar".into()));
        assert_eq!(decide(&headers, "P-Old", Side::Callee), Rename("X-New".into()));
        assert!(unfit("headers.rename gives")(&decide(&headers, "X-Bad", Side::Callee)));
        assert!(unfit("headers.rename gives")(&decide(&headers, "X-Mine", Side::Callee)));
        assert!(unfit("headers.rename can")(&decide(&headers, "X-Other.Dot", Side::Callee)));
        assert!(unfit("headers.rename can")(&decide(&headers, "X-", Side::Callee)));
        assert_eq!(decide(&headers, "X-Other.Dot", Side::Caller), Pass);
        assert_eq!(decide(&headers, "P-Charge-Info", Side::Callee), Pass);
        assert_eq!(decide(&headers, "P-Else", Side::Callee), NotOurs);
        assert_eq!(decide(&headers, "x-ei", Side::Callee), NotOurs);
        headers.pass = patterns(&["*"]);
        assert_eq!(decide(&headers, "Path", Side::Callee), NotOurs);
        let known = Line { name: Name::Via, spelled: b"Via", value: b"v", raw: b"" };
        assert_eq!(choose(&headers, known, Side::Callee), NotOurs);
        let control = Line { name: Name::Other, spelled: b"X-A", value: b"a\x07", raw: b"" };
        assert!(unfit("control")(&choose(&headers, control, Side::Callee)));
        headers.pass = patterns(&["X-Only"]);
        assert_eq!(decide(&headers, "X-Any", Side::Callee), Leave("not in headers.pass"));
    }

    #[test]
    fn repeated_names_are_first_last_or_joined_and_case_makes_another_name() {
        let lines = [("X-A", "1"), ("X-B", "b"), ("x-a", "low"), ("X-A", "2"), ("Diversion", "d"), ("Diversion", "d"), ("X-A", "3")];
        for (repeated, left, gone) in [
            (Repeated::First, "X-A=1 X-B=b x-a=low Diversion=d Diversion=d", vec![3, 6]),
            (Repeated::Last, "X-B=b x-a=low Diversion=d Diversion=d X-A=3", vec![0, 3]),
            (Repeated::Join, "X-A=1, 2, 3 X-B=b x-a=low Diversion=d Diversion=d", vec![3, 6]),
        ] {
            let carried = |(name, value): (&str, &str)| Carried {
                name: Bytes::copy_from_slice(name.as_bytes()),
                value: Bytes::copy_from_slice(value.as_bytes()),
            };
            let mut kept: Vec<Kept> = lines.iter().enumerate().map(|(row, l)| Kept { line: carried(*l), row }).collect();
            let rows: Vec<usize> = fold_repeated(&mut kept, repeated).into_iter().map(|(_, row)| row).collect();
            assert_eq!(rows, gone);
            let text: Vec<String> = kept
                .iter()
                .map(|k| format!("{}={}", String::from_utf8_lossy(&k.line.name), String::from_utf8_lossy(&k.line.value)))
                .collect();
            assert_eq!(text.join(" "), left);
        }
    }
}
