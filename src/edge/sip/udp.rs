//! UDP listeners: the task that reads a datagram runs the core and sends what comes of it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::b2bua::io::Flow;
use crate::b2bua::io::Input;
use crate::edge::core_loop::Core;
use crate::edge::core_loop::Desk;
use crate::ids::ListenerId;

/// The largest datagram that IP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams read in a row before other tasks get their turn.
const READS_IN_A_ROW_MAX: usize = 64;

/// Datagrams that wait for a full send buffer; the next one is dropped (SIP repeats it).
const UDP_WAITING_DATAGRAMS_MAX: usize = 256;

/// One bound UDP listener.
#[derive(Debug)]
pub struct UdpPort {
    pub id: ListenerId,
    pub bound: SocketAddr,
    socket: Rc<UdpSocket>,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    wake: Rc<Notify>,
    dropped: u64,
}

impl UdpPort {
    /// Inside a runtime only.
    pub fn new(id: ListenerId, socket: std::net::UdpSocket) -> io::Result<UdpPort> {
        let socket = UdpSocket::from_std(socket)?;
        let bound = socket.local_addr()?;
        Ok(UdpPort { id, bound, socket: Rc::new(socket), waiting: VecDeque::new(), wake: Rc::new(Notify::new()), dropped: 0 })
    }

    /// Sends at once, or lets it wait while the send buffer is full. An error: this peer cannot be reached.
    pub fn send(&mut self, remote: SocketAddr, bytes: Bytes) -> io::Result<()> {
        if self.waiting.is_empty() {
            match self.socket.try_send_to(&bytes, remote) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if self.waiting.len() >= UDP_WAITING_DATAGRAMS_MAX {
            self.dropped += 1;
            return Ok(());
        }
        self.waiting.push_back((remote, bytes));
        self.wake.notify_one();
        Ok(())
    }

    /// Datagrams dropped because the send buffer stayed full; counted from zero again.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits; peers that could not be reached are returned.
    fn flush(&mut self) -> Vec<(SocketAddr, io::Error)> {
        let mut lost = Vec::new();
        while let Some((remote, bytes)) = self.waiting.front() {
            match self.socket.try_send_to(bytes, *remote) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => lost.push((*remote, e)),
                Ok(_) => {}
            }
            self.waiting.pop_front();
        }
        lost
    }
}

/// Serves one listener until its task is dropped.
pub async fn serve<C: Core>(desk: Desk<C>, id: ListenerId) {
    let Some((socket, wake, bound)) = desk.with(|shell| shell.udp_port(id).map(|p| (p.socket.clone(), p.wake.clone(), p.bound))) else {
        return;
    };
    let mut buffer = vec![0u8; DATAGRAM_BYTES_MAX];
    loop {
        let waits = desk.with(|shell| shell.udp_port(id).is_some_and(|p| !p.is_flushed()));
        tokio::select! {
            _ = socket.readable() => {
                if read_some(&desk, id, &socket, bound, &mut buffer) == READS_IN_A_ROW_MAX {
                    tokio::task::yield_now().await;
                }
            }
            _ = socket.writable(), if waits => {
                let lost = desk.with(|shell| shell.udp_port(id).map(|p| p.flush()).unwrap_or_default());
                for (remote, error) in lost {
                    desk.unreachable(id, remote, &error);
                }
            }
            () = wake.notified() => {}
        }
    }
}

/// Reads until nothing is left, or other tasks are due; how many reads there were.
fn read_some<C: Core>(desk: &Desk<C>, id: ListenerId, socket: &UdpSocket, bound: SocketAddr, buffer: &mut [u8]) -> usize {
    for n in 0..READS_IN_A_ROW_MAX {
        match socket.try_recv_from(buffer) {
            Ok((len, remote)) => {
                // The core keeps messages: a slice would pin the whole receive buffer.
                let bytes = Bytes::copy_from_slice(&buffer[..len]);
                let flow = Flow::Udp { listener: id, remote };
                desk.give_from(bound, remote, |local| Input::Sip { flow, remote, local, bytes });
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return n,
            // An ICMP error of an earlier send, read here: the next datagram is as good as before.
            Err(_) => {}
        }
    }
    READS_IN_A_ROW_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::core_loop::testing::desk_with;
    use crate::edge::core_loop::testing::on_one_thread;
    use crate::edge::sip::bind_udp;

    #[test]
    fn a_datagram_is_answered_from_the_listener_and_a_wildcard_is_named_by_its_route() {
        on_one_thread(async {
            let port = UdpPort::new(ListenerId(3), bind_udp("0.0.0.0:0".parse().unwrap()).unwrap()).unwrap();
            let there: SocketAddr = format!("127.0.0.1:{}", port.bound.port()).parse().unwrap();
            let desk = desk_with(vec![port], "127.0.0.1/32");
            tokio::task::spawn_local(serve(desk.clone(), ListenerId(3)));
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // One byte more than a SIP message may have is the core's business; the largest datagram must come through whole.
            let large = vec![b'x'; 65_507];
            peer.send_to(&large, there).await.unwrap();
            let mut back = vec![0u8; DATAGRAM_BYTES_MAX];
            let (len, from) = peer.recv_from(&mut back).await.unwrap();
            assert_eq!((len, from), (large.len(), there));
            let heard = desk.with(|shell| shell.core().heard.clone());
            assert!(heard[0].contains(&format!("local {there}")), "{heard:?}");
        });
    }

    #[test]
    fn an_ipv6_listener_leaves_the_port_to_an_ipv4_one() {
        on_one_thread(async {
            let v4 = UdpPort::new(ListenerId(0), bind_udp("0.0.0.0:0".parse().unwrap()).unwrap()).unwrap();
            let same = SocketAddr::new("::".parse().unwrap(), v4.bound.port());
            match bind_udp(same) {
                Ok(_) => {}
                // A host without IPv6 cannot show it.
                Err(e) => assert_ne!(e.kind(), io::ErrorKind::AddrInUse),
            }
        });
    }

    #[test]
    fn one_datagram_more_than_may_wait_is_dropped_and_counted() {
        on_one_thread(async {
            let mut port = UdpPort::new(ListenerId(0), bind_udp("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
            let remote = "127.0.0.1:9".parse().unwrap();
            // As if the send buffer were full.
            port.waiting.extend((0..UDP_WAITING_DATAGRAMS_MAX).map(|_| (remote, Bytes::from_static(b"x"))));
            assert!(port.send(remote, Bytes::from_static(b"y")).is_ok());
            assert_eq!((port.take_dropped(), port.take_dropped()), (1, 0));
            port.socket.writable().await.unwrap();
            assert!(port.flush().is_empty());
            assert!(port.is_flushed());
        });
    }
}
