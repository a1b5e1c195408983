//! What `check` tries out on this machine: sockets, folders, limits, names. Everything is let go of again.

use std::fs::OpenOptions;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::path::PathBuf;

use crate::call::rules::Transport;
use crate::config::Listen;
use crate::config::Media;
use crate::edge::sip::bind_tcp;
use crate::edge::sip::bind_udp;

/// Binds as serve does.
pub(super) fn bind(listen: &Listen) -> io::Result<()> {
    match listen.transport {
        Transport::Udp => bind_udp(listen.addr).map(drop),
        Transport::Tcp | Transport::Tls => bind_tcp(listen.addr).map(drop),
    }
}

/// Free and busy media pairs of one bound address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pairs {
    pub free: usize,
    pub busy: usize,
    pub first_busy: Option<u16>,
}

/// Binds every pair once. An error other than "in use" concerns the address itself.
pub(super) fn media_pairs(ip: IpAddr, media: &Media) -> io::Result<Pairs> {
    let mut pairs = Pairs::default();
    for rtp in media.ports.clone().step_by(2) {
        let both = [rtp, rtp.saturating_add(1)].map(|port| bind(&Listen { transport: Transport::Udp, addr: SocketAddr::new(ip, port) }));
        match both.into_iter().collect::<io::Result<()>>() {
            Ok(()) => pairs.free += 1,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                pairs.busy += 1;
                pairs.first_busy = pairs.first_busy.or(Some(rtp));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(pairs)
}

/// The addresses of a name, each once.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = Vec::new();
    for addr in (host, port).to_socket_addrs()? {
        if !found.contains(&addr.ip()) {
            found.push(addr.ip());
        }
    }
    Ok(found)
}

/// A folder that is there or can be made, and written to. Says which folder a problem is about.
pub(super) fn writable_folder(folder: &Path) -> Result<bool, String> {
    let existing = existing_ancestor(folder);
    let problem = |e: io::Error| format!("{}: {e}", existing.display());
    if !std::fs::metadata(&existing).map_err(problem)?.is_dir() {
        return Err(format!("{} is not a folder", existing.display()));
    }
    let trial = existing.join(format!(".backchannel-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&trial).map_err(problem)?;
    std::fs::remove_file(&trial).map_err(problem)?;
    Ok(existing == folder)
}

/// A file that can be appended to; one that is not there yet is not made.
pub(super) fn appendable_file(file: &Path) -> Result<(), String> {
    if file.exists() {
        return OpenOptions::new().append(true).open(file).map(|_| ()).map_err(|e| format!("{}: {e}", file.display()));
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    match writable_folder(folder) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the folder {} is missing", folder.display())),
        Err(why) => Err(why),
    }
}

fn existing_ancestor(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find(|p| !p.as_os_str().is_empty() && p.symlink_metadata().is_ok());
    found.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::call::anchor::Latch;

    fn listen(transport: Transport, addr: SocketAddr) -> Listen {
        Listen { transport, addr }
    }

    #[test]
    fn a_busy_listener_is_told_from_a_free_one() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(bind(&listen(Transport::Udp, addr)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        assert!(bind(&listen(Transport::Udp, addr)).is_ok());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(bind(&listen(Transport::Tcp, addr)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_busy_rtcp_port_makes_its_pair_busy_and_a_foreign_address_is_an_error() {
        // An odd port that the kernel just gave to us, so that its pair is the only one of the range.
        let (taken, rtcp) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            if port % 2 == 1 {
                break (socket, port);
            }
        };
        let media = Media {
            bind: Vec::new(),
            advertise: Vec::new(),
            ports: rtcp - 1..=rtcp,
            timeout: std::time::Duration::ZERO,
            latch: Latch::Strict,
            dscp: 46,
        };
        let pairs = media_pairs("127.0.0.1".parse().unwrap(), &media).unwrap();
        assert_eq!(pairs, Pairs { free: 0, busy: 1, first_busy: Some(rtcp - 1) });
        drop(taken);
        // RFC 5737: an address that no machine has.
        let foreign = media_pairs("192.0.2.1".parse().unwrap(), &media).unwrap_err();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn folders_and_files_are_tried_and_left_as_they_were() {
        let base = std::env::temp_dir().join(format!("backchannel-probe-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        assert_eq!(writable_folder(&base), Ok(true));
        assert_eq!(writable_folder(&base.join("a/b")), Ok(false));
        std::fs::write(base.join("file"), "").unwrap();
        assert!(writable_folder(&base.join("file/a")).unwrap_err().contains("not a folder"));
        assert_eq!(appendable_file(&base.join("file")), Ok(()));
        assert_eq!(appendable_file(&base.join("new")), Ok(()));
        assert!(appendable_file(&base.join("gone/new")).unwrap_err().contains("is missing"));
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 1);
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_literal_address_resolves_to_itself() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(resolve("127.0.0.1", 5060).unwrap(), [ip]);
    }
}
