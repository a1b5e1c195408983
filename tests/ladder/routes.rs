//! Route sets, names and forks (RFC 3261 §12, §16.12).

use std::time::Duration;

use backchannel::b2bua::Limits;
use backchannel::wire::message::Message;
use backchannel::wire::message::Name;

use crate::dsl::Ladder;
use crate::dsl::Notify;
use crate::dsl::offer;

fn routes(message: &Message) -> Vec<String> {
    message.elements(Name::Route).map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}

fn uri(message: &Message) -> String {
    String::from_utf8_lossy(message.uri()).into_owned()
}

/// Both ends are behind proxies of their own.
fn behind(caller_routes: &str, callee_routes: &str) -> Ladder {
    let mut l = Ladder::new();
    l.caller().invites_with(&format!("X-InContact-MasterId: 48812\r\n{caller_routes}"));
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(200, "calleetag", callee_routes, &offer("203.0.113.2", 30_000));
    l
}

#[test]
fn loose_routes_are_followed_by_ack_notify_and_bye_on_both_sides() {
    let callee_routes = "Record-Route: <sip:p2.synthflow.example;lr>\r\nRecord-Route: <sip:203.0.113.2:5080;lr>\r\n";
    let caller_routes = "Record-Route: <sip:198.51.100.1:5060;lr>, <sip:198.51.100.77;lr>\r\n";
    let mut l = behind(caller_routes, callee_routes);
    // RFC 3261 §12.1.2: the route set of the UAC is the Record-Route of the response "taken in reverse order".
    let reversed = ["<sip:203.0.113.2:5080;lr>", "<sip:p2.synthflow.example;lr>"];
    let ack = l.callee().gets("ACK");
    assert_eq!(routes(&ack), reversed);
    assert_eq!(uri(&ack), "sip:bot@203.0.113.2:5080", "§12.2.1.1: lr, so the Request-URI is the remote target");
    let ok = l.caller().gets(200);
    // §12.1.1: "The UAS MUST copy all Record-Route header field values from the request into the response".
    assert_eq!(ok.elements(Name::RecordRoute).count(), 2);
    l.caller().acks();
    l.callee().sends_with("REFER", "Refer-To: <sip:billing@cxone.example>\r\n");
    l.callee().gets(202);
    assert_eq!(routes(&l.callee().gets(Notify("100 Trying"))), reversed);
    l.callee().answers_to("NOTIFY", 200);
    l.cxone().gets_signal();
    l.cxone().refuses(404);
    l.callee().gets(Notify("503 Service Unavailable"));
    l.callee().answers_to("NOTIFY", 200);
    l.callee().sends("BYE");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    // §12.1.1: as UAS in the order of the request.
    assert_eq!(routes(&bye), ["<sip:198.51.100.1:5060;lr>", "<sip:198.51.100.77;lr>"]);
    assert_eq!(uri(&bye), "sip:trunk@198.51.100.1:5060");
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_strict_router_gets_its_own_uri_and_the_target_as_last_route() {
    let mut l = behind("Record-Route: <sip:198.51.100.1:5060>, <sip:198.51.100.77;lr>\r\n", "Record-Route: <sip:203.0.113.2:5080>\r\n");
    // RFC 3261 §12.2.1.1: "If the route set is not empty, and its first URI does not contain the lr parameter, the UAC MUST place the
    // first URI from the route set into the Request-URI […] The UAC MUST then place the remote target URI into the Route header field
    // as the last value."
    let ack = l.callee().gets("ACK");
    assert_eq!((uri(&ack).as_str(), routes(&ack)), ("sip:203.0.113.2:5080", vec!["<sip:bot@203.0.113.2:5080>".to_owned()]));
    l.caller().gets(200);
    l.caller().acks();
    l.callee().sends("BYE");
    l.callee().gets(200);
    let bye = l.caller().gets("BYE");
    assert_eq!(uri(&bye), "sip:198.51.100.1:5060");
    assert_eq!(routes(&bye), ["<sip:198.51.100.77;lr>", "<sip:trunk@198.51.100.1:5060>"]);
    l.caller().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn a_name_in_a_contact_is_resolved_and_one_that_is_none_goes_where_the_peer_was_heard() {
    for known in [true, false] {
        let mut l = Ladder::new();
        if known {
            l.name("bot.example", "203.0.113.2");
        }
        l.callee().contact("<sip:bot@bot.example:5080>");
        l.answer();
        l.caller().sends("BYE");
        l.caller().gets(200);
        assert_eq!(uri(&l.callee().gets("BYE")), "sip:bot@bot.example:5080");
        l.callee().answers_to("BYE", 200);
        l.all_is_over();
        assert_eq!(l.counts().queries, 0);
    }
}

#[test]
fn one_query_past_the_limit_goes_where_the_peer_was_heard() {
    let mut l = Ladder::new();
    l.limit(Limits { queries: 0, ..Limits::default() });
    l.callee().contact("<sip:bot@bot.example:5080>");
    l.answer();
    l.caller().sends("BYE");
    l.caller().gets(200);
    l.callee().gets("BYE");
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn record_routes_past_the_limit_are_cut() {
    let max = backchannel::dialog::ROUTES_MAX;
    for count in [max, max + 1] {
        let routes_in: String = (0..count).map(|n| format!("Record-Route: <sip:198.51.100.1:5060;lr;n={n}>\r\n")).collect();
        let mut l = behind(&routes_in, "");
        l.callee().gets("ACK");
        l.caller().gets(200);
        l.caller().acks();
        l.callee().sends("BYE");
        l.callee().gets(200);
        assert_eq!(routes(&l.caller().gets("BYE")).len(), max);
        l.caller().answers_to("BYE", 200);
        l.all_is_over();
    }
}

#[test]
fn each_early_dialog_has_a_tag_of_its_own_and_the_2xx_the_confirmed_one() {
    // RFC 3261 §12.1: a response with another To tag is another dialog; what CXone sees must be as many.
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    let mut tags = Vec::new();
    for fork in ["a", "b", "c"] {
        l.callee().answers_with(183, fork, "", &offer("203.0.113.2", 30_000));
        tags.push(l.caller().gets(183).to_tag().unwrap().to_owned());
    }
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    l.callee().answers_with(180, "b", "", "");
    assert_eq!(l.caller().gets(180).to_tag(), Some(tags[1].as_str()));
    l.callee().answers_with(200, "b", "", &offer("203.0.113.2", 30_000));
    assert_eq!(l.callee().gets("ACK").to_tag(), Some("b"));
    assert_eq!(l.caller().gets(200).to_tag(), Some(tags[1].as_str()));
    l.caller().acks();
    l.caller().sends("BYE");
    l.caller().gets(200);
    assert_eq!(l.callee().gets("BYE").to_tag(), Some("b"));
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}

#[test]
fn one_early_dialog_past_the_limit_shares_the_first_tag() {
    let max = backchannel::call::leg::EARLY_DIALOGS_MAX;
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    let mut tags = std::collections::BTreeSet::new();
    for fork in 0..=max {
        l.callee().answers_with(180, &format!("f{fork}"), "", "");
        tags.insert(l.caller().gets(180).to_tag().unwrap().to_owned());
    }
    assert_eq!(tags.len(), max);
    l.callee().answers(486);
    l.callee().gets("ACK");
    l.caller().gets(486);
    l.caller().acks_refusal();
    l.all_is_over();
}

#[test]
fn a_2xx_of_a_fork_after_the_cancel_is_acknowledged_and_ended_along_its_own_route() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(180, "a", "", "");
    l.caller().gets(180);
    l.caller().cancels();
    l.caller().gets(200);
    l.callee().gets("CANCEL");
    l.caller().gets(487);
    l.caller().acks_refusal();
    l.callee().answers_to("CANCEL", 200);
    l.callee().answers_with(200, "b", "Record-Route: <sip:203.0.113.2:5080;lr;fork=b>\r\n", &offer("203.0.113.2", 30_000));
    for method in ["ACK", "BYE"] {
        let message = l.callee().gets(method);
        assert_eq!(message.to_tag(), Some("b"));
        assert_eq!(routes(&message), ["<sip:203.0.113.2:5080;lr;fork=b>"]);
    }
    l.callee().answers_to("BYE", 200);
    l.nothing_happens(Duration::from_secs(1));
    l.all_is_over();
}

#[test]
fn a_2xx_of_a_fork_that_never_rang_has_a_new_tag_and_a_dialog_that_works() {
    let mut l = Ladder::new();
    l.caller().invites();
    l.caller().gets(100);
    l.callee().gets("INVITE");
    l.callee().answers_with(180, "a", "", "");
    let rang = l.caller().gets(180).to_tag().unwrap().to_owned();
    l.callee().answers_with(200, "z", "", &offer("203.0.113.2", 30_000));
    l.callee().gets("ACK");
    let ok = l.caller().gets(200).to_tag().unwrap().to_owned();
    assert_ne!(ok, rang);
    l.caller().acks();
    l.caller().sends("OPTIONS");
    l.caller().gets(200);
    l.caller().sends("BYE");
    l.caller().gets(200);
    assert_eq!(l.callee().gets("BYE").to_tag(), Some("z"));
    l.callee().answers_to("BYE", 200);
    l.all_is_over();
}
