//! A connection's socket, plain or behind TLS. Nothing here waits but `readable` and `writable`.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;

use rustls::Connection;
use tokio::net::TcpStream;

/// What both look like to those who read and write messages.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    /// After its handshake; never borrowed across an `await`.
    tls: Option<RefCell<Box<Connection>>>,
}

/// The kernel's side, for rustls: it reads and writes as far as it can go now.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    pub fn plain(tcp: TcpStream) -> Socket {
        Socket { tcp, tls: None }
    }

    pub fn secured(tcp: TcpStream, tls: Box<Connection>) -> Socket {
        Socket { tcp, tls: Some(RefCell::new(tls)) }
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// As much as is there; 0: the peer has closed. `WouldBlock` only when `readable` will tell of more.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.tcp.try_read(buffer) };
        let mut tls = tls.borrow_mut();
        loop {
            match tls.reader().read(buffer) {
                Ok(len) => return Ok(len),
                // Without its close_notify: Content-Length says whether anything was cut off, and the framer will miss it.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            tls.read_tls(&mut Now(&self.tcp))?;
            let understood = tls.process_new_packets();
            // Answers of the protocol itself, or the alert that says what was wrong.
            let sent = send_records(&mut tls, &self.tcp);
            understood.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {e}")))?;
            sent?;
        }
    }

    /// Writes what can be taken now. What TLS has taken and the kernel has not is `waits`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.tcp.try_write(bytes) };
        let mut tls = tls.borrow_mut();
        send_records(&mut tls, &self.tcp)?;
        match tls.writer().write(bytes)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            taken => send_records(&mut tls, &self.tcp).map(|()| taken),
        }
    }

    /// Records that the kernel has not taken yet.
    pub fn waits(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().wants_write())
    }

    /// Hands the kernel what waits, as far as it takes it.
    pub fn flush(&self) -> io::Result<()> {
        match &self.tls {
            Some(tls) => send_records(&mut tls.borrow_mut(), &self.tcp),
            None => Ok(()),
        }
    }

    /// Our half is closed (RFC 8446 §6.1: close_notify first).
    pub fn shutdown_write(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            tls.send_close_notify();
            let _ = send_records(&mut tls, &self.tcp);
        }
        let _ = socket2::SockRef::from(&self.tcp).shutdown(Shutdown::Write);
    }

    /// Reads and forgets; 0: the peer has closed.
    pub fn try_forget(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.try_read(buffer)
    }
}

fn send_records(tls: &mut Connection, tcp: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut Now(tcp)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
