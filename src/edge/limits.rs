//! What the system lets one process have.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Sockets of one call: RTP and RTCP on each side.
pub const DESCRIPTORS_PER_CALL: u64 = 4;

/// Descriptors for everything that is no call's media: listeners, connections, HTTP, journal, logs, pairs at rest.
pub const DESCRIPTORS_RESERVED: u64 = 512;

/// Raises the soft limit of open files to the hard one. Returns both as they are then; `u64::MAX` is unlimited.
pub fn raise_nofile() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Refused in some sandboxes: then the soft limit stays, and the caller sees it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let now = getrlimit(Resource::Nofile);
    (now.current.unwrap_or(u64::MAX), now.maximum.unwrap_or(u64::MAX))
}

/// Descriptors that a node with so many calls may come to need.
pub fn descriptors_for(max_calls: usize) -> u64 {
    let calls = u64::try_from(max_calls).unwrap_or(u64::MAX);
    DESCRIPTORS_RESERVED.saturating_add(DESCRIPTORS_PER_CALL.saturating_mul(calls))
}

/// What to do about a limit under which `node.max_calls` does not fit; `None`: it does.
pub fn shortage((soft, hard): (u64, u64), max_calls: usize) -> Option<String> {
    let possible = max_calls_for(soft);
    let needed = descriptors_for(max_calls);
    (possible < max_calls).then(|| {
        format!(
            "node.max_calls = {max_calls} needs {needed} open files, but the limit of this process is {soft} (hard limit {hard}), enough \
             for {possible} calls: raise it (LimitNOFILE={needed} in the systemd unit, or `ulimit -n {needed}`), or lower node.max_calls"
        )
    })
}

/// How many calls fit under this limit of open files. More must be refused before a bind fails.
pub fn max_calls_for(limit: u64) -> usize {
    usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CALL).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_the_hard_one() {
        let (soft, hard) = raise_nofile();
        assert!(soft > 0);
        assert_eq!((soft, hard), raise_nofile());
    }

    #[test]
    fn calls_follow_from_descriptors() {
        assert_eq!(max_calls_for(0), 0);
        assert_eq!(max_calls_for(512), 0);
        assert_eq!(max_calls_for(515), 0);
        assert_eq!(max_calls_for(516), 1);
        assert_eq!(max_calls_for(20_000), 4_872);
        assert!(max_calls_for(u64::MAX) > 1_000_000);
    }

    #[test]
    fn too_few_descriptors_are_refused_with_numbers_and_the_remedy() {
        assert_eq!(shortage((8_512, 8_512), 2_000), None);
        let why = shortage((8_511, 8_511), 2_000).unwrap();
        for part in ["max_calls = 2000", "8512 open files", "is 8511", "1999 calls", "LimitNOFILE=8512"] {
            assert!(why.contains(part), "{part} not in {why}");
        }
    }
}
