//! Who is who, by address (product.md §2, item 1): asked before anything is parsed.

use std::net::SocketAddr;

use crate::b2bua::Map;
use crate::b2bua::io::Reach;
use crate::call::rules::TargetName;
use crate::config::Allow;
use crate::config::Config;
use crate::ids::Side;

/// What an address may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    cxone: bool,
    synthflow: bool,
    /// The address and port are one of the resolved targets.
    target: bool,
}

impl Standing {
    /// By address alone, for requests in a dialog and the first gate.
    pub fn of(remote: SocketAddr, config: &Config, targets: &Map<TargetName, Vec<Reach>>, any_port: bool) -> Standing {
        let listed = |list: &[Allow]| list.iter().any(|a| a.matches(remote, any_port));
        let ip = remote.ip().to_canonical();
        let (mut known, mut target) = (false, false);
        for spec in &config.synthflow.targets {
            for reach in targets.get(&spec.name).into_iter().flatten().filter(|r| r.ip == ip) {
                known = true;
                target |= reach.target(spec).is_some_and(|t| t.addr.port() == remote.port());
            }
        }
        Standing { cxone: listed(&config.cxone.allow), synthflow: known || listed(&config.synthflow.allow), target }
    }

    pub fn is_stranger(self) -> bool {
        !self.cxone && !self.synthflow
    }

    pub fn may_be(self, side: Side) -> bool {
        match side {
            Side::Caller => self.cxone,
            Side::Callee => self.synthflow,
        }
    }

    /// For a request outside a dialog: a source in both lists is Synthflow's when it is a target, CXone's otherwise.
    pub fn side(self) -> Option<Side> {
        match (self.cxone, self.synthflow) {
            (true, true) if self.target => Some(Side::Callee),
            (true, _) => Some(Side::Caller),
            (false, true) => Some(Side::Callee),
            (false, false) => None,
        }
    }
}
