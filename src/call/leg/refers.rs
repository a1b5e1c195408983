//! The leg's side of a REFER: taken, answered, and told what became of it by NOTIFYs of `call::referral`.

use crate::call::leg::Leg;
use crate::call::leg::Usage;
use crate::call::out::Cx;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::referral::Referral;
use crate::ids::ClientTxId;
use crate::ids::ServerTxId;
use crate::wire::message::Message;

/// REFERs of one dialog that are held at once.
pub const REFERRALS_MAX: usize = 8;

impl Leg {
    /// A REFER that counts: it waits for `accept_referrals`. `false`: too many are held.
    pub fn refer(&mut self, tx: ServerTxId, request: &Message) -> bool {
        self.referrals.retain(|r| !r.is_over());
        if self.referrals.len() >= REFERRALS_MAX {
            return false;
        }
        let number = request.cseq().map(|c| c.number).unwrap_or_default();
        self.referrals.push(Referral::new(tx, self.referred_before.then_some(number)));
        self.referred_before = true;
        true
    }

    /// 202 and NOTIFY 100 for every REFER that waits for them.
    pub fn accept_referrals(&mut self, cx: &mut Cx<'_>) {
        let Some(dialog) = self.dialog.as_mut() else { return };
        let contact = self.face.contact();
        for referral in &mut self.referrals {
            let notify = ClientTxId(cx.mint.number());
            let Some((tx, draft)) = referral.accept(notify, dialog, &contact) else { continue };
            cx.respond(tx, Reply::new(202).contact(&self.face));
            let to = Whither::Uri(dialog.next_hop().into());
            cx.out.push(Out::Request { tx: notify, draft: Box::new(draft), slim: None, to, used: Use::Notify, side: self.side });
        }
    }

    /// The outcome for every open subscription. REFERs that still wait for a 202 get it first.
    pub fn settle_referrals(&mut self, status: u16, cx: &mut Cx<'_>) {
        self.accept_referrals(cx);
        if matches!(self.usage, Usage::Ended) {
            return;
        }
        for at in 0..self.referrals.len() {
            self.final_notify(at, status, cx);
        }
    }

    fn final_notify(&mut self, at: usize, status: u16, cx: &mut Cx<'_>) {
        let (Some(dialog), Some(referral)) = (self.dialog.as_mut(), self.referrals.get_mut(at)) else { return };
        let notify = ClientTxId(cx.mint.number());
        if let Some(draft) = referral.settle(status, notify, dialog, &self.face.contact(), cx.now) {
            let to = Whither::Uri(dialog.next_hop().into());
            cx.out.push(Out::Request { tx: notify, draft: Box::new(draft), slim: None, to, used: Use::Notify, side: self.side });
        }
    }

    pub(super) fn on_notify_answer(&mut self, tx: ClientTxId, accepted: bool, cx: &mut Cx<'_>) {
        for at in 0..self.referrals.len() {
            if let Some(status) = self.referrals[at].on_answer(tx, accepted) {
                self.final_notify(at, status, cx);
            }
        }
    }
}
