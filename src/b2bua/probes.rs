//! The stairwell's side of `trunk`: OPTIONS to each target, and what calls hear from there.

use std::time::Duration;

use crate::b2bua::B2bua;
use crate::b2bua::calls::Names;
use crate::b2bua::digest::Answered;
use crate::b2bua::io::Action;
use crate::b2bua::outbound::Outgoing;
use crate::b2bua::timers::Owner;
use crate::call::leg::ALLOW;
use crate::call::out::Use;
use crate::call::rules::PlannedTarget;
use crate::ids::ClientTxId;
use crate::ids::Side;
use crate::policy::routing::targets;
use crate::time::Time;
use crate::trunk::Change;
use crate::wire::draft::Draft;
use crate::wire::header::RetryAfter;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

impl B2bua {
    /// Names have changed.
    pub(super) fn watch_targets(&mut self, now: Time) {
        let all = targets(&self.config.synthflow.targets, &Names(&self.targets));
        self.trunk.watch(&all, now);
        self.wheel.set(Owner::Trunk, self.trunk.deadline());
    }

    pub(super) fn probe_targets(&mut self, now: Time) {
        let (ask, changes) = self.trunk.due(now);
        for change in changes {
            self.say_change(Some(change));
        }
        if !self.is_draining() {
            for planned in ask {
                self.send_options(&planned, now);
            }
        }
        self.wheel.set(Owner::Trunk, self.trunk.deadline());
    }

    /// RFC 3261 §11.1, outside of any dialog.
    fn send_options(&mut self, planned: &PlannedTarget, now: Time) {
        let PlannedTarget { target, shown } = planned;
        let face = self.flows.face(&self.config, Side::Callee, target.transport, self.local_towards(target.addr.ip()));
        let (tag, call_id) = (self.mint.local_tag(), self.mint.sip_call_id());
        let address = format!("sip:{shown}");
        let mut draft = Draft::request(Method::OPTIONS, [&address, target.transport.uri_parameter()].concat().as_bytes());
        draft.put("Max-Forwards", "70").put("From", format!("<sip:backchannel@{}>;tag={}", face.host_port(), tag.as_str()));
        draft.put("To", format!("<{address}>")).put("Call-ID", call_id.as_str()).put("CSeq", "1 OPTIONS");
        draft.put("Contact", face.contact()).put("Allow", ALLOW).put("Accept", "application/sdp");
        let tx = ClientTxId(self.mint.number());
        self.probes.insert(tx, *target);
        let out = Outgoing { tx, draft: Box::new(draft), slim: None, owner: None, answered: Answered::default() };
        self.request_at(out, *target, now);
    }

    /// A response to an OPTIONS or to a call's INVITE.
    pub(super) fn heard_of_target(&mut self, tx: ClientTxId, response: &Message, now: Time) {
        let status = response.status();
        let wait = response.value(Name::RetryAfter).and_then(RetryAfter::parse).map(|r| Duration::from_secs(u64::from(r.seconds)));
        let change = match self.clients.get(&tx) {
            Some(entry) if entry.owner.is_some_and(|o| o.side == Side::Callee && o.used == Use::Invite) => {
                self.trunk.on_call_answer(entry.remote, status, wait, now)
            }
            _ if status < 200 => None,
            _ => self.probes.remove(&tx).and_then(|target| self.trunk.on_answer(target, status, wait, now)),
        };
        self.say_change(change);
    }

    /// An INVITE that nobody answered or that could not be sent.
    pub(super) fn target_failed(&mut self, tx: ClientTxId, why: &str) {
        let Some(entry) = self.clients.get(&tx) else { return };
        if entry.owner.is_some_and(|o| o.side == Side::Callee && o.used == Use::Invite) {
            let change = self.trunk.on_failure(entry.remote, why);
            self.say_change(change);
        }
    }

    pub(super) fn probe_failed(&mut self, tx: ClientTxId, why: &str) {
        if let Some(target) = self.probes.remove(&tx) {
            let change = self.trunk.on_no_answer(target, why);
            self.say_change(change);
        }
    }

    fn say_change(&mut self, change: Option<Change>) {
        if let Some(change) = change {
            self.actions.push_back(Action::Trunk(change));
            // A Retry-After moves the next probe.
            self.wheel.set(Owner::Trunk, self.trunk.deadline());
        }
    }
}
