//! Third floor: two legs make a call.

pub mod anchor;
pub mod escalation;
pub mod leg;
pub mod out;
pub mod referral;
pub mod rules;
