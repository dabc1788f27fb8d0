//! A link over TLS, and a client of TLS at the other end of a real socket pair of loopback.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mio::event::Event;
use mio::{Events, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned};
use socket2::SockRef;
use tidewire_protocol::Frame;
use tidewire_transport::tls::{Certificate, Certificates, TlsError, replaceable, server_config};
use tidewire_transport::{
    CloseCode, Controls, Flushed, Link, LinkSettings, Received, Scratch, Stream, Then,
    TransportError,
};
use tokio::time::Instant;

use crate::wire::{self, BINARY, CLOSE, PING, PONG, TEXT, Wire, binary, text};

const CERTIFICATE: &[u8] = include_bytes!("../tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../tls/key.pem");
const OTHER_CERTIFICATE: &[u8] = include_bytes!("../tls/other-certificate.pem");
const OTHER_KEY: &[u8] = include_bytes!("../tls/other-key.pem");
const MOST: usize = 32;
const KERNEL_BYTES: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn messages_that_come_together_are_received_in_one_read() {
    let mut worker = Worker::new();
    let frames = [Wire::masked(TEXT, "one"), Wire::masked(PING, "p"), Wire::masked(BINARY, [2])];
    let input = wire::join(&frames);
    worker.send(&input);

    let received = worker.receive().unwrap();

    let controls = Controls { pings: 1, pongs: 0 };
    assert_eq!(received, Received { controls, ..read(input.len(), Then::Drained) });
    assert_eq!(worker.frames, [text("one"), binary(&[2])]);
    assert_eq!(worker.flush(), Flushed::All);
    assert_eq!(worker.read(3), Wire::plain(PONG, "p").bytes());
}

#[tokio::test]
async fn a_message_in_records_of_one_byte_arrives_whole() {
    let mut worker = Worker::new();

    for byte in Wire::masked(TEXT, "in pieces").bytes() {
        worker.send(&[byte]);
        assert_eq!(worker.receive().unwrap(), read(1, Then::Drained));
    }

    assert_eq!(worker.frames, [text("in pieces")]);
}

#[tokio::test]
async fn half_a_record_is_nothing_yet_and_the_rest_comes_with_an_event() {
    let mut worker = Worker::new();
    let record = worker.encrypt(&Wire::masked(TEXT, "halved").bytes());
    let (first, second) = record.split_at(record.len() / 2);

    worker.far.sock.write_all(first).unwrap();
    worker.wait_for(Event::is_readable);
    assert_eq!(worker.receive().unwrap(), read(0, Then::Drained));
    worker.far.sock.write_all(second).unwrap();
    worker.wait_for(Event::is_readable);
    worker.receive().unwrap();

    assert_eq!(worker.frames, [text("halved")]);
}

#[tokio::test]
async fn a_message_of_many_records_is_received_as_its_bytes_come() {
    let mut worker = Worker::new();
    let long = vec![5; 60_000];
    let input = Wire::masked(BINARY, &long[..]).bytes();
    let mut rest = &worker.encrypt(&input)[..];

    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(10_000));
        worker.far.sock.write_all(piece).unwrap();
        rest = after;
        worker.wait_for(Event::is_readable);
        while worker.receive().unwrap().then == Then::More {}
    }

    assert_eq!(worker.frames, [binary(&long)]);
}

#[tokio::test]
async fn what_was_decrypted_and_did_not_fit_is_received_without_an_event() {
    let mut worker = Worker::new();
    let long = vec![5; 22_000];
    let frames = [0; 3].map(|_| Wire::masked(BINARY, &long[..]));
    // Four full records, which fill the buffer, and a short one that comes with the last of them.
    let records = worker.encrypt(&wire::join(&frames));
    let mut far = worker.far.sock.try_clone().unwrap();
    let (head, tail) = records.split_at(60_000);

    far.write_all(head).unwrap();
    worker.wait_for_bytes(head.len());
    far.write_all(tail).unwrap();
    worker.wait_for_bytes(records.len());
    worker.wait_for(Event::is_readable);
    while worker.receive().unwrap().then == Then::More {}

    assert_eq!(worker.frames, [0; 3].map(|_| binary(&long)));
}

#[tokio::test]
async fn what_the_handshake_has_read_already_is_received_without_an_event() {
    let mut pair = Pair::shaken();
    pair.far.write_all(&Wire::masked(TEXT, "early").bytes()).unwrap();
    // As a server does that reads ahead: into the session, where no poll sees it.
    while pair.session.process_new_packets().unwrap().plaintext_bytes_to_read() == 0 {
        pair.session.read_tls(&mut pair.near).unwrap();
    }
    let mut worker = Worker::over(pair);

    assert!(worker.link.has_unread());
    worker.receive().unwrap();

    assert_eq!(worker.frames, [text("early")]);
    assert!(!worker.link.has_unread());
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_order_once_it_reads() {
    let mut worker = Worker::new();
    let wire = Bytes::from(Wire::plain(BINARY, [7; 3000]).bytes());
    let mut expected = Vec::new();

    for n in 0..200_u16 {
        let own = binary(&n.to_be_bytes().repeat(200));
        worker.link.queue(std::slice::from_ref(&own), &mut worker.scratch).unwrap();
        worker.link.send_shared(&wire).unwrap();
        worker.link.queue_shared(&wire).unwrap();
        worker.link.flush(&mut worker.scratch).unwrap();
        expected.extend(Wire::plain(BINARY, own.bytes()).bytes());
        expected.extend(Wire::plain(BINARY, [7; 3000]).bytes().repeat(2));
    }
    let unsent = worker.link.unsent();
    assert!(unsent > 0 && unsent < expected.len());
    assert_eq!(worker.flush(), Flushed::Blocked);
    let read = worker.read_while_flushing(expected.len());

    assert!(read == expected);
    assert_eq!(worker.link.unsent(), 0);
    assert!(!worker.link.wants_to_write());
}

#[tokio::test]
async fn what_is_encrypted_and_not_taken_by_the_socket_counts_as_unsent() {
    let mut worker = Worker::new();
    let wire = Bytes::from(Wire::plain(BINARY, [7; 1000]).bytes());

    // All of it is encrypted, and the last of it waits.
    while !worker.link.wants_to_write() {
        worker.link.send_shared(&wire).unwrap();
    }

    let unsent = worker.link.unsent();
    assert!(unsent > 0 && unsent <= wire.len() + 32, "{unsent} bytes");
    assert_eq!(worker.flush(), Flushed::Blocked);
    worker.read(KERNEL_BYTES);
    worker.wait_for(Event::is_writable);
    assert_eq!(worker.flush(), Flushed::All);
    assert_eq!(worker.link.unsent(), 0);
}

#[tokio::test]
async fn closing_says_so_in_websocket_and_then_in_tls() {
    let mut worker = Worker::new();
    worker.link.close(CloseCode::NORMAL, "");
    assert_eq!(worker.flush(), Flushed::All);
    worker.send(&Wire::masked(CLOSE, [3, 0xE8]).bytes());

    assert_eq!(worker.receive().unwrap().then, Then::Ended);
    assert!(worker.link.is_parted());
    let Worker { link, mut far, .. } = worker;
    drop(link);

    let mut rest = Vec::new();
    // An end without a close_notify would be an error here.
    far.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, Wire::plain(CLOSE, [3, 0xE8]).bytes());
}

#[tokio::test]
async fn our_half_can_end_before_theirs() {
    let mut worker = Worker::new();
    worker.link.shutdown_write().unwrap();
    worker.link.shutdown_write().unwrap();

    let mut rest = Vec::new();
    worker.far.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    worker.send(&Wire::masked(TEXT, "late").bytes());
    worker.receive().unwrap();
    assert_eq!(worker.frames, [text("late")]);
}

#[tokio::test]
async fn a_peer_that_says_goodbye_in_tls_or_just_hangs_up_is_heard_and_then_gone() {
    for says_so in [true, false] {
        let mut worker = Worker::new();
        worker.far.write_all(&Wire::masked(TEXT, "last words").bytes()).unwrap();
        if says_so {
            worker.far.conn.send_close_notify();
            worker.far.flush().unwrap();
        }
        worker.far.sock.shutdown(Shutdown::Write).unwrap();
        worker.wait_for(Event::is_read_closed);

        let first = worker.receive().unwrap();
        let second = worker.receive().unwrap();

        assert_eq!((first.then, second.then), (Then::More, Then::Ended), "says so: {says_so}");
        assert_eq!(worker.frames, [text("last words")]);
        assert!(worker.link.is_parted());
    }
}

#[tokio::test]
async fn bytes_that_are_not_tls_end_the_link() {
    let mut worker = Worker::new();
    worker.far.sock.write_all(&[0x55; 100]).unwrap();
    worker.wait_for(Event::is_readable);

    let error = worker.receive().unwrap_err();

    assert!(matches!(error, TransportError::Io(_)), "{error:?}");
    assert!(worker.link.is_parted());
}

#[test]
fn a_certificate_and_a_key_that_cannot_be_used_are_named() {
    let broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let empty = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let refused = |certificate, key| server_config(certificate, key).unwrap_err();

    assert_eq!(refused(KEY, KEY).to_string(), "certificate has no certificate in PEM");
    assert_eq!(refused(broken, KEY).to_string(), "certificate is not PEM");
    assert!(matches!(refused(empty, KEY), TlsError::Certificate(_)));
    assert_eq!(refused(CERTIFICATE, CERTIFICATE), TlsError::NoKey);
    assert_eq!(refused(CERTIFICATE, b""), TlsError::NoKey);
    assert_eq!(refused(CERTIFICATE, OTHER_KEY), TlsError::Mismatch);
}

#[test]
fn a_client_that_has_been_there_comes_back_with_a_ticket() {
    let server = server_config(CERTIFICATE, KEY).unwrap();
    let client = client_config();
    let kinds = [0, 1].map(|_| {
        let mut pair = Pair::between(Arc::clone(&server), Arc::clone(&client));
        pair.far.conn.process_new_packets().unwrap();
        // The tickets come after the handshake, with whatever is read next.
        pair.session.writer().write_all(b"x").unwrap();
        pair.session.complete_io(&mut pair.near).unwrap();
        pair.far.read_exact(&mut [0]).unwrap();
        pair.session.handshake_kind().unwrap()
    });

    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[test]
fn a_certificate_that_is_replaced_is_shown_to_who_comes_and_not_to_who_is_there() {
    let first = Certificate::from_pem(CERTIFICATE, KEY).unwrap();
    let certificates = Arc::new(Certificates::new(first.clone()));
    let server = replaceable(Arc::clone(&certificates)).unwrap();
    let shown = |pair: &Pair| pair.far.conn.peer_certificates().unwrap()[0].clone();
    let mut there = Pair::between(Arc::clone(&server), client_config());

    certificates.replace(Certificate::from_pem(OTHER_CERTIFICATE, OTHER_KEY).unwrap());
    let newcomer = Pair::between(server, client_config());

    assert_eq!(shown(&there), CertificateDer::from_pem_slice(CERTIFICATE).unwrap());
    assert_eq!(shown(&newcomer), CertificateDer::from_pem_slice(OTHER_CERTIFICATE).unwrap());
    assert!(!certificates.current().is_same(&first));
    there.session.writer().write_all(b"x").unwrap();
    there.session.complete_io(&mut there.near).unwrap();
    let mut heard = [0];
    there.far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"x");
}

#[test]
fn a_client_with_a_ticket_comes_back_to_another_certificate() {
    let first = Certificate::from_pem(CERTIFICATE, KEY).unwrap();
    let certificates = Arc::new(Certificates::new(first));
    let server = replaceable(Arc::clone(&certificates)).unwrap();
    let client = client_config();
    let mut there = Pair::between(Arc::clone(&server), Arc::clone(&client));
    there.session.writer().write_all(b"x").unwrap();
    there.session.complete_io(&mut there.near).unwrap();
    there.far.read_exact(&mut [0]).unwrap();

    certificates.replace(Certificate::from_pem(OTHER_CERTIFICATE, OTHER_KEY).unwrap());
    let again = Pair::between(server, client);

    assert_eq!(again.session.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}

/// Two ends that have shaken hands.
struct Pair {
    near: TcpStream,
    session: ServerConnection,
    far: StreamOwned<ClientConnection, TcpStream>,
}

impl Pair {
    fn shaken() -> Self {
        Self::between(server_config(CERTIFICATE, KEY).unwrap(), client_config())
    }

    fn between(server: Arc<rustls::ServerConfig>, client: Arc<ClientConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut near, _) = listener.accept().unwrap();
        // Little room in the kernel, so that a test of a slow reader need not send much.
        SockRef::from(&far).set_recv_buffer_size(KERNEL_BYTES).unwrap();
        SockRef::from(&near).set_send_buffer_size(KERNEL_BYTES).unwrap();
        SockRef::from(&near).set_recv_buffer_size(4 * KERNEL_BYTES).unwrap();
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        client.set_buffer_limit(None);
        let shaking = std::thread::spawn(move || {
            let mut far = StreamOwned::new(client, far);
            while far.conn.is_handshaking() {
                far.conn.complete_io(&mut far.sock).unwrap();
            }
            far
        });
        let mut session = ServerConnection::new(server).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut near).unwrap();
        }
        Self { near, session, far: shaking.join().unwrap() }
    }
}

fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in [CERTIFICATE, OTHER_CERTIFICATE] {
        roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A link, its peer, and the poll that watches it.
struct Worker {
    link: Link,
    far: StreamOwned<ClientConnection, TcpStream>,
    poll: Poll,
    scratch: Scratch,
    frames: Vec<Frame>,
}

impl Worker {
    fn new() -> Self {
        Self::over(Pair::shaken())
    }

    fn over(pair: Pair) -> Self {
        let Pair { near, session, far } = pair;
        near.set_nonblocking(true).unwrap();
        let near = tokio::net::TcpStream::from_std(near).unwrap();
        let stream = Stream::tls(near, session).unwrap();
        let mut link = Link::new(stream, Bytes::new(), LinkSettings::default());
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(7)).unwrap();
        Self { link, far, poll, scratch: Scratch::default(), frames: Vec::new() }
    }

    /// Sends as one record, and waits until there is something to read.
    fn send(&mut self, bytes: &[u8]) {
        self.far.write_all(bytes).unwrap();
        self.wait_for(Event::is_readable);
    }

    /// Waits until the kernel holds so many.
    fn wait_for_bytes(&self, count: usize) {
        let (started, mut bytes) = (Instant::now(), vec![0; count]);
        while self.link.stream().tcp().peek(&mut bytes).unwrap_or(0) < count {
            assert!(started.elapsed() < PATIENCE, "all bytes come in time");
        }
    }

    /// The records that would have been sent.
    fn encrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        self.far.conn.writer().write_all(bytes).unwrap();
        while self.far.conn.wants_write() {
            self.far.conn.write_tls(&mut record).unwrap();
        }
        record
    }

    fn wait_for(&mut self, is_wanted: impl Fn(&Event) -> bool) {
        let mut events = Events::with_capacity(8);
        loop {
            self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "an event comes in time");
            for event in &events {
                if event.is_read_closed() {
                    self.link.note_read_closed();
                }
            }
            if events.iter().any(&is_wanted) {
                return;
            }
        }
    }

    fn receive(&mut self) -> Result<Received, TransportError> {
        self.link.receive(&mut self.scratch, MOST, &mut self.frames)
    }

    fn flush(&mut self) -> Flushed {
        self.link.flush(&mut self.scratch).unwrap()
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.far.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a little, flushes when that makes room, and goes on.
    fn read_while_flushing(&mut self, length: usize) -> Vec<u8> {
        // Half of a record may be waiting for the link to be flushed.
        self.far.sock.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        while all.len() < length {
            if self.link.wants_to_write() {
                self.flush();
            }
            let mut piece = vec![0; 10_000.min(length - all.len())];
            match self.far.read(&mut piece) {
                Ok(bytes) => all.extend(&piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => unreachable!("{error}"),
            }
        }
        all
    }
}

/// What a call comes to that receives messages only.
fn read(bytes: usize, then: Then) -> Received {
    Received { bytes, controls: Controls::default(), then }
}
