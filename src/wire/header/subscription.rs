//! Event and Subscription-State.

use crate::wire::header::Params;
use crate::wire::header::delta_seconds;
use crate::wire::header::value_and_params;
use crate::wire::method::is_token;

/// Event (RFC 6665 §8.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// `refer`, `dialog`, …; case-sensitive.
    pub package: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> Event<'a> {
    pub fn parse(value: &'a [u8]) -> Option<Event<'a>> {
        let (package, params) = value_and_params(value)?;
        is_token(package).then_some(Event { package, params })
    }

    /// Which of several subscriptions; in a NOTIFY for a REFER its CSeq number (RFC 3515 §2.4.6).
    pub fn id(&self) -> Option<&'a [u8]> {
        self.params.get("id")
    }
}

/// Subscription-State (RFC 6665 §8.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated`, or anything else, as spelled.
    pub state: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> SubscriptionState<'a> {
    pub fn parse(value: &'a [u8]) -> Option<SubscriptionState<'a>> {
        let (state, params) = value_and_params(value)?;
        is_token(state).then_some(SubscriptionState { state, params })
    }

    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case(b"terminated")
    }

    pub fn reason(&self) -> Option<&'a [u8]> {
        self.params.get("reason")
    }

    pub fn expires(&self) -> Option<u32> {
        delta_seconds(self.params.get("expires")?)
    }

    pub fn retry_after(&self) -> Option<u32> {
        delta_seconds(self.params.get("retry-after")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_packages() {
        let s = SubscriptionState::parse(b" Terminated ;reason=noresource; retry-after = 7").unwrap();
        assert!(s.is_terminated());
        assert_eq!((s.reason(), s.expires(), s.retry_after()), (Some(&b"noresource"[..]), None, Some(7)));
        let s = SubscriptionState::parse(b"active;expires=60").unwrap();
        assert_eq!((s.is_terminated(), s.expires()), (false, Some(60)));
        let e = Event::parse(b"refer ; id=93809823").unwrap();
        assert_eq!((e.package, e.id()), (&b"refer"[..], Some(&b"93809823"[..])));
        assert_eq!(Event::parse(b"a b"), None);
        assert_eq!(SubscriptionState::parse(b";expires=1"), None);
    }
}
