//! SIP over TLS on loopback: a real node between a caller and a callee that speak rustls.

// The helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use backchannel::config::Config;
use backchannel::edge::serve;
use backchannel::edge::serve::Remote;
use backchannel::edge::serve::ServeOptions;
use backchannel::edge::serve::StartError;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::ProtocolVersion;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::SupportedProtocolVersion;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use rustls::version::TLS13;

const WAIT: Duration = Duration::from_secs(10);
const MEDIA_PORTS: u16 = 64;

struct Certificate {
    pem: String,
    key: String,
}

fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    Certificate { pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// Text in, text out, whatever is below.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// One end of a connection.
struct Peer {
    wire: Box<dyn Wire>,
    addr: SocketAddr,
    read: Vec<u8>,
}

impl Peer {
    fn new(wire: impl Wire + 'static, addr: SocketAddr) -> Peer {
        Peer { wire: Box::new(wire), addr, read: Vec::new() }
    }

    fn send(&mut self, message: &str) {
        self.wire.write_all(message.as_bytes()).unwrap();
        self.wire.flush().unwrap();
    }

    /// The next message that starts so; others are provisional answers.
    fn gets(&mut self, start: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let message = self.message().unwrap_or_else(|e| panic!("{start}: {e}, after {seen:#?}"));
            if message.starts_with(start) {
                return message;
            }
            seen.push(message);
        }
    }

    fn message(&mut self) -> io::Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length: usize = line(head, "Content-Length").rsplit(' ').next().unwrap().parse().unwrap();
                if rest.len() >= length {
                    let whole = head.len() + 4 + length;
                    self.read.drain(..whole);
                    return Ok(text[..whole].to_owned());
                }
            }
            let mut some = [0u8; 4096];
            match self.wire.read(&mut some)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.read.extend_from_slice(&some[..len]),
            }
        }
    }
}

fn line<'a>(message: &'a str, name: &str) -> &'a str {
    message.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// Synthflow.
struct Callee {
    listener: TcpListener,
    server: Arc<ServerConfig>,
}

impl Callee {
    fn bind(own: &Certificate, versions: &[&'static SupportedProtocolVersion]) -> Callee {
        let chain = vec![CertificateDer::from_pem_slice(own.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(versions).unwrap();
        let server = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        Callee { listener: TcpListener::bind("127.0.0.1:0").unwrap(), server }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, and the name that it asked for; an error when the other end does not like us.
    fn accept(&self) -> io::Result<(Peer, Option<String>, ProtocolVersion)> {
        let (tcp, addr) = self.listener.accept()?;
        tcp.set_read_timeout(Some(WAIT))?;
        let mut tls = StreamOwned::new(ServerConnection::new(self.server.clone()).unwrap(), tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let (name, version) = (tls.conn.server_name().map(str::to_owned), tls.conn.protocol_version().unwrap());
        Ok((Peer::new(tls, addr), name, version))
    }
}

/// The system under test, stopped at the end.
struct Node {
    sip: SocketAddr,
    certificate: Certificate,
    remote: Remote,
    thread: Option<JoinHandle<Result<(), StartError>>>,
}

impl Node {
    fn start(target: &str, ca: &str) -> Node {
        let media = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().min(u16::MAX - MEDIA_PORTS) & !1;
        let text = format!(
            "[node]\nmax_calls = 8\n[sip]\nlisten = [\"tls://127.0.0.1:5061\"]\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n\
             [media]\nports = \"{media}-{}\"\n[cxone]\nallow = [\"127.0.0.1\"]\n\
             [synthflow]\ntarget = \"{target}\"\ntls_ca_file = \"ca.pem\"\n[escalation]\naccept = []\n",
            media + MEDIA_PORTS - 1
        );
        let own = certificate("edge.example");
        let read = |path: &Path| match path.to_str() {
            Some("cert.pem") => Ok(own.pem.clone()),
            Some("key.pem") => Ok(own.key.clone()),
            Some("ca.pem") => Ok(ca.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let mut config = Config::parse(&text, Path::new("config.toml"), &|_| None, &read).unwrap().config;
        config.sip.listen.iter_mut().for_each(|l| l.addr.set_port(0));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (remote, end) = Remote::new();
        let options = ServeOptions { quiet: true, ready: Some(ready), remote: Some(end), ..ServeOptions::default() };
        let thread = std::thread::spawn(move || serve::run(Arc::new(config), options));
        let bound = is_ready.recv_timeout(WAIT).unwrap();
        Node { sip: bound.listeners[0].addr, certificate: own, remote, thread: Some(thread) }
    }

    fn caller(&self, versions: &[&'static SupportedProtocolVersion]) -> Peer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(versions).unwrap();
        let client = builder.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(self.sip).unwrap();
        tcp.set_read_timeout(Some(WAIT)).unwrap();
        let addr = tcp.local_addr().unwrap();
        let name = ServerName::try_from("edge.example").unwrap();
        Peer::new(StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), tcp), addr)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.remote.drain(Duration::ZERO);
        let stopped = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(stopped, Some(Ok(Ok(())))));
        }
    }
}

fn sdp() -> String {
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        .to_owned()
}

fn request(node: &Node, from: SocketAddr, method: &str, call: u32, to_tag: &str, cseq: u32, body: &str) -> String {
    let ours = node.sip;
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:+12065551234@{ours};transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS {from};branch=z9hG4bK{method}{call}x{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+12065550123@{from}>;tag=cx{call}\r\nTo: <sip:+12065551234@{ours}>{to_tag}\r\n\
         Call-ID: {call}@cx\r\nCSeq: {cseq} {method}\r\nContact: <sip:{from};transport=tls>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn answer(request: &str, status: &str, more: &str, body: &str) -> String {
    let same: String = ["Via", "From", "Call-ID", "CSeq"].iter().map(|n| format!("{}\r\n", line(request, n))).collect();
    let to = line(request, "To");
    let tag = if to.contains("tag=") { "" } else { ";tag=far" };
    format!("SIP/2.0 {status}\r\n{same}{to}{tag}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// From the INVITE to the ACK at both ends; the To tag at the caller's end, and the INVITE that the callee got.
fn established(node: &Node, caller: &mut Peer, callee: &mut Peer, call: u32) -> (String, String) {
    let invite = callee.gets("INVITE ");
    let more = format!("Contact: <sip:bot@{};transport=tls>\r\nContent-Type: application/sdp\r\n", callee.addr);
    callee.send(&answer(&invite, "200 OK", &more, &sdp()));
    let ok = caller.gets("SIP/2.0 200");
    assert!(line(&ok, "Contact").contains(&format!("@{};transport=tls>", node.sip)), "{ok}");
    let tag = line(&ok, "To").split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).unwrap();
    caller.send(&request(node, caller.addr, "ACK", call, &tag, 1, ""));
    callee.gets("ACK ");
    (tag, invite)
}

fn hung_up_by_caller(node: &Node, caller: &mut Peer, callee: &mut Peer, call: u32, tag: &str) {
    caller.send(&request(node, caller.addr, "BYE", call, tag, 2, ""));
    caller.gets("SIP/2.0 200");
    let bye = callee.gets("BYE ");
    callee.send(&answer(&bye, "200 OK", "", ""));
}

#[test]
fn calls_go_over_tls_on_both_sides_and_share_their_connections() {
    let theirs = certificate("localhost");
    let far = Callee::bind(&theirs, &[&TLS13, &TLS12]);
    let node = Node::start(&format!("sip:localhost:{};transport=tls", far.port()), &theirs.pem);
    // A peer that never says anything must not keep the others waiting.
    let _silent = TcpStream::connect(node.sip).unwrap();
    let mut caller = node.caller(&[&TLS13]);
    caller.send(&request(&node, caller.addr, "INVITE", 1, "", 1, &sdp()));
    let (mut callee, name, version) = far.accept().unwrap();
    // RFC 6066 §3: the configured host.
    assert_eq!((name.as_deref(), version), (Some("localhost"), ProtocolVersion::TLSv1_3));
    let (tag, invite) = established(&node, &mut caller, &mut callee, 1);
    assert!(line(&invite, "Via").starts_with(&format!("Via: SIP/2.0/TLS {};", node.sip)), "{invite}");
    assert!(invite.starts_with(&format!("INVITE sip:+12065551234@localhost:{};transport=tls SIP/2.0", far.port())), "{invite}");
    assert!(line(&invite, "Contact").contains(&format!("@{};transport=tls>", node.sip)), "{invite}");
    hung_up_by_caller(&node, &mut caller, &mut callee, 1, &tag);

    // RFC 3261 §18.1.1, RFC 5923: the second call, of another caller, goes over the connection that is there.
    let mut second = node.caller(&[&TLS12]);
    second.send(&request(&node, second.addr, "INVITE", 2, "", 1, &sdp()));
    let (_, invite) = established(&node, &mut second, &mut callee, 2);
    far.listener.set_nonblocking(true).unwrap();
    assert_eq!(far.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

    // Requests of the callee come over our connection, and reach the caller over its own.
    let side = |name: &str, other: &str| line(&invite, name).replacen(name, other, 1);
    let tag = format!("{};tag=far", side("To", "From"));
    callee.send(&format!(
        "BYE sip:backchannel@{};transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS {};branch=z9hG4bKfar\r\nMax-Forwards: 70\r\n{tag}\r\n{}\r\n{}\r\n\
         CSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        node.sip,
        callee.addr,
        side("From", "To"),
        line(&invite, "Call-ID"),
    ));
    callee.gets("SIP/2.0 200");
    let bye = second.gets("BYE ");
    second.send(&answer(&bye, "200 OK", "", ""));
}

#[test]
fn a_callee_with_tls_1_2_alone_and_a_literal_address_is_called() {
    let theirs = certificate("127.0.0.1");
    let far = Callee::bind(&theirs, &[&TLS12]);
    let node = Node::start(&format!("sips:127.0.0.1:{}", far.port()), &theirs.pem);
    let mut caller = node.caller(&[&TLS12, &TLS13]);
    caller.send(&request(&node, caller.addr, "INVITE", 1, "", 1, &sdp()));
    let (mut callee, name, version) = far.accept().unwrap();
    assert_eq!((name, version), (None, ProtocolVersion::TLSv1_2));
    let (tag, _) = established(&node, &mut caller, &mut callee, 1);
    hung_up_by_caller(&node, &mut caller, &mut callee, 1, &tag);
}

fn refused(theirs: &Certificate, trusted: &Certificate) {
    let far = Callee::bind(theirs, &[&TLS13, &TLS12]);
    let node = Node::start(&format!("sip:127.0.0.1:{};transport=tls", far.port()), &trusted.pem);
    let mut caller = node.caller(&[&TLS13]);
    caller.send(&request(&node, caller.addr, "INVITE", 1, "", 1, &sdp()));
    // RFC 5922 §7.3: no request goes to who is not whom we called.
    let seen = far.accept().and_then(|(mut peer, ..)| peer.message());
    assert!(seen.is_err(), "{seen:?}");
    caller.gets("SIP/2.0 503");
}

#[test]
fn a_certificate_for_another_name_is_as_good_as_no_answer() {
    let theirs = certificate("other.example");
    refused(&theirs, &theirs);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_as_good_as_no_answer() {
    refused(&certificate("127.0.0.1"), &certificate("127.0.0.1"));
}

#[test]
fn a_peer_that_does_not_speak_tls_is_closed() {
    let theirs = certificate("127.0.0.1");
    let node = Node::start("sips:127.0.0.1:9", &theirs.pem);
    let mut tcp = TcpStream::connect(node.sip).unwrap();
    tcp.set_read_timeout(Some(WAIT)).unwrap();
    tcp.write_all(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut all = Vec::new();
    // A reset is as good as an end, for what it had sent was never read.
    let _ = tcp.read_to_end(&mut all);
    assert!(!all.starts_with(b"SIP"), "{all:?}");
}
