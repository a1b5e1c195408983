use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;
use rand_core::SeedableRng;

use super::*;

const HALF: u16 = 500;

/// An escalation in virtual time. Every output must be claimed: leftovers fail the test.
struct Bench {
    escalation: Escalation,
    now: Time,
    out: Vec<Out>,
}

fn times() -> SignalTimes {
    SignalTimes {
        timeout: Duration::from_secs(3),
        settle: Duration::from_secs(2),
        repeat_unanswered: true,
        deadline: Duration::from_secs(12),
        after_signal: Duration::from_secs(10),
    }
}

fn a_signal() -> Signal {
    Signal {
        id: SignalId::new("0SIGNAL"),
        contact: ContactId::new("48812"),
        params: vec![("p1".into(), "billing".to_owned())],
        fresh_token: false,
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Bench {
    fn started_with(times: SignalTimes) -> Bench {
        let now = Time::from_micros(1_000_000_000);
        let mut out = Vec::new();
        let escalation = Escalation::start(a_signal(), times, now, &mut out);
        let mut bench = Bench { escalation, now, out };
        bench.gets(Out::Record(Marker::Intent));
        bench
    }

    fn started() -> Bench {
        Bench::started_with(times())
    }

    /// Both barriers passed, the first try is under way.
    fn requesting_with(times: SignalTimes) -> Bench {
        let mut b = Bench::started_with(times);
        b.recorded(Marker::Intent);
        b.gets(Out::Accepted { durable: true });
        b.gets_try(1, false);
        b
    }

    fn requesting() -> Bench {
        Bench::requesting_with(times())
    }

    fn gets(&mut self, wanted: Out) {
        assert!(!self.out.is_empty(), "nothing came, wanted {wanted:?}");
        assert_eq!(self.out.remove(0), wanted);
    }

    fn gets_signal(&mut self, try_no: u8, fresh_token: bool) {
        let mut signal = a_signal();
        signal.fresh_token = fresh_token;
        let until = self.escalation.started_at() + self.escalation.times.deadline;
        self.gets(Out::Signal { try_no, signal, until });
    }

    /// The mark of a try, the journal's word, the request.
    fn gets_try(&mut self, try_no: u8, fresh_token: bool) {
        self.gets(Out::Record(Marker::Requesting { try_no }));
        self.nothing();
        self.recorded(Marker::Requesting { try_no });
        self.gets_signal(try_no, fresh_token);
        self.nothing();
    }

    fn nothing(&self) {
        assert!(self.out.is_empty(), "unclaimed: {:?}", self.out);
    }

    fn ends(&mut self, wanted: Outcome) {
        self.gets(Out::Settled(wanted.clone()));
        self.nothing();
        assert_eq!(self.escalation.outcome(), Some(&wanted));
        assert_eq!(self.escalation.deadline(), None);
    }

    fn fails(&mut self, part: &str) {
        let Out::Settled(Outcome::Failed { why }) = self.out.remove(0) else { panic!("not failed") };
        assert!(why.contains(part), "{why:?} does not say {part:?}");
        assert_eq!(self.escalation.why(), why);
        self.nothing();
    }

    fn recorded(&mut self, which: Marker) {
        self.escalation.on_recorded(which, self.now, &mut self.out);
    }

    fn answers(&mut self, try_no: u8, answer: SignalAnswer) {
        self.escalation.on_answer(try_no, answer, HALF, self.now, &mut self.out);
    }

    fn gone(&mut self, bye: bool) {
        self.escalation.on_contact_gone(bye, self.now, &mut self.out);
    }

    /// Time passes; a deadline in it fires at its own time.
    fn after(&mut self, d: Duration) {
        let end = self.now + d;
        while let Some(at) = self.escalation.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.escalation.on_timeout(self.now, &mut self.out);
        }
        self.now = end;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.nothing();
        }
    }
}

fn delivered() -> SignalAnswer {
    SignalAnswer::Delivered { status: 204 }
}

fn refused(status: u16) -> SignalAnswer {
    SignalAnswer::Refused { status, retry_after: None, text: String::new() }
}

fn refused_for(status: u16, secs: u64) -> SignalAnswer {
    SignalAnswer::Refused { status, retry_after: Some(Duration::from_secs(secs)), text: String::new() }
}

fn not_sent(final_: bool) -> SignalAnswer {
    SignalAnswer::NotSent { why: "connection refused".to_owned(), retry_after: None, final_ }
}

fn unanswered() -> SignalAnswer {
    SignalAnswer::Unanswered { status: None, why: "timeout".to_owned() }
}

// On disk first.

#[test]
fn the_202_waits_for_the_intent_and_the_request_for_its_mark() {
    let mut b = Bench::started();
    b.after(ms(120));
    b.nothing();
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.gets_try(1, false);
    b.answers(1, delivered());
    b.ends(Outcome::Delivered);
    assert_eq!((b.escalation.tries(), b.escalation.why()), (1, "HTTP 204"));
}

#[test]
fn a_stuck_disk_holds_the_202_for_300_ms_and_no_longer() {
    // product.md §4: "not there within 300 ms (a stuck or full disk): answer and signal from memory, durable=no"
    let mut b = Bench::started();
    b.after(RECORD_WAIT - ms(1));
    b.nothing();
    b.after(ms(1));
    b.gets(Out::Accepted { durable: false });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.gets_signal(1, false);
}

#[test]
fn a_full_disk_holds_nothing() {
    let mut b = Bench::started();
    b.escalation.on_record_failed(Marker::Intent, b.now, &mut b.out);
    b.gets(Out::Accepted { durable: false });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.gets_signal(1, false);
}

#[test]
fn a_disk_that_sticks_at_the_second_barrier_holds_the_request_for_300_ms() {
    let mut b = Bench::started();
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.after(RECORD_WAIT - ms(1));
    b.nothing();
    b.after(ms(1));
    b.gets_signal(1, false);
    // The next try does not wait for a disk that is known to be behind …
    b.answers(1, refused(401));
    b.gets(Out::Record(Marker::Requesting { try_no: 2 }));
    b.gets_signal(2, true);
    // … until the disk is heard of again.
    b.recorded(Marker::Requesting { try_no: 2 });
    b.answers(2, refused(503));
    b.after(ms(250));
    b.gets_try(3, false);
}

#[test]
fn a_failed_second_mark_lets_the_request_go_at_once() {
    let mut b = Bench::started();
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.escalation.on_record_failed(Marker::Requesting { try_no: 1 }, b.now, &mut b.out);
    b.gets_signal(1, false);
}

#[test]
fn a_mark_of_another_try_opens_no_barrier() {
    let mut b = Bench::started();
    b.recorded(Marker::Requesting { try_no: 1 });
    b.nothing();
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.recorded(Marker::Intent);
    b.recorded(Marker::Requesting { try_no: 2 });
    b.nothing();
}

// Tries.

#[test]
fn a_401_gets_one_new_token_at_once_and_a_second_one_is_final() {
    // "401 or 403: new token, once."
    for (first, second) in [(401, 401), (401, 403), (403, 401), (403, 403)] {
        let mut b = Bench::requesting();
        b.answers(1, refused(first));
        b.gets_try(2, true);
        b.answers(2, refused(second));
        b.fails(&format!("HTTP {second}"));
    }
}

#[test]
fn a_new_token_is_asked_for_again_only_until_it_was_used() {
    let mut b = Bench::requesting();
    b.answers(1, refused(401));
    b.gets_try(2, true);
    b.answers(2, not_sent(false));
    b.after(ms(250));
    b.gets_try(3, true);
    b.answers(3, refused(503));
    b.after(ms(500));
    b.gets_try(4, false);
    b.answers(4, delivered());
    b.ends(Outcome::Delivered);
}

#[test]
fn what_may_pass_is_repeated_with_exponential_back_off() {
    // "429, 5xx, refused connection: repeated with jitter and Retry-After, within the deadline."
    for answer in [refused(429), refused(500), refused(503), refused(599), not_sent(false)] {
        let mut b = Bench::requesting();
        for (n, wait) in [(1, 250), (2, 500), (3, 1000), (4, 2000), (5, 2000)] {
            b.answers(n, answer.clone());
            b.after(ms(wait - 1));
            b.nothing();
            b.after(ms(1));
            b.gets_try(n + 1, false);
        }
        b.answers(6, delivered());
        b.ends(Outcome::Delivered);
    }
}

#[test]
fn jitter_is_half_to_one_and_a_half() {
    assert_eq!(backoff(0, 0), ms(125));
    assert_eq!(backoff(0, 999), Duration::from_micros(374_750));
    assert_eq!(backoff(3, 500), ms(2000));
    assert_eq!(backoff(u8::MAX, 0), ms(1000));
    // One past what a die can show.
    assert_eq!(backoff(0, u16::MAX), backoff(0, 999));
}

#[test]
fn retry_after_is_waited_for_when_it_is_longer_than_the_back_off() {
    let mut b = Bench::requesting();
    b.answers(1, refused_for(429, 3));
    b.after(ms(2999));
    b.nothing();
    b.after(ms(1));
    b.gets_try(2, false);
    b.answers(2, refused_for(503, 0));
    b.after(ms(500));
    b.gets_try(3, false);
}

#[test]
fn a_retry_after_beyond_the_deadline_fails_now_and_says_so() {
    let mut b = Bench::requesting();
    b.answers(1, refused_for(429, 60));
    b.fails("Retry-After of 60 s lies beyond the deadline");
}

#[test]
fn refusals_end_with_the_deadline_and_name_the_last_one() {
    let mut b = Bench::requesting();
    let mut tries = 1;
    loop {
        b.answers(tries, refused(500));
        if b.escalation.is_settled() {
            break;
        }
        b.after(b.escalation.deadline().unwrap().since(b.now));
        tries += 1;
        b.gets_try(tries, false);
    }
    b.fails("deadline of 12000 ms is over; HTTP 500");
    assert!(b.now < b.escalation.started_at() + Duration::from_secs(12));
}

#[test]
fn a_plain_4xx_is_final() {
    for status in [400, 402, 404, 405, 409, 410, 413, 422, 499, 301, 302] {
        let mut b = Bench::requesting();
        b.answers(1, SignalAnswer::Refused { status, retry_after: Some(ms(1)), text: "no such contact".to_owned() });
        b.fails(&format!("HTTP {status}: no such contact"));
    }
}

#[test]
fn what_the_edge_calls_final_is_final() {
    let mut b = Bench::requesting();
    b.answers(1, not_sent(true));
    b.fails("connection refused");
}

#[test]
fn tries_are_bounded_whatever_the_deadline() {
    let mut b = Bench::requesting_with(SignalTimes { deadline: Duration::from_secs(100_000), ..times() });
    for n in 1..SIGNAL_TRIES_MAX {
        b.answers(n, refused(503));
        b.after(b.escalation.deadline().unwrap().since(b.now));
        b.gets_try(n + 1, false);
    }
    // One past the bound.
    b.answers(SIGNAL_TRIES_MAX, refused(503));
    b.after(ms(2000));
    b.fails("64 tries");
}

#[test]
fn no_answer_waits_settle_and_is_repeated_once_with_the_same_id() {
    // "wait settle for it; if CXone's leg is still there, repeat once with the same id; still nothing: unknown"
    let mut b = Bench::requesting();
    b.after(ms(3000));
    b.answers(1, unanswered());
    b.after(ms(1999));
    b.nothing();
    b.after(ms(1));
    b.gets_try(2, false);
    b.after(ms(3000));
    b.answers(2, unanswered());
    b.after(ms(1999));
    b.nothing();
    b.after(ms(1));
    b.ends(Outcome::Unknown);
    assert_eq!((b.escalation.tries(), b.escalation.why()), (2, "timeout"));
}

#[test]
fn the_wait_after_the_repetition_never_passes_the_deadline() {
    // The shortest deadline that the configuration allows: 2 × timeout + settle.
    let mut b = Bench::requesting_with(SignalTimes { deadline: Duration::from_secs(8), ..times() });
    b.after(ms(3020));
    b.answers(1, unanswered());
    b.after(ms(2000));
    b.gets_try(2, false);
    b.after(ms(2980));
    b.answers(2, unanswered());
    b.ends(Outcome::Unknown);
}

#[test]
fn gateway_errors_count_as_no_answer() {
    for status in [408, 502, 504] {
        for answer in [SignalAnswer::Unanswered { status: Some(status), why: "gateway".to_owned() }, refused(status)] {
            let mut b = Bench::requesting();
            b.answers(1, answer);
            b.after(ms(1999));
            b.nothing();
            b.after(ms(1));
            b.gets_try(2, false);
        }
    }
}

#[test]
fn without_repetition_no_answer_is_unknown_after_settle() {
    let mut b = Bench::requesting_with(SignalTimes { repeat_unanswered: false, ..times() });
    b.answers(1, unanswered());
    b.after(ms(2000));
    b.ends(Outcome::Unknown);
}

#[test]
fn no_repetition_starts_without_room_for_it() {
    let mut b = Bench::requesting();
    b.after(ms(8501));
    b.answers(1, unanswered());
    b.after(ms(2000));
    b.ends(Outcome::Unknown);
}

#[test]
fn a_repetition_that_is_plainly_not_taken_goes_on_but_never_to_a_third_arrival() {
    let mut b = Bench::requesting();
    b.answers(1, unanswered());
    b.after(ms(2000));
    b.gets_try(2, false);
    b.answers(2, refused(401));
    b.gets_try(3, true);
    b.answers(3, refused(503));
    b.after(ms(250));
    b.gets_try(4, false);
    b.answers(4, not_sent(false));
    b.after(ms(500));
    b.gets_try(5, false);
    b.answers(5, unanswered());
    b.after(ms(2000));
    b.ends(Outcome::Unknown);
}

#[test]
fn a_refused_repetition_proves_nothing_about_the_first_request() {
    // A plain 500 may have had its effect, and a 404 may mean that the contact was taken out by the first one.
    for status in [500, 404, 400] {
        let mut b = Bench::requesting();
        b.answers(1, unanswered());
        b.after(ms(2000));
        b.gets_try(2, false);
        b.answers(2, refused(status));
        b.ends(Outcome::Unknown);
    }
}

#[test]
fn a_refusal_before_the_unanswered_request_does_not_count_as_arrived() {
    let mut b = Bench::requesting();
    b.answers(1, refused(500));
    b.after(ms(250));
    b.gets_try(2, false);
    b.answers(2, unanswered());
    b.after(ms(2000));
    b.gets_try(3, false);
    b.answers(3, delivered());
    b.ends(Outcome::Delivered);
}

#[test]
fn a_late_2xx_of_the_first_request_stops_the_repetition() {
    let mut b = Bench::requesting();
    b.answers(1, unanswered());
    b.after(ms(2000));
    b.gets_try(2, false);
    b.answers(1, delivered());
    b.gets(Out::Cancel);
    b.ends(Outcome::Delivered);
    b.answers(2, delivered());
    b.nothing();
}

#[test]
fn a_late_2xx_counts_while_the_evidence_is_awaited() {
    let mut b = Bench::requesting();
    b.answers(1, unanswered());
    b.answers(1, delivered());
    b.ends(Outcome::Delivered);
}

#[test]
fn answers_to_other_tries_and_second_answers_are_ignored() {
    let mut b = Bench::requesting();
    b.answers(0, delivered());
    b.answers(2, delivered());
    b.answers(2, refused(404));
    b.nothing();
    b.answers(1, refused(503));
    b.answers(1, refused(404));
    b.answers(1, unanswered());
    b.after(ms(250));
    b.gets_try(2, false);
    b.answers(1, unanswered());
    b.nothing();
    b.answers(2, delivered());
    b.ends(Outcome::Delivered);
    b.answers(2, refused(404));
    b.gone(true);
    b.after(Duration::from_secs(60));
}

#[test]
fn an_edge_that_never_answers_does_not_hold_the_escalation() {
    let mut b = Bench::requesting();
    b.after(Duration::from_secs(12) + ANSWER_GRACE - ms(1));
    b.nothing();
    b.after(ms(1) + times().settle);
    b.ends(Outcome::Unknown);
}

#[test]
fn a_deadline_shorter_than_the_barriers_fails_unsent() {
    let mut b = Bench::started_with(SignalTimes { deadline: ms(200), ..times() });
    b.after(RECORD_WAIT);
    b.gets(Out::Accepted { durable: false });
    b.fails("deadline of 200 ms is over; nothing could be sent");
    let mut b = Bench::started_with(SignalTimes { deadline: ms(200), ..times() });
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    b.after(RECORD_WAIT);
    b.fails("nothing could be sent");
}

// CXone's BYE.

#[test]
fn a_bye_while_the_request_runs_stops_only_what_is_not_written() {
    // "no further tries, but a request already written is not cancelled. 2xx: delivered; no answer: presumed; nothing written
    // yet: expired"
    let rows = [
        (delivered(), Outcome::Delivered),
        (unanswered(), Outcome::Presumed),
        (not_sent(true), Outcome::Expired),
        (not_sent(false), Outcome::Expired),
        (refused(401), Outcome::Expired),
        (refused(503), Outcome::Expired),
        (refused(404), Outcome::Expired),
        (refused(504), Outcome::Presumed),
    ];
    for (answer, outcome) in rows {
        for bye in [true, false] {
            let mut b = Bench::requesting();
            b.gone(bye);
            b.gets(Out::Cancel);
            b.gone(bye);
            b.nothing();
            b.answers(1, answer.clone());
            b.ends(outcome.clone());
            let how = if bye { "CXone hung up" } else { "CXone's leg was lost" };
            assert_eq!(b.escalation.why().starts_with(how), outcome != Outcome::Delivered);
        }
    }
}

#[test]
fn a_bye_during_settle_is_the_evidence() {
    for bye in [true, false] {
        let mut b = Bench::requesting();
        b.answers(1, unanswered());
        b.after(ms(700));
        b.gone(bye);
        b.ends(Outcome::Presumed);
    }
}

#[test]
fn a_bye_while_the_repetition_runs_leaves_it_presumed_whatever_that_comes_to() {
    let rows = [(refused(503), Outcome::Presumed), (not_sent(false), Outcome::Presumed), (delivered(), Outcome::Delivered)];
    for (answer, outcome) in rows {
        let mut b = Bench::requesting();
        b.answers(1, unanswered());
        b.after(ms(2000));
        b.gets_try(2, false);
        b.gone(true);
        b.gets(Out::Cancel);
        b.answers(2, answer);
        b.ends(outcome);
    }
}

#[test]
fn a_bye_before_anything_was_written_expires() {
    let mut waiting = Bench::requesting();
    waiting.answers(1, refused(429));
    waiting.gone(true);
    waiting.ends(Outcome::Expired);
    let mut marking = Bench::started();
    marking.recorded(Marker::Intent);
    marking.gets(Out::Accepted { durable: true });
    marking.gets(Out::Record(Marker::Requesting { try_no: 1 }));
    marking.gone(true);
    marking.ends(Outcome::Expired);
    // The mark that comes now sends nothing.
    marking.recorded(Marker::Requesting { try_no: 1 });
}

#[test]
fn a_bye_at_the_first_barrier_still_lets_the_202_leave_truthfully() {
    let mut b = Bench::started();
    b.gone(true);
    b.nothing();
    b.recorded(Marker::Intent);
    b.gets(Out::Accepted { durable: true });
    b.ends(Outcome::Expired);
}

#[test]
fn a_bye_and_an_edge_that_never_answers_is_presumed() {
    let mut b = Bench::requesting();
    b.gone(true);
    b.gets(Out::Cancel);
    b.after(Duration::from_secs(12) + ANSWER_GRACE);
    b.ends(Outcome::Presumed);
}

// After a restart.

#[test]
fn an_unsent_one_is_sent_after_a_restart_if_the_deadline_allows() {
    // "After kill -9 it is sent if the deadline allows, else reported."
    let start = Time::from_micros(1_000_000_000);
    let mut out = Vec::new();
    let escalation = Escalation::resume(a_signal(), times(), start, 0, start + ms(11_999), &mut out);
    let mut b = Bench { escalation, now: start + ms(11_999), out };
    b.gets_try(1, false);
    b.out.clear();
    let mut out = Vec::new();
    let late = Escalation::resume(a_signal(), times(), start, 0, start + ms(12_000), &mut out);
    assert_eq!(late.outcome().map(Outcome::as_str), Some("failed"));
    assert_eq!(out.len(), 1);
}

#[test]
fn one_in_flight_counts_as_unanswered_after_a_restart() {
    let start = Time::from_micros(1_000_000_000);
    let (mut out, now) = (Vec::new(), start + ms(4000));
    let mut b = Bench { escalation: Escalation::resume(a_signal(), times(), start, 1, now, &mut out), now, out };
    b.nothing();
    b.after(ms(2000));
    b.gets_try(2, false);
    b.answers(2, unanswered());
    b.after(ms(2000));
    b.ends(Outcome::Unknown);
    // Two marks: one more request could be the third to arrive.
    let (mut out, now) = (Vec::new(), start + ms(4000));
    let mut b = Bench { escalation: Escalation::resume(a_signal(), times(), start, 2, now, &mut out), now, out };
    b.after(ms(2000));
    b.ends(Outcome::Unknown);
}

// Walks.

fn any_answer(rng: &mut ChaCha12Rng) -> SignalAnswer {
    let retry_after = rng.next_u32().is_multiple_of(3).then(|| Duration::from_secs(u64::from(rng.next_u32() % 20)));
    let status = [200, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 302][rng.next_u32() as usize % 12];
    match rng.next_u32() % 6 {
        0 => delivered(),
        1 => SignalAnswer::NotSent { why: "refused".to_owned(), retry_after, final_: rng.next_u32().is_multiple_of(4) },
        2 | 3 => unanswered(),
        _ => SignalAnswer::Refused { status, retry_after, text: "text".to_owned() },
    }
}

/// What a walk has seen.
#[derive(Default)]
struct Seen {
    accepted: u32,
    settled: u32,
    sent: Vec<u8>,
    /// Requests whose answer was not a refusal, or that have none.
    perhaps_arrived: Vec<u8>,
    gone: bool,
}

impl Seen {
    fn claim(&mut self, out: &mut Vec<Out>, to_record: &mut Vec<Marker>) {
        for o in out.drain(..) {
            assert_eq!(self.settled, 0, "{o:?} after the end");
            match o {
                Out::Record(m) => to_record.push(m),
                Out::Accepted { .. } => self.accepted += 1,
                Out::Signal { try_no, signal, .. } => {
                    assert!(!self.gone, "a request for a contact that has gone");
                    assert_eq!((signal.id, self.accepted), (a_signal().id, 1));
                    assert_eq!(usize::from(try_no), self.sent.len() + 1);
                    self.sent.push(try_no);
                    self.perhaps_arrived.push(try_no);
                    assert!(self.perhaps_arrived.len() <= usize::from(SIGNAL_RECEIVED_MAX));
                }
                Out::Cancel => {}
                Out::Settled(_) => self.settled += 1,
            }
        }
    }
}

fn walk(seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let start = Time::from_micros(5_000_000);
    let deadline = ms(u64::from(rng.next_u32() % 15_000) + 1);
    let times = SignalTimes { deadline, repeat_unanswered: !rng.next_u32().is_multiple_of(4), ..times() };
    let bound = start + times.deadline + times.timeout + times.settle + Duration::from_secs(1);
    let (mut now, mut out, mut seen, mut to_record) = (start, Vec::new(), Seen::default(), Vec::new());
    let mut e = Escalation::start(a_signal(), times, now, &mut out);
    seen.claim(&mut out, &mut to_record);
    while !e.is_settled() {
        assert!(now <= bound, "not settled in time, seed {seed}");
        let step = now + ms(u64::from(rng.next_u32() % 900));
        let at = e.deadline().expect("an unsettled escalation has a deadline");
        now = if at <= step { at } else { step };
        e.on_timeout(now, &mut out);
        seen.claim(&mut out, &mut to_record);
        match rng.next_u32() % 8 {
            0..=2 if !to_record.is_empty() => e.on_recorded(to_record.remove(0), now, &mut out),
            3 if !to_record.is_empty() => e.on_record_failed(to_record.remove(0), now, &mut out),
            4 | 5 if !seen.sent.is_empty() => {
                let answer = any_answer(&mut rng);
                let try_no = seen.sent[rng.next_u32() as usize % seen.sent.len()];
                let current = usize::from(try_no) == seen.sent.len();
                let refused = match &answer {
                    SignalAnswer::Refused { status, .. } => !matches!(status, 408 | 502 | 504),
                    SignalAnswer::NotSent { .. } => true,
                    _ => false,
                };
                if current && refused && matches!(e.state, State::Requesting { .. }) {
                    seen.perhaps_arrived.retain(|n| *n != try_no);
                }
                e.on_answer(try_no, answer, (rng.next_u32() % 1000) as u16, now, &mut out);
            }
            6 if rng.next_u32().is_multiple_of(8) => {
                e.on_contact_gone(rng.next_u32().is_multiple_of(2), now, &mut out);
                seen.gone = true;
            }
            _ => {}
        }
        seen.claim(&mut out, &mut to_record);
    }
    assert_eq!((seen.accepted, seen.settled), (1, 1), "seed {seed}");
    match e.outcome() {
        Some(Outcome::Unknown | Outcome::Presumed) => assert!(!seen.perhaps_arrived.is_empty(), "seed {seed}"),
        Some(Outcome::Failed { .. } | Outcome::Expired) => assert!(seen.perhaps_arrived.is_empty(), "seed {seed}: {e:?}"),
        _ => {}
    }
    e.on_answer(e.tries(), delivered(), 0, now, &mut out);
    e.on_timeout(now + Duration::from_secs(3600), &mut out);
    assert!(out.is_empty());
}

#[test]
fn whatever_happens_no_third_request_can_arrive_and_every_escalation_ends_in_time() {
    for seed in 0..20_000 {
        walk(seed);
    }
}
