//! Synthflow's regions (facts.md §3.1).

use crate::call::rules::Lookup;
use crate::call::rules::TargetName;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;

/// Synthflow's port for UDP and TCP.
const SYNTHFLOW_PORT: u16 = 32681;

/// Published in one list, but outside the provider's range of all others: perhaps a misprint of 34.138.180.50.
pub const DOUBTFUL: [u8; 4] = [4, 138, 180, 50];

/// A region: its name, host and published signalling addresses, without the doubtful one.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub name: &'static str,
    pub host: &'static str,
    pub signalling: &'static [&'static str],
}

impl Region {
    /// TCP, because an INVITE with context outgrows a datagram.
    pub fn target(&self) -> TargetSpec {
        TargetSpec { name: TargetName(self.host.into()), port: SYNTHFLOW_PORT, transport: Transport::Tcp, lookup: Lookup::Address }
    }
}

/// All of them.
pub const REGIONS: [Region; 3] = [
    Region { name: "us", host: "sip.us.synthflow.ai", signalling: &["35.237.42.43", "34.139.4.161"] },
    Region { name: "eu", host: "sip.eu.synthflow.ai", signalling: &["34.185.212.150", "34.89.186.33", "35.242.217.198"] },
    Region { name: "global", host: "sip.synthflow.ai", signalling: &["34.138.86.8", "34.75.151.191", "34.23.45.239", "35.231.28.238"] },
];
