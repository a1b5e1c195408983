//! Templates of the configuration, filled in (product.md §1, "Template words").

use crate::call::rules::Ask;
use crate::config::Piece;
use crate::config::Template;

/// The words that belong to the call, fixed at admission.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallWords {
    pub contact_id: String,
    pub call_id: String,
    pub node: String,
    /// User part of CXone's From.
    pub from: String,
    /// User part of CXone's To.
    pub to: String,
    /// User part of the top Diversion, else X-Diversion.
    pub diversion: String,
}

/// Everything that a template can name at one moment.
pub struct Words<'a> {
    pub call: &'a CallWords,
    /// The escalation and its signal id, when there is one.
    pub ask: Option<(&'a Ask, &'a str)>,
    /// `{header.NAME}`: the first value of that name.
    pub header: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

/// The template with its words replaced, as it comes: the caller decides what the result may hold.
pub fn render(template: &Template, words: &Words<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Header(name) => out.extend_from_slice(&(words.header)(name).unwrap_or_default()),
            piece => out.extend_from_slice(word(piece, words).as_bytes()),
        }
    }
    out
}

/// The same as one header value: no control character survives, blanks around it go (RFC 3261 §25.1, header values are one line).
pub fn render_line(template: &Template, words: &Words<'_>) -> Vec<u8> {
    one_line(&render(template, words))
}

/// Control characters become blanks, blanks around the value go: no value can end its line.
pub fn one_line(value: &[u8]) -> Vec<u8> {
    let blanked: Vec<u8> = value.iter().map(|&b| if b.is_ascii_control() { b' ' } else { b }).collect();
    blanked.trim_ascii().to_vec()
}

/// The names that a template reads from headers.
pub fn header_names(template: &Template) -> impl Iterator<Item = &str> {
    template.0.iter().filter_map(|piece| match piece {
        Piece::Header(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Whether the template uses this word.
pub fn uses(template: &Template, word: &Piece) -> bool {
    template.0.contains(word)
}

fn word<'a>(piece: &Piece, words: &'a Words<'_>) -> &'a str {
    let asked = |pick: fn(&Ask) -> &str| words.ask.map_or("", |(ask, _)| pick(ask));
    match piece {
        Piece::ContactId => &words.call.contact_id,
        Piece::CallId => &words.call.call_id,
        Piece::Node => &words.call.node,
        Piece::From => &words.call.from,
        Piece::To => &words.call.to,
        Piece::Diversion => &words.call.diversion,
        Piece::Queue => asked(|ask| &ask.queue),
        Piece::Reason => asked(|ask| &ask.reason),
        Piece::ReferredTo => asked(|ask| &ask.referred_to),
        Piece::SignalId => words.ask.map_or("", |(_, id)| id),
        Piece::Text(_) | Piece::Header(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::rules::AskedBy;

    #[test]
    fn every_word_finds_its_fact_and_unknown_headers_are_empty() {
        let call = CallWords {
            contact_id: "42".into(),
            call_id: "0ABC".into(),
            node: "bc-1".into(),
            from: "+1206".into(),
            to: "999".into(),
            diversion: "+1555".into(),
        };
        let ask =
            Ask { by: AskedBy::Refer, queue: "billing".into(), reason: "angry".into(), referred_to: "sales".into(), headers: Vec::new() };
        let header = |name: &str| name.eq_ignore_ascii_case("X-Plan").then(|| b"gold".to_vec());
        let words = Words { call: &call, ask: Some((&ask, "SIG1")), header: &header };
        for (piece, text) in [
            (Piece::Text("-".into()), "-"),
            (Piece::ContactId, "42"),
            (Piece::CallId, "0ABC"),
            (Piece::Node, "bc-1"),
            (Piece::From, "+1206"),
            (Piece::To, "999"),
            (Piece::Diversion, "+1555"),
            (Piece::Queue, "billing"),
            (Piece::Reason, "angry"),
            (Piece::SignalId, "SIG1"),
            (Piece::ReferredTo, "sales"),
            (Piece::Header("x-plan".into()), "gold"),
            (Piece::Header("X-Other".into()), ""),
        ] {
            assert_eq!(render(&Template(vec![piece.clone()]), &words), text.as_bytes(), "{piece:?}");
        }
    }

    #[test]
    fn a_rendered_line_can_never_end_its_line() {
        let header = |_: &str| Some(b" a\r\nVia: evil\0\x01 ".to_vec());
        let words = Words { call: &CallWords::default(), ask: None, header: &header };
        let line = render_line(&Template(vec![Piece::Header("X".into())]), &words);
        assert_eq!(line, b"a  Via: evil");
    }
}
