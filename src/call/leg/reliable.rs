//! Reliable provisional answers of the peer (RFC 3262 §4): each gets its PRACK, in its own early dialog.

use bytes::Bytes;

use crate::call::leg::EARLY_DIALOGS_MAX;
use crate::call::leg::Leg;
use crate::call::out::Cx;
use crate::call::out::Out;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::dialog::Dialog;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

/// An early dialog with the last RSeq that was acknowledged in it.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    rseq: u32,
}

impl Leg {
    /// Acknowledges a provisional answer to our INVITE (`request`: as it was sent) when it is a reliable one. `false`: a repetition, or
    /// one before its turn: "MUST NOT be acknowledged with a PRACK, and MUST NOT be processed further" (RFC 3262 §4).
    pub(super) fn acknowledge_early(&mut self, response: &Message, request: &Bytes, cx: &mut Cx<'_>) -> bool {
        let number = response.value(Name::RSeq).and_then(|v| std::str::from_utf8(v).ok()?.trim().parse::<u32>().ok());
        let (true, Some(number), Some(tag)) = (response.lists(Name::Require, "100rel"), number, response.to_tag()) else { return true };
        let known = self.early.iter().position(|e| e.dialog.remote_tag().as_str() == tag);
        let at = match known {
            Some(at) if self.early[at].rseq.checked_add(1) != Some(number) => return false,
            Some(at) => at,
            None => {
                let invite = Message::parse(request.clone()).ok();
                let dialog = invite.and_then(|i| Dialog::uac(&i, response)).filter(|_| self.early.len() < EARLY_DIALOGS_MAX);
                let Some(dialog) = dialog else { return true };
                self.early.push(Early { dialog, rseq: number });
                self.early.len() - 1
            }
        };
        let early = &mut self.early[at];
        early.rseq = number;
        let mut draft = early.dialog.request(Method::PRACK);
        draft.put("RAck", format!("{number} {} INVITE", self.local_seq));
        let to = Whither::Uri(early.dialog.next_hop().into());
        let tx = cx.client_tx();
        cx.out.push(Out::Request { tx, draft: Box::new(draft), slim: None, to, used: Use::Prack, side: self.side });
        true
    }
}
