//! Reads the sources and holds the house's walls: who may look at whom, what may not be heard below the roof, how long things
//! get. `cargo clippy` knows nothing of floors, so this does.

#![allow(clippy::unwrap_used)]

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Lines of one function, without blank and comment lines.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of one file before its tests, all counted.
const FILE_LINES_MAX: usize = 700;

/// From here on a file is named in the report, so that it is split before it is too late.
const FILE_LINES_SAID: usize = 600;

/// Who may import whom. The same table stands in lib.rs, where people look for it. A floor may always import itself.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("time", ""),
    ("ids", "time"),
    ("report", "ids time call"),
    ("wire", "ids"),
    ("transaction", "wire ids time"),
    ("dialog", "wire ids"),
    ("call", "wire dialog transaction ids time report"),
    ("config", "call wire ids"),
    ("policy", "call wire config ids"),
    ("b2bua", "policy call dialog transaction wire config report ids time"),
];

/// The roof: may import anything.
const ROOF: &[&str] = &["edge", "ops", "mock", "cli", "main", "lib"];

/// What may not be heard below the roof, and who says so. Words are matched whole.
const NOT_BELOW_THE_ROOF: &[(&str, &str)] = &[
    ("Instant::now", "be told the time: only edge reads a clock"),
    ("SystemTime::now", "be told the time: only edge reads a clock"),
    ("tokio::", "return what should happen, do not do it: no task below the roof"),
    ("std::net::UdpSocket", "no socket below the roof"),
    ("std::net::TcpStream", "no socket below the roof"),
    ("std::net::TcpListener", "no socket below the roof"),
    ("UdpSocket::", "no socket below the roof"),
    ("TcpStream::", "no socket below the roof"),
    ("TcpListener::", "no socket below the roof"),
    ("std::fs", "no file below the roof"),
    ("File::", "no file below the roof"),
    ("std::thread", "no thread below the roof"),
    ("thread_local!", "no state that is not a floor's own"),
    ("print!", "a floor reports facts, it does not print"),
    ("println!", "a floor reports facts, it does not print"),
    ("eprint!", "a floor reports facts, it does not print"),
    ("eprintln!", "a floor reports facts, it does not print"),
    ("tracing::", "a floor reports facts, it does not log"),
    ("Mutex", "no lock below the roof"),
    ("RwLock", "no lock below the roof"),
    ("rand::", "randomness is given, not taken"),
    ("getrandom", "randomness is given, not taken"),
    ("OsRng", "randomness is given, not taken"),
    ("io::Error", "errors below the roof belong to the floor that made them"),
];

/// Who reads a file below the roof: the loader of the configuration, and nobody else.
const FILE_READERS: &[&str] = &["src/config/load.rs"];

/// What nobody says outside of tests.
const NOWHERE: &[(&str, &str)] = &[
    (".unwrap()", "no unwrap outside of tests: errors say who must act"),
    (".expect(\"", "no expect outside of tests: errors say who must act"),
    (".expect(&", "no expect outside of tests: errors say who must act"),
    (".unwrap_err()", "no unwrap outside of tests: errors say who must act"),
    (".expect_err(\"", "no expect outside of tests: errors say who must act"),
];

/// A source file as the rules see it.
struct Source {
    /// `src/wire/head.rs`
    path: String,
    /// Comments, strings and test code are blanks; lines are where they were.
    code: String,
    /// Lines before the first test module; all, when there is none.
    lines_before_tests: usize,
}

/// One wall that somebody went through.
#[derive(PartialEq, Eq, Debug)]
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap();
        let shown = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        Source::of(shown, &text)
    }

    fn of(path: String, text: &str) -> Source {
        let bare = without_comments_and_strings(text);
        let (code, first_test) = without_tests(&bare);
        Source { path, code, lines_before_tests: first_test.map_or(text.lines().count(), |at| line_of(text, at) - 1) }
    }

    /// `wire` of `src/wire/head.rs` and `src/wire.rs`.
    fn floor(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    fn is_below_the_roof(&self) -> bool {
        !ROOF.contains(&self.floor())
    }

    /// How many `super::` lead to the crate's root.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').filter(|p| !matches!(*p, "mod.rs" | "main.rs" | "lib.rs")).count()
    }

    fn breach(&self, at: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line: line_of(&self.code, at), rule: rule.into() }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|b| *b == b'\n').count() + 1
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Comments and the insides of literals become blanks, newlines stay.
fn without_comments_and_strings(text: &str) -> String {
    let b = text.as_bytes();
    let mut out = b.to_vec();
    let mut at = 0;
    while at < b.len() {
        let end = match b[at] {
            b'/' if b.get(at + 1) == Some(&b'/') => b[at..].iter().position(|c| *c == b'\n').map_or(b.len(), |n| at + n),
            b'/' if b.get(at + 1) == Some(&b'*') => block_comment_end(b, at),
            // The quotes stay, so that `.expect("` can be told from a method of ours with that name.
            b'"' => {
                let end = string_end(b, at);
                out[at + 1..end - 1].iter_mut().filter(|c| **c != b'\n').for_each(|c| *c = b' ');
                at = end;
                continue;
            }
            b'r' if at == 0 || !is_word(b[at - 1]) || matches!(b[at - 1], b'b' | b'c') => raw_string_end(b, at),
            b'\'' => char_end(b, at),
            _ => at,
        };
        for place in &mut out[at..end] {
            if *place != b'\n' {
                *place = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).unwrap()
}

/// Block comments nest.
fn block_comment_end(b: &[u8], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < b.len() {
        match &b[at..b.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(b: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < b.len() && b[at] != b'"' {
        at += if b[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(b.len())
}

/// `r"…"`, `r#"…"#`; anything else that begins with an r (a name, a raw identifier) ends where it began.
fn raw_string_end(b: &[u8], from: usize) -> usize {
    let hashes = b[from + 1..].iter().take_while(|c| **c == b'#').count();
    let open = from + 1 + hashes;
    if b.get(open) != Some(&b'"') {
        return from;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = &b[open + 1..];
    inside.windows(close.len()).position(|w| w == close).map_or(b.len(), |n| open + 1 + n + close.len())
}

/// `'x'`, `'\n'`, `'\u{2028}'`, `'ß'`; a lifetime ends where it began.
fn char_end(b: &[u8], from: usize) -> usize {
    if b.get(from + 1) == Some(&b'\\') {
        let close = b[from + 2..].iter().skip(1).position(|c| *c == b'\'');
        return close.map_or(b.len(), |n| from + 4 + n);
    }
    let width = match b.get(from + 1) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if b.get(from + 1 + width) == Some(&b'\'') { from + width + 2 } else { from }
}

/// Items behind `#[cfg(test)]` become blanks; also where the first test module begins.
fn without_tests(code: &str) -> (String, Option<usize>) {
    let mut out = code.as_bytes().to_vec();
    let mut first = None;
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let after = at + attribute.len();
        let end = item_end(code, after);
        if first.is_none() && code[after..end].contains("mod ") {
            first = Some(at);
        }
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    (String::from_utf8(out).unwrap(), first)
}

/// The item from here to its closing brace or semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (n, b) in code.as_bytes()[from..].iter().enumerate() {
        match b {
            b';' if depth == 0 => return from + n + 1,
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return from + n + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// All sources, without the files that are test modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "the sources are not where they were");
    let test_files: Vec<PathBuf> = paths.iter().flat_map(|p| test_files_of(p)).collect();
    paths.retain(|p| !test_files.iter().any(|t| p == t || p.starts_with(t.with_extension(""))));
    paths.iter().map(|p| Source::read(root, p)).collect()
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

/// The files that `#[cfg(test)] mod NAME;` in this file stands for.
fn test_files_of(path: &Path) -> Vec<PathBuf> {
    let code = without_comments_and_strings(&fs::read_to_string(path).unwrap());
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    let dir = if matches!(stem.as_str(), "mod" | "main" | "lib") { path.with_file_name("") } else { path.with_extension("") };
    code.match_indices("#[cfg(test)]")
        .filter_map(|(at, a)| code[at + a.len()..item_end(&code, at + a.len())].trim().strip_suffix(';').map(str::to_owned))
        .filter_map(|item| item.rsplit_once("mod ").map(|(_, name)| name.trim().to_owned()))
        .flat_map(|name| [dir.join(format!("{name}.rs")), dir.join(&name).join("mod.rs")])
        .collect()
}

/// Places where the whole word stands: `Mutex` is not in `FastMutexes`.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let b = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let starts = *at == 0 || !is_word(b[*at - 1]) || !is_word(word.as_bytes()[0]);
        let last = word.as_bytes()[word.len() - 1];
        let ends = b.get(at + word.len()).is_none_or(|c| !is_word(*c) || !is_word(last));
        starts && ends
    })
}

/// The name that begins here.
fn name_at(code: &str, at: usize) -> &str {
    let end = code.as_bytes()[at..].iter().position(|b| !is_word(*b)).map_or(code.len(), |n| at + n);
    &code[at..end]
}

/// Floors that this file names, by `crate::` or by enough `super::`, in a `use` or anywhere else.
fn floors_named(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut named: Vec<(usize, String)> = words(code, "crate::").map(|at| (at, name_at(code, at + "crate::".len()).to_owned())).collect();
    let climb = "super::".repeat(source.depth());
    if !climb.is_empty() {
        let starts = words(code, &climb).filter(|at| !code[..*at].ends_with("super::"));
        named.extend(
            starts.map(|at| (at, name_at(code, at + climb.len()).to_owned())).filter(|(_, name)| name != "super" && !name.is_empty()),
        );
    }
    named
}

fn allowed(floor: &str) -> Option<&'static str> {
    MAY_IMPORT.iter().find(|(name, _)| *name == floor).map(|(_, may)| *may)
}

fn upward(source: &Source) -> Vec<Breach> {
    let floor = source.floor();
    if !source.is_below_the_roof() {
        return Vec::new();
    }
    let Some(may) = allowed(floor) else {
        return vec![source.breach(0, format!("{floor} is no floor that the table knows: add it to lib.rs and tests/floors.rs"))];
    };
    floors_named(source)
        .into_iter()
        .filter(|(_, name)| name != floor && !may.split(' ').any(|m| m == name))
        .map(|(at, name)| source.breach(at, format!("look only downstairs: {floor} may import [{may}], not {name}")))
        .collect()
}

fn unheard(source: &Source) -> Vec<Breach> {
    let reads_files = FILE_READERS.contains(&source.path.as_str());
    let below = NOT_BELOW_THE_ROOF.iter().filter(|_| source.is_below_the_roof());
    let below = below.filter(|(word, _)| !(reads_files && matches!(*word, "std::fs" | "File::")));
    // The configuration is read with closures that the roof passes in; their error is the file system's.
    let below = below.filter(|(word, _)| !(source.floor() == "config" && *word == "io::Error"));
    below
        .chain(NOWHERE)
        .flat_map(|(word, rule)| words(&source.code, word).map(move |at| source.breach(at, format!("`{word}`: {rule}"))))
        .collect()
}

fn crowded_uses(source: &Source) -> Vec<Breach> {
    words(&source.code, "use ")
        .filter(|at| source.code[..*at].trim_end_matches(' ').ends_with(['\n', ')']) || *at == 0 || source.code[..*at].ends_with("pub "))
        .filter(|at| source.code[*at..].split(';').next().is_some_and(|path| path.contains(['{', ','])))
        .map(|at| source.breach(at, "one path per `use` line, so that the floors can be read"))
        .collect()
}

/// Each function's start and its lines that are neither blank nor comment.
fn functions(code: &str) -> Vec<(usize, usize)> {
    words(code, "fn ")
        .filter(|at| is_word(*code.as_bytes().get(at + 3).unwrap_or(&b' ')))
        .map(|at| (at, code[at..item_end(code, at)].lines().filter(|l| !l.trim().is_empty()).count()))
        .collect()
}

fn overlong(source: &Source) -> Vec<Breach> {
    let mut breaches: Vec<Breach> = functions(&source.code)
        .into_iter()
        .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
        .map(|(at, lines)| {
            let name = name_at(&source.code, at + 3);
            source.breach(at, format!("{name} has {lines} lines, {FUNCTION_LINES_MAX} is the wall: split it by meaning"))
        })
        .collect();
    if source.lines_before_tests > FILE_LINES_MAX {
        let rule = format!("{} lines before tests, {FILE_LINES_MAX} is the wall: split the file by meaning", source.lines_before_tests);
        breaches.push(source.breach(0, rule));
    }
    breaches
}

fn hold(wall: fn(&Source) -> Vec<Breach>) {
    let breaches: Vec<String> = sources().iter().flat_map(wall).map(|b| b.to_string()).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn no_floor_looks_upstairs() {
    hold(upward);
}

#[test]
fn below_the_roof_there_is_no_clock_socket_file_lock_or_print_and_nowhere_an_unwrap() {
    hold(unheard);
}

#[test]
fn each_use_line_has_one_path() {
    hold(crowded_uses);
}

#[test]
fn functions_and_files_stay_short() {
    for source in sources().iter().filter(|s| s.lines_before_tests > FILE_LINES_SAID) {
        println!("{}: {} lines before tests; the wall is at {FILE_LINES_MAX}", source.path, source.lines_before_tests);
    }
    hold(overlong);
}

#[test]
fn the_map_in_lib_rs_shows_the_same_table() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rows: Vec<(&str, String)> = lib
        .lines()
        .filter_map(|l| l.strip_prefix("//! | `"))
        .filter_map(|l| l.split_once("` |"))
        .map(|(floor, may)| (floor, may.trim_end_matches('|').replace(['`', ','], " ").split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let expected: Vec<(&str, String)> = MAY_IMPORT.iter().map(|(floor, may)| (*floor, (*may).to_owned())).collect();
    assert_eq!(rows, expected, "the table in lib.rs and MAY_IMPORT in tests/floors.rs differ");
}

fn wire(text: &str) -> Source {
    Source::of("src/wire/head.rs".to_owned(), text)
}

#[test]
fn the_walls_see_what_goes_through_them() {
    assert_eq!(upward(&wire("use crate::call::Call;\n")).len(), 1);
    assert_eq!(upward(&wire("fn f() { crate::edge::run() }\n")).len(), 1);
    assert_eq!(upward(&wire("use super::super::call::Call;\n")).len(), 1);
    assert_eq!(upward(&wire("use super::name::Name;\nuse crate::ids::Side;\nuse crate::wire::uri::Uri;\n")), vec![]);
    assert_eq!(upward(&Source::of("src/cellar/mod.rs".to_owned(), "\n")).len(), 1);
    assert_eq!(upward(&Source::of("src/edge/mod.rs".to_owned(), "use crate::ops::log;\n")), vec![]);

    let line = "\n\nlet t = Instant::now();\n";
    assert_eq!(unheard(&wire(line))[0].to_string(), "src/wire/head.rs:3: `Instant::now`: be told the time: only edge reads a clock");
    assert_eq!(unheard(&Source::of("src/edge/clock.rs".to_owned(), line)), vec![]);
    assert_eq!(unheard(&Source::of("src/edge/clock.rs".to_owned(), "x.unwrap();")).len(), 1);
    assert_eq!(unheard(&wire("x.expect(\"must\"); answers.expect(reply);")).len(), 1);
    assert_eq!(unheard(&wire("x.unwrap_or(1); let Mutexes = brand::new();")), vec![]);

    assert_eq!(crowded_uses(&wire("use std::io::{Read, Write};\n")).len(), 1);
    assert_eq!(crowded_uses(&wire("pub use std::io::{Read, Write};\n")).len(), 1);
    assert_eq!(crowded_uses(&wire("use std::io::Read;\nlet because = 1;\n")), vec![]);
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    assert_eq!(unheard(&wire("// x.unwrap()\n/* a /* tokio:: */ tokio:: */ let s = \"a\\\" tokio::\";\n")), vec![]);
    assert_eq!(unheard(&wire("let s = r#\"\" tokio:: \"#; let c = '\"'; let d = b'\\''; let e = '\\u{22}';\n")), vec![]);
    assert_eq!(unheard(&wire("fn f<'a>(x: &'a str) {}\ntokio::spawn();\n")).len(), 1);
    assert_eq!(unheard(&wire("#[cfg(test)]\nmod tests {\n fn f() { x.unwrap() }\n}\n")), vec![]);
    assert_eq!(unheard(&wire("#[cfg(test)]\nmod tests {\n fn f() {}\n}\nfn g() { x.unwrap() }\n")).len(), 1);
    assert_eq!(wire("a\nb\n#[cfg(test)]\nmod tests {\n}\n").lines_before_tests, 2);
}

#[test]
fn long_functions_are_counted_without_blanks_and_comments() {
    let body = |lines: usize| format!("fn f() {{\n{}\n// c\n\n}}\n", "    x();\n".repeat(lines));
    assert_eq!(overlong(&wire(&body(FUNCTION_LINES_MAX - 2))), vec![]);
    assert_eq!(overlong(&wire(&body(FUNCTION_LINES_MAX - 1))).len(), 1);
    assert_eq!(overlong(&wire(&"x\n".repeat(FILE_LINES_MAX))), vec![]);
    assert_eq!(overlong(&wire(&"x\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
}
