//! Borrowed views of header values. They are given values without line ends (the message unfolds them) and allocate nothing, except
//! where a name says that it undoes escapes; `hosts` writes values anew.

pub mod bridge;
mod cseq;
pub mod hosts;
mod media_type;
mod name_addr;
mod params;
mod reason;
mod refer_to;
pub mod scan;
mod subscription;
mod timing;
mod user_to_user;
mod via;

pub use cseq::CSeq;
pub use cseq::RAck;
pub use media_type::MediaType;
pub use name_addr::NameAddr;
pub use name_addr::is_star;
pub use params::Params;
pub use reason::Reason;
pub use refer_to::ReferTo;
pub use refer_to::Replaces;
pub use scan::elements;
pub use scan::unquote;
pub use subscription::Event;
pub use subscription::SubscriptionState;
pub use timing::Refresher;
pub use timing::RetryAfter;
pub use timing::SessionExpires;
pub use timing::delta_seconds;
pub use user_to_user::UserToUser;
pub use user_to_user::from_hex;
pub use via::Via;
pub use via::vias;

/// What most other headers are: a value and parameters.
fn value_and_params(value: &[u8]) -> Option<(&[u8], Params<'_>)> {
    let end = scan::find_bare(value, |b| b == b';').unwrap_or(value.len());
    let (head, params) = (scan::trim(&value[..end]), Params(&value[end..]));
    (!head.is_empty() && params.is_sound(true)).then_some((head, params))
}

#[cfg(test)]
mod rows;
