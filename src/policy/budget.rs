//! The byte budget of X- headers in an INVITE that leaves over UDP (`headers.budget`, `headers.drop_order`).

use bytes::Bytes;

use crate::call::rules::Carried;
use crate::config::NamePattern;

/// What is left when the budget is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trimmed {
    pub lines: Vec<Carried>,
    /// Names of what was dropped, in the order of dropping.
    pub dropped: Vec<Bytes>,
    /// Bytes of X- headers before and after.
    pub before: usize,
    pub after: usize,
}

/// Whether this is one of the headers that the budget counts.
pub fn is_x(name: &[u8]) -> bool {
    name.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"X-"))
}

/// Bytes of a line as it is printed: `Name: value` CRLF.
pub fn line_bytes(line: &Carried) -> usize {
    line.name.len() + 2 + line.value.len() + 2
}

/// Bytes of all X- lines.
pub fn x_bytes(lines: &[Carried]) -> usize {
    lines.iter().filter(|line| is_x(&line.name)).map(line_bytes).sum()
}

/// Drops X- lines until they fit into `budget` bytes (0: no limit): first what `drop_order` names, pattern by pattern, then the
/// last line first. Never a line whose name is in `protected`.
pub fn apply_budget(lines: &[Carried], budget: usize, drop_order: &[NamePattern], protected: &[Bytes]) -> Trimmed {
    let before = x_bytes(lines);
    let mut after = before;
    let mut gone = vec![false; lines.len()];
    let mut dropped = Vec::new();
    let everything = NamePattern("*".to_owned());
    for pattern in drop_order.iter().chain(std::iter::once(&everything)) {
        for (line, gone) in lines.iter().zip(gone.iter_mut()).rev() {
            if budget == 0 || after <= budget {
                break;
            }
            let named = std::str::from_utf8(&line.name).is_ok_and(|name| pattern.matches(name));
            let kept = protected.iter().any(|name| name.eq_ignore_ascii_case(&line.name));
            if !*gone && named && is_x(&line.name) && !kept {
                *gone = true;
                after -= line_bytes(line);
                dropped.push(line.name.clone());
            }
        }
    }
    let lines = lines.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(line, _)| line.clone()).collect();
    Trimmed { lines, dropped, before, after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, bytes: usize) -> Carried {
        // `line_bytes` counts four bytes besides name and value.
        Carried { name: Bytes::copy_from_slice(name.as_bytes()), value: Bytes::from(vec![b'v'; bytes - 4 - name.len()]) }
    }

    fn names(trimmed: &Trimmed) -> Vec<String> {
        trimmed.lines.iter().map(|l| String::from_utf8_lossy(&l.name).into_owned()).collect()
    }

    fn sample() -> Vec<Carried> {
        vec![line("X-EI", 20), line("X-A", 30), line("Diversion", 900), line("X-B", 30), line("X-Id", 30), line("X-C", 30)]
    }

    #[test]
    fn a_byte_over_the_budget_costs_the_last_line_and_exactly_the_budget_costs_nothing() {
        let fits = apply_budget(&sample(), 140, &[], &[]);
        assert_eq!((fits.before, fits.after, fits.dropped.len()), (140, 140, 0));
        let over = apply_budget(&sample(), 139, &[], &[]);
        assert_eq!(names(&over), ["X-EI", "X-A", "Diversion", "X-B", "X-Id"]);
        assert_eq!((over.after, over.dropped), (110, vec![Bytes::from_static(b"X-C")]));
    }

    #[test]
    fn drop_order_goes_first_then_the_last_header() {
        let order = [NamePattern("x-b".into()), NamePattern("X-A*".into())];
        let trimmed = apply_budget(&sample(), 60, &order, &[Bytes::from_static(b"x-ei")]);
        assert_eq!(trimmed.dropped, ["X-B", "X-A", "X-C"].map(|n| Bytes::from_static(n.as_bytes())));
        assert_eq!(names(&trimmed), ["X-EI", "Diversion", "X-Id"]);
    }

    #[test]
    fn x_ei_and_what_feeds_it_stay_even_over_the_budget_and_when_drop_order_names_them() {
        let protected = [Bytes::from_static(b"X-EI"), Bytes::from_static(b"X-Id")];
        let trimmed = apply_budget(&sample(), 10, &[NamePattern("X-*".into())], &protected);
        assert_eq!(names(&trimmed), ["X-EI", "Diversion", "X-Id"]);
        assert_eq!(trimmed.after, 50);
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(apply_budget(&sample(), 0, &[], &[]).dropped.is_empty());
    }
}
