//! TLS handshakes, on a thread of their own: their arithmetic is a millisecond and more, in which the core handles many messages.
//! A connection comes back when it is up; its records are cheap, and the core's thread keeps them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use rustls::ClientConfig;
use rustls::Connection;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::config::tls;
use crate::edge::sip::socket::Socket;

/// A peer that takes longer is not one.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Handshakes of peers at a time; the next connection is closed.
pub const HANDSHAKES_ACCEPTED_MAX: usize = 256;

/// Ours at a time: not those of peers, whose flood must not keep us from calling.
pub const HANDSHAKES_DIALLED_MAX: usize = 256;

/// Which end we are.
enum Role {
    Server(Arc<ServerConfig>),
    /// The name that the certificate must show (RFC 5922 §7.3), also sent to the server (RFC 6066 §3).
    Client(CompactString),
}

type Secured = Result<(std::net::TcpStream, Box<Connection>), String>;

struct Job {
    tcp: std::net::TcpStream,
    role: Role,
    reply: oneshot::Sender<Secured>,
    _room: OwnedSemaphorePermit,
}

/// The core's end. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Handshakes {
    jobs: mpsc::Sender<Job>,
    server: Option<Arc<ServerConfig>>,
    accepted: Arc<Semaphore>,
    dialled: Arc<Semaphore>,
}

impl Handshakes {
    /// An error: the thread could not be started, or the certificate, checked when the configuration was read, cannot be used.
    pub fn start(config: &Config) -> Result<Handshakes, String> {
        let server = config.sip.tls.as_ref().map(tls::server).transpose()?.map(Arc::new);
        let extra = config.synthflow.tls_ca.as_deref().map(tls::certificates).transpose()?.unwrap_or_default();
        let (jobs, queue) = mpsc::channel(HANDSHAKES_ACCEPTED_MAX + HANDSHAKES_DIALLED_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let thread = std::thread::Builder::new().name("tls".to_owned());
        thread.spawn(move || runtime.block_on(work(queue, extra))).map_err(|e| e.to_string())?;
        Ok(Handshakes {
            jobs,
            server,
            accepted: Arc::new(Semaphore::new(HANDSHAKES_ACCEPTED_MAX)),
            dialled: Arc::new(Semaphore::new(HANDSHAKES_DIALLED_MAX)),
        })
    }

    /// A connection that a peer opened. `None`: too many are at it.
    pub fn accept(&self, tcp: TcpStream) -> Option<Pending> {
        let room = self.accepted.clone().try_acquire_owned().ok()?;
        let server = self.server.clone()?;
        Some(self.put(tcp, Role::Server(server), room))
    }

    /// One that we opened.
    pub fn connect(&self, tcp: TcpStream, name: CompactString) -> Option<Pending> {
        let room = self.dialled.clone().try_acquire_owned().ok()?;
        Some(self.put(tcp, Role::Client(name), room))
    }

    fn put(&self, tcp: TcpStream, role: Role, room: OwnedSemaphorePermit) -> Pending {
        let (reply, answer) = oneshot::channel();
        let put = tcp.into_std().map_err(|e| e.to_string()).and_then(|tcp| {
            // As many places as permits: it cannot be full.
            self.jobs.try_send(Job { tcp, role, reply, _room: room }).map_err(|_| "the TLS thread is gone".to_owned())
        });
        Pending(put.map(|()| answer))
    }
}

/// A handshake under way; dropped, it is given up.
#[derive(Debug)]
pub struct Pending(Result<oneshot::Receiver<Secured>, String>);

impl Pending {
    pub async fn done(self) -> Result<Socket, String> {
        let (tcp, tls) = self.0?.await.map_err(|_| "the TLS thread is gone".to_owned())??;
        let tcp = TcpStream::from_std(tcp).map_err(|e| e.to_string())?;
        Ok(Socket::secured(tcp, tls))
    }
}

async fn work(mut queue: mpsc::Receiver<Job>, extra: Vec<CertificateDer<'static>>) {
    // Made for the first dial: a node that only listens needs no trust anchors, and many containers have none.
    let mut client: Option<Arc<ClientConfig>> = None;
    while let Some(job) = queue.recv().await {
        let end = match job.role {
            Role::Server(config) => Ok(End::Server(TlsAcceptor::from(config))),
            Role::Client(name) => trusting(&mut client, &extra).and_then(|config| Ok(End::Client(config.into(), server_name(&name)?))),
        };
        tokio::spawn(async move {
            let mut reply = job.reply;
            let shaken = tokio::select! {
                shaken = shake(job.tcp, end) => shaken,
                () = reply.closed() => return,
                () = tokio::time::sleep(HANDSHAKE_TIME_MAX) => Err(format!("TLS: no handshake within {} s", HANDSHAKE_TIME_MAX.as_secs())),
            };
            let _ = reply.send(shaken);
            drop(job._room);
        });
    }
}

/// The system's trust anchors and the configured ones. What failed is tried again with the next dial.
fn trusting(client: &mut Option<Arc<ClientConfig>>, extra: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    if let Some(config) = client {
        return Ok(config.clone());
    }
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), tls::provider())
        .map_err(|e| format!("TLS: no trust anchors: {e}; install ca-certificates or set synthflow.tls_ca_file"))?;
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let config = Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth());
    *client = Some(config.clone());
    Ok(config)
}

/// RFC 5922 §7.2, §7.3: subjectAltName must hold the name as a dNSName, or for a literal address as an iPAddress.
fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(bare.to_owned()).map_err(|e| format!("TLS: {name:?}: {e}"))
}

enum End {
    Server(TlsAcceptor),
    Client(TlsConnector, ServerName<'static>),
}

async fn shake(tcp: std::net::TcpStream, end: Result<End, String>) -> Secured {
    let failed = |e: io::Error| format!("TLS: {e}");
    let (end, tcp) = (end?, TcpStream::from_std(tcp).map_err(failed)?);
    let (tcp, connection) = match end {
        End::Server(acceptor) => {
            let (tcp, connection) = acceptor.accept(tcp).await.map_err(failed)?.into_inner();
            (tcp, Connection::Server(connection))
        }
        End::Client(connector, name) => {
            let (tcp, connection) = connector.connect(name, tcp).await.map_err(failed)?.into_inner();
            (tcp, Connection::Client(connection))
        }
    };
    Ok((tcp.into_std().map_err(failed)?, Box::new(connection)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::net::TcpSocket;

    use super::*;
    use crate::config::Secret;
    use crate::edge::core_loop::testing::desk_with;
    use crate::edge::core_loop::testing::give_tls;
    use crate::edge::core_loop::testing::on_one_thread;
    use crate::edge::sip::tcp;
    use crate::ops::selfsigned::self_signed;
    use crate::policy::samples;

    /// Shows a certificate for `edge.example`, and trusts it.
    fn config() -> Config {
        let made = self_signed(&["edge.example".into()], SystemTime::now(), Duration::from_secs(3600)).unwrap();
        let mut config = samples::test_config();
        config.synthflow.tls_ca = Some(made.certificate.clone());
        config.sip.tls = Some(tls::Identity { certificates: made.certificate, key: Secret(made.key) });
        config
    }

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    /// Both ends of one connection, ours with a small send buffer.
    async fn pair(handshakes: &Handshakes) -> (Socket, Socket) {
        let (listener, addr) = listening().await;
        let dialled = TcpSocket::new_v4().unwrap();
        dialled.set_send_buffer_size(4096).unwrap();
        let dialled = dialled.connect(addr).await.unwrap();
        let accepted = handshakes.accept(listener.accept().await.unwrap().0).unwrap();
        let dialled = handshakes.connect(dialled, "edge.example".into()).unwrap();
        let (accepted, dialled) = tokio::join!(accepted.done(), dialled.done());
        (accepted.unwrap(), dialled.unwrap())
    }

    #[test]
    fn what_the_kernel_does_not_take_waits_and_arrives_in_order() {
        on_one_thread(async {
            let (reader, writer) = pair(&Handshakes::start(&config()).unwrap()).await;
            let all: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 2 == 0)]).collect();
            let (mut sent, mut got, mut blocked) = (0, Vec::new(), 0);
            let mut buffer = vec![0u8; 10_000];
            while got.len() < all.len() {
                while sent < all.len() {
                    match writer.try_write(&all[sent..]) {
                        Ok(taken) => sent += taken,
                        Err(e) => {
                            assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                            assert!(writer.waits());
                            blocked += 1;
                            break;
                        }
                    }
                }
                writer.flush().unwrap();
                match reader.try_read(&mut buffer) {
                    Ok(len) => got.extend_from_slice(&buffer[..len]),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                    Err(e) => panic!("{e}"),
                }
            }
            assert!(got == all && blocked > 0 && !writer.waits());
            // RFC 8446 §6.1: after close_notify the end is an end.
            writer.shutdown_write();
            reader.readable().await.unwrap();
            assert_eq!(reader.try_read(&mut buffer).unwrap(), 0);
        });
    }

    #[test]
    fn one_handshake_too_many_is_refused_and_one_given_up_makes_room() {
        on_one_thread(async {
            let handshakes = Handshakes::start(&config()).unwrap();
            let (listener, addr) = listening().await;
            let mut silent = Vec::new();
            let mut accept = async || {
                silent.push(TcpStream::connect(addr).await.unwrap());
                handshakes.accept(listener.accept().await.unwrap().0)
            };
            let mut pending = Vec::new();
            for _ in 0..HANDSHAKES_ACCEPTED_MAX {
                pending.push(accept().await.unwrap());
            }
            assert!(accept().await.is_none());
            pending.pop();
            while accept().await.is_none() {}
            // Peers do not take our places.
            assert!(handshakes.connect(TcpStream::connect(addr).await.unwrap(), "edge.example".into()).is_some());
        });
    }

    #[test]
    fn a_name_that_none_can_have_and_another_name_are_errors() {
        on_one_thread(async {
            let handshakes = Handshakes::start(&config()).unwrap();
            let (listener, addr) = listening().await;
            for (name, why) in
                [("a b", "TLS: \"a b\""), ("other.example", "TLS: invalid peer certificate"), ("127.0.0.1", "TLS: invalid peer")]
            {
                let dialled = handshakes.connect(TcpStream::connect(addr).await.unwrap(), name.into()).unwrap();
                let accepted = handshakes.accept(listener.accept().await.unwrap().0).unwrap();
                let (said, _) = tokio::join!(dialled.done(), accepted.done());
                assert!(said.as_ref().is_err_and(|e| e.starts_with(why)), "{name}: {said:?}");
            }
        });
    }

    #[test]
    fn a_message_in_the_flight_of_the_handshakes_end_is_heard() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let config = config();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(tls::certificates(config.synthflow.tls_ca.as_deref().unwrap()).unwrap().remove(0)).unwrap();
            give_tls(&desk, config);
            let (listener, addr) = listening().await;
            tokio::task::spawn_local(tcp::accept(desk.clone(), listener, true));
            let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
            let client = TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
            let name = ServerName::try_from("edge.example").unwrap();
            let message = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";
            // Written before the first byte of the handshake: it leaves with the client's Finished.
            let mut peer = client.connect_with(name, TcpStream::connect(addr).await.unwrap(), |tls| {
                let _ = std::io::Write::write(&mut tls.writer(), message);
            });
            let mut peer = (&mut peer).await.unwrap();
            let mut echo = vec![0u8; message.len()];
            peer.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, message);
            peer.write_all(b"\r\n\r\n").await.unwrap();
            let mut pong = [0u8; 2];
            peer.read_exact(&mut pong).await.unwrap();
            assert_eq!(&pong, b"\r\n");
        });
    }
}
